"""Every shipped recipe trains a few steps on tiny images in the true layout of its data."""

import json

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

import layouts
from histo_mlflow import recipe
from histo_mlflow.errors import DeviceError, ResumeError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import train

TINY = {"weights": "none", "batch_size": 8, "threads": 1, "memory_format": "contiguous"}


def build_spider(root):
    """SPIDER-Skin with the columns that the recipe names."""
    layouts.build_spider(root, size=112)


CASES = {
    "ham10000": (layouts.build_ham10000, {"image_px": 32, "epochs": 1, "model": "resnet18"}),
    "benign_malignant": (layouts.build_folders, {"image_px": 32, "epochs": 1}),
    "pcam_resnet18": (layouts.build_pcam, {"image_px": 32, "epochs": 2}),
    "pcam_resnet50_onecycle": (layouts.build_pcam, {"epochs": 1}),
    "spider_skin": (build_spider, {"image_px": 32, "epochs": 1}),
}


def run(name, overrides, store_uri, tmp_path, *, pictures=False):
    return train(
        recipe.load(name, {**TINY, **overrides}),
        pictures=pictures,
        tracking_uri=store_uri,
        runs_dir=tmp_path / "runs",
        talk=Talk(quiet=True),
    )


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_trains_on_its_layout(name, store_uri, tmp_path):
    builder, overrides = CASES[name]
    builder(tmp_path / "data")

    where = {"data_dir": str(tmp_path / "data")}
    result = run(name, {**where, **overrides}, store_uri, tmp_path, pictures=True)

    logged = MlflowClient(store_uri).get_run(result.run_id)
    assert logged.info.status == "FINISHED"
    assert result.epochs == overrides["epochs"]
    assert np.isfinite(result.test["loss"])
    assert (result.run_dir / "evaluation" / "figures" / "roc.png").is_file()
    assert logged.data.params["recipe"] == name
    if name == "pcam_resnet18":
        phases = [
            line["phase"]
            for line in json.loads((result.run_dir / "results" / "history.json").read_text())
        ]
        assert phases == ["frozen", "full"]


@pytest.fixture
def demo(store_uri, tmp_path):
    def start(**overrides):
        small = {"demo_images": 120, "image_px": 32, "epochs": 2}
        return run("demo", {**small, **overrides}, store_uri, tmp_path)

    return start


def test_a_run_can_be_read_back_from_its_files(demo, store_uri):
    """Predictions hold validation and test, once each; the recipe file is the recipe."""
    result = demo()
    table = predictions.load(result.run_dir / "results" / "predictions.parquet")
    splits = (result.run_dir / "begin" / "data" / "splits.csv").read_text().splitlines()

    assert set(table["split"]) == {"val", "test"}
    assert len(table) == sum(line.endswith((",val", ",test")) for line in splits)
    written = yaml.safe_load((result.run_dir / "begin" / "recipe.yaml").read_text())
    assert recipe.Recipe.model_validate(written).flatten()["demo_images"] == 120
    test = predictions.of_split(table, "test")
    accuracy = (test["label"] == test["predicted"]).mean()
    assert result.test["accuracy"] == pytest.approx(accuracy)


def test_the_same_recipe_gives_the_same_numbers(demo):
    """Two runs of one seed agree in every digit; another seed does not."""
    first, second, other = demo(), demo(), demo(seed=1)

    assert first.test == second.test
    assert first.test != other.test


def test_a_row_wise_split_is_tagged_as_leaking(demo, store_uri):
    tags = MlflowClient(store_uri).get_run(demo(split="row", epochs=1).run_id).data.tags

    assert (tags["histo.split.kind"], tags["histo.split.leaking"]) == ("row", "true")
    assert tags["histo.promotable"] == "false"


def test_placeholder_labels_can_never_be_promoted(store_uri, tmp_path):
    build_spider(tmp_path / "data")
    overrides = {"image_px": 32, "epochs": 1, "placeholder_labels": True}
    result = run(
        "spider_skin", {"data_dir": str(tmp_path / "data"), **overrides}, store_uri, tmp_path
    )
    tags = MlflowClient(store_uri).get_run(result.run_id).data.tags

    assert tags["histo.data.label_source"] == "placeholder"
    assert tags["histo.promotable"] == "false"


def test_patience_ends_as_early_stopped(demo, store_uri):
    result = demo(epochs=6, lr=1e-9, patience=1, monitor="val/accuracy")
    tags = MlflowClient(store_uri).get_run(result.run_id).data.tags

    assert result.ending == tags["histo.ending"] == "early_stopped"
    assert result.epochs < 6


@pytest.mark.slow
def test_folds_test_every_image_once(demo):
    tested = []
    for fold in range(3):
        result = demo(epochs=1, folds=3, fold=fold)
        table = predictions.load(result.run_dir / "results" / "predictions.parquet")
        tested += predictions.of_split(table, "test")["id"].tolist()

    assert len(tested) == len(set(tested)) == 120


def test_hdf5_patches_train_and_their_crop_is_served_once(store_uri, tmp_path):
    """The original release: its own split, and an example cut out of the file's own pixels."""
    pytest.importorskip("h5py")
    layouts.build_pcam_hdf5(tmp_path / "data")
    overrides = {
        "data_dir": str(tmp_path / "data"),
        **{"split": "given", "model": "resnet18", "image_px": 32, "crop_px": 49, "epochs": 1},
    }
    result = run("pcam_resnet50_onecycle", overrides, store_uri, tmp_path)
    tags = MlflowClient(store_uri).get_run(result.run_id).data.tags

    assert tags["histo.split.kind"] == "given"
    assert result.model_id.startswith("m-")


def test_a_run_that_has_ended_is_not_trained_again(demo, store_uri, monkeypatch):
    """Where its files are, what came of it is told; where they are not, nobody can know."""
    first = demo(epochs=1)
    ended = first.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", ended)

    assert demo(epochs=1) == first
    first.run_dir.rename(first.run_dir.with_name("elsewhere"))
    with pytest.raises(ResumeError, match="has ended already, as finished"):
        demo(epochs=1)

    client = MlflowClient(store_uri)
    assert client.get_run(ended).info.status == "FINISHED"
    assert len(client.get_metric_history(ended, "val/loss")) == 1


def test_several_processes_are_refused(demo, monkeypatch):
    """Each rank training alone in silence is what must not happen."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="one process"):
        demo()
