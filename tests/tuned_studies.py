"""What the tests of whole studies share: a small study file, its processes, and what both say."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import optuna
import pandas as pd
import psutil
import sqlalchemy
from mlflow import MlflowClient
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from histo_mlflow.tuning.shared import attributes

Found = TypeVar("Found")
STUDY = """\
summary: generated patches, a tiny network
recipe: demo
set: {{demo_images: {images}, image_px: {px}, model: timm/test_resnet, weights: none,
  epochs: {epochs}, batch_size: 16, schedule: constant, precision: fp32,
  memory_format: contiguous, threads: 1}}
metric: val/auc
space:
  lr: {{type: float, low: 1.0e-4, high: {high}, log: true}}
  policy: {{type: categorical, choices: [none, flips]}}
sampler: {{name: random}}
pruner: {{name: median, startup_trials: 3, warmup: 2}}
trials: {trials}
keep: {keep}
retries: {retries}
"""


def write_study(
    folder: Path,
    *,
    trials: int,
    epochs: int,
    retries: int = 2,
    keep: int = 2,
    images: int = 96,
    px: int = 32,
    high: str = "3.0e-2",
) -> Path:
    path = folder / "small.yaml"
    path.write_text(
        STUDY.format(
            trials=trials,
            epochs=epochs,
            retries=retries,
            keep=keep,
            images=images,
            px=px,
            high=high,
        )
    )
    return path


def workers_of(pid: int) -> list[psutil.Process]:
    """The living worker processes of a `tune`: what its fork server has forked."""
    found = []
    try:
        for child in psutil.Process(pid).children():
            if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                found += [p for p in child.children() if p.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:  # it ends just now
        return []
    return found


def is_over(pid: int) -> bool:
    """Whether a process has ended; nobody need have waited for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(
    condition: Callable[[], Found],
    what: str,
    seconds: float = 200.0,
    *,
    pid: int | None = None,
    said: Callable[[], str] = str,
) -> Found:
    """Wait for what `condition` gives to be true.

    Args:
        what: is waited for, in a few words.
        pid: of the process that is to bring it about; once that has ended nobody waits on.
        said: gives what it said.

    Returns:
        What `condition` gave.
    """
    deadline = time.monotonic() + seconds
    while True:
        over = pid is not None and is_over(pid)  # before the look, which then is the last
        if found := condition():
            return found
        assert not over, f"process {pid} ended without {what}: {said()}"
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}: {said()}"
        time.sleep(0.05)


def still(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@dataclass(frozen=True)
class Told:
    """A study as Optuna's storage, MLflow's store and the folder of runs have it.

    Attributes:
        trials: of Optuna, by number.
        parent: the parent run.
        children: trial number -> its runs; a list, so that a second one is seen.
        points: run id -> {metric: {step: value}}; no point is there twice.
    """

    trials: list[FrozenTrial]
    parent: object
    children: dict[int, list]
    points: dict[str, dict[str, dict[int, float]]]
    runs_dir: Path
    client: MlflowClient

    def endings(self) -> list[str]:
        return [trial.user_attrs.get(attributes.STATE, "open") for trial in self.trials]

    def child(self, number: int):
        (only,) = self.children[number]
        return only

    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.runs_dir / self.parent.info.run_id / "study" / "trials.parquet")

    def with_checkpoints(self) -> set[int]:
        """Numbers of the trials whose checkpoints are still there."""
        return {
            trial.number
            for trial in self.trials
            if (run_id := trial.user_attrs.get(attributes.RUN_ID)) is not None
            and (self.runs_dir / run_id / "checkpoints").exists()
        }


def trials_in(folder: Path, url: str | None = None, name: str = "small") -> list[FrozenTrial]:
    """All trials, in the folder's `optuna.db` or at a URL; none while there is no such study."""
    if url is None and not (folder / "optuna.db").exists():
        return []
    url = url or f"sqlite:///{folder}/optuna.db"
    # alembic's own look raises what SQLAlchemy raises, Optuna wraps it.
    try:
        if not _is_made(url):
            return []
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
    except (SQLAlchemyError, StorageInternalError):  # locked just now
        return []
    try:
        return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    except (KeyError, SQLAlchemyError, StorageInternalError):  # no such study yet, or locked
        return []
    finally:
        storage.engine.dispose()


