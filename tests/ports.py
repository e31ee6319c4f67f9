"""Ports for servers that tests start."""

import secrets
import socket
from pathlib import Path

_HANDED_OUT_FROM = Path("/proc/sys/net/ipv4/ip_local_port_range")
_CANDIDATES = 8000


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    A server binds it only after seconds of imports, and one that is killed and started again leaves
    it free for a while. So it lies below those that the system gives to whoever asks for any port,
    each outgoing connection among them; else one of these could be there first.
    """
    try:
        end = int(_HANDED_OUT_FROM.read_text().split()[0])
    except FileNotFoundError:  # not Linux; elsewhere they begin higher
        end = 32_768
    begin = max(end - _CANDIDATES, 1024)
    # Not `random`, which tests seed: processes side by side must not draw the same.
    for _ in range(100):
        port = begin + secrets.randbelow(end - begin) if begin < end else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # taken
            return int(probe.getsockname()[1])
    raise AssertionError(f"none of 100 ports from {begin} to {end} is free")
