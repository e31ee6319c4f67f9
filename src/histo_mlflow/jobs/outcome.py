"""What comes of a trained model: predictions, metrics, and the model that is logged."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from histo_mlflow.data.pack import read_row
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.metrics import summary
from histo_mlflow.jobs.prepare import decode_rule
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.models.weights import load_weights
from histo_mlflow.registry import log_model
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.training.judging import predict_logits

MODEL_SECONDS = 600.0
"""The longest wait for the store to take the model."""

EPOCH_METRICS = ("loss", "auc", "average_precision", "accuracy", "balanced_accuracy")
"""What is followed over the epochs; the final test split gets the AUC of each class as well."""


def measure(targets: np.ndarray, logits: np.ndarray, ready: Ready) -> dict[str, float]:
    """Metrics of one split under the names that MLflow shows; `loss` is plain cross-entropy."""
    found = summary(targets, logits, ready.recipe.model.output, ready.prepared.manifest.classes)
    return {"loss": found.pop("log_loss"), **found}


def epoch_measure(targets: np.ndarray, logits: np.ndarray, ready: Ready) -> dict[str, float]:
    """The part of `measure` that is logged every epoch."""
    found = measure(targets, logits, ready)
    return {name: found[name] for name in EPOCH_METRICS if name in found}


def predict(ready: Ready, best_path: Path) -> pd.DataFrame:
    """Predictions of the best epoch's weights for validation and test.

    They are made in float32 whatever the training precision was, since that is what is served.
    """
    manifest, splits = ready.prepared.manifest, ready.prepared.splits
    model = ready.state.judged_model
    load_weights(model, best_path)
    exact = replace(ready.plan, precision="fp32")
    parts = []
    for split in ("val", "test"):
        dataset = ready.prepared.dataset(split)
        logits = predict_logits(
            model, dataset, batch_size=ready.settings.eval_batch_size, plan=exact
        )
        rows = manifest.table.iloc[splits.rows(split)]
        parts.append(
            predictions.predictions_table(
                rows["id"].tolist(),
                rows["group"].tolist(),
                [split] * len(rows),
                dataset.labels,
                logits,
                manifest.classes,
                ready.recipe.model.output,
            )
        )
    return pd.concat(parts, ignore_index=True)


def log_trained_model(
    run: TrackedRun,
    ready: Ready,
    best_path: Path,
    folder: Path,
    metrics: Mapping[str, float],
    *,
    step: int,
) -> str:
    """Write the model folder and log it to the run; the id of the logged model.

    The input example is a real image of the training split. MLflow copies the metrics of `step`,
    the best epoch, to the model.
    """
    manifest = ready.prepared.manifest
    write_model_folder(
        folder,
        spec=ready.state.model.spec,
        rule=decode_rule(ready.recipe),
        weights_path=best_path,
        provenance={
            "run_id": run.run_id,
            "recipe": ready.recipe.name,
            "data_digest": ready.prepared.digest,
            "label_source": manifest.label_source,
            "split": ready.prepared.splits.kind,
            "leaking": ready.prepared.splits.leaking,
            "git_commit": ready.provenance.commit,
            "test_metrics": dict(metrics),
        },
    )
    example = _example_image(ready)
    return run.store.ask(
        "logging the model",
        lambda: log_model.log(run, folder, example, step=step),
        MODEL_SECONDS,
    )


def _example_image(ready: Ready) -> bytes:
    """The bytes of a training image's file; where files hold many images, its pixels as PNG."""
    manifest = ready.prepared.manifest
    row = manifest.table.iloc[int(ready.prepared.splits.rows("train")[0])]
    path = manifest.root / str(row["path"])
    if pd.isna(row["row"]):
        return path.read_bytes()
    encoded = io.BytesIO()
    with ExitStack() as stack:
        Image.fromarray(read_row(path, int(row["row"]), {}, stack)).save(encoded, format="PNG")
    return encoded.getvalue()
