"""What comes of a training of a study: its result, as files, tags and a value."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from histo_mlflow import files
from histo_mlflow.errors import TrackingError
from histo_mlflow.evaluation import predictions as tables
from histo_mlflow.jobs.deliver import advised, deliver_results
from histo_mlflow.jobs.epochs import Epochs, best_epoch
from histo_mlflow.jobs.final_predictions import final_predictions
from histo_mlflow.jobs.run_folder import VAL_PREDICTIONS, RunFolder
from histo_mlflow.jobs.trainable import Trainable, weights_tags
from histo_mlflow.models.weights import load_weights
from histo_mlflow.tracking.lifecycle import Ending
from histo_mlflow.tracking.run import TrackedRun

HISTORY = "history.json"


@dataclass(frozen=True)
class SearchResult:
    """How a training of a study came out.

    Attributes:
        run_id: of its MLflow run.
        ending: "finished", "early_stopped" or "pruned".
        value: the monitored metric at the best epoch.
        best_epoch: the epoch that was best by it.
        epochs: that were trained.
        seconds: of all epochs, training and validation, in however many lives of the process.
        history: an entry an epoch: epoch, phase, seconds and every metric.
        run_dir: the run's folder.
    """

    run_id: str
    ending: Ending
    value: float
    best_epoch: int
    epochs: int
    seconds: float
    history: tuple[Mapping[str, Any], ...]
    run_dir: Path


TagsOf = Callable[[SearchResult | Exception], Mapping[str, object]]
"""What came of a training, or what it failed of -> tags that its run gets as it is closed."""


def write_outcome(
    run: TrackedRun,
    folder: RunFolder,
    tags_of: TagsOf,
    ready: Trainable,
    epochs: Epochs,
    *,
    predictions: bool,
) -> dict[str, Any]:
    """Write all that came of the training; the outcome is last."""
    history, best = ready.state.history, best_epoch(ready.state)
    value = history[best - 1][ready.state.stopping.monitor]
    shutil.rmtree(folder.results, ignore_errors=True)
    files.make_folder(folder.results)
    with files.told(folder.results, 0):
        (folder.results / "recipe.yaml").write_text(ready.recipe.to_yaml(), encoding="utf-8")
        (folder.results / HISTORY).write_text(json.dumps(history, indent=2), encoding="utf-8")
        if predictions:
            table = _val_predictions(ready, epochs.checkpoints.best_path(ready.state))
            tables.save(table, folder.results / VAL_PREDICTIONS)
    files.sync_tree(folder.results)
    run.log_metrics({"best_epoch": best, "value": value}, step=best)
    result = {
        "run_id": run.run_id,
        "value": value,
        "best_epoch": best,
        "epochs": ready.state.epoch,
        "seconds": sum(entry["seconds"] for entry in history),
    }
    outcome = {"ending": epochs.ending, "cause": None, "result": result}
    tags = weights_tags(ready.weights) | dict(tags_of(result_of(folder, outcome)))
    outcome["tags"] = {name: str(text) for name, text in tags.items()}
    folder.write_outcome(outcome)
    return outcome


def _val_predictions(ready: Trainable, best_path: Path) -> pd.DataFrame:
    development, model = ready.development, ready.state.judged_model
    load_weights(model, best_path)
    return final_predictions(
        model,
        development.val,
        development.val_rows,
        "val",
        classes=development.classes,
        output=ready.recipe.model.output,
        batch_size=ready.state.eval_batch(ready.settings),
        plan=ready.plan,
    )


def deliver_outcome(run: TrackedRun, folder: RunFolder, outcome: Mapping[str, Any]) -> None:
    """Give the store all that it lacks, and close the run."""
    try:
        deliver_results(run, folder)
        run.tag_at_end(outcome["tags"])
        run.end(outcome["ending"])
    except TrackingError as error:
        raise advised(error, folder) from error
    folder.note_delivered("ended")


def result_of(folder: RunFolder, outcome: Mapping[str, Any]) -> SearchResult:
    """The result, from the folder of a run that is settled."""
    found = outcome["result"]
    history = json.loads((folder.results / HISTORY).read_text("utf-8"))
    return SearchResult(
        ending=outcome["ending"], history=tuple(history), run_dir=folder.path, **found
    )
