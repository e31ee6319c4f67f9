"""Slices: named rightly, the bad one first, and no false alarm from looking at many."""

import numpy as np
import pandas as pd
import pytest

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.bootstrap import draws
from histo_mlflow.evaluation.slices import UNKNOWN, compare_slices, quality, sliced


def test_words_are_their_own_slices_and_blanks_are_unknown() -> None:
    found = sliced(pd.Series(["male", "", None, "female", " "]))
    assert found.tolist() == ["male", UNKNOWN, UNKNOWN, "female", UNKNOWN]


def test_many_numbers_are_binned_by_quantiles_named_by_what_they_hold() -> None:
    found = sliced(pd.Series([*range(40), float("nan")]))
    assert found.value_counts().to_dict() == {
        "0 to 9": 10, "10 to 19": 10, "20 to 29": 10, "30 to 39": 10, UNKNOWN: 1,
    }  # fmt: skip


def test_large_numbers_dates_and_infinity_have_names_that_tell_them_apart() -> None:
    large = sliced(pd.Series(np.arange(1_000_000_000, 1_000_000_200)))
    assert set(large) == {
        "1000000000 to 1000000049", "1000000050 to 1000000099",
        "1000000100 to 1000000149", "1000000150 to 1000000199",
    }  # fmt: skip
    dates = sliced(pd.Series(pd.to_datetime(["2020-01-02", "2021-03-04", "2021-05-06"])))
    assert dates.tolist() == ["2020", "2021", "2021"]
    with np.errstate(invalid="raise"):
        infinite = sliced(pd.Series([*np.arange(39.0), np.inf]))
    assert infinite.nunique() == 4


def test_a_few_numbers_are_taken_as_they_are() -> None:
    assert sliced(pd.Series([1, 2, 1, 2])).tolist() == ["1", "2", "1", "2"]


def test_the_quality_of_a_row_is_what_the_metric_is_the_mean_of() -> None:
    truth, logits = np.array([0, 1]), np.array([[2.0, 0.0], [2.0, 0.0]])
    p = np.exp(2) / (1 + np.exp(2))
    assert quality("accuracy", truth, logits, "softmax").tolist() == [1, 0]
    np.testing.assert_allclose(quality("log_loss", truth, logits, "softmax"), -np.log([p, 1 - p]))
    np.testing.assert_allclose(quality("brier", truth, logits, "softmax"), [(1 - p) ** 2, p**2])


def world(seed: int, *, n_groups: int = 1100, alike: float = 0.5, worse: float = 0.0):
    """Rows of lesions with 15 places; those of place "7" are wrong more often by `worse`."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.geometric(1 / 1.35, n_groups))
    n = len(groups)
    latent = np.sqrt(alike) * rng.normal(size=n_groups)[groups]
    latent += np.sqrt(1 - alike) * rng.normal(size=n)
    place = rng.integers(0, 15, n_groups)[groups]
    right = (latent < np.where(place == 7, 0.84 - worse, 0.84)).astype(float)
    columns = {"place": place.astype(str), "sex": rng.integers(0, 2, n_groups)[groups].astype(str)}
    return groups, right, columns


def test_the_values_and_sizes_are_those_of_the_rows() -> None:
    groups, right, columns = world(0)
    found = compare_slices(right, columns, draws(groups, len(right), replicates=100))
    assert len(found) == 17
    for row in found.itertuples():
        inside = columns[row.column] == row.slice
        assert row.rows == inside.sum()
        assert row.groups == len(set(groups[inside]))
        assert row.value == pytest.approx(right[inside].mean())
        assert row.rest == pytest.approx(right[~inside].mean())
        assert row.difference == pytest.approx(row.value - row.rest)
        assert row.low < row.difference < row.high


def test_a_planted_slice_comes_first_and_is_said_to_be_worse() -> None:
    for seed in range(5):
        groups, right, columns = world(seed, worse=1.5)
        found = compare_slices(right, columns, draws(groups, len(right), replicates=500))
        first = found.iloc[0]
        assert (first["column"], first["slice"]) == ("place", "7")
        assert first["worse"]
        assert first["p"] < 0.05


def test_looking_at_many_slices_raises_few_false_alarms() -> None:
    """17 looks at the 5 % level each would alarm in most worlds; all intervals hold in >= 95 %."""
    alarms, covered = 0, 0
    for seed in range(60):
        groups, right, columns = world(seed)
        found = compare_slices(right, columns, draws(groups, len(right), replicates=300, seed=seed))
        alarms += bool(found["worse"].any())
        covered += bool(((found["low"] <= 0) & (found["high"] >= 0)).all())
    assert alarms <= 6
    assert covered >= 53


def test_where_a_high_value_is_bad_the_highest_comes_first() -> None:
    groups, right, columns = world(3, worse=1.5)
    drawn_from = draws(groups, len(right), replicates=200)
    found = compare_slices(1 - right, columns, drawn_from, better="lower")
    assert found.iloc[0]["slice"] == "7"
    assert found.iloc[0]["difference"] > 0


def test_a_small_slice_that_is_all_right_is_not_sure_of_it() -> None:
    groups = np.arange(200)
    right = np.r_[np.ones(12), np.tile([1.0, 0.0], 94)]
    columns = {"place": np.array(["small"] * 12 + ["large"] * 188)}
    found = compare_slices(right, columns, draws(groups, 200))
    small = found[found["slice"] == "small"].iloc[0]
    assert small["high"] - small["low"] > 0.4


def test_slides_of_one_group_each_are_compared_too() -> None:
    rng = np.random.default_rng(0)
    slides = np.repeat(np.arange(20), 50)
    right = (rng.random(1000) < np.where(slides == 4, 0.3, 0.9)).astype(float)
    found = compare_slices(right, {"slide": slides.astype(str)}, draws(slides, 1000))
    assert len(found) == 20
    assert found.iloc[0]["slice"] == "4"


@pytest.mark.parametrize("names", [["a"] * 50, ["a"] * 45 + ["b"] * 5, []])
def test_slices_that_hold_all_rows_or_too_few_are_left_out(names) -> None:
    columns = {"place": names} if names else {}
    found = compare_slices(np.ones(50), columns, draws(None, 50, replicates=10))
    assert found.empty
    assert "difference" in found.columns


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="Expected 50 values of 'place', one a row, got 1"):
        compare_slices(np.ones(50), {"place": ["a"]}, draws(None, 50))
