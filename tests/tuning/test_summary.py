"""The text at the end of a search, and the same as JSON."""

import json

import pytest

import made_studies
from histo_mlflow.tuning.report.summary import duration, summary, summary_text

AXES = ("lr", "batch_size", "optimiser", "momentum")


def summed(study, **more):
    return summary(
        "demo", study.get_trials(), metric="val/auc", direction="maximize", axes=AXES, **more
    )


def test_the_best_five_trials_are_told_best_first():
    study = made_studies.made_study(20)
    found = summed(study, limit=23, active_seconds=125.0)
    complete = [one for one in study.get_trials() if one.value is not None]
    wanted = sorted(complete, key=lambda one: -one.value)[:5]

    assert [one["number"] for one in found["best_trials"]] == [one.number for one in wanted]
    assert found["best"] == found["best_trials"][0]
    assert json.loads(json.dumps(found)) == found
    text = summary_text(found, recipe="demo/best_recipe.yaml", go_on="histo-mlflow tune demo")
    rows = text.splitlines()
    assert rows[0].split() == ["trial", "val/auc", "best", "epoch", "run", "params"]
    for row, one in zip(rows[1:6], wanted, strict=True):
        assert row.split()[:2] == [str(one.number), f"{one.value:.4f}"]
        assert f"{one.number:032x}" in row
        assert f"batch_size={one.params['batch_size']}" in row
        assert ("momentum=" in row) is ("momentum" in one.params)
    assert "20 of 23 trials have ended" in text
    assert text.endswith("in 2:05 min\n" + "\n".join(rows[-3:]))
    assert "histo-mlflow train --dataset demo/best_recipe.yaml" in rows[-2]
    assert rows[-1] == "go on with: histo-mlflow tune demo"


def test_a_study_without_a_complete_trial_says_so():
    found = summed(made_studies.made_study(0))

    assert found["best"] is None
    assert summary_text(found).splitlines() == [
        "study demo: 0 trials have ended (3 waiting)",
        "no trial is complete, so there is no best recipe",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (754, "12:34 min"), (11265, "3:07:45 h")],
)
def test_durations_are_read_at_a_glance(seconds, said):
    assert duration(seconds) == said
