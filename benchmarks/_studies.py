"""What the benchmarks of studies share: a study worked on in this process, trial after trial.

Queue, sampler, pruner, both stores, run folders and checkpoints are those of `histo-mlflow tune`;
left out are its supervisor and the start of worker processes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.trainable import settle
from histo_mlflow.tracking.store import Store, connect
from histo_mlflow.tuning.joining import make_or_join
from histo_mlflow.tuning.order import Order
from histo_mlflow.tuning.parent_run import open_parent
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import Queue, Worker
from histo_mlflow.tuning.shared.storage import open_storage
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.space import fixed_params
from histo_mlflow.tuning.study.study_file import StudyFile
from histo_mlflow.tuning.workplace import Workplace, open_workplace


@contextmanager
def laboratory() -> Iterator[tuple[Path, Store]]:
    """A scratch folder, and an MLflow store in it; the cache is in it too, unless one is named."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("HISTO_MLFLOW_CACHE", str(Path(scratch) / "cache"))
        yield Path(scratch), connect(f"sqlite:///{Path(scratch) / 'mlflow.db'}")


@contextmanager
def opened(file: StudyFile, title: str, folder: Path, store: Store) -> Iterator[Workplace]:
    """The place of the only worker of a new study, with its slots in the queue and its parent run.

    Args:
        file: what is searched.
        title: of the study; random pruners and Hyperband's brackets depend on it.
        folder: gets `optuna.db`, unless it is there, and the runs' folders.
        store: of MLflow.
    """
    storage = open_storage(f"sqlite:///{folder / 'optuna.db'}", tracking_uri=store.tracking_uri)
    definition = Definition.of(file)
    joined = make_or_join(storage.storage, title, definition, kind="search", experiment="benchmark")
    parent = open_parent(
        joined.study, store, new=joined.new, key=joined.key, run_name=title, params={}, tags={}
    )
    joined.study.set_user_attr(name.WALL_SECONDS, None)
    queue = Queue(joined.study, storage.storage, Worker.here())
    queue.fill(file.slots, [fixed_params(file.space, guess) for guess in file.enqueue])
    order = Order(
        worker="benchmark",
        storage=storage.url,
        study=title,
        tracking_uri=store.tracking_uri,
        runs_dir=str(folder / "runs"),
        definition=definition.to_json(),
        most_epochs=file.most_epochs,
        plan=settle(file.base()).decided(),
        started_by=os.getpid(),
    )
    with parent, ending_by_signal() as signals:
        yield open_workplace(order, signals)
        parent.end("finished")
