"""Eight views of an image: exact pixels, the run's own model, and refused for other data."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import finished_runs
from histo_mlflow.data.fingerprint import data_digest
from histo_mlflow.data.sources import to_manifest
from histo_mlflow.errors import DataError, ModelFolderError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.combine import mean_logits
from histo_mlflow.jobs.inspect import inspect
from histo_mlflow.jobs.prepare import decode_rule, packed
from histo_mlflow.jobs.run_record import load_run
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.views import gain, views
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.recipe import load
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.vision._geometry import dihedral
from histo_mlflow.vision.views import VIEWS, view

ASKED = {"demo_images": "60", "image_px": "32", "memory_format": "contiguous", "threads": "1"}
QUIET = Talk(quiet=True)


def test_the_eight_views_are_all_different_and_those_of_the_augmentation():
    seeded = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=seeded)
    seen = {name: view(images, name) for name in VIEWS}
    for name, (mirrored, quarters) in VIEWS.items():
        expected = dihedral(
            images, np.full(3, mirrored), np.zeros(3, dtype=bool), np.full(3, quarters)
        )
        assert torch.equal(seen[name], expected), name
    assert len({value.numpy().tobytes() for value in seen.values()}) == 8


def write_model(folder, recipe, spec, members):
    paths = [folder.with_name(f"weights-{i}.safetensors") for i in range(len(members))]
    for member, path in zip(members, paths, strict=True):
        save_weights(member, path)
    write_model_folder(
        folder, spec=spec, rule=decode_rule(recipe), weights_paths=paths, calibration=None,
        provenance={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder over a few demo images, with an untrained model."""
    folder = tmp_path_factory.mktemp("views")
    recipe = load("demo", ASKED)
    inspected = inspect(recipe, talk=QUIET)
    manifest = to_manifest(inspected.listing)
    pixels = packed(manifest, inspected.scanned, recipe, talk=QUIET).pixels()
    spec = specify("resnet18", manifest.classes, image_px=32, output=recipe.model.output)
    model = build(spec, seed=1).eval()
    rows = np.arange(40)[::-1]  # not in the order of the pack
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2))
    known = manifest.table.iloc[rows]
    table = predictions.predictions_table(
        known["id"].tolist(), known["group"].tolist(), ["val"] * 20 + ["test"] * 20,
        manifest.targets()[rows], logits.numpy(), manifest.classes, recipe.model.output,
        {"bright": ["yes", "no"] * 20},
    )  # fmt: skip
    made = finished_runs.write_run(
        folder / "run", "ab" * 16, table, overrides=ASKED,
        digest=data_digest(manifest, inspected.scanned),
    )  # fmt: skip
    write_model(made.model, recipe, spec, [model])
    return load_run(made.path), model, pixels[rows]


def test_each_view_is_the_model_on_turned_pixels_in_the_order_of_the_table(run):
    record, model, pixels = run
    found = views(record, talk=QUIET)

    assert list(found) == list(VIEWS)
    for name, (mirrored, quarters) in VIEWS.items():
        turned = pixels[:, :, ::-1] if mirrored else pixels
        turned = np.rot90(turned, quarters, axes=(1, 2)).copy()
        with torch.inference_mode():
            expected = model(torch.from_numpy(turned).permute(0, 3, 1, 2))
        np.testing.assert_allclose(predictions.logits_of(found[name]), expected, atol=1e-5)
    for column in ("id", "group", "split", "label", "slice_bright"):
        assert found["mirrored"][column].tolist() == record.predictions[column].tolist()
    np.testing.assert_allclose(
        predictions.logits_of(found["identity"]), predictions.logits_of(record.predictions),
        atol=1e-5,
    )  # fmt: skip


def test_one_split_alone_is_predicted_and_its_gain_is_told_with_an_interval(run):
    record, _, _ = run
    found = views(record, splits=("test",), talk=QUIET)
    assert set(found["identity"]["split"]) == {"test"}
    told = gain(record.predictions, mean_logits(found))
    assert (told.names, told.rows) == (("one view", "mean of 8 views"), 20)
    assert told.named("log_loss")[1].difference is not None


def test_data_that_the_run_did_not_see_are_refused(run):
    record, _, _ = run
    other = replace(record, tags={**record.tags, "histo.data.digest": "0" * 64})
    with pytest.raises(DataError, match=r"saw \(digest 000000000000\), but .* other images"):
        views(other, talk=QUIET)


def test_a_run_without_a_folder_here_and_a_split_without_rows_are_told(run):
    record, _, _ = run
    with pytest.raises(DataError, match="Expected the folder of run"):
        views(replace(record, folder=None), talk=QUIET)
    with pytest.raises(DataError, match="Expected predictions of train"):
        views(record, splits=("train",), talk=QUIET)


def test_a_model_that_says_other_things_today_is_warned_about(run, capsys):
    record, _, _ = run
    table = record.predictions
    moved = predictions.predictions_table(
        table["id"].tolist(), table["group"].tolist(), table["split"].tolist(),
        predictions.targets_of(table), -2 * predictions.logits_of(table),
        predictions.classes_of(table), predictions.output_of(table),
    )  # fmt: skip
    views(replace(record, predictions=moved), splits=("test",), talk=Talk())
    assert "the model says other probabilities today than when the run ended" in (
        capsys.readouterr().err
    )


def test_a_model_that_is_gone_is_told(run, tmp_path):
    record, _, _ = run
    away = record.folder.model.rename(tmp_path / "away")
    try:
        with pytest.raises(ModelFolderError, match="no model folder"):
            views(record, talk=QUIET)
    finally:
        away.rename(record.folder.model)


def test_an_ensemble_is_the_mean_of_its_members_in_each_view(run):
    record, model, _ = run
    other = build(model.spec, seed=2).eval()
    away = record.folder.model.rename(record.folder.model.with_name("away"))
    try:
        write_model(record.folder.model, load("demo", ASKED), model.spec, [other])
        second = views(record, talk=QUIET)
        shutil.rmtree(record.folder.model)
        write_model(record.folder.model, load("demo", ASKED), model.spec, [model, other])
        both = views(record, talk=QUIET)
        shutil.rmtree(record.folder.model)
    finally:
        away.rename(record.folder.model)
    first = views(record, talk=QUIET)
    for name in VIEWS:
        mean = (predictions.logits_of(first[name]) + predictions.logits_of(second[name])) / 2
        np.testing.assert_allclose(predictions.logits_of(both[name]), mean, atol=1e-5)
