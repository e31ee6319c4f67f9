"""A registered champion, and both servers of it; each is started once a module."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `from hostility import ...` from the tests of this folder.
sys.path.insert(0, str(Path(__file__).parent))

from hostility import servers
from hostility.case import GOOD
from hostility.judge import canary
from hostility.model import Champion, champion
from hostility.servers import Server

from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    folder = tmp_path_factory.mktemp("served") / "small"
    return champion(folder, DecodeRule(32), GOOD, f"sqlite:///{folder.parent / 'mlflow.db'}")


@pytest.fixture(scope="session")
def oracle(small: Champion) -> Predictor:
    return Predictor(small.folder)


@pytest.fixture(scope="module")
def plain(small: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`mlflow models serve` of the champion."""
    folder = tmp_path_factory.mktemp("plain") / "server"
    with servers.plain(small.reference, small.uri, folder) as server:
        yield server


@pytest.fixture(scope="module")
def histo(small: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`histo-mlflow serve` of the champion."""
    folder = tmp_path_factory.mktemp("histo") / "server"
    with servers.histo(small.reference, small.uri, folder) as server:
        yield server


@pytest.fixture(scope="module")
def trap() -> Iterator[tuple[int, list[object]]]:
    """A port that must not be called, and the list of those who did."""
    with canary() as (port, callers):
        yield port, callers
