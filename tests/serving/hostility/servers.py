"""A server in a process of its own, with everything that it opens written down."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ports import free_port

AUDIT = Path(__file__).parent / "audit"
MLFLOW = Path(sys.executable).parent / "mlflow"
HISTO = Path(sys.executable).parent / "histo-mlflow"

SECONDS = 5
"""The time limit of both servers; slow clients are waited for a little longer."""


@dataclass(frozen=True)
class Server:
    """A running server; `kind` is "mlflow" or "histo"."""

    kind: str
    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def serving(
    kind: str, command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    """Run a server until it answers /ping, and end all of its processes at the end.

    Args:
        kind: see `Server`.
        command: what to start; it must listen on the port.
        port: on 127.0.0.1.
        folder: for its log, made here, and its working folder.
        environment: on top of this process's.
    """
    folder.mkdir(parents=True)
    paths = [str(AUDIT), os.environ.get("PYTHONPATH", "")]
    with (folder / "log").open("wb") as talk:
        process = subprocess.Popen(
            command,
            # MLflow starts `uvicorn` by its name, so the environment must be an activated one.
            env={
                **os.environ,
                "PATH": f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "HISTO_AUDIT_LOG": str(folder / "audit"),
                **environment,
            },
            cwd=folder,
            stdout=talk,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(kind, port, process, folder)
    try:
        _wait(server)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait(server: Server) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert server.process.poll() is None, server.log()[-3000:]
        assert time.monotonic() < deadline, server.log()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/ping", timeout=2):
                return
        except OSError:
            time.sleep(0.2)


def histo(reference: str, tracking_uri: str, folder: Path) -> AbstractContextManager[Server]:
    """`histo-mlflow serve`, with a time limit short enough to be waited for."""
    port = free_port()
    command = [str(HISTO), "serve", "--model", reference, "--port", str(port)]
    command += ["--timeout", str(SECONDS), "--tracking-uri", tracking_uri]
    return serving("histo", command, port, folder, {})


def plain(reference: str, tracking_uri: str, folder: Path) -> AbstractContextManager[Server]:
    """`mlflow models serve`, as the README says it."""
    port = free_port()
    command = [str(MLFLOW), "models", "serve", "-m", reference, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--timeout", str(SECONDS)]
    return serving("mlflow", command, port, folder, {"MLFLOW_TRACKING_URI": tracking_uri})


def of_all(server: Server, look: Callable[[psutil.Process], int]) -> list[int]:
    """What is seen of the process, which must be there, and of all below it."""
    top = psutil.Process(server.process.pid)
    found = [look(top)]
    for child in top.children(recursive=True):
        # One that ends between the listing and the look has nothing any more.
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            found.append(look(child))
    return found


def resident(server: Server) -> int:
    """Bytes of memory that the processes hold together."""
    return sum(of_all(server, lambda process: process.memory_info().rss))


def peak(server: Server) -> int:
    """The most bytes that any of the processes has held."""
    return max(of_all(server, _peak))


def _peak(process: psutil.Process) -> int:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a process that has ended and was not waited for


def open_files(server: Server) -> int:
    """Open file descriptors of the processes together."""
    return sum(of_all(server, lambda process: process.num_fds()))


def opened(server: Server, since: float) -> list[str]:
    """What the processes have opened, connected to or started since a time, but for imports.

    `histo-mlflow serve` reads Parquet in a process of its own, `_parquet_child.py`, and hands it
    the body on a pipe: starting that one, and its pipes, are allowed. The child itself is not
    watched, since it is started without this process's paths.

    Allowed are reads of files of the Python environment and of the model's own code (an import that
    comes late, the source lines of a traceback in the log), of /proc and /sys (counters), and
    /dev/null.
    """
    found = []
    for path in sorted(server.folder.glob("audit.*")):
        for line in path.read_text().splitlines():
            when, event, what = line.split("\t", 2)
            if float(when) >= since and not _allowed(event, what):
                found.append(f"{event} {what}")
    return found


def _allowed(event: str, what: str) -> bool:
    name, mode, flags = [*what.split("\t"), "", ""][:3]
    if event == "subprocess.Popen":
        return "_parquet_child.py" in what
    if event == "open" and name.isdigit():  # a pipe that is open already
        return True
    if event not in ("open", "os.listdir", "os.scandir", "ctypes.dlopen"):
        return False
    path = name.strip("'\"")
    writes = event == "open" and (
        any(letter in mode for letter in "wax+")
        or (flags.isdigit() and int(flags) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    )
    ours = (sys.prefix, sys.base_prefix, sys.exec_prefix, "/proc/", "/sys/")
    code = path.endswith((".py", ".pyc", ".so"))
    return path == "/dev/null" or (not writes and (path.startswith(ours) or code))
