"""Runs with models as a finished training leaves them in a store, made in a tenth of a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import finished_runs
from histo_mlflow.evaluation import predictions
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.registry.serving_model import ARTIFACT
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import Store
from histo_mlflow.vision.decode import DecodeRule

TAGS = {
    "histo.data.digest": "d1" * 32,
    "histo.data.group_kind": "lesion",
    "histo.data.label_source": "metadata",
    "histo.split.kind": "group",
    "histo.split.leaking": "false",
    "histo.leak_groups.crossing": "0",
    "histo.promotable": "true",
    "histo.git.commit": finished_runs.COMMIT,
    "histo.git.dirty": "false",
}
CALIBRATION = {"temperature": 1.25, "thresholds": {}}


@dataclass(frozen=True)
class Made:
    """A run in a store, and its model."""

    run_id: str
    model_id: str


def model_folder(
    folder: Path,
    run_id: str,
    *,
    classes: tuple[str, ...] = finished_runs.CLASSES,
    calibration: Mapping[str, Any] | None = CALIBRATION,
    seed: int = 0,
    **facts: Any,
) -> Path:
    """A small model with random weights, and what it says of itself."""
    spec = specify("squeezenet1_1", classes, image_px=32)
    weights = folder.with_suffix(".safetensors")
    save_weights(build(spec, seed=seed), weights)
    origin = {"run_id": run_id, "label_source": "metadata", "split": "group", "leaking": False}
    write_model_folder(
        folder,
        spec=spec,
        rule=DecodeRule(32),
        weights_paths=[weights],
        calibration=calibration,
        provenance={**origin, **facts},
    )
    return folder


def made(
    store: Store,
    folder: Path,
    *,
    skill: float = 1.0,
    seed: int = 0,
    table: pd.DataFrame | None = None,
    tags: Mapping[str, str | None] | None = None,
    ending: str = "finished",
    origin: str | None = None,
    train: tuple[str, ...] = ("t0", "t1", "t2", "t3"),
    with_model: bool = True,
    **model: Any,
) -> Made:
    """A run of a store with predictions, splits and a model.

    Args:
        store: to be in.
        folder: where files are made on the way; must not be there.
        skill: of the predictions of `finished_runs.cases`.
        seed: of their noise.
        table: instead of them.
        tags: on top of `TAGS`; None takes one away.
        ending: of the run.
        origin: the run that the model names; None: its own.
        train: training images; one `of-<group>` is in the group of a held-out image.
        with_model: False for a run without one.
        model: see `model_folder`.
    """
    table = finished_runs.cases(skill=skill, seed=seed) if table is None else table
    written = finished_runs.write_run(folder, "f" * 32, table, train=train)
    all_tags = {key: value for key, value in {**TAGS, **(tags or {})}.items() if value is not None}
    run = start_run(store, "demo", "demo", {"lr": 0.1}, all_tags, system_metrics=False)
    with run:
        run.log_artifacts(written.begin)
        run.log_artifacts(written.results)
        model_id = ""
        if with_model:
            path = model_folder(folder / "of", origin or run.run_id, **model)
            logged = store.client.create_logged_model(
                run.experiment_id, name="model", source_run_id=run.run_id
            )
            model_id = str(logged.model_id)
            inside = folder / "whole" / "artifacts"
            inside.mkdir(parents=True)
            path.rename(inside / ARTIFACT)
            store.client.log_model_artifacts(model_id, str(folder / "whole"))
            store.client.finalize_logged_model(model_id, "READY")
        run.end(ending)
    return Made(run.run_id, model_id)


def in_training(table: pd.DataFrame) -> tuple[str, ...]:
    """Names of training images of which one is in the group of the last held-out image."""
    return ("t0", str(predictions.of_split(table, "test")["group"].iloc[-1]))
