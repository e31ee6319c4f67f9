"""A whole cross-validation on a few generated images: its runs, its table, its ensemble."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from histo_mlflow.errors import (
    DataError,
    Interrupted,
    RecipeError,
    ResumeError,
    SplitError,
    TrainingError,
)
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs import crossval as job
from histo_mlflow.jobs.crossval import crossval
from histo_mlflow.jobs.deliver import sync
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import train
from histo_mlflow.recipe import load
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.registry.predictor import Predictor

QUIET = Talk(quiet=True)
SMALL = {
    "folds": 2, "model": "test_resnet", "demo_images": 96, "image_px": 32, "batch_size": 16,
    "epochs": 1, "precision": "fp32", "memory_format": "contiguous", "threads": 1,
}  # fmt: skip


def recipe(**overrides):
    return load("demo", {**SMALL, **overrides})


def start(folder, store_uri, wanted=None, **options):
    return crossval(
        wanted or recipe(),
        tracking_uri=store_uri,
        runs_dir=folder / "runs",
        run_dir=folder / "cv",
        doctor_level=None,
        talk=QUIET,
        **options,
    )


def runs_of(store_uri):
    client = MlflowClient(store_uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return {run.info.run_id: run for run in client.search_runs(experiments)}


@pytest.fixture(scope="module")
def finished(fresh_database, tmp_path_factory):
    """A finished cross-validation of two folds: its folder, its store and its result."""
    folder = tmp_path_factory.mktemp("crossval")
    shutil.copy(fresh_database, folder / "mlflow.db")
    store_uri = f"sqlite:///{folder}/mlflow.db"
    return folder, store_uri, start(folder, store_uri)


def test_every_image_is_predicted_once_by_a_model_that_has_not_seen_its_group(finished):
    folder, _, done = finished
    table = predictions.load(folder / "cv" / "results" / "oof.parquet")
    manifest = pd.read_csv(folder / "cv" / "begin" / "data" / "manifest.csv")

    assert table["id"].tolist() == manifest["id"].tolist()
    assert set(table["split"]) == {"test"}
    assert table.groupby("group")["slice_fold"].nunique().max() == 1
    for number, run_id in enumerate(done.report["group"]["runs"]):
        splits = pd.read_csv(folder / "runs" / run_id / "begin" / "data" / "splits.csv")
        tested = set(splits.loc[splits["split"] == "test", "id"])
        assert tested == set(table.loc[table["slice_fold"] == str(number), "id"])
    dealt = pd.read_csv(folder / "cv" / "begin" / "data" / "folds.csv", dtype=str)
    assert dealt["fold_by_group"].tolist() == table["slice_fold"].tolist()


def test_the_folds_are_children_of_one_run_and_all_are_finished(finished):
    _, store_uri, done = finished
    runs = runs_of(store_uri)
    children = done.report["group"]["runs"]

    assert set(runs) == {done.run_id, *children}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {run.data.tags["histo.ending"] for run in runs.values()} == {"finished"}
    parent = runs[done.run_id]
    assert "mlflow.parentRunId" not in parent.data.tags
    assert (parent.data.params["folds"], parent.data.params["leak_gap"]) == ("2", "False")
    assert "fold" not in parent.data.params
    for number, run_id in enumerate(children):
        tags = runs[run_id].data.tags
        assert tags["mlflow.parentRunId"] == done.run_id
        assert (tags["histo.crossval.split"], tags["histo.crossval.fold"]) == ("group", str(number))
        assert runs[run_id].data.params["fold"] == str(number)
        assert runs[run_id].info.experiment_id == parent.info.experiment_id


def test_the_parent_has_mean_sd_and_pooled_metrics_of_the_folds(finished):
    folder, store_uri, done = finished
    runs = runs_of(store_uri)
    found = runs[done.run_id].data.metrics
    of_folds = [runs[run_id].data.metrics["test/auc"] for run_id in done.report["group"]["runs"]]
    table = predictions.load(folder / "cv" / "results" / "oof.parquet")
    hits = np.mean(table["label"] == table["predicted"])

    assert found["cv_mean/auc"] == pytest.approx(np.mean(of_folds))
    assert found["cv_sd/auc"] == pytest.approx(np.std(of_folds, ddof=1))
    assert found["pooled/accuracy"] == pytest.approx(hits)
    assert found["pooled_low/accuracy"] < hits < found["pooled_high/accuracy"]
    assert found["cv_mean/loss"] == pytest.approx(found["pooled/loss"], abs=0.05)
    history = MlflowClient(store_uri).get_metric_history(done.run_id, "fold/auc")
    assert [(point.step, point.value) for point in history] == list(enumerate(of_folds))
    written = pd.read_csv(folder / "cv" / "results" / "metrics.csv").set_index("metric")
    assert written.loc["auc", "mean"] == pytest.approx(found["cv_mean/auc"])
    artifacts = {entry.path for entry in MlflowClient(store_uri).list_artifacts(done.run_id)}
    assert {"oof.parquet", "metrics.csv", "crossval.json", "recipe.yaml", "data"} <= artifacts


def test_the_ensemble_is_the_mean_of_the_folds_logits(finished):
    folder, store_uri, done = finished
    members = done.report["group"]["runs"]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    of_each = []
    for member in members:  # each has a temperature of its own, which the ensemble has not
        alone = Predictor(folder / "runs" / member / "model")
        of_each.append(alone.logits_pixels(pixels) * alone.temperature)

    found = Predictor(folder / "cv" / "model").logits_pixels(pixels)
    assert found == pytest.approx(np.mean(of_each, axis=0), abs=1e-12)
    assert np.abs(of_each[0] - of_each[1]).max() > 1e-3
    facts = read_model_folder(folder / "cv" / "model").facts
    assert facts["members"] == members
    assert "out-of-fold" in facts["score"]
    report = {one["metric"]: one for one in done.report["group"]["metrics"]}
    assert facts["out_of_fold_metrics"]["pooled"]["auc"] == report["auc"]["pooled"]["value"]
    model = MlflowClient(store_uri).get_logged_model(done.model_id)
    assert (model.source_run_id, str(model.status)) == (done.run_id, "READY")
    assert {"cv_mean/auc", "pooled/auc"} <= {metric.key for metric in model.metrics}
    assert not [metric.key for metric in model.metrics if metric.key.startswith("fold/")]


def test_a_finished_one_is_neither_trained_nor_logged_again(finished, monkeypatch):
    folder, store_uri, done = finished
    monkeypatch.setattr(job, "train", None)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    again = start(folder, store_uri)
    by_id = crossval(recipe(), resume=done.run_id, runs_dir=link(folder, done.run_id), talk=QUIET)

    assert again.to_dict() == done.to_dict()
    assert by_id.report == done.report
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {path for path in after if before.get(path) != after[path]} <= {
        folder / "cv" / "lock", folder / "runs" / done.run_id / "lock"
    }  # fmt: skip


def link(folder, run_id):
    """The runs folder, as it is where --run-dir was not used."""
    place = folder / "runs" / run_id
    if not place.exists():
        place.symlink_to(folder / "cv")
    return folder / "runs"


def test_the_store_can_be_told_of_it_once_more(finished):
    folder, _, done = finished
    told = sync(folder / "cv", talk=QUIET)
    assert (told.run_id, told.ending, told.metric_points) == (done.run_id, "finished", 0)
    assert told.model_id == done.model_id


def test_a_cross_validation_and_a_training_are_not_taken_for_each_other(finished):
    folder, store_uri, done = finished
    with pytest.raises(ResumeError, match=r"holds a cross-validation: .* histo-mlflow crossval"):
        train(recipe(), run_dir=folder / "cv", tracking_uri=store_uri, talk=QUIET)
    child = folder / "runs" / done.report["group"]["runs"][0]
    with pytest.raises(ResumeError, match=r"holds a training.* histo-mlflow train --run-dir"):
        crossval(recipe(), run_dir=child, tracking_uri=store_uri, talk=QUIET)


def test_what_was_begun_otherwise_is_refused(finished):
    folder, store_uri, _ = finished
    with pytest.raises(ResumeError, match=r"lr was 0.001, 0.5 is given"):
        start(folder, store_uri, recipe(lr=0.5))
    with pytest.raises(ResumeError, match="begun without --leak-gap and is to go on with it"):
        start(folder, store_uri, leak_gap=True)


def test_the_table_and_the_json_say_it_all(finished):
    _, _, done = finished
    lines = done.table().splitlines()

    assert lines[0].split()[:4] == ["2", "folds", "by", "slide"]
    assert [line.split("  ")[0] for line in lines[1:8]] == [
        "fold 0", "fold 1", "mean", "SD", "95 % interval", "pooled", "95 % interval"
    ]  # fmt: skip
    assert "mix the scales of the folds' models" in done.table()
    assert "no image of this data set can test it" in done.table()
    assert json.loads(json.dumps(done.to_dict()))["report"]["rows"] == 96


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        ({"split": "row"}, RecipeError, "Expected split=group for a cross.*got split=row"),
        ({"split": "given", "folds": None}, RecipeError, "got split=given"),
        ({"fold": 1}, RecipeError, "Expected no fold for a cross-validation.*got fold=1"),
        ({"folds": 40}, SplitError, "at most as many folds as .*got 40 folds of 12 slide groups"),
        ({"folds": 2, "val_fraction": 0.6}, SplitError, "val_fraction of 0.6"),
    ],
    ids=["row", "given", "one-fold", "more-than-groups", "no-room"],
)  # fmt: skip
def test_folds_that_cannot_be_made_are_told_before_there_is_a_run(
    overrides, error, said, store_uri, tmp_path
):
    with pytest.raises(error, match=said):
        start(tmp_path, store_uri, recipe(**overrides))
    assert runs_of(store_uri) == {}
    assert not (tmp_path / "cv").exists()


def test_a_recipe_refuses_one_fold_and_given_folds():
    with pytest.raises(RecipeError, match="folds should be greater than or equal to 2"):
        recipe(folds=1)
    with pytest.raises(RecipeError, match="folds are drawn: split should be group"):
        recipe(split="given")


@pytest.mark.parametrize(
    ("error", "status"), [(TrainingError("no"), "FAILED"), (Interrupted(15), "KILLED")]
)
def test_a_fold_that_ends_badly_ends_the_parent_so_and_the_rest_goes_on(
    error, status, store_uri, tmp_path, monkeypatch, finished
):
    """The first fold is one that is finished already: it is not trained again."""
    folder, _, done = finished
    asked = []

    def first_only(wanted, **options):
        asked.append((wanted.split.fold, options["run_dir"], options["child"].key))
        if wanted.split.fold == 1:
            raise error
        options["child"].begun(done.report["group"]["runs"][0])
        return train(wanted, run_dir=folder / "runs" / done.report["group"]["runs"][0], talk=QUIET)

    monkeypatch.setattr(job, "train", first_only)
    with pytest.raises(type(error)) as caught:
        start(tmp_path, store_uri)

    (run,) = runs_of(store_uri).values()
    assert (run.info.status, asked[0][1], asked[1][1]) == (status, None, None)
    if status == "FAILED":
        assert caught.value.__notes__ == [f"in fold 1 by group of {run.info.run_id}"]
    noted = json.loads((tmp_path / "cv" / "crossval.json").read_text())
    assert noted["runs"] == {"group-0": done.report["group"]["runs"][0]}
    with pytest.raises(ResumeError, match=r"fold 0 by group is run .* no run.json.*--runs-dir"):
        start(tmp_path, store_uri)
    assert [key.split("-", 1)[1] for _, _, key in asked] == ["group-0", "group-1"]


def test_predictions_that_were_tampered_with_are_refused(
    finished, store_uri, tmp_path, monkeypatch
):
    folder, _, done = finished

    def trained(wanted, **options):
        """Whichever fold is asked for, the first one's predictions are what is there."""
        first = done.report["group"]["runs"][0]
        if not (tmp_path / "runs" / first).exists():
            shutil.copytree(folder / "runs" / first, tmp_path / "runs" / first)
        return train(wanted.model_copy(update={"split": recipe().split}),
                     run_dir=tmp_path / "runs" / first, talk=QUIET)  # fmt: skip

    monkeypatch.setattr(job, "train", trained)
    with pytest.raises(DataError, match="Expected every image in exactly one test fold, got 48 in"):
        start(tmp_path, store_uri)


