"""The official Kaggle client, run as a process of its own.

It takes the user's credentials from where it finds them; they are neither read nor shown here. What
it says is believed only where it says that Kaggle took the file: older clients end with 0 after an
upload that failed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from histo_mlflow.errors import SubmissionError
from histo_mlflow.tracking.redaction import REDACTED, redact

SEND_SECONDS = 900.0
"""The longest wait for the client; 57,458 rows are 3.5 MB."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]*")
_TAKEN = re.compile(r"successfully submitted|submission ref: *\d", re.IGNORECASE)
_CHUNKS, _CHUNK_BYTES = 16, 65_536
_SAID_CHARACTERS = 300
_SECRET_NAME = re.compile(r"KAGGLE\w*(?:KEY|TOKEN|SECRET|PASSWORD)|KAGGLE_USERNAME")
_LOGIN = (
    "the kaggle client has no credentials that Kaggle takes: run `kaggle auth login`, or set "
    "KAGGLE_API_TOKEN (https://www.kaggle.com/settings/api)"
)


@dataclass(frozen=True)
class Sent:
    """A submission that Kaggle took.

    Attributes:
        competition: its name in the address of its page.
        message: what was written beside it.
        said: the client's words.
    """

    competition: str
    message: str
    said: str


def assert_can_send(competition: str) -> None:
    """Try what can be tried before the work is done.

    Raises:
        SubmissionError: no client is there, or the name of the competition is none.
    """
    if not _NAME.fullmatch(competition):
        raise SubmissionError(
            "Expected the name of a competition as in the address of its page, such as "
            f"histopathologic-cancer-detection, got {competition!r}"
        )
    _client()


def send(path: Path, competition: str, message: str, *, seconds: float = SEND_SECONDS) -> Sent:
    """Send a file to a competition.

    Args:
        path: of the submission.
        competition: its name in the address of its page.
        message: written beside the submission.
        seconds: the client is ended after these.

    Raises:
        SubmissionError: no client, no credentials, no such competition, rules not accepted; it took
            too long; or it cannot be told whether Kaggle took the file.
    """
    assert_can_send(competition)
    # With "=", since a message may begin with a dash; an absolute path does not.
    command = ["competitions", "submit", "-c", competition, "-f", str(path.absolute())]
    code, output = _run([*_client(), *command, f"--message={message}"], seconds)
    text = _shown(output)
    look = f"look at `kaggle competitions submissions -c {competition}` before sending again"
    if code is None:
        raise SubmissionError(
            f"the kaggle client did not end within {seconds:g} s and was stopped; whether Kaggle "
            f"took the file is not known: {look}"
        )
    taken = next((line for line in text.splitlines() if _TAKEN.search(line)), None)
    if code == 0 and taken is not None:
        return Sent(competition, message, taken.strip()[:_SAID_CHARACTERS])
    raise SubmissionError(_why_not(code, text, competition, look))


def _client() -> list[str]:
    """How the client is started."""
    if there := shutil.which("kaggle"):
        return [there]
    if importlib.util.find_spec("kaggle") is not None:
        return [sys.executable, "-m", "kaggle"]
    raise SubmissionError(
        "--send needs the official kaggle client: pip install 'histo-mlflow[download]'"
    )


def _run(command: list[str], seconds: float) -> tuple[int | None, str]:
    """The exit code (None: it took too long) and the end of what was said."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,  # a client that asks for a password must not wait for it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise SubmissionError(
            f"the kaggle client {command[0]} cannot be started: {error.strerror or error}"
        ) from error
    assert process.stdout is not None  # noqa: S101 -- it was asked for
    kept: deque[bytes] = deque(maxlen=_CHUNKS)
    reader = threading.Thread(target=_keep, args=(process.stdout, kept), daemon=True)
    reader.start()
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        _end(process)
        reader.join(2.0)
    return code, b"".join(kept).decode("utf-8", errors="replace")


def _keep(stream: IO[bytes], kept: deque[bytes]) -> None:
    """Take over what is said until nobody can say more; only the end of it is kept."""
    with stream:
        while chunk := os.read(stream.fileno(), _CHUNK_BYTES):
            kept.append(chunk)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the client and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError, AttributeError):
        process.kill()  # all of the group are gone; or this is Windows, which has no groups
    process.wait()


def _shown(output: str) -> str:
    """What may be shown of the client's words."""
    for name, value in os.environ.items():
        if _SECRET_NAME.fullmatch(name) and len(value) > 3:
            output = output.replace(value, REDACTED)
    plain = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in output)
    return redact(plain)


def _why_not(code: int, text: str, competition: str, look: str) -> str:
    """One sentence on a submission that was not confirmed."""
    page = f"https://www.kaggle.com/competitions/{competition}"
    known = (
        (r"authentication required|unauthori[sz]ed|\b401\b|kaggle\.json", _LOGIN),
        (
            r"\b403\b|forbidden|accept (?:the|this) .*rules",
            f"Kaggle refuses: join the competition and accept its rules at {page}/rules",
        ),
        (
            r"could not find competition|\b404\b|not found",
            f"Kaggle knows no competition {competition!r}; its name is in the address of its page",
        ),
    )
    for pattern, sentence in known:
        if re.search(pattern, text, re.IGNORECASE):
            return sentence
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = f"; its last words: {lines[-1][:_SAID_CHARACTERS]}" if lines else ""
    if code == 0:
        return f"the kaggle client did not say that Kaggle took the file: {look}{said}"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"the kaggle client ended with {how}: {look}{said}"
