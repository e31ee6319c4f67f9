"""What the parent run is told while a study goes on, and the report at its end."""

import json
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

import made_studies
from histo_mlflow import recipe
from histo_mlflow.errors import DiskError, RecipeError
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning.report import figures
from histo_mlflow.tuning.report.parent_report import Told, tell_points, tell_tags, write_report
from histo_mlflow.tuning.report.trials_table import best_so_far
from histo_mlflow.tuning.study.recipe_name import recipe_name

AXES = ("lr", "batch_size", "optimiser", "momentum")
SEARCH = {"metric": "val/auc", "direction": "maximize"}


class Recorded:
    """What a run was told, in order."""

    def __init__(self):
        self.points, self.tags, self.calls = {}, {}, 0

    def log_metrics(self, metrics, step=0):
        self.calls += 1
        for name, value in metrics.items():
            self.points.setdefault(name, {})[step] = value

    def set_tags(self, tags):
        self.calls += 1
        self.tags |= tags


def refresh(run, trials, told):
    told = tell_points(run, trials, told, **SEARCH)
    return tell_tags(run, trials, told, direction=SEARCH["direction"])


def recipe_of(trial, name):
    base = recipe.load("demo").model_dump(mode="json")
    return recipe.build({**base, "name": name}, trial.params, where=name)


def test_told_trial_by_trial_or_at_once_the_run_ends_up_with_the_same_best():
    trials = made_studies.made_study(20).get_trials()
    bit_by_bit, at_once, told = Recorded(), Recorded(), Told()
    for n in range(len(trials) + 1):
        told = refresh(bit_by_bit, trials[:n], told)
    refresh(at_once, trials, Told())

    assert bit_by_bit.points["best/val_auc"] == dict(best_so_far(trials, "maximize"))
    assert at_once.points["best/val_auc"] == bit_by_bit.points["best/val_auc"]
    assert at_once.tags == bit_by_bit.tags
    counts = {name: list(steps.values())[-1] for name, steps in bit_by_bit.points.items()}
    assert counts.pop("best/val_auc") == at_once.tags["histo.study.best_value"]
    assert sum(counts.values()) == 20
    assert counts == {name: steps[20] for name, steps in at_once.points.items() if name in counts}


def test_nothing_is_sent_while_no_trial_ends():
    run, study = Recorded(), made_studies.made_study(5)
    told = refresh(run, study.get_trials(), Told())
    before = run.calls
    study.add_trial(made_studies.running_trial({"lr": 1e-3}, [0.99], "w"))

    assert refresh(run, study.get_trials(), told) == told
    assert run.calls == before


def test_before_the_first_ending_there_is_nothing_to_tell():
    run = Recorded()
    refresh(run, made_studies.made_study(0).get_trials(), Told())

    assert run.calls == 0


def test_a_real_run_carries_the_best_the_counts_and_the_report(store_uri, tmp_path):
    study = made_studies.made_study(8)
    store = connect(store_uri)
    with start_run(store, "search", "demo", {}, {}, system_metrics=False) as run:
        refresh(run, study.get_trials(), Told())
        report = write_report(tmp_path / "r", study, recipe_of, metric="val/auc", axes=AXES)
        run.log_artifacts(report.folder)
    found = store.client.get_run(run.run_id)

    assert found.data.metrics["best/val_auc"] == study.best_value
    assert found.data.metrics["trials/complete"] == report.summary["counts"]["complete"]
    assert found.data.metrics["trials/failed"] == 0
    assert found.data.tags["histo.study.best_trial"] == str(study.best_trial.number)
    assert found.data.tags["histo.study.best_run"] == f"{study.best_trial.number:032x}"
    names = {entry.path for entry in store.client.list_artifacts(run.run_id)}
    assert names == {"figures", "trials.parquet", "study.json", "best_recipe.yaml"}


@pytest.fixture
def quick(monkeypatch):
    """Without pictures, which have tests of their own."""
    drawn = []
    monkeypatch.setattr(
        "histo_mlflow.tuning.report.parent_report.draw_study",
        lambda study, folder, **named: drawn.append(named) or {"rank.png": "not today"},
    )
    return drawn