@pytest.mark.slow
def test_the_leak_gap_is_the_row_wise_folds_minus_those_by_group(store_uri, tmp_path):
    done = start(tmp_path, store_uri, leak_gap=True)
    runs = runs_of(store_uri)
    tables = {
        how: predictions.load(tmp_path / "cv" / "results" / name)
        for how, name in (("group", "oof.parquet"), ("row", "oof_row_wise.parquet"))
    }

    assert tables["row"]["id"].tolist() == tables["group"]["id"].tolist()
    assert tables["row"].groupby("group")["slice_fold"].nunique().max() > 1
    loss = {
        how: np.mean([-np.log(row[f"p_{row['label']}"]) for _, row in table.iterrows()])
        for how, table in tables.items()
    }
    found = runs[done.run_id].data.metrics
    assert found["leak_gap/loss"] == pytest.approx(loss["row"] - loss["group"], abs=1e-9)
    assert found["leak_gap_low/loss"] < found["leak_gap/loss"] < found["leak_gap_high/loss"]
    assert found["leak_gap_cv_mean/auc"] == pytest.approx(
        found["row_cv_mean/auc"] - found["cv_mean/auc"]
    )
    assert len(runs) == 5
    for run_id in done.report["row"]["runs"]:
        tags = runs[run_id].data.tags
        assert tags["histo.split.leaking"] == "true"
        assert tags["histo.promotable"] == "false"
        assert tags["histo.crossval.split"] == "row"
    assert runs[done.run_id].data.tags["histo.split.leaking"] == "false"
    members = read_model_folder(tmp_path / "cv" / "model").facts["members"]
    assert members == done.report["group"]["runs"]
    assert "row-wise minus by group" in done.table()


def test_a_cross_validation_is_judged_reviewed_and_compared_as_what_it_is(finished, tmp_path):
    from histo_mlflow.jobs.compare import compare_runs
    from histo_mlflow.jobs.evaluate import Wanted, evaluate_run
    from histo_mlflow.jobs.review import review

    folder, store_uri, done = finished
    where = str(done.run_dir)
    found = evaluate_run(where, Wanted(pictures=False, replicates=100), talk=QUIET)
    assert found.evaluation.rows == done.report["rows"]
    history = MlflowClient(store_uri).get_metric_history(done.run_id, "test/auc")
    assert [point.step for point in history] == [2]
    with pytest.raises(DataError, match="models of its ensemble have seen the images"):
        evaluate_run(where, Wanted(tta=True, pictures=False, replicates=100), talk=QUIET)
    assert len(review(where, out=tmp_path / "queue", talk=QUIET).queue) == done.report["rows"]
    fold = str(folder / "runs" / done.report["group"]["runs"][0])
    notes = compare_runs([where, fold], talk=QUIET).notes
    assert any("each image was predicted by the one fold" in note for note in notes)
