"""Who may ask: the name the server was called by, the page that asks, the token.

A page anywhere in the web can make the browser of a user send requests to that user's own machine.
It cannot choose the `Host` that its own name resolves to (DNS rebinding), nor hide its `Origin`.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection, Iterable

from histo_mlflow.errors import ServeError
from histo_mlflow.inference.serving.answers import RefusedError

RawHeaders = Iterable[tuple[bytes, bytes]]

LEAST_TOKEN = 16
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_AUTHORITY = re.compile(r"(\[[0-9a-f:.%]+\]|[^:/@\[\]\s]+)(?::[0-9]{0,5})?", re.IGNORECASE)


def header(headers: RawHeaders, name: bytes) -> str | None:
    """The value of a header, several of one name joined by commas; None where there is none."""
    found = [value for key, value in headers if key == name]
    return b", ".join(found).decode("latin-1").strip() if found else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address or name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked_token(token: str | None, host: str) -> str | None:
    """A token that is fit for a host.

    Raises:
        ServeError: none for a host that others can reach, or one that is short or not ASCII.
    """
    if token is None:
        if is_loopback(host):
            return None
        raise ServeError(
            f"Expected a token, since others can reach {host}: give --token-file FILE or set "
            "HISTO_MLFLOW_TOKEN, or serve on 127.0.0.1."
        )
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ServeError(
            f"Expected a token of {LEAST_TOKEN} printable ASCII characters or more without "
            f"spaces, got one of {len(token)}: make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
        )
    return token


def allowed_hosts(host: str, more: Collection[str]) -> frozenset[str] | None:
    """The names by which the server may be called; None for any.

    Beyond loopback nobody knows them all, and a page that rebinds a name does not have the token;
    so there they are only checked when some were given.
    """
    given = frozenset(_bracketed(name.lower()) for name in more)
    if is_loopback(host):
        return LOOPBACK_NAMES | {_bracketed(host.lower())} | given
    return given | {_bracketed(host.lower())} if given else None


def check_host(headers: RawHeaders, allowed: frozenset[str] | None) -> None:
    """Refuse a request that calls the server by another name.

    Raises:
        RefusedError: 400.
    """
    if allowed is None:
        return
    name = _name(header(headers, b"host") or "")
    if name is None or name not in allowed:
        raise RefusedError(
            400, "host", "This server is not called by that name; --allow-host adds one."
        )


def check_origin(headers: RawHeaders) -> None:
    """Refuse what a page of another site makes a browser send.

    Raises:
        RefusedError: 403.
    """
    origin, site = header(headers, b"origin"), header(headers, b"sec-fetch-site")
    foreign = site is not None and site not in ("same-origin", "none")
    if origin is not None:
        scheme, _, authority = origin.partition("://")
        own = (header(headers, b"host") or "").lower()
        foreign = foreign or scheme not in ("http", "https") or authority.lower() != own
    if foreign:
        raise RefusedError(403, "origin", "Pages of other sites may not send requests here.")


def check_token(headers: RawHeaders, token: str | None) -> None:
    """Refuse a request without the token, in the same time whatever it has instead.

    Raises:
        RefusedError: 401.
    """
    if token is None:
        return
    scheme, _, given = (header(headers, b"authorization") or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1"), token.encode("ascii"))
    if not same or scheme.lower() != "bearer":
        raise RefusedError(
            401,
            "token",
            "The token of this server is needed: send it as 'Authorization: Bearer TOKEN'.",
            {"WWW-Authenticate": "Bearer"},
        )


def _name(authority: str) -> str | None:
    """The host of `host:port`, in small letters; None for what is neither."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else found[1].lower()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
