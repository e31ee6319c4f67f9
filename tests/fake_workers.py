"""What the worker processes of the tests run: light, so that a start costs next to nothing."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def note_order(order: str, log: str) -> None:
    told = json.loads(order)
    (Path(told["runs_dir"]) / told["worker"]).write_text(order)
    Path(log).write_text("at work\n")
    time.sleep(60)


def fail(order: str, log: str) -> None:
    """What Python says as it is taken apart comes last."""
    Path(log).write_text("a warning\nhisto-mlflow: the disk is full\nException ignored in: x\n")
    sys.exit(1)


def fail_by_a_bug(order: str, log: str) -> None:
    Path(log).write_text("Traceback (most recent call last):\nZeroDivisionError: a bug\n")
    sys.exit(1)


def end_well(order: str, log: str) -> None:
    Path(log).write_text("said something\n")


def sleep(order: str, log: str) -> None:
    time.sleep(60)


def beat(order: str, log: str) -> None:
    """At work for as long as it is let, with signs of life."""
    from histo_mlflow.tuning import _pulse

    _pulse.BEAT_SECONDS = 0.05
    Path(log).write_text("at work\n")
    with _pulse.beating(_pulse.sign_of(Path(log))):
        time.sleep(60)


def sleep_through_sigterm(order: str, log: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(log).write_text("deaf\n")
    time.sleep(60)


def main_under_mlflow_run(outcome: str, order: str, log: str) -> None:
    """`worker.main`, whose work comes to `outcome`."""
    from histo_mlflow.errors import Interrupted, TrackingError
    from histo_mlflow.tuning import worker

    def work(order: object, sign: Path) -> None:
        print("a line on stdout")
        print(f"run {os.environ.get('MLFLOW_RUN_ID')}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        if outcome == "interrupted":
            raise Interrupted(signal.SIGTERM)
        if outcome == "failed":
            error = TrackingError("the store\nis away")
            error.add_note("start it")
            raise error
        if outcome == "bug":
            raise ZeroDivisionError("a bug")

    os.environ["MLFLOW_RUN_ID"] = "0" * 32
    worker.work = work
    worker.main(order, log)
