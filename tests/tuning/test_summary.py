"""The text at the end of a search, and the same as JSON."""

import json

import pytest

import made_studies
from histo_mlflow.tuning.report import summary as module
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
    why = [f"{one['trials']} {one['state'].replace('_', ' ')}: {one['cause']}"
           for one in found["causes"]]  # fmt: skip
    assert text.endswith("in 2:05 min\n" + "\n".join([*why, *rows[-3:]]))
    assert "histo-mlflow train --dataset demo/best_recipe.yaml" in rows[-2]
    assert rows[-1] == "go on with: histo-mlflow tune demo"


def test_a_study_without_a_complete_trial_says_so():
    found = summed(made_studies.made_study(0))

    assert found["best"] is None
    assert summary_text(found).splitlines() == [
        "study demo: 0 trials have ended",
        "no trial is complete, so there is no best recipe",
    ]


def test_slots_beyond_the_budget_are_not_counted_and_only_endings_are_told_as_such():
    study = made_studies.made_study(5, waiting=7)
    study.add_trial(made_studies.running_trial({"lr": 1e-3}, [0.5], "w"))
    within, beyond = summed(study, limit=20), summed(study, limit=6)

    assert (within["counts"]["waiting"], beyond["counts"]["waiting"]) == (7, 1)
    assert beyond["counts"]["running"] == 1
    ends = ", ".join(f"{n} {state}" for state in ("complete", "pruned")
                     if (n := beyond["counts"][state]))  # fmt: skip
    assert f"study demo: 5 of 6 trials have ended ({ends})\n" in summary_text(beyond)


def test_why_trials_ended_without_a_value_is_told_each_cause_once():
    study = made_studies.made_study(12, waiting=0)
    for number in (12, 13):
        study.add_trial(made_studies.ended_trial(number, {"lr": 1e-3}, [], state="failed"))
    found = summed(study)

    assert found["causes"] == [
        {"state": state, "cause": made_studies.CAUSES[state], "trials": n}
        for state, n in (("failed", 2), ("diverged", 1), ("out_of_memory", 1))
    ]
    assert summary_text(found).splitlines()[-4:-1] == [
        "2 failed: its worker died 3 times",
        "1 diverged: the loss was NaN in epoch 1",
        "1 out of memory: 128 images of 64 px did not fit into memory",
    ]


def test_of_many_causes_the_text_tells_the_first_and_counts_the_others(monkeypatch):
    monkeypatch.setattr(module, "MOST_CAUSES", 1)
    text = summary_text(summed(made_studies.made_study(12)))

    assert text.splitlines()[-3:-1] == [
        "1 diverged: the loss was NaN in epoch 1",
        "1 more for other causes: trials.parquet has the cause of each",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (754, "12:34 min"), (11265, "3:07:45 h")],
)
def test_durations_are_read_at_a_glance(seconds, said):
    assert duration(seconds) == said
