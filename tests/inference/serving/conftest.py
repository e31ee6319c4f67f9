"""A server in this process around a stand-in, and a small model folder."""

from pathlib import Path
from typing import Any

import pytest

from histo_mlflow.inference.serving.app import Access, App
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.inference.serving.model import ServedModel
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.vision.decode import DecodeRule
from serving_client import Client, NoExplainer, StandIn


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def client_of(stand_in: StandIn):
    """Make a client of a server around the stand-in, with limits of its own."""
    made: list[App] = []

    def make(
        *,
        hosts: frozenset[str] | None = frozenset({"localhost"}),
        token: str | None = None,
        **limits: Any,
    ) -> Client:
        told = Limits(**limits)
        model = ServedModel(stand_in, "stand-in v1", told)
        app = App(model, NoExplainer(), told, Access(hosts, token), {"version": "stand-in v1"})
        made.append(app)
        return Client(app)

    yield make
    stand_in.go.set()
    for app in made:
        app.workers.close()


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated ensemble of two small networks that abstains now and then."""
    folder = tmp_path_factory.mktemp("served")
    spec = specify("squeezenet1_1", ("a", "b&c", "d e"), image_px=64)
    weights = [folder / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(weights):
        save_weights(build(spec, seed=seed), path)
    write_model_folder(
        folder / "model",
        spec=spec,
        rule=DecodeRule(64),
        weights_paths=weights,
        calibration={"temperature": 0.5, "thresholds": {}},
        abstain={"below": 0.6, "share": 0.5, "rows": 10},
        provenance={"run_id": "abc"},
    )
    return folder / "model"