def _is_made(url: str) -> bool:
    """Whether Optuna's tables are there, to the last row.

    Who only opens the storage before that makes some of them, whatever `skip_table_creation`
    says, and gets in the way of those who make them all.
    """
    engine = sqlalchemy.create_engine(url)
    try:
        if not sqlalchemy.inspect(engine).has_table("alembic_version"):
            return False
        with engine.connect() as connection:
            rows = connection.execute(sqlalchemy.text("SELECT count(*) FROM alembic_version"))
            return bool(rows.scalar())
    finally:
        engine.dispose()


def read(folder: Path, uri: str, url: str | None = None, name: str = "small") -> Told:
    """All that is known of the only study of that name; `folder` holds its runs."""
    client = MlflowClient(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    of_study = client.search_runs(experiments, f"tags.`histo.study` = '{name}'", max_results=1_000)
    parents = [run for run in of_study if run.data.tags.get("histo.study.kind") == "study"]
    assert len(parents) == 1, f"{len(parents)} parent runs"
    children: dict[int, list] = {}
    for run in of_study:
        if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id and (
            run.data.tags.get("histo.study.kind") == "search"
        ):
            children.setdefault(int(run.data.tags["histo.study.trial"]), []).append(run)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        rows = database.execute("select run_uuid, key, step, value from metrics").fetchall()
    assert len({row[:3] for row in rows}) == len(rows), "points are there twice"
    points: dict[str, dict[str, dict[int, float]]] = {}
    for run_id, key, step, value in rows:
        points.setdefault(run_id, {}).setdefault(key, {})[step] = value
    return Told(trials_in(folder, url, name), parents[0], children, points, folder / "runs", client)


def assert_whole(told: Told, budget: int, *, at_once: bool = False) -> None:
    """Every trial ended and has one run; both stores, the table and the folders say the same.

    Args:
        at_once: two commands began the study: where both made the last slot at once there is one
            beyond the budget, which nobody takes.
    """
    beyond = told.trials[budget:]
    if at_once:
        assert len(beyond) <= 1
        assert all(one.state == TrialState.WAITING and not one.user_attrs for one in beyond)
        told = replace(told, trials=told.trials[:budget])
    assert [trial.number for trial in told.trials] == list(range(budget))
    assert all(trial.state.is_finished() for trial in told.trials), told.endings()
    assert (told.parent.info.status, told.parent.data.tags["histo.ending"]) == (
        "FINISHED",
        "finished",
    )
    status = {"complete": "FINISHED", "pruned": "KILLED"}
    for trial, ending in zip(told.trials, told.endings(), strict=True):
        run = told.child(trial.number)
        assert run.info.run_id == trial.user_attrs[attributes.RUN_ID]
        assert run.data.tags[attributes.STATE_TAG] == ending
        assert run.info.status == status.get(ending, "FAILED")
        assert_epochs_once(told, trial, ending)
    assert sorted(told.children) == list(range(budget)), "runs of trials that there are not"

    complete = [trial for trial in told.trials if trial.state == TrialState.COMPLETE]
    recomputed = {
        trial.number: max(told.points[told.child(trial.number).info.run_id]["val/auc"].values())
        for trial in complete
    }
    assert {trial.number: trial.value for trial in complete} == recomputed
    table = told.table().set_index("number")
    assert list(table.index) == list(range(budget))
    assert list(table["state"]) == told.endings()
    assert dict(table["value"].dropna()) == recomputed
    assert list(table["run_id"]) == [t.user_attrs[attributes.RUN_ID] for t in told.trials]


def assert_epochs_once(told: Told, trial: FrozenTrial, ending: str) -> None:
    """Each epoch of a trial is in MLflow and in Optuna, without a gap, with the same value."""
    points = told.points[told.child(trial.number).info.run_id]["val/auc"]
    assert sorted(points) == list(range(1, len(points) + 1))
    if ending in ("complete", "pruned"):
        assert points == trial.intermediate_values
        assert len(points) == trial.user_attrs[attributes.EPOCHS]
