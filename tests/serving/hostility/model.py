"""A model that is the champion of a store, as a server finds it."""

import os
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.log_model import log
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.vision.decode import DecodeRule

NAME = "histo-test"
CLASSES = ("a", "b&c", "d e")


@dataclass(frozen=True)
class Champion:
    """A model folder, and how it is called in a store."""

    folder: Path
    reference: str
    version: str
    uri: str


def champion(
    folder: Path, rule: DecodeRule, example: bytes, uri: str, *, name: str = NAME
) -> Champion:
    """Write a calibrated folder that abstains at times, log it, and make it the champion."""
    spec = specify("squeezenet1_1", CLASSES, image_px=rule.image_px)
    folder.mkdir(parents=True)
    save_weights(build(spec, seed=1), folder / "weights")
    write_model_folder(
        folder / "model",
        spec=spec,
        rule=rule,
        weights_paths=[folder / "weights"],
        calibration={"temperature": 0.25, "thresholds": {}},
        provenance={"run_id": "0" * 32},
        abstain={"below": 0.8, "share": 0.1, "rows": 100},
        card="# Card",
    )
    with start_run(connect(uri), "demo", "first", {}, {}, system_metrics=False) as run:
        model_id = log(run, folder / "model", example)
    client = MlflowClient(tracking_uri=uri)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # the registry looks the model up there, whatever the client says
    try:
        client.create_registered_model(name)
        version = client.create_model_version(name, f"models:/{model_id}", model_id=model_id)
        client.set_registered_model_alias(name, "champion", version.version)
    finally:
        mlflow.set_tracking_uri(None)  # and what it did to the environment, too
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
    return Champion(folder / "model", f"models:/{name}@champion", f"{name} v1", uri)
