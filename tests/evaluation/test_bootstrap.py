"""Draws of groups, and the intervals that are taken of them."""

import numpy as np
import pytest
from scipy import stats

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.bootstrap import draws, expanded_tail, interval


def all_counts(groups, n, **how):
    return np.concatenate(list(draws(groups, n, **how).chunks()))


def test_each_draw_takes_as_many_groups_as_there_are() -> None:
    counts = all_counts(["b", "a", "b", "c"], 4, replicates=50)
    assert counts.shape == (50, 3)
    assert (counts.sum(axis=1) == 3).all()


def test_without_groups_every_row_is_one() -> None:
    assert all_counts(None, 5, replicates=7).shape == (7, 5)


def test_the_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    first = all_counts(["a", "b", "c"], 3, replicates=40, seed=1)
    np.testing.assert_array_equal(first, all_counts(["x", "y", "z"], 3, replicates=40, seed=1))
    assert (first != all_counts(["a", "b", "c"], 3, replicates=40, seed=2)).any()


def test_draws_do_not_depend_on_how_many_fit_into_memory_at_once(monkeypatch) -> None:
    whole = all_counts(["a", "b", "c"], 3, replicates=40)
    monkeypatch.setattr("histo_mlflow.evaluation.bootstrap._CELLS", 7)
    np.testing.assert_array_equal(whole, all_counts(["a", "b", "c"], 3, replicates=40))


def test_each_group_is_drawn_as_often_as_another() -> None:
    counts = all_counts(None, 10, replicates=20_000)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), 0.9, atol=0.05)


@pytest.mark.parametrize(
    ("groups", "n", "replicates", "told"),
    [([], 0, 10, "got 0 rows"), (["a"], 2, 10, "Expected 2 groups"), (["a"], 1, 0, "0 replicates")],
)
def test_what_cannot_be_drawn_is_refused(groups, n, replicates, told) -> None:
    with pytest.raises(DataError, match=told):
        draws(groups, n, replicates=replicates)


@pytest.mark.parametrize("n_groups", [5, 22, 400])
def test_for_a_mean_the_widened_interval_is_the_t_interval(n_groups: int) -> None:
    """Hesterberg 2015, equation 10: exactly so for replicates that are normal."""
    tail = expanded_tail(n_groups, 0.95)
    # the spread of bootstrap means is that of divisor n, the t interval's of n - 1
    spread = np.sqrt((n_groups - 1) / n_groups)
    assert -stats.norm.ppf(tail) * spread == pytest.approx(stats.t.ppf(0.975, n_groups - 1))


def test_an_interval_lies_around_its_value() -> None:
    found = interval(0.5, np.random.default_rng(0).normal(0.5, 0.1, 2000), 50)
    assert found.why == ""
    assert found.low < 0.35 < 0.5 < 0.65 < found.high


def test_a_value_that_rests_on_few_groups_has_a_longer_interval() -> None:
    drawn = np.random.default_rng(0).normal(0.5, 0.1, 20_000)
    many, few, too_few = (interval(0.5, drawn, 50, effective=n) for n in (None, 5, 0.3))
    assert many.high - many.low < few.high - few.low < too_few.high - too_few.low
    assert interval(0.5, drawn, 5).high == few.high


def test_one_group_has_no_interval() -> None:
    found = interval(0.5, np.full(10, 0.5), 1)
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert "one group" in found.why


def test_what_is_undefined_has_no_interval() -> None:
    found = interval(None, np.full(10, np.nan), 5)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "undefined" in found.why


def test_a_metric_that_many_draws_leave_undefined_has_no_interval() -> None:
    drawn = np.where(np.arange(100) < 20, np.nan, 0.5)
    found = interval(0.5, drawn, 5)
    assert found.low is None
    assert found.why == "defined in only 80 % of the draws"
