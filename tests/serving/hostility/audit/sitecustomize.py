"""Write down what a server process opens, connects to and starts.

Python imports this file at its start when its folder is on PYTHONPATH. The log is opened before
anything else runs, one a process, so that writing to it is no event itself.
"""

import os
import sys
import time

WATCHED = frozenset(
    {
        "open",
        "socket.connect",
        "socket.bind",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.listdir",
        "os.scandir",
        "pickle.find_class",
        "ctypes.dlopen",
        "urllib.Request",
        "webbrowser.open",
    }
)

_prefix = os.environ.get("HISTO_AUDIT_LOG")
if _prefix:
    _log = os.open(f"{_prefix}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _note(event: str, arguments: tuple[object, ...]) -> None:
        if event in WATCHED:
            what = "\t".join(repr(argument)[:300] for argument in arguments[:3])
            os.write(_log, f"{time.time():.3f}\t{event}\t{what}\n".encode("ascii", "replace"))

    sys.addaudithook(_note)
