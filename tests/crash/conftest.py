"""One zygote for all tests of this folder: it takes seconds to start."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `from harness import trials` from the tests of this folder and in the processes that they start.
sys.path.insert(0, str(Path(__file__).parent))

from harness.trials import Laboratory


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory(tmp_path_factory.mktemp("crash") / "lab", session_cache)
    yield laboratory
    laboratory.close()
