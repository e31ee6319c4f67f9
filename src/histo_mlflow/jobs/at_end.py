"""The pictures at the end of a training, which must not cost it anything."""

from __future__ import annotations

import shlex

from histo_mlflow.device import DevicePlan
from histo_mlflow.errors import HistoMlflowError, TrackingError
from histo_mlflow.jobs.prepare import Prepared
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.run import TrackedRun


def draw_at_end(
    run: TrackedRun,
    folder: RunFolder,
    table: str,
    prepared: Prepared,
    plan: DevicePlan,
    *,
    talk: Talk,
) -> None:
    """Draw and deliver the evaluation of a run whose model the store has (`illustrate`).

    What fails is said, with the command that draws it later: a finished training is no failed one
    because a picture could not be drawn.

    Raises:
        TrackingError: the store did not take the pictures; they are on disk.
    """
    try:
        from histo_mlflow.jobs.illustrate import illustrate  # a second of imports, not at the start

        illustrate(run, folder, table, prepared, plan, talk=talk)
    except TrackingError:
        raise
    except (HistoMlflowError, MemoryError, OSError, RuntimeError, ValueError) as error:
        again = f"histo-mlflow evaluate {shlex.quote(str(folder.path))}"
        talk.say(
            "WARN",
            f"no pictures ({type(error).__name__}: {error}); the training is whole, and they can "
            f"be drawn later: {again}",
        )
