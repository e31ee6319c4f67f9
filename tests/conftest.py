"""Ground rules of every test: nothing leaves the machine, nothing is left behind."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Before anything imports mlflow, torch or matplotlib: they read these once.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MPLBACKEND"] = "Agg"
# One thread a process: tests start several, and a result must not depend on the machine's cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
# A developer's own server, or the run that `mlflow run` opened around the tests, is not ours.
for name in (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
):
    os.environ.pop(name, None)

# `import layouts` from any test; spawned processes inherit the path.
sys.path.insert(0, str(Path(__file__).parent))

import pytest  # noqa: E402


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal in groups where `--dist=loadgroup` asks for it; see `dealing`."""
    if config.getvalue("dist") != "loadgroup":
        return None
    import dealing

    return dealing.scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process that tests are dealt to in groups, put them in the order of dealing."""
    import dealing

    dealing.assert_dealt(items)
    if config.getoption("loadgroup", default=False):
        items.sort(key=dealing.turn)


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of this test session, fresh and thrown away."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTO_MLFLOW_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real images; tests that need it are skipped where it is not named."""
    named = os.environ.get("HISTO_MLFLOW_REALDATA")
    if not named:
        pytest.skip("needs real images: set HISTO_MLFLOW_REALDATA to their folder")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"HISTO_MLFLOW_REALDATA names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as `connect` makes it; made once, since MLflow's schema takes seconds."""
    from histo_mlflow.tracking.store import connect

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def store_uri(fresh_database: Path, tmp_path: Path) -> str:
    """A fresh SQLite store of this test."""
    path = tmp_path / "mlflow.db"
    shutil.copy(fresh_database, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def postgres_server():
    """A real PostgreSQL of this session."""
    import postgres

    folder = postgres.binaries()
    if folder is None:
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs `pip install psycopg[binary]`")
    with postgres.running(folder) as server:
        yield server
