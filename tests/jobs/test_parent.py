"""A training ends with the `mlflow run` that started it, and with nothing else."""

import os
import signal
import subprocess
import sys
import time

import pytest

CHILD = """
import sys, time
from histo_mlflow.jobs.parent import ending_with_parent, project_runner
from histo_mlflow.jobs.signals import ending_by_signal
try:
    with ending_with_parent(), ending_by_signal() as ending, ending_with_parent(
        lambda: setattr(ending, "why", "gone")
    ):
        open(sys.argv[1], "w").write(str(project_runner() is not None))
        time.sleep(30)
except KeyboardInterrupt as ended:
    open(sys.argv[2], "w").write(str(ended))
"""
RUNNER = """
import subprocess, sys
subprocess.Popen([sys.executable, *sys.argv[1:]]).wait()
"""


def wait_for(path, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"nothing in {path}"
        time.sleep(0.02)
    return path.read_text()


@pytest.fixture
def family(tmp_path):
    """Start a script of a given name that starts the child: (its process, begun, ended)."""
    started = []

    def start(name, *, run_id):
        (tmp_path / name).write_text(RUNNER)
        (tmp_path / "child.py").write_text(CHILD)
        begun, ended = tmp_path / "begun", tmp_path / "ended"
        environment = {**os.environ, **({"MLFLOW_RUN_ID": "abc"} if run_id else {})}
        files = [tmp_path / "child.py", begun, ended]
        process = subprocess.Popen(
            [sys.executable, tmp_path / name, *files], env=environment, start_new_session=True
        )
        started.append(process)
        return process, begun, ended

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_mlflow_run_ends_the_training_within_seconds(number, family):
    process, begun, ended = family("mlflow", run_id=True)
    assert wait_for(begun) == "True"
    started = time.monotonic()
    process.send_signal(number)
    process.wait()

    assert wait_for(ended) == "gone"
    assert time.monotonic() - started < 10  # it looks every second, and would go on for 30 s


@pytest.mark.parametrize(
    ("name", "run_id"), [("shell", True), ("mlflow", False)], ids=["no mlflow", "no run"]
)
def test_the_end_of_anything_else_does_not(name, run_id, family):
    """`nohup histo-mlflow train &` lives on when its shell ends."""
    process, begun, ended = family(name, run_id=run_id)
    assert wait_for(begun) == "False"
    process.kill()
    process.wait()

    time.sleep(2.0)
    assert not ended.exists()


def test_who_started_it_is_known_by_its_number_whatever_it_is_called(family, monkeypatch):
    from histo_mlflow.jobs.parent import project_runner

    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    assert project_runner(str(os.getppid())).pid == os.getppid()
    for unknown in ("$PPID", "1", "", None):
        assert project_runner(unknown) is None


def test_who_is_gone_already_ends_the_training_once_it_listens(monkeypatch):
    """`mlflow run` that was killed while its child was importing."""
    from histo_mlflow.errors import Interrupted
    from histo_mlflow.jobs import parent
    from histo_mlflow.jobs.signals import ending_by_signal

    monkeypatch.setattr(parent, "LOOK_SECONDS", 0.05)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with pytest.raises(ProcessLookupError):
        parent.project_runner(str(gone.pid))
    with (  # noqa: PT012
        parent.ending_with_parent(started_by=str(gone.pid)),
        pytest.raises(Interrupted, match="nobody"),
        ending_by_signal() as ending,
    ):
        time.sleep(0.3)  # imports
        with parent.ending_with_parent(lambda: setattr(ending, "why", "nobody is there")):
            time.sleep(10)


def test_the_watch_ends_with_its_context(monkeypatch):
    import threading

    import psutil

    from histo_mlflow.jobs import parent

    monkeypatch.setattr(parent, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(parent, "project_runner", lambda _: psutil.Process())
    with parent.ending_with_parent(lambda: pytest.fail("it is alive")):
        time.sleep(0.1)
    deadline = time.monotonic() + 10
    while "histo-mlflow parent" in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < deadline, "it still looks after its parent"
        time.sleep(0.01)
