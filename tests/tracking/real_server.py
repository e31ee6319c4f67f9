"""A real `mlflow server` that can be stopped, killed and started again."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_port

MLFLOW = Path(sys.executable).parent / "mlflow"


class Server:
    """`mlflow server` in a process group of its own; can be started again on the same port."""

    def __init__(self, database: Path, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = database
        self.folder = folder
        self.log = folder / "server.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(MLFLOW), "server", "--host", "127.0.0.1", "--port", str(self.port)),
                    *("--backend-store-uri", f"sqlite:///{self.database}", "--workers", "1"),
                    *("--artifacts-destination", str(self.folder / "artifacts")),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                # Its job runner is eight processes that import MLflow, for work no test asks for.
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )

    def wait(self, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(f"no server after {seconds} s: {self.log.read_text()[-3000:]}")

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(10)


@contextmanager
def one_server(fresh_database: Path, folder: Path) -> Iterator[Server]:
    """A server on a copy of a fresh database, killed in the end."""
    database = folder / "mlflow.db"
    shutil.copy(fresh_database, database)
    running = Server(database, folder)
    try:
        running.wait()
        yield running
    finally:
        running.kill()
