"""Taking a port, before anything is loaded that takes long."""

from __future__ import annotations

import socket

from histo_mlflow.errors import ServeError


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Args:
        host: address or name.
        port: 0 for any free one.

    Raises:
        ServeError: it is taken, may not be taken, or there is no such host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ServeError(f"Expected a host to serve on, got {host!r}, which is unknown.") from error
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise ServeError(
            f"Port {port} of {host} cannot be served on ({error.strerror}): end what uses it, or "
            "give another --port (0 takes any free one)."
        ) from error
    return taken
