"""What Optuna, MLflow and the files of a run cost a trial of a study, beside its training.

Claim: less than 1.2 s, which is 2 % of a trial of one minute, also after 1,000 trials.
n: --trials trials of 6 epochs for each size of the study, one after the other in one process, both
stores SQLite; medians over the trials of a size. The first trial of the process is left out: it
imports and compiles.

    python benchmarks/study_overhead.py [--trials N] [--sizes N ...] [--model NAME]

Counted is what `tune`'s worker does for a trial from the look for one until it has told its ending
and removed what need not be kept, in all threads, but for training and validation (`fit` without
what is done between epochs), building the model, and preparing the data, which any training needs.
A study of a size is one with so many trials that ended before, in both stores: copies of
the rows of a real one.

The supervisor is another process and looks at the study twice a second; its looks are timed apart,
as its share of one core.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from _studies import laboratory, opened
from _timing import machine
from histo_mlflow.jobs import development, epochs, search_run
from histo_mlflow.jobs.epochs import Epochs
from histo_mlflow.training.checkpoint import Checkpoints
from histo_mlflow.tuning import objective
from histo_mlflow.tuning.report.parent_report import Told, tell_points, tell_tags
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import Queue
from histo_mlflow.tuning.study.study_file import StudyFile, load_study
from histo_mlflow.tuning.supervise import LOOK_SECONDS
from histo_mlflow.tuning.workplace import Workplace

TRIAL_SECONDS, SHARE = 60.0, 0.02
OF_TRIALS = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
)
OF_RUNS = ("runs", "params", "tags", "metrics", "latest_metrics")
OWN = "the training's own"
"""Parts of this name are not bookkeeping."""


@dataclass
class Parts:
    """Seconds by the clock and of the main thread's processor time, each in one part only."""

    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _open: list[str] = field(default_factory=list)
    _since: tuple[float, float] = (0.0, 0.0)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count the block as `part`, but for what counts as another within it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._turn()
        self._open.append(part)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        if self._open:
            self.wall[self._open[-1]] += now[0] - self._since[0]
            self.cpu[self._open[-1]] += now[1] - self._since[1]
        self._since = now


PARTS = Parts()


def watched() -> None:
    """Let the functions that a trial goes through count their time."""
    for where, called, part in (
        (Queue, "over", "looking for a trial"),
        (Queue, "time_is_up", "looking for a trial"),
        (Workplace, "claim", "claim"),
        (objective, "suggest", "sample"),
        (search_run, "_known", "run: begin"),
        (search_run, "found_or_begun", "run: begin"),
        (search_run, "_started", "run: begin"),
        (development.Developments, "of", OWN),
        (search_run, "get_trainable", OWN),
        (Epochs, "_log", "epoch: journal"),
        (Epochs, "_is_wanted", "epoch: report, prune"),
        (Checkpoints, "save", "epoch: checkpoint"),
        (Checkpoints, "save_best", "epoch: checkpoint"),
        (search_run, "write_outcome", "run: outcome"),
        (search_run, "deliver_outcome", "run: deliver, close"),
        (Queue, "finish", "tell"),
        (Workplace, "keep_best", "keep the best"),
    ):
        setattr(where, called, _counted(getattr(where, called), part))
    fit = vars(epochs)["fit"]

    def watched_fit(*args: Any, on_epoch: Callable[..., None], **kwargs: Any) -> Iterator[Any]:
        records = fit(*args, on_epoch=_counted(on_epoch, "epoch: journal"), **kwargs)
        while True:
            with PARTS.of(OWN):
                record = next(records, None)
            if record is None:
                return
            yield record

    vars(epochs)["fit"] = watched_fit


