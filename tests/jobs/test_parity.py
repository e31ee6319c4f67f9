"""A training whose model says something else once it is served is a failed run."""

import json

import pytest
from mlflow import MlflowClient

from histo_mlflow import recipe
from histo_mlflow.errors import ParityError
from histo_mlflow.jobs.deliver import sync
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import train
from histo_mlflow.registry import log_model, parity, predictor

QUIET = Talk(quiet=True)
WANTED = {
    "epochs": "1", "demo_images": "120", "image_px": "32", "device": "cpu", "threads": "1",
    "model": "resnet18",
}  # fmt: skip


def models_of(store_uri, run_id):
    client = MlflowClient(store_uri)
    experiment = client.get_run(run_id).info.experiment_id
    return client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")


def trained(store_uri, runs_dir, **options):
    return train(
        recipe.load("demo", WANTED),
        tracking_uri=store_uri,
        runs_dir=runs_dir,
        doctor_level=None,
        pictures=False,
        talk=QUIET,
        **options,
    )


def test_every_training_asks_its_logged_model_for_32_images(store_uri, tmp_path):
    done = trained(store_uri, tmp_path / "runs")
    [model] = models_of(store_uri, done.run_id)
    sample = parity.from_bytes(RunFolder(done.run_dir).parity.read_bytes())
    assert len(sample.images) == 32
    assert float(model.tags[log_model.PARITY_TAG]) < 1e-5
    facts = json.loads((done.run_dir / "model" / "model.json").read_text())
    assert facts["provenance"]["test"]["metrics"]["auc"]["value"] == done.test["auc"]
    assert len(facts["provenance"]["split_digest"]) == 64
    assert facts["abstain"]["rows"] == 16


def test_served_in_other_colours_the_run_fails_and_can_be_gone_on_with(
    store_uri, tmp_path, monkeypatch
):
    """The mistake of one of the sources: blue and red swapped where the model is used."""
    real = predictor.decode
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "decode", lambda data, rule: real(data, rule)[..., ::-1].copy())
        with pytest.raises(ParityError, match="says other probabilities than the trained one"):
            trained(store_uri, tmp_path / "runs")
        [folder] = [RunFolder(path) for path in (tmp_path / "runs").iterdir() if path.is_dir()]
        run_id = folder.facts().run_id
        run = MlflowClient(store_uri).get_run(run_id)
        assert (run.info.status, run.data.tags["histo.ending"]) == ("FAILED", "failed")
        assert "ParityError" in run.data.tags["histo.cause"]
        assert folder.outcome()["ending"] == "failed"
        assert models_of(store_uri, run_id) == []
        # what failed stays failed, however often the store is told
        sync(folder.path, talk=QUIET)
        assert models_of(store_uri, run_id) == []
        assert MlflowClient(store_uri).get_run(run_id).info.status == "FAILED"

    done = trained(store_uri, tmp_path / "runs", resume=run_id)
    assert done.run_id == run_id
    assert [model.model_id for model in models_of(store_uri, run_id)] == [done.model_id]
    assert MlflowClient(store_uri).get_run(run_id).info.status == "FINISHED"
