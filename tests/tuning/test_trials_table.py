"""The table of a study's trials, the best of them and the best so far."""

import json
from datetime import UTC, datetime

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

import made_studies
from histo_mlflow.tuning.report.trials_table import (
    best,
    best_so_far,
    counts,
    in_order_of_value,
    save,
    state_of,
    trials_table,
)
from histo_mlflow.tuning.shared import attributes

AXES = (*made_studies.FIXED, "momentum")


def numbered(*trials):
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        study.add_trial(trial)
    return study.get_trials()


def of_values(*values):
    return numbered(
        *(
            made_studies.ended_trial(i, {}, [], state="pruned")
            if value is None
            else made_studies.ended_trial(i, {}, [value])
            for i, value in enumerate(values)
        )
    )


def test_every_ending_has_its_name_and_only_complete_trials_a_value():
    study = made_studies.made_study(14)
    study.add_trial(made_studies.ended_trial(17, {"lr": 1e-3}, [0.4, 0.3], state="failed"))
    study.add_trial(made_studies.running_trial({"lr": 1e-3}, [0.5], "w"))
    trials = study.get_trials()
    table = trials_table(trials, metric="val/auc", axes=AXES)

    assert list(table["state"]) == [state_of(one) for one in trials]
    assert set(table["state"]) == {*attributes.TRIAL_STATES, "running", "waiting"}
    assert counts(trials) == dict(table["state"].value_counts())
    assert list(table["value"].notna()) == list(table["state"] == "complete")
    failed = table.set_index("number").loc[17]
    assert (failed["last"], failed["epochs"], failed["best_epoch"]) == (0.3, 2, 1)
    assert failed["cause"] == made_studies.CAUSES["failed"]
    assert pd.isna(table["last"][table["state"] == "waiting"]).all()


def test_an_axis_is_missing_where_it_was_not_active():
    table = trials_table(made_studies.made_study(12).get_trials(), metric="val/auc", axes=AXES)

    ended = table[~table["state"].isin(["waiting"])]
    assert list(ended["momentum"].notna()) == list(ended["optimiser"] == "sgd")
    assert 0 < ended["momentum"].notna().sum() < len(ended)
    assert table["dropout"].isna().all()


def test_types_of_columns_do_not_depend_on_how_many_trials_there_are():
    trials = made_studies.made_study(12, tuple(made_studies.FIXED)).get_trials()
    axes = ["lr", "batch_size", "policy", "frozen_epochs"]
    some = trials_table(trials, metric="val/auc", axes=axes)
    none = trials_table([], metric="val/auc", axes=axes)
    fixed = [name for name in some.columns if name not in axes]

    assert some.dtypes[fixed].to_dict() == none.dtypes[fixed].to_dict()
    assert list(none.columns) == list(some.columns)
    kinds = [str(some[name].dtype) for name in axes]
    assert kinds == ["float64", "Int64", "string", "Int64"]


def test_an_axis_called_like_a_column_gets_another_name():
    trial = create_trial(
        state=TrialState.COMPLETE, value=0.5, params={"epochs": 4},
        distributions={"epochs": optuna.distributions.IntDistribution(1, 9)},
        user_attrs={attributes.EPOCHS: 3},
    )  # fmt: skip
    table = trials_table([trial], metric="val/auc", axes=["epochs"])

    assert (table["epochs"][0], table["param_epochs"][0]) == (3, 4)


def test_times_are_those_at_which_somebody_was_at_work_in_utc():
    trial = made_studies.ended_trial(0, {}, [0.5])
    local = trials_table([trial], metric="val/auc", axes=[])
    trial.set_user_attr(attributes.SPANS, json.dumps([[10.0, 20.5], [100.0, 130.0]]))
    spans = trials_table([trial], metric="val/auc", axes=[])

    assert local["started"][0] == pd.Timestamp(made_studies.BEGUN.astimezone(UTC))
    assert spans["started"][0] == pd.Timestamp(datetime.fromtimestamp(10, UTC))
    assert spans["ended"][0] == pd.Timestamp(datetime.fromtimestamp(130, UTC))


def test_a_saved_table_is_read_back_the_same(tmp_path):
    table = trials_table(made_studies.made_study(14).get_trials(), metric="val/auc", axes=AXES)
    save(table, tmp_path / "trials.parquet")
    read = pd.read_parquet(tmp_path / "trials.parquet")

    pd.testing.assert_frame_equal(table, read)
    assert read.attrs == {"metric": "val/auc"}


@pytest.mark.parametrize(
    ("values", "direction", "number"),
    [
        ((0.1, 0.9, 0.9), "maximize", 1),
        ((0.1, 0.9, 0.1), "minimize", 0),
        ((None, float("inf"), 0.2), "maximize", 2),
        ((None, None), "maximize", None),
        ((), "minimize", None),
    ],
)
def test_the_best_is_complete_and_finite_and_of_lowest_number_on_a_tie(values, direction, number):
    found = best(of_values(*values), direction)

    assert (None if found is None else found.number) == number


def test_nan_is_never_the_best():
    trials = of_values(0.4, 0.5)
    trials[1].values = [float("nan")]

    assert best(trials, "maximize").number == 0


def test_the_order_of_value_equals_a_stable_sort():
    rng = np.random.default_rng(0)
    values = [None if v < 0.2 else round(float(v), 1) for v in rng.random(40)]
    trials = of_values(*values)
    wanted = sorted((i for i, v in enumerate(values) if v is not None), key=lambda i: -values[i])

    assert [one.number for one in in_order_of_value(trials, "maximize")] == wanted


@pytest.mark.parametrize(("direction", "better"), [("maximize", max), ("minimize", min)])
def test_the_best_so_far_follows_the_order_in_which_trials_ended(direction, better):
    rng = np.random.default_rng(1)
    values = [None if v < 0.2 else float(v) for v in rng.random(30)]
    trials = of_values(*values)
    ends = rng.permutation(30)
    for one, end in zip(trials, ends, strict=True):
        one.set_user_attr(attributes.SPANS, json.dumps([[0, 1000.0 + end]]))
    ordered = [values[i] for i in np.argsort(ends)]
    wanted, so_far = [], None
    for n in range(1, 31):
        known = [v for v in ordered[:n] if v is not None]
        if known and better(known) != so_far:
            so_far = better(known)
            wanted.append((n, so_far))

    assert best_so_far(trials, direction) == wanted