def _counted(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with PARTS.of(part):
            return function(*args, **kwargs)

    return called


@dataclass(frozen=True)
class Cost:
    """Of one trial: part -> seconds, and the processor time of its other threads."""

    wall: dict[str, float]
    cpu: dict[str, float]
    threads: float

    @property
    def seconds(self) -> tuple[float, float]:
        """Bookkeeping by the clock, and of the processor in all threads."""
        wall = sum(value for part, value in self.wall.items() if part != OWN)
        cpu = sum(value for part, value in self.cpu.items() if part != OWN)
        return wall, cpu + self.threads


def one_trial(place: Workplace) -> Cost:
    """Take a trial and train it, as the loop of `tuning.worker.work` does."""
    PARTS.wall.clear()
    PARTS.cpu.clear()
    all_threads, this = time.process_time(), time.thread_time()
    with PARTS.of("rest"):
        assert not place.queue.over()
        assert not place.time_is_up()
        trial = place.claim()
        assert trial is not None
        objective.run_trial(place, trial)
    threads = (time.process_time() - all_threads) - (time.thread_time() - this)
    done = place.storage.get_trial(trial._trial_id)
    assert done.state in (TrialState.COMPLETE, TrialState.PRUNED), done
    return Cost(dict(PARTS.wall), dict(PARTS.cpu), threads)


def filled(place: Workplace, folder: Path, runs: Path, size: int) -> None:
    """Let the study have `size` ended trials more, and MLflow as many runs.

    Args:
        place: of the study, whose last complete trial is copied.
        folder: with `optuna.db`.
        runs: MLflow's database.
        size: how many.
    """
    ended = [one for one in place.queue.trials() if one.state == TrialState.COMPLETE]
    ids = copied_runs(runs, ended[-1].user_attrs[name.RUN_ID], size)
    copied_trials(folder / "optuna.db", ended[-1]._trial_id, ids)


def copied_trials(database: Path, trial_id: int, run_ids: Sequence[str]) -> None:
    """Copy all rows of a trial, once for each id of a run."""
    with sqlite3.connect(database, timeout=60) as connection:
        (last,) = connection.execute("SELECT MAX(trial_id) FROM trials").fetchone()
        (number,) = connection.execute("SELECT MAX(number) FROM trials").fetchone()
        ids = [last + 1 + index for index in range(len(run_ids))]
        copied_rows(connection, "trials", "trial_id", trial_id, ids)
        connection.executemany(
            "UPDATE trials SET number = ? WHERE trial_id = ?",
            ((number + 1 + index, one) for index, one in enumerate(ids)),
        )
        for table in OF_TRIALS:
            copied_rows(connection, table, "trial_id", trial_id, ids, serial=True)
        connection.executemany(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = ? AND key = ?",
            ((json.dumps(run), one, name.RUN_ID) for run, one in zip(run_ids, ids, strict=True)),
        )


def copied_runs(database: Path, run_id: str, number: int) -> list[str]:
    """Copy all rows of a run so many times; their ids."""
    ids = [f"{index:032x}" for index in range(1, number + 1)]
    with sqlite3.connect(database, timeout=60) as connection:
        for table in OF_RUNS:
            copied_rows(connection, table, "run_uuid", run_id, ids)
        connection.executemany(
            "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'histo.key'",
            ((f"copy-{new}", new) for new in ids),
        )
    return ids


def copied_rows(
    connection: sqlite3.Connection,
    table: str,
    column: str,
    of: object,
    ids: Sequence[object],
    *,
    serial: bool = False,
) -> None:
    """Copy the rows whose `column` is `of`; with `serial` the first column numbers itself."""
    rows = connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (of,))
    columns = [one[0] for one in rows.description]
    at, found = columns.index(column), [list(row) for row in rows]
    if serial:
        found = [[None, *row[1:]] for row in found]
    connection.executemany(
        f"INSERT INTO {table} VALUES ({','.join('?' * len(columns))})",
        ((*row[:at], new, *row[at + 1 :]) for new in ids for row in found),
    )


