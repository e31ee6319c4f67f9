"""Storages of every kind, each made once."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import optuna
import psutil
import pytest

import postgres
import queue_workers
from histo_mlflow.tuning.shared.queue import Queue, Worker
from histo_mlflow.tuning.shared.storage import Opened, open_storage


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/optuna.db"


@pytest.fixture(scope="session")
def grpc_url(sqlite_url: str) -> Iterator[str]:
    """A real proxy in front of a SQLite file, in a process of its own."""
    pytest.importorskip("grpc", reason="needs `pip install grpcio`")
    port = postgres.free_port()
    server = queue_workers.CONTEXT.Process(
        target=queue_workers.serve, args=(sqlite_url, port), daemon=True
    )
    server.start()
    # `server` itself ends nothing once the fork server was killed, as a test of teams does it.
    itself = psutil.Process(server.pid)
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert server.is_alive(), f"the gRPC proxy ended with exit code {server.exitcode}"
            assert time.monotonic() < deadline, f"no gRPC proxy at port {port} after 60 s"
            time.sleep(0.05)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            itself.kill()
        server.join()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:  # refused until there is somebody
        return False
    return True


@pytest.fixture(scope="session")
def open_kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Opened]:
    """Opens the storage of a kind; once a session."""
    made: dict[str, Opened] = {}

    def url(kind: str) -> str:
        if kind == "postgresql":
            return request.getfixturevalue("postgres_server").create("contract")
        if kind == "journal":
            return f"journal:///{tmp_path_factory.mktemp('journal')}/optuna.log"
        return str(request.getfixturevalue(f"{kind}_url"))

    def opened(kind: str) -> Opened:
        if kind not in made:
            made[kind] = open_storage(url(kind))
        return made[kind]

    return opened


@dataclass(frozen=True)
class Bench:
    """A fresh study, and queues on it as several processes would have them."""

    study: optuna.Study
    opened: Opened

    def queue(self, name: str = "a", **seconds: float) -> Queue:
        return Queue(self.study, self.opened.storage, Worker(name, "here", 1), **seconds)


@pytest.fixture(params=["sqlite", "journal", "grpc", "postgresql"])
def bench(request: pytest.FixtureRequest, open_kind: Callable[[str], Opened]) -> Bench:
    """A fresh study in each kind of storage."""
    opened = open_kind(request.param)
    study = optuna.create_study(
        study_name=request.node.name,
        storage=opened.storage,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    return Bench(study, opened)


@pytest.fixture
def one_bench(request: pytest.FixtureRequest, open_kind: Callable[[str], Opened]) -> Bench:
    """A fresh study in SQLite."""
    opened = open_kind("sqlite")
    study = optuna.create_study(
        study_name=f"{request.node.module.__name__} {request.node.name}",
        storage=opened.storage,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    return Bench(study, opened)
