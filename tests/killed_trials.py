"""A process that imports everything once and forks trials, each of which kills itself (SIGKILL).

The first argument is a folder, the others are moments, "place:n": when that function is entered for
the n-th time. Trial `place` has its database and its runs in the folder of that name, and its run
the key `place`.
"""

import importlib
import os
import signal
import sys
import threading
from pathlib import Path

from histo_mlflow.jobs import _search_outcome, epochs, opening, search_run
from histo_mlflow.jobs.development import Developments
from histo_mlflow.jobs.epochs import CheckpointPolicy
from histo_mlflow.jobs.opening import Child
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import load
from histo_mlflow.tracking import run as tracked
from histo_mlflow.tracking.store import connect
from histo_mlflow.training import loop

PLAN = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "threads": 1}
RECIPE = {
    "model": "test_resnet",
    "weights": "none",
    "demo_images": "96",
    "image_px": "32",
    "batch_size": "16",
    "epochs": "3",
    "lr": "3e-3",
    "dropout": "0.2",
}
PLACES = {
    "noting": (opening, "_note"),
    "step": (loop, "train_step"),
    "journal": (epochs.Epochs, "_save"),
    "results": (_search_outcome, "deliver_results"),
    "closing": (tracked, "close_run"),
}


def trial(development, root, key, **options):
    """One trial of the tests, in the folder `root`."""
    store = connect(f"sqlite:///{root / 'mlflow.db'}")
    child = Child(
        options.pop("parent", "0" * 32),
        key,
        {"histo.trial": 7},
        PLAN,
        options.pop("begun", lambda run_id: None),
        options.pop("may_differ", ()),
    )
    with ending_by_signal() as signals:
        return search_run.search_run(
            options.pop("recipe", load("demo", RECIPE)),
            development,
            store=store,
            experiment="study",
            run_name="trial 7",
            runs_dir=root / "runs",
            child=child,
            signals=signals,
            tags_of=options.pop("tags_of", lambda came_out: {"histo.trial.state": "complete"}),
            talk=Talk(quiet=True),
            **options,
        )


def die_at(moment):
    place, _, count = moment.partition(":")
    owner, name = PLACES[place]
    original, left = getattr(owner, name), [int(count)]

    def entered(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, entered)


if __name__ == "__main__":
    # Before the forks, not in each of them.
    for name in ("mlflow", "mlflow.store.tracking.sqlalchemy_store", "sklearn.metrics"):
        importlib.import_module(name)
    assert threading.enumerate() == [threading.main_thread()]
    root, *moments = sys.argv[1:]
    development = Developments(talk=Talk(quiet=True)).of(load("demo", RECIPE))
    children = []
    for moment in moments:
        if (pid := os.fork()) == 0:
            die_at(moment)
            place = moment.partition(":")[0]
            trial(development, Path(root) / place, place, checkpoints=CheckpointPolicy(steps=1))
            os._exit(0)
        children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(children)
