"""The main job: a recipe in, a finished MLflow run with a model that can be served out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from histo_mlflow.data import manifest as manifests
from histo_mlflow.data import splits as splitting
from histo_mlflow.data.checks import to_json
from histo_mlflow.device import device_facts
from histo_mlflow.errors import TrackingError, TrainingError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.outcome import (
    EPOCH_METRICS,
    epoch_measure,
    log_trained_model,
    measure,
    predict,
)
from histo_mlflow.jobs.pictures import draw_data, draw_results
from histo_mlflow.jobs.ready import Ready, get_ready
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.losses import class_weights, loss_function
from histo_mlflow.models.weights import save_weights
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.run import Ending, TrackedRun, start_run
from histo_mlflow.tracking.store import Store, connect
from histo_mlflow.training.loop import EpochRecord, fit


@dataclass(frozen=True)
class TrainResult:
    """Where a finished run is, and how it came out."""

    run_id: str
    ending: Ending
    best_epoch: int
    epochs: int
    seconds: float
    test: Mapping[str, float]
    model_id: str
    run_dir: Path

    def headline(self) -> dict[str, float]:
        """The test metrics that fit on a line."""
        return {name: self.test[name] for name in EPOCH_METRICS if name in self.test}

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**asdict(self), "test": dict(self.test), "run_dir": str(self.run_dir)}


def train(
    recipe: Recipe,
    *,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    run_name: str | None = None,
    runs_dir: str | Path = "runs",
    talk: Talk | None = None,
) -> TrainResult:
    """Check, split, pack, train, judge, log.

    Everything that can be wrong with what was asked for is found before a run is created.

    Args:
        recipe: what to do.
        tracking_uri: MLflow store; None: `MLFLOW_TRACKING_URI`, or `sqlite:///mlflow.db`.
        experiment: MLflow experiment; None: the recipe's name. Under `mlflow run` the run that it
            made is continued instead.
        run_name: MLflow run name; None: the recipe's name.
        runs_dir: the run's local files go to a folder of its id in here.
        talk: says what happens.

    Raises:
        HistoMlflowError: what is wrong with the recipe, the data, the weights, the device or the
            store; or training failed, and the run is closed as FAILED.
        Interrupted: SIGINT or SIGTERM; the run is closed as KILLED.
    """
    talk = talk or Talk()
    with ending_by_signal():
        store = connect(tracking_uri)
        _refuse_ended_run(store)
        ready = get_ready(recipe, talk=talk)
        run = start_run(
            store,
            experiment or recipe.name,
            run_name or recipe.name,
            recipe.flatten(),
            ready.tags(),
        )
        with run:
            talk.say("run", f"{run.run_id} in {store.shown_uri}")
            result = _run(run, ready, Path(runs_dir) / run.run_id, talk=talk)
            run.end(result.ending)
    talk.say("look", run.url)
    return result


def _refuse_ended_run(store: Store) -> None:
    """Training it again would put second points on its curves and then fail to log its model."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return
    tags = store.ask(f"continuing run {run_id}", lambda: store.client.get_run(run_id)).data.tags
    if "histo.ending" in tags:
        raise TrackingError(
            f"run {run_id} (MLFLOW_RUN_ID) has ended already, as {tags['histo.ending']}: start a "
            "new run, with MLFLOW_RUN_ID unset"
        )


