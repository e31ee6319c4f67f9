"""What the processes of the queue's tests do: with Optuna, without torch, so that they are cheap.

They are forked from a server that has the imports: a start of Python with Optuna takes seconds.
"""

import multiprocessing
import os
import socket
import time
import traceback
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# Only what is installed: the server does not search this folder.
CONTEXT.set_forkserver_preload(
    [
        "optuna",
        "optuna.storages._rdb.models",
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.sqlite.pysqlite",
        "alembic.command",
        "alembic.script",
        "histo_mlflow.tuning.shared.queue",
        "histo_mlflow.tuning.shared.storage",
    ]
)


def value_of(params: dict[str, float]) -> float:
    return params["x"] ** 2 + params.get("y", 0.0)


def open_study(url: str, name: str):
    import warnings

    import optuna

    from histo_mlflow.tuning.shared.storage import open_storage

    warnings.simplefilter("ignore")
    storage = open_storage(url).storage
    sampler = optuna.samplers.RandomSampler()
    study = optuna.create_study(
        study_name=name, storage=storage, sampler=sampler, load_if_exists=True
    )
    return study, storage


def work(url: str, name: str, worker_id: str, seconds: float, log: str) -> None:
    """Take trials until the study is over; note each that was ended."""
    from histo_mlflow.tuning.shared.queue import LostTrialError, Queue, Worker

    try:
        study, storage = open_study(url, name)
        worker = Worker(worker_id, socket.gethostname(), os.getpid())
        queue = Queue(study, storage, worker, grace_seconds=60.0, beat_seconds=0.5)
        while True:
            trial = queue.claim()
            if trial is None:
                if queue.over():
                    return
                time.sleep(0.2)
                continue
            try:
                with queue.beating(trial):
                    params = {"x": trial.suggest_float("x", -1, 1)}
                    if trial.suggest_categorical("more", ["yes", "no"]) == "yes":
                        params["y"] = trial.suggest_float("y", 0, 1)
                    for step in range(2):
                        time.sleep(seconds)
                        queue.check(trial._trial_id)
                        trial.report(float(step), step)
                    queue.finish(trial._trial_id, "complete", value_of(params))
                note(log, f"{trial.number}")
            except LostTrialError:
                note(log, f"lost {trial.number}")
    except Exception:
        note(log, "broken " + traceback.format_exc().replace("\n", "|"))
        raise


def note(log: str, line: str) -> None:
    """One line at once, which several processes can do."""
    with Path(log).open("a") as file:
        file.write(line + "\n")


def open_at_once(url: str, barrier, log: str) -> None:
    """Open a storage at the same moment as others do."""
    from histo_mlflow.tuning.shared.storage import open_storage

    try:
        barrier.wait(30)
        open_storage(url).storage.get_all_studies()
        note(log, "opened")
    except Exception:
        note(log, "broken " + traceback.format_exc().replace("\n", "|"))
        raise


def claim_at_once(url: str, name: str, barrier, log: str) -> None:
    """Take as many trials as can be had, at the same moment as others do."""
    from histo_mlflow.tuning.shared.queue import Queue, Worker

    study, storage = open_study(url, name)
    queue = Queue(study, storage, Worker.here())
    barrier.wait(30)
    while (trial := queue.claim()) is not None:
        note(log, f"{trial.number}")


def serve(url: str, port: int) -> None:
    """Optuna's gRPC proxy in front of a storage."""
    import warnings

    from optuna.storages import run_grpc_proxy_server

    from histo_mlflow.tuning.shared.storage import open_storage

    warnings.simplefilter("ignore")
    run_grpc_proxy_server(open_storage(url).storage, host="127.0.0.1", port=port)


def change_where_it_ends(path: str, room: int, log: str) -> None:
    """Change a study in a journal which cannot grow by more than `room` bytes; note the outcome.

    Writes are cut short at that size, as on a disk that is full.
    """
    import resource

    from histo_mlflow.errors import StudyError
    from histo_mlflow.tuning.shared.storage import open_storage

    storage = open_storage(f"journal:///{path}").storage
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(path).stat().st_size + room, most))
    said = "written"
    try:
        storage.set_study_user_attr(0, "long", "x" * 9000)
    except StudyError as error:
        said = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    note(log, said)
