"""A worker process of a study: takes trials, one after the other, until there are none."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from time import sleep

from histo_mlflow.errors import HistoMlflowError, Interrupted
from histo_mlflow.jobs.parent import ending_with_parent
from histo_mlflow.jobs.signals import Ending, ending_by_signal
from histo_mlflow.tuning._pulse import beating, sign_of
from histo_mlflow.tuning.order import Order

IDLE_SECONDS = 1.0
"""Between two looks for a trial while others are at the last ones, which may come back."""
GONE = "the `histo-mlflow tune` that this trial belongs to is gone"
_NOT_FOR_WORKERS = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
"""What `mlflow run` gives the command; a trial's run is another one."""


def main(order: str, log: str) -> None:
    """Work by an order, and end the process with 0, or with 1 and a sentence in the log.

    Args:
        order: `Order.to_json`.
        log: file that gets what is written to stdout and stderr.
    """
    if hasattr(signal, "pthread_sigmask"):
        # The server that this process is forked from holds them back: see `_preloaded`.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is the command's to hand on
    for name in _NOT_FOR_WORKERS:
        os.environ.pop(name, None)
    with Path(log).open("w", encoding="utf-8") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    # Line by line, so that the last line is what was said last.
    sys.stdout = sys.stderr = os.fdopen(
        os.dup(1), "w", buffering=1, encoding="utf-8", errors="replace"
    )
    try:
        work(Order.from_json(order), sign_of(Path(log)))
    except Interrupted:
        sys.exit(0)  # saved and given back, as was asked for
    except HistoMlflowError as error:
        sentence = "; ".join([str(error), *getattr(error, "__notes__", ())])
        os.write(2, f"histo-mlflow: {' '.join(sentence.split())}\n".encode())
        sys.exit(1)


def work(order: Order, sign: Path) -> None:
    """Take trials until there are none.

    Args:
        order: see there.
        sign: file that is touched while this process is at work.

    Raises:
        HistoMlflowError: the storage, the store, the data or the disk failed; the trial was given
            back.
        Interrupted: a signal, or the command is gone; the trial is saved and was given back.
    """
    with ending_with_parent(started_by=str(order.started_by)):
        # Imports of seconds: a signal ends them as the system does it, nothing is begun yet.
        from histo_mlflow.tuning.objective import run_trial
        from histo_mlflow.tuning.workplace import open_workplace

        with (
            ending_by_signal() as signals,
            ending_with_parent(lambda: _gone(signals)),
            beating(sign),
        ):
            place = open_workplace(order, signals)
            try:
                while not place.queue.over() and not place.time_is_up():
                    with signals.whole():
                        trial = place.claim()
                    if trial is None:
                        sleep(IDLE_SECONDS)
                    else:
                        run_trial(place, trial)
            except Interrupted:
                place.queue.let_go()  # a signal may come between taking a trial and working on it
                raise


def _gone(signals: Ending) -> None:
    signals.why = GONE
