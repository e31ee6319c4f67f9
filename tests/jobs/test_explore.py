"""A data set is explored before any training: one page, one finished run, or one plain sentence."""

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image

import layouts
from histo_mlflow.cli import cli
from histo_mlflow.errors import DataError, DiskError, Interrupted, ModelError, WeightsError
from histo_mlflow.jobs import _explore_draw, leaks, samples
from histo_mlflow.jobs import explore as job
from histo_mlflow.jobs.explore import explore
from histo_mlflow.jobs.samples import sampled, spread
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import load

QUIET = Talk(quiet=True)
SMALL = {"model": "resnet18", "image_px": 32, "threads": 1, "memory_format": "contiguous"}
FIGURES = {"class_balance", "samples", "augmented", "intensities", "image_sizes"}


def ham(root, n=56, **overrides):
    layouts.build_ham10000(root, n=n)
    return load("ham10000", {**SMALL, "weights": "none", "data_dir": str(root), **overrides})


@pytest.fixture
def undrawn(monkeypatch):
    """Every figure is made and none rendered, which takes most of the time."""

    def instead(fig, path):
        Image.new("RGB", (2, 2)).save(path)

    for module in (_explore_draw, samples, leaks):
        monkeypatch.setattr(module, "save", instead)


def stems(folder):
    return {path.stem for path in (folder / "figures").iterdir()}


def runs_of(store_uri):
    client = MlflowClient(store_uri)
    return client.search_runs([each.experiment_id for each in client.search_experiments()])


def test_the_page_and_its_run_hold_what_the_data_set_holds(tmp_path, store_uri):
    recipe = ham(tmp_path / "data")
    found = explore(recipe, out=tmp_path / "out", tracking_uri=store_uri, talk=QUIET)
    (run,) = runs_of(store_uri)

    facts = json.loads((tmp_path / "out" / "explore.json").read_text())
    assert facts == json.loads(json.dumps(found.facts))
    assert facts["images"] == 56
    assert {name: row["images"] for name, row in facts["classes"].items()} == dict.fromkeys(
        layouts.HAM10000_CLASSES, 8
    )
    assert facts["image_sizes"] == [{"width": 60, "height": 45, "images": 56}]
    assert sum(int(size) * n for size, n in facts["group_sizes"].items()) == 56
    assert {column["name"] for column in facts["metadata"]} == {
        "dx_type", "age", "sex", "localization",
    }  # fmt: skip
    assert sum(split["images"] for split in facts["split"].values()) == 56
    assert facts["features"]["images"] == 56
    assert stems(tmp_path / "out") == FIGURES | {"group_sizes", "tsne", "metadata_01_age"}

    assert (run.info.status, run.info.run_name) == ("FINISHED", "explore ham10000")
    assert run.data.tags["histo.job"] == "explore"
    assert run.data.tags["histo.data.digest"] == facts["digest"]
    assert run.data.params["recipe"] == "ham10000"
    assert run.data.params["image_px"] == "32"
    assert run.data.metrics["data/images"] == 56
    assert run.data.metrics["data/images/mel"] == 8
    artifacts = {file.path for file in MlflowClient(store_uri).list_artifacts(run.info.run_id)}
    assert {"explore.html", "explore.json", "figures", "checks.json", "embedding.csv"} <= artifacts


def test_random_weights_are_said_to_be_random_and_synthetic_images_synthetic(tmp_path, undrawn):
    recipe = load("demo", {**SMALL, "demo_images": 96})
    found = explore(recipe, out=tmp_path / "out", track=False, sample=40, talk=QUIET)
    page = found.page.read_text()

    assert found.run_id is None
    assert "Random weights: what is seen are colours and textures, nothing learned." in page
    assert "The images and labels are synthetic" in page
    assert "40 images of 96" in page
    table = pd.read_csv(tmp_path / "out" / "embedding.csv")
    assert len(table) == 40
    assert np.isfinite(table[["tsne_1", "tsne_2"]]).all(axis=None)


