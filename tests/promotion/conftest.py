"""One real `mlflow server` for a file of tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `import real_server` from the tests of this folder.
sys.path.insert(0, str(Path(__file__).parent.parent / "tracking"))

from real_server import Server, one_server


@pytest.fixture(scope="module")
def server(fresh_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with one_server(fresh_database, tmp_path_factory.mktemp("server")) as running:
        yield running
