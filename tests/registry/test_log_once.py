"""A model is in the store once, whatever became of earlier attempts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from histo_mlflow.registry import log_model
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run


@pytest.fixture
def other(run: TrackedRun) -> TrackedRun:
    return start_run(run.store, "demo", "once", {}, {}, system_metrics=False)


def models_of(run: TrackedRun) -> list[str]:
    found = MlflowClient(run.tracking_uri).search_logged_models(
        experiment_ids=[run.experiment_id], filter_string=f"source_run_id = '{run.run_id}'"
    )
    return [f"{model.model_id} {model.status}" for model in found]


def test_a_lost_answer_while_a_model_is_made_leaves_one_model(
    other: TrackedRun, model_folder: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow asks once more when the answer to the making is lost: then there are two."""
    real = MlflowClient.create_logged_model

    def made_twice(client: MlflowClient, *arguments: object, **options: object) -> object:
        real(client, *arguments, **options)  # type: ignore[arg-type]
        return real(client, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_logged_model", made_twice)
        model_id = log_model.log_once(other, model_folder, images[0])

    assert models_of(other) == [f"{model_id} READY"]
    assert log_model.log_once(other, model_folder, images[0]) == model_id
    assert models_of(other) == [f"{model_id} READY"]
    other.end("finished")


def test_the_same_weights_calibrated_are_another_model(
    other: TrackedRun,
    tmp_path: Path,
    model_folder: Path,
    write_folder: Callable[..., Path],
    images: list[bytes],
) -> None:
    calibration = {"temperature": 1.5, "thresholds": {}}
    calibrated = write_folder(tmp_path / "m", calibration=calibration)
    first = log_model.log_once(other, model_folder, images[0])
    second = log_model.log_once(other, calibrated, images[0])

    assert first != second
    assert log_model.log_once(other, model_folder, images[0]) == first
    assert log_model.log_once(other, calibrated, images[0]) == second
    assert sorted(models_of(other)) == sorted([f"{first} READY", f"{second} READY"])
    other.end("finished")
