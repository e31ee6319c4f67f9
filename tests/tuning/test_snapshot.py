"""What a study looks like at one moment, and how long it will go on."""

import pytest

import made_studies
from histo_mlflow.tuning.report.snapshot import look

LR = {"lr": 1e-3}
SEARCH = {"metric": "val/auc", "direction": "maximize", "used_seconds": 60.0}


def trials_of(*trials):
    study = made_studies.made_study(0, waiting=0)
    for one in trials:
        study.add_trial(one)
    return study.get_trials()


def ended(seconds, epochs=6):
    return made_studies.ended_trial(0, LR, [0.5] * epochs, seconds=seconds)


def test_running_trials_are_seen_with_their_epoch_last_and_best_value_and_worker():
    trials = trials_of(ended(60), made_studies.running_trial(LR, [0.6, 0.8, 0.7], "w"))
    (one,) = look("demo", trials, steps=6, limit=9, **SEARCH).running

    assert (one.number, one.done, one.steps) == (1, 3, 6)
    assert (one.last, one.best, one.params) == (0.7, 0.8, "lr=0.001")
    assert one.worker == "7 on box"


def test_reports_of_nan_are_never_the_best():
    trials = trials_of(made_studies.running_trial(LR, [0.6, float("nan")], "w"))
    (one,) = look("demo", trials, steps=6, limit=9, **SEARCH).running

    assert one.best == 0.6


@pytest.mark.parametrize(
    ("trials", "limit", "workers", "wall", "left"),
    [
        ([ended(60), ended(30, 3)], 10, 2, None, 8 * 45 / 2),
        ([ended(60)], 2, 1, None, 60.0),
        # 10 s an epoch, 4 epochs to go, and nobody helps with a running trial
        ([ended(60), made_studies.running_trial(LR, [0.1] * 2, "w")], 2, 4, None, 40.0),
        ([ended(60), made_studies.running_trial(LR, [0.1] * 2, "w")], 4, 2, None, (40 + 120) / 2),
        ([ended(60)], 100, 1, 200.0, 140.0),
        ([ended(60)], 2, 1, 2000.0, 60.0),
        ([ended(60)], None, 1, 200.0, 140.0),
        ([ended(60)], None, 1, None, None),
        ([], 10, 2, None, None),
        ([ended(60)], 1, 2, None, 0.0),
    ],
)
def test_time_left_comes_from_ended_trials_epochs_left_workers_and_wall_time(
    trials, limit, workers, wall, left
):
    found = look(
        "demo", trials_of(*trials), steps=6, limit=limit, workers=workers, wall_seconds=wall,
        **SEARCH,
    )  # fmt: skip

    assert found.left_seconds == (None if left is None else pytest.approx(left))
