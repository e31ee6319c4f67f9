"""Opening a store: mistakes are told at once, in one sentence, without MLflow's own talk."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.store import connect


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where nothing is made")
def test_a_folder_in_which_no_file_can_be_made_is_told_at_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        connect("sqlite:////proc/mlflow.db")

    assert time.monotonic() - start < 5
    assert str(caught.value) == (
        "the tracking store mlflow.db cannot be made in the folder /proc (No such file or "
        "directory); stand in another folder or give --tracking-uri"
    )
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to step down")
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (
            0o755,
            "the tracking store mlflow.db cannot be made in the folder {} (Permission denied); "
            "stand in another folder or give --tracking-uri\n",
        ),
        (
            0o700,
            "the tracking store {}/mlflow.db may not be looked into; name another with "
            "--tracking-uri or MLFLOW_TRACKING_URI\n",
        ),
    ],
)
def test_a_folder_of_somebody_else_is_told_and_left_as_it_was(
    store_uri: str, mode: int, said: str
) -> None:
    # The other user may be kept out of the environment too: all is imported before stepping down.
    code = """
import os, sys
from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.store import connect
connect(sys.argv[1])
os.setuid(65534)
try:
    connect()
except TrackingError as error:
    print(error)
"""
    with tempfile.TemporaryDirectory() as folder:  # the folders of pytest are closed to others
        Path(folder).chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", code, store_uri],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )

        assert list(Path(folder).iterdir()) == []
    assert done.stdout == said.format(folder), done.stderr


def test_a_database_that_fails_later_is_told_without_the_traceback_of_mlflow(
    fresh_database: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(fresh_database, path)
    store = connect(f"sqlite:///{path}")
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE params")
        database.execute("DROP TABLE metrics")
    with pytest.raises(TrackingError) as caught:
        store.ask("logging", lambda: store.client.search_runs(["0"], filter_string="params.a='b'"))

    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("uri", ["htp://127.0.0.1:5000", "ftp://host", "mongodb://host/x"])
def test_an_unknown_scheme_is_refused_with_those_that_are_known(uri: str) -> None:
    with pytest.raises(TrackingError) as caught:
        connect(uri)

    assert str(caught.value) == (
        f"the tracking store '{uri}' begins with {uri.partition(':')[0]}:, which is none of "
        "sqlite, postgresql, mysql, mssql, http, https, databricks; correct --tracking-uri or "
        "MLFLOW_TRACKING_URI"
    )


def test_the_advice_about_a_dead_server_holds_wherever_its_address_came_from() -> None:
    with pytest.raises(TrackingError) as caught:
        connect("http://127.0.0.1:9")

    assert str(caught.value).endswith(
        "; start it, or name another store with --tracking-uri or MLFLOW_TRACKING_URI"
    )