def _run(run: TrackedRun, ready: Ready, folder: Path, *, talk: Talk) -> TrainResult:
    started = perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    _log_beginning(run, ready, folder / "begin")
    best_path = folder / "best.safetensors"
    ending: Ending = "finished"
    for record in _epochs(ready, talk=talk):
        run.log_epoch(record.epoch, {**record.metrics, "epoch_seconds": record.seconds})
        if record.improved:
            save_weights(ready.state.judged_model, best_path)
        talk.say("epoch", _epoch_line(record, ready.settings.epochs))
        ending = "early_stopped" if record.exhausted else ending
    best_epoch = _best_epoch(ready)
    table = predict(ready, best_path)
    test_rows = predictions.of_split(table, "test")
    test = measure(predictions.targets_of(test_rows), predictions.logits_of(test_rows), ready)
    at_best = {f"test/{name}": value for name, value in test.items()}
    run.log_metrics({"best_epoch": best_epoch, **at_best}, step=best_epoch)
    talk.say("test", "  ".join(f"{k} {test[k]:.4f}" for k in EPOCH_METRICS if k in test))
    results = folder / "results"
    _write_json(results / "history.json", ready.state.history)
    predictions.save(table, results / "predictions.parquet")
    classes = ready.prepared.manifest.classes
    draw_results(results / "figures", ready.state.history, table, classes, best_epoch)
    run.log_artifacts(results)
    run.flush()
    model_id = log_trained_model(run, ready, best_path, folder / "model", test, step=best_epoch)
    talk.say("model", f"models:/{model_id}")
    return TrainResult(
        run_id=run.run_id,
        ending=ending,
        best_epoch=best_epoch,
        epochs=ready.state.epoch,
        seconds=perf_counter() - started,
        test=test,
        model_id=model_id,
        run_dir=folder,
    )


def _log_beginning(run: TrackedRun, ready: Ready, folder: Path) -> None:
    """Log what is known before the first step, so that a run that dies still tells what it was."""
    prepared = ready.prepared
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(ready.recipe.to_yaml(), encoding="utf-8")
    manifests.save(prepared.manifest, folder / "data" / "manifest.csv")
    splitting.save(prepared.splits, folder / "data" / "splits.csv")
    _write_json(folder / "data" / "checks.json", to_json(prepared.findings))
    facts = device_facts(ready.plan)
    _write_json(folder / "device.json", {**facts, "reasons": list(ready.plan.reasons)})
    _write_json(folder / "weights.json", asdict(ready.weights))
    ready.provenance.write(folder / "provenance")
    draw_data(folder / "figures", prepared, ready.settings.policy, ready.settings.seed)
    images = prepared.splits.counts()["images"]
    run.log_dataset(
        ready.recipe.name,
        prepared.digest,
        str(prepared.manifest.root),
        {str(name): int(n) for name, n in images.items()},
    )
    run.log_artifacts(folder)


def _epochs(ready: Ready, *, talk: Talk) -> Iterator[EpochRecord]:
    optimisation = ready.recipe.optimisation
    train_set = ready.prepared.dataset("train")
    counts = np.bincount(train_set.labels, minlength=len(ready.prepared.manifest.classes))
    weights = class_weights(counts.tolist(), optimisation.class_weights)
    with talk.epoch_bar(ready.settings.epochs) as bar:
        yield from fit(
            ready.state,
            train_set,
            ready.prepared.dataset("val"),
            ready.settings,
            loss_function=loss_function(
                ready.recipe.model.output,
                class_weights=None if weights is None else weights.to(ready.plan.device),
                label_smoothing=optimisation.label_smoothing,
            ),
            measure=lambda targets, logits: epoch_measure(targets, logits, ready),
            plan=ready.plan,
            on_step=bar,
        )


def _best_epoch(ready: Ready) -> int:
    stopping = ready.state.stopping
    if stopping.best_epoch is None:
        raise TrainingError(
            f"no epoch had a defined {stopping.monitor}, so no best epoch can be chosen: choose "
            "another monitor"
        )
    return stopping.best_epoch


def _epoch_line(record: EpochRecord, epochs: int) -> str:
    shown = {
        "train loss": "train/loss",
        "val loss": "val/loss",
        "train AUC": "train/auc",
        "val AUC": "val/auc",
    }
    parts = [f"{k} {record.metrics[m]:.4f}" for k, m in shown.items() if m in record.metrics]
    speed = f"{record.metrics['images_per_second']:,.0f} img/s  {record.seconds:.0f} s"
    marks = ("  frozen" if record.phase == "frozen" else "") + ("  best" if record.improved else "")
    return f"{record.epoch:>3}/{epochs}  {'  '.join(parts)}  {speed}{marks}"


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
