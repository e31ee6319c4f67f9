"""How a study's progress reads: the table of a terminal, and the line of a trial that ended."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from histo_mlflow.tuning.report import trials_table
from histo_mlflow.tuning.report._text_width import columns, fit
from histo_mlflow.tuning.report.snapshot import RunningTrial, Snapshot
from histo_mlflow.tuning.report.summary import duration, params_text, told_counts
from histo_mlflow.tuning.shared import attributes

_WORKER_COLUMNS = 24


def lines(shown: Snapshot, width: int, rows: int, *, plain: bool = False) -> list[str]:
    """The table, no line wider than `width` columns and not more than `rows` lines.

    Args:
        shown: the study.
        width: of the terminal.
        rows: of the terminal that may be used.
        plain: ASCII alone.
    """
    foot = _foot(shown, width)
    room = rows - len(foot) - 2  # the line at the top, and the head of the table
    running = shown.running[: room if len(shown.running) <= room else max(room - 1, 0)]
    found = [_head(shown)]
    if running:
        found += _table(shown, running, width)
    if left_out := len(shown.running) - len(running):
        found.append(f"  {f'... and {left_out} more' if running else left_out} running")
    return [fit(line, width, plain=plain) for line in [*found, *foot]][-max(rows, 1) :]


def ended_line(one: FrozenTrial, metric: str, axes: Sequence[str] | None = None) -> str:
    """One line about a trial that has ended."""
    state, noted = trials_table.state_of(one).replace("_", " "), one.user_attrs
    value, last = trials_table.value_of(one), trials_table.last_of(one)
    facts = [f"{one.number} {state}"]
    if value is not None:
        epoch = noted.get(attributes.BEST_EPOCH)
        facts.append(f"{metric} {value:.4f}" + (f" at epoch {epoch}" if epoch is not None else ""))
    elif last is not None:
        facts.append(f"last {metric} {last:.4f}")
    if attributes.SECONDS in noted:
        facts.append(duration(noted[attributes.SECONDS]))
    if one.params:
        facts.append(params_text(one.params, axes))
    text = ", ".join(facts)
    cause = trials_table.cause_of(one)
    return f"{text}: {cause}" if cause is not None else text


def _head(shown: Snapshot) -> str:
    best = "none yet" if shown.best is None else f"{shown.best[1]:.4f} (trial {shown.best[0]})"
    return f"study {shown.study}: best {shown.metric} {best}"


def _table(shown: Snapshot, running: Sequence[RunningTrial], width: int) -> list[str]:
    """A row a running trial; the params get what is left, and the worker goes first if need be."""
    head = ["trial", shown.step, "last", "best"]
    rows = [
        [
            str(one.number),
            f"{one.done}/{one.steps}" if one.steps is not None else str(one.done),
            "" if one.last is None else f"{one.last:.4f}",
            "" if one.best is None else f"{one.best:.4f}",
        ]
        for one in running
    ]
    workers = [fit(one.worker, _WORKER_COLUMNS) for one in running]
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    fixed = 2 + sum(wide) + 2 * len(wide)
    theirs = max(map(columns, ["worker", *workers]))
    params = max(map(columns, ["params", *(one.params for one in running)]))
    with_worker = any(workers) and width - fixed - theirs - 2 >= min(params, 24)
    room = max(min(params, width - fixed - (theirs + 2 if with_worker else 0)), 0)
    ends = [
        ("params", "worker"),
        *((one.params, w) for one, w in zip(running, workers, strict=True)),
    ]
    found = []
    for row, (said, worker) in zip([head, *rows], ends, strict=True):
        line = "  " + "  ".join(cell.rjust(n) for cell, n in zip(row, wide, strict=True))
        said = fit(said, room)
        line += "  " + said + " " * (room - columns(said))
        found.append((line + "  " + worker if with_worker else line).rstrip())
    return found


def _foot(shown: Snapshot, width: int) -> list[str]:
    """How all trials ended and how long it takes: on one line, or on two where that is too long."""
    over = sum(shown.counts.get(state, 0) for state in attributes.TRIAL_STATES)
    of = f"{over} of {shown.limit} ended" if shown.limit is not None else f"{over} ended"
    ends = f"{of}: {told_counts(shown.counts)}"
    left = "time left unknown"
    if shown.left_seconds is not None:
        left = f"about {duration(shown.left_seconds)} left"
    times = f"{duration(shown.used_seconds)} used, {left}"
    whole = f"{ends}; {times}"
    return [whole] if len(whole) <= width else [ends, times]