def looks(place: Workplace, number: int = 20) -> tuple[float, float]:
    """Seconds, by the clock and of the processor, of a look of the supervisor; the median."""
    timed = []
    queue = place.queue
    told = _told(queue.trials(), Told())
    for _ in range(number):
        wall, cpu = time.perf_counter(), time.process_time()
        queue.reap(dead=(), retries=2)
        trials = queue.trials()
        told = _told(trials, told)
        queue.over() or queue.time_is_up()
        queue.time_is_up()
        timed.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*timed, strict=True)
    return statistics.median(walls), statistics.median(cpus)


def _told(trials: Sequence[FrozenTrial], told: Told) -> Told:
    told = tell_points(_Nobody(), trials, told, metric="val/auc", direction="maximize")
    return tell_tags(_Nobody(), trials, told, direction="maximize")


class _Nobody:
    """Takes what a parent run is told; one that is told nothing new is asked nothing."""

    def log_metrics(self, metrics: Any, step: int = 0) -> None:
        """Take it."""

    def set_tags(self, tags: Any) -> None:
        """Take it."""


def table(size: int, costs: list[Cost]) -> str:
    """The parts of a trial as Markdown: medians of seconds."""
    parts = sorted({part for cost in costs for part in cost.wall} - {OWN, "rest"})
    rows = [
        f"### {size:,} trials before; {len(costs)} trials",
        "",
        "| part | clock | processor |",
        "|---|---:|---:|",
    ]
    for part in [*parts, "rest"]:
        wall = statistics.median(cost.wall.get(part, 0.0) for cost in costs)
        cpu = statistics.median(cost.cpu.get(part, 0.0) for cost in costs)
        rows.append(f"| {part} | {wall:.3f} s | {cpu:.3f} s |")
    threads = statistics.median(cost.threads for cost in costs)
    rows.append(f"| other threads (delivery, lease) | beside | {threads:.3f} s |")
    wall, cpu = (statistics.median(side) for side in zip(*(c.seconds for c in costs), strict=True))
    own = statistics.median(cost.wall[OWN] for cost in costs)
    rows.append(f"| **together** | **{wall:.3f} s** | **{cpu:.3f} s** |")
    rows.append(
        f"| share of a trial of {TRIAL_SECONDS:.0f} s (bound {SHARE:.0%}) "
        f"| {wall / TRIAL_SECONDS:.2%} | {cpu / TRIAL_SECONDS:.2%} |"
    )
    rows.append(f"| not counted: model, training, validation | {own:.3f} s | |")
    return "\n".join(rows)


def measured(file: StudyFile, sizes: list[int], trials: int) -> None:
    """Print a table for each size."""
    with laboratory() as (folder, store):
        for size in sizes:
            part = folder / str(size)
            part.mkdir()
            with opened(file, f"of-{size}", part, store) as place:
                one_trial(place)
                if size:
                    filled(place, part, folder / "mlflow.db", size)
                place.queue.fill(len(place.queue.trials()) + trials, [])
                costs = [one_trial(place) for _ in range(trials)]
                print(f"\n{table(size, costs)}", flush=True)
                wall, cpu = looks(place)
                print(
                    f"\nA look of the supervisor {wall * 1000:.1f} ms, of the processor "
                    f"{cpu * 1000:.1f} ms: {cpu / LOOK_SECONDS:.2%} of one core",
                    flush=True,
                )
                if size:
                    _removed(folder / "mlflow.db", size)


def _removed(database: Path, size: int) -> None:
    """Take the copies out again."""
    with sqlite3.connect(database, timeout=60) as connection:
        for one in reversed(OF_RUNS):
            connection.executemany(
                f"DELETE FROM {one} WHERE run_uuid = ?",
                ((f"{index:032x}",) for index in range(1, size + 1)),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10, help="timed of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 200, 1000])
    parser.add_argument("--model", default="timm/test_resnet")
    options = parser.parse_args()
    watched()
    given = {"trials": 1, "model": options.model, "demo_images": 120, "epochs": 6}
    file = load_study("demo", given)
    print(machine())
    print(f"{options.model}, 6 epochs, {options.trials} trials of each size")
    measured(file.model_copy(update={"enqueue": ()}), options.sizes, options.trials)


if __name__ == "__main__":
    main()
