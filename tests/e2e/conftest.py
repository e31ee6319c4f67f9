"""The command line as a process, at a fraction of what it costs to start one."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tracking"))

from real_server import Server  # noqa: E402


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: exit status; negative is the signal that ended it.
        said: stdout and stderr.
        seconds: from the signal to the last word that it said, after which nothing is left to do
            for it; None where no signal was sent.
        dying: seconds from there to the end of the process: Python takes torch and MLflow apart.
    """

    code: int
    said: str
    seconds: float | None
    dying: float

    @property
    def sentence(self) -> str:
        """The one line in which the command says what went wrong."""
        lines = [line for line in self.said.splitlines() if line.startswith("histo-mlflow: ")]
        assert len(lines) == 1, self.said
        assert "Traceback" not in self.said, self.said
        return lines[0].removeprefix("histo-mlflow: ")


class Started:
    """A process that was started; `wait` for it."""

    def __init__(self, zygote, pid, log):
        self.zygote, self.pid, self.log = zygote, pid, log
        self.waited = False

    def wait(self) -> Ended:
        done = self.zygote.ask({"wait": self.pid})
        self.waited = True
        moment = Path(f"{self.log}.moment")
        spoke = self.log.stat().st_mtime
        seconds = spoke - float(moment.read_text()) if moment.exists() else None
        moment.unlink(missing_ok=True)
        return Ended(done["status"], self.log.read_text(), seconds, done["ended"] - spoke)

    def said(self) -> str:
        return self.log.read_text()


class Zygote:
    """See `zygote.py`.

    Attributes:
        blank: whether every picture is a blank file, for tests that do not look at any.
    """

    blank = False

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert json.loads(self.process.stdout.readline()) == {"ready": True}

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        folder,
        *arguments,
        moment=None,
        signals=(),
        hang=0.0,
        gate=None,
        fill=None,
        poison=False,
        terminal=None,
        nohup=False,
        **more,
    ):
        """Start `histo-mlflow ...` in a folder; see `zygote.py`. `more` are of the environment."""
        log = folder / f"log{len(list(folder.glob('log*')))}"
        log.touch()
        request = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(folder),
            "environment": {"HISTO_MLFLOW_CACHE": os.environ["HISTO_MLFLOW_CACHE"], **more},
            "log": str(log),
            "moment": moment,
            "signals": [[int(number), pause] for number, pause in signals],
            "hang": hang,
            "gate": gate and str(gate),
            "fill": fill and str(fill),
            "poison": poison,
            "terminal": terminal,
            "nohup": nohup,
            "blank": self.blank,
        }
        return Started(self, self.ask(request)["pid"], log)


@pytest.fixture(scope="session")
def zygote():
    made = Zygote()
    yield made
    made.process.stdin.close()
    made.process.wait(30)


@pytest.fixture
def blank_pictures(zygote, monkeypatch):
    """Drawing is a third of what a small training costs."""
    monkeypatch.setattr(zygote, "blank", True)


@pytest.fixture
def start(zygote, tmp_path):
    """Start `histo-mlflow ...` in the test's folder; whatever still runs at the end is killed."""
    started = []

    def begin(*arguments, **options):
        started.append(zygote.start(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for process in started:
        if not process.waited:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def command(start):
    """Run `histo-mlflow ...` to its end."""

    def run(*arguments, **options) -> Ended:
        return start(*arguments, **options).wait()

    return run


@pytest.fixture(scope="module")
def server(fresh_database, tmp_path_factory):
    """The real `mlflow server` of the tracking tests."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(fresh_database, folder / "mlflow.db")
    running = Server(folder / "mlflow.db", folder)
    try:
        running.wait()
        yield running
    finally:
        running.kill()


VARYING = re.compile(r"(train_|epoch_)?seconds|images_per_second|data_wait_share|system/")


@dataclass(frozen=True)
class Found:
    """What a store has of its only run."""

    run_id: str
    status: str
    tags: dict
    curves: dict
    models: list
    artifacts: set

    @property
    def ended(self):
        return self.status, self.tags.get("histo.ending")


@pytest.fixture(scope="session")
def found():
    """Read the only run of a store, and check that no point of it is there twice."""

    def look(uri, database=None, run_id=None) -> Found:
        client = MlflowClient(uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = [
            run
            for run in client.search_runs(experiments)
            if run_id is None or run.info.run_id == run_id
        ]
        assert len(runs) == 1
        info, data = runs[0].info, runs[0].data
        with sqlite3.connect(database or uri.removeprefix("sqlite:///")) as opened:
            rows = opened.execute(
                "select key, step, value from metrics where run_uuid = ? order by key, step",
                (info.run_id,),
            ).fetchall()
        assert len({(key, step) for key, step, _ in rows}) == len(rows), "points are there twice"
        curves = {}
        for key, step, value in rows:
            if not VARYING.match(key):
                curves.setdefault(key, []).append((step, value))
        models = client.search_logged_models(experiments, f"source_run_id = '{info.run_id}'")
        files, folders = set(), [None]
        while folders:
            for entry in client.list_artifacts(info.run_id, folders.pop()):
                (folders.append if entry.is_dir else files.add)(entry.path)
        return Found(
            info.run_id,
            info.status,
            data.tags,
            curves,
            [str(model.status) for model in models],
            files,
        )

    return look
