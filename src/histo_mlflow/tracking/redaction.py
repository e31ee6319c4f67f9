"""Taking credentials out of text that is about to be stored or shown.

A run is read by more people than its author. What is removed: the user part of a URL, the value of
an option or assignment whose name says password, secret, token or key, and the well-known shapes of
access tokens. This is a net, not a proof: a secret under an innocent name passes through it.
"""

import re
from collections.abc import Callable, Sequence

REDACTED = "[redacted]"

_NAME = (
    r"[\w.\-]*(?:password|passwd|passphrase|secret|token|credential|api[_\-]?key|access[_\-]?key)"
)
_URL_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)[^\s/@'\"]+@", re.IGNORECASE)
_URL_PASSWORD = re.compile(
    r"(?P<user>\b[a-z][a-z0-9+.\-]*://[^\s/@:'\"]+):[^\s/@'\"]*@", re.IGNORECASE
)
_ASSIGNED = re.compile(
    rf"(?P<name>\b{_NAME}[\w\-]*[\"']?\s*[=:]\s*)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s,;\"']+)",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{20,}|glpat-[\w\-]{20,}"
    r"|sk-[\w\-]{20,}|xox[abprs]-[\w\-]{10,}|eyJ[\w\-]{10,}\.[\w\-]{10,}\.[\w\-]*)"
)
_SECRET_OPTION = re.compile(rf"^--?{_NAME}[\w\-]*$", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with what looks like a credential replaced by `[redacted]`."""
    return _without_secrets(_URL_USER.sub(rf"\g<scheme>{REDACTED}@", text))


def redact_command(arguments: Sequence[str]) -> list[str]:
    """Arguments without credentials: `--token X`, `--token=X`, `-P api_key=X`, URLs."""
    return _redacted(arguments, redact)


def redact_own_command(arguments: Sequence[str]) -> list[str]:
    """As `redact_command`, for whoever typed it and may type it again: users of URLs stay."""

    def without_passwords(text: str) -> str:
        return _without_secrets(_URL_PASSWORD.sub(rf"\g<user>:{REDACTED}@", text))

    return _redacted(arguments, without_passwords)


def _without_secrets(text: str) -> str:
    return _ASSIGNED.sub(rf"\g<name>{REDACTED}", _TOKEN.sub(REDACTED, text))


def _redacted(arguments: Sequence[str], by: Callable[[str], str]) -> list[str]:
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        shown.append(REDACTED if hide_next else by(argument))
        hide_next = not hide_next and _SECRET_OPTION.match(argument) is not None
    return shown