def test_the_same_recipe_gives_the_same_page_but_for_the_command(tmp_path, undrawn):
    recipe = ham(tmp_path / "data")
    for name in ("a", "b"):
        explore(recipe, out=tmp_path / name, track=False, talk=QUIET)

    first, second = (pd.read_csv(tmp_path / name / "embedding.csv") for name in ("a", "b"))
    pd.testing.assert_frame_equal(first, second)
    assert (tmp_path / "a/explore.html").read_bytes() == (tmp_path / "b/explore.html").read_bytes()


def test_weights_that_cannot_be_downloaded_cost_the_features_alone(
    tmp_path, store_uri, monkeypatch, undrawn
):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    recipe = ham(tmp_path / "data", weights="imagenet")
    found = explore(recipe, out=tmp_path / "out", tracking_uri=store_uri, talk=QUIET)
    (run,) = runs_of(store_uri)

    page = found.page.read_text()
    assert "There is no t-SNE of features: The ImageNet weights resnet18" in page
    assert "tsne" not in stems(tmp_path / "out")
    assert run.info.status == "FINISHED"
    assert run.data.tags["histo.weights.source"] == "unavailable"


def test_no_sample_needs_no_model(tmp_path, undrawn):
    recipe = ham(tmp_path / "data", weights="imagenet")
    found = explore(recipe, out=tmp_path / "out", track=False, sample=0, talk=QUIET)

    assert "it was not asked for (--sample 0)" in found.page.read_text()


def test_too_few_images_for_a_layout_or_a_split_are_said_to_be(tmp_path, undrawn):
    layouts.build_folders(tmp_path / "data", n=4)
    recipe = load(
        "benign_malignant", {**SMALL, "weights": "none", "data_dir": str(tmp_path / "data")}
    )
    page = explore(recipe, out=tmp_path / "out", track=False, talk=QUIET).page.read_text()

    assert "at least 5 images for a t-SNE" in page
    assert "It cannot be drawn: " in page
    assert "The source knows no groups" in page


def test_class_names_are_text_on_the_page(tmp_path, undrawn):
    layouts.build_folders(tmp_path / "data", classes=("<b>Benign", "<script>alert(1)"))
    recipe = load(
        "benign_malignant", {**SMALL, "weights": "none", "data_dir": str(tmp_path / "data")}
    )
    page = explore(recipe, out=tmp_path / "out", track=False, talk=QUIET).page.read_text()

    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_placeholder_labels_are_told(tmp_path, undrawn):
    layouts.build_spider(tmp_path / "data")
    given = {**layouts.SPIDER_COLUMNS, "metadata_csv": "metadata.csv", "placeholder_labels": True}
    recipe = load(
        "spider_skin", {**SMALL, **given, "weights": "none", "data_dir": str(tmp_path / "data")}
    )
    found = explore(recipe, out=tmp_path / "out", track=False, talk=QUIET)

    assert "The labels are placeholders" in found.page.read_text()
    assert found.facts["label_source"] == "placeholder"


def test_an_earlier_page_is_replaced_and_nothing_else_is(tmp_path, undrawn, monkeypatch):
    recipe = ham(tmp_path / "data")
    for _ in range(2):
        explore(recipe, out=tmp_path / "out", track=False, sample=0, talk=QUIET)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}

    for taken in ("folder", "file"):
        (tmp_path / taken).mkdir() if taken == "folder" else (tmp_path / taken).touch()
        if taken == "folder":
            (tmp_path / taken / "thesis.txt").write_text("mine")
        with pytest.raises(DiskError, match="Expected a free name or the folder of an earlier"):
            explore(recipe, out=tmp_path / taken, track=False, talk=QUIET)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "mine"

    monkeypatch.chdir(tmp_path / "data")
    for here in (Path(), Path(".."), Path("HAM10000_images_part_1/..")):
        with pytest.raises(DiskError, match="Expected a folder of its own"):
            explore(recipe, out=here, track=False, talk=QUIET)