def test_the_best_recipe_is_a_file_that_loads_to_the_best_trials_recipe(tmp_path, quick):
    study = made_studies.made_study(12)
    report = write_report(tmp_path / "report", study, recipe_of, metric="val/auc", axes=AXES)
    loaded = recipe.load(str(report.recipe))
    wanted = recipe_of(study.best_trial, "demo-best")

    assert loaded.flatten() == wanted.flatten()
    assert loaded == wanted.model_copy(update={"summary": loaded.summary})
    said = f"best of study demo: trial {study.best_trial.number}, val/auc {study.best_value:.4f}"
    assert loaded.summary.startswith(said)


def test_table_and_summary_lie_in_the_folder(tmp_path, quick):
    study = made_studies.made_study(12)
    report = write_report(
        tmp_path / "report", study, recipe_of, metric="val/auc", axes=AXES, step="fold",
        limit=15, active_seconds=99.5,
    )  # fmt: skip
    summary = json.loads((report.folder / "study.json").read_text())

    assert summary == {**report.summary, "not_drawn": {"rank.png": "not today"}}
    assert (summary["limit"], summary["active_seconds"]) == (15, 99.5)
    assert summary["best"]["value"] == study.best_value
    assert quick == [{"metric": "val/auc", "step": "fold"}]
    assert len(pd.read_parquet(report.folder / "trials.parquet")) == 15


def test_slots_that_nobody_will_take_are_in_neither_table_nor_summary(tmp_path, quick):
    study = made_studies.made_study(5, waiting=7)
    report = write_report(
        tmp_path / "report", study, recipe_of, metric="val/auc", axes=AXES, limit=5
    )

    assert list(pd.read_parquet(report.folder / "trials.parquet")["number"]) == list(range(5))
    assert report.summary["counts"]["waiting"] == 0


def test_a_study_without_a_complete_trial_has_a_report_and_no_recipe(tmp_path):
    study = made_studies.made_study(0)
    report = write_report(tmp_path / "report", study, recipe_of, metric="val/auc", axes=AXES)

    assert report.recipe is None
    assert report.undrawn.keys() == set(figures.FIGURES)
    assert {path.name for path in report.folder.rglob("*")} == {"trials.parquet", "study.json"}


def test_a_report_replaces_the_one_before_it_whole_or_not_at_all(tmp_path, quick):
    folder = tmp_path / "report"
    first = made_studies.made_study(3)
    write_report(folder, first, recipe_of, metric="val/auc", axes=AXES)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refused(trial, name):
        raise RecipeError("no")

    with pytest.raises(RecipeError):
        write_report(folder, first, refused, metric="val/auc", axes=AXES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "report"]

    write_report(folder, made_studies.made_study(12), recipe_of, metric="val/auc", axes=AXES)
    assert {path.name for path in folder.iterdir()} == set(before)
    assert len(pd.read_parquet(folder / "trials.parquet")) == 15


def test_commands_that_end_at_once_write_and_upload_the_report_one_after_the_other(
    tmp_path, quick, monkeypatch
):
    monkeypatch.setattr("histo_mlflow.tuning.report.turn.LOOK_SECONDS", 0.001)
    study, uploaded = made_studies.made_study(3), []

    def upload(folder):
        shutil.copytree(folder, tmp_path / "store" / uuid.uuid4().hex)
        uploaded.append({path.name for path in folder.iterdir()})

    def write(_):
        write_report(
            tmp_path / "run" / "study", study, recipe_of, metric="val/auc", axes=AXES,
            upload=upload,
        )  # fmt: skip

    with ThreadPoolExecutor(4) as commands:
        list(commands.map(write, range(24)))

    assert uploaded == [{"trials.parquet", "study.json", "best_recipe.yaml"}] * 24


def test_a_folder_that_cannot_be_made_is_a_plain_error(tmp_path, quick):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="in the way"):
        write_report(
            Path(tmp_path / "file" / "report"), made_studies.made_study(3), recipe_of,
            metric="val/auc", axes=AXES,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("title", "name"),
    [("demo-best", "demo-best"), ("my study/2-best", "my_study_2-best"), ("_x", "x"), ("é-b", "b")],
)
def test_the_recipe_has_a_name_that_recipes_may_have(title, name):
    assert recipe_name(title) == name
    assert recipe.build({"name": name}, {}, where="here").name == name