@pytest.mark.parametrize(
    ("error", "status"),
    [(DataError("Expected a page"), "FAILED"), (Interrupted(signal.SIGINT), "KILLED")],
    ids=["failed", "interrupted"],
)
def test_what_does_not_come_to_its_end_closes_its_run_and_leaves_the_page_as_it_was(
    tmp_path, store_uri, monkeypatch, undrawn, error, status
):
    recipe = ham(tmp_path / "data")
    explore(recipe, out=tmp_path / "out", track=False, sample=0, talk=QUIET)
    before = (tmp_path / "out" / "explore.html").read_bytes()

    def broken(*_: object) -> str:
        raise error

    monkeypatch.setattr(job, "page", broken)
    with pytest.raises(type(error), match=str(error)):
        explore(recipe, out=tmp_path / "out", tracking_uri=store_uri, sample=0, talk=QUIET)
    (run,) = runs_of(store_uri)

    assert run.info.status == status
    assert str(error) in run.data.tags["histo.cause"]
    assert (tmp_path / "out" / "explore.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out", "mlflow.db"}


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        ({"data_dir": "nowhere"}, DataError, "HAM10000_metadata.csv"),
        ({"model": "resnet19"}, ModelError, "resnet1"),
        ({"weights": "no.safetensors"}, WeightsError, "there is no file 'no.safetensors'"),
        ({"model": "densenet121", "image_px": 16}, ModelError, "16 px"),
    ],
    ids=["no data", "no model", "no file of weights", "no such size"],
)
def test_mistakes_make_no_run_and_no_folder(overrides, error, said, tmp_path, store_uri):
    recipe = ham(tmp_path / "data", **overrides)
    with pytest.raises(error, match=said):
        explore(recipe, out=tmp_path / "out", tracking_uri=store_uri, talk=QUIET)

    assert runs_of(store_uri) == []
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_page_and_the_facts(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    layouts.build_ham10000(tmp_path / "data")
    words = ["data", "explore", "--dataset", "ham10000", "--data_dir", str(tmp_path / "data")]
    words += ["--weights", "none", "--model", "resnet18", "--image_px", "32", "--threads", "1"]
    words += ["--no-track", "--quiet"]
    plain = CliRunner().invoke(cli, [*words, "--sample", "0"])
    as_json = CliRunner().invoke(cli, [*words, "--sample", "20", "--json"])

    assert plain.exit_code == as_json.exit_code == 0, plain.output
    assert plain.stdout == f"page {Path('explore/ham10000/explore.html')}\n"
    told = json.loads(as_json.stdout)
    assert (told["run_id"], told["images"], told["features"]["images"]) == (None, 56, 20)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "explore"}


def test_samples_are_spread_over_classes_and_shares_are_kept_above_the_least():
    labels = ["nv"] * 900 + ["mel"] * 90 + ["df"] * 10
    drawn = [labels[row] for row in spread(labels, 0, 25)]
    assert {name: drawn.count(name) for name in set(drawn)} == {"nv": 8, "mel": 8, "df": 9} or (
        sorted(drawn.count(name) for name in set(drawn)) == [8, 8, 9]
    )

    rows = sampled(labels, 0, 200, least=8)
    counts = {name: sum(labels[row] == name for row in rows) for name in ("nv", "mel", "df")}
    assert len(set(rows.tolist())) == 200
    assert counts["df"] >= 8
    assert 0.8 < counts["nv"] / 200 < 0.96
    assert sampled(labels, 0, 5_000, least=8).tolist() == list(range(1_000))
    few = [labels[row] for row in sampled(labels, 0, 6, least=30)]
    assert sorted(few.count(name) for name in ("nv", "mel", "df")) == [2, 2, 2]


@pytest.mark.slow
def test_real_dermatoscopy_is_explored(realdata, tmp_path):
    """A sample of HAM10000; its weights are on disk, so nothing is downloaded."""
    recipe = load(
        "ham10000",
        {
            "data_dir": str(realdata / "ham10000"),
            "weights": str(realdata / "weights" / "tf_efficientnet_lite0-2d6c2e0f.pth"),
            "threads": 1,
        },
    )
    found = explore(recipe, out=tmp_path / "out", track=False, sample=200, talk=QUIET)
    agreement = found.facts["features"]["nearest_has_same_label"]

    assert set(found.facts["classes"]) == set(layouts.HAM10000_CLASSES)
    assert agreement["images"] > 50
    assert agreement["share"] > agreement["chance"]
    assert found.page.stat().st_size > 500_000
