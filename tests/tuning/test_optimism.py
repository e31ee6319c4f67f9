"""Means over replicates, optimism, gains and the one-standard-error rule, against references."""

import math

import numpy as np
import pytest
from scipy import stats

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.confirm.optimism import (
    Optimism,
    Spread,
    gain,
    one_standard_error,
    optimism,
    reaches,
    spread,
)

VALUES = [0.91, 0.93, 0.90, 0.94, 0.92]
OTHERS = [0.90, 0.91, 0.90, 0.91, 0.91]


def test_without_overlap_the_interval_is_the_plain_t_interval():
    found = spread(VALUES, 0.0)
    expected = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.error == pytest.approx(stats.sem(VALUES), abs=1e-12)


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10])
def test_overlap_widens_the_interval_as_nadeau_and_bengio_say(n_folds):
    values = np.random.default_rng(n_folds).normal(0.9, 0.01, n_folds)
    n_train, n_val = (n_folds - 1) * 100, 100
    variance = np.var(values, ddof=1) * (1 / n_folds + n_val / n_train)
    expected = stats.t.interval(0.95, n_folds - 1, values.mean(), math.sqrt(variance))

    found = spread(values.tolist(), n_val / n_train)

    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert (found.n, found.mean) == (n_folds, pytest.approx(values.mean(), abs=1e-15))


def test_values_that_are_missing_nan_or_infinite_are_left_out():
    assert spread([0.9, None, math.nan, 0.8, math.inf], 0.25) == spread([0.9, 0.8], 0.25)


@pytest.mark.parametrize(
    ("values", "mean", "said"),
    [
        ([], None, "no replicate has a value"),
        ([None, math.nan], None, "no replicate has a value"),
        ([0.9], 0.9, "one replicate cannot tell how replicates differ"),
        ([0.9, 0.9, 0.9], 0.9, "all replicates give the same value and tell nothing"),
    ],
)
def test_where_nothing_is_known_of_the_spread_there_is_no_interval(values, mean, said):
    found = spread(values, 0.25)

    assert (found.mean, found.low, found.high, found.why) == (mean, None, None, said)


def test_equal_values_have_a_standard_error_of_0():
    assert (spread([0.9] * 3, 0.5).sd, spread([0.9] * 3, 0.5).error) == (0.0, 0.0)


def test_an_interval_is_cut_where_the_metric_ends():
    found = spread([0.99, 0.05], 1.0, (0.0, 1.0))

    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("overlap", [-0.1, math.nan, math.inf])
def test_an_overlap_that_cannot_be_is_refused(overlap):
    with pytest.raises(StudyError, match="n_val / n_train"):
        spread(VALUES, overlap)


def test_optimism_is_the_search_value_minus_the_mean_and_its_interval_turned_round():
    confirmed = spread(VALUES, 0.25)

    assert optimism(0.95, confirmed, "maximize") == Optimism(
        pytest.approx(0.03),
        pytest.approx(0.95 - confirmed.high),
        pytest.approx(0.95 - confirmed.low),
    )


def test_a_loss_that_the_search_reported_too_low_flatters_as_well():
    confirmed = spread([0.5, 0.6, 0.7], 0.5)
    found = optimism(0.4, confirmed, "minimize")

    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(confirmed.low - 0.4)
    assert found.high == pytest.approx(confirmed.high - 0.4)


@pytest.mark.parametrize(
    ("reported", "values", "expected"),
    [
        (None, VALUES, Optimism(None)),
        (math.nan, VALUES, Optimism(None)),
        (0.9, [], Optimism(None)),
        (0.9, [0.8], Optimism(pytest.approx(0.1))),
    ],
)
def test_optimism_needs_a_search_value_and_a_mean(reported, values, expected):
    assert optimism(reported, spread(values, 0.25), "maximize") == expected


def test_a_gain_is_that_of_pairs():
    found = gain(VALUES, OTHERS, "maximize", 0.0)
    expected = stats.ttest_rel(VALUES, OTHERS).confidence_interval(0.95)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_gain_of_a_loss_is_the_same_of_the_negative_loss():
    negative = gain([-v for v in VALUES], [-v for v in OTHERS], "maximize", 0.25)

    assert gain(VALUES, OTHERS, "minimize", 0.25) == negative


def test_pairs_of_which_one_is_missing_are_left_out():
    found = gain([0.9, None, 0.8, 0.7], [0.85, 0.9, math.nan, 0.6], "maximize", 0.25)

    assert (found.n, found.mean) == (2, pytest.approx(0.075))


def test_recipes_that_agree_everywhere_differ_by_0_and_that_is_sure():
    found = gain(VALUES, VALUES, "minimize", 0.25)

    assert (found.mean, found.low, found.high, found.why) == (0.0, 0.0, 0.0, "")


def test_a_gain_that_is_the_same_in_every_pair_has_no_interval():
    found = gain([0.5, 0.75], [0.25, 0.5], "maximize", 1.0)

    assert (found.mean, found.low, found.high) == (0.25, None, None)


def test_other_numbers_of_replicates_are_refused():
    with pytest.raises(StudyError, match="got 5 and 4"):
        gain(VALUES, OTHERS[:4], "maximize", 0.25)


def of_mean(mean: float, error: float = 0.02) -> Spread:
    return Spread(5, mean, error * math.sqrt(5), error)


@pytest.mark.parametrize(
    ("means", "costs", "best", "chosen", "within"),
    [
        ([0.90, 0.89, 0.87], [(3, 1), (2, 1), (1, 1)], 0, 1, (0, 1)),
        ([0.90, 0.89, 0.88], [(3, 1), (2, 1), (1, 1)], 0, 2, (0, 1, 2)),
        ([0.90, 0.89], [(1, 1), (2, 1)], 0, 0, (0, 1)),
        ([0.90, 0.89, 0.895], [(2, 1), (1, 5), (1, 5)], 0, 2, (0, 1, 2)),
        ([0.90, 0.90], [(1, 1), (1, 1)], 0, 0, (0, 1)),
        ([0.89, 0.90], [(2, 1), (2, 3)], 1, 0, (0, 1)),
    ],
    ids=["outside", "edge", "best is simplest", "tie by mean", "tie by place", "second cost"],
)
def test_the_simplest_within_one_standard_error_is_chosen(means, costs, best, chosen, within):
    found = one_standard_error([of_mean(mean) for mean in means], costs, "maximize")

    assert (found.best, found.chosen, found.within) == (best, chosen, within)


def test_the_rule_agrees_with_a_search_over_all():
    rng = np.random.default_rng(3)
    for _ in range(200):
        spreads = [spread(rng.normal(0.5, 0.1, 4).tolist(), 0.3) for _ in range(5)]
        costs = [tuple(map(float, rng.integers(0, 3, 2))) for _ in range(5)]
        best = min(spreads, key=lambda one: one.mean)
        near = [i for i, one in enumerate(spreads) if one.mean <= best.mean + best.error]
        cheapest = min(costs[i] for i in near)
        expected = min((spreads[i].mean, i) for i in near if costs[i] == cheapest)[1]

        assert one_standard_error(spreads, costs, "minimize").chosen == expected


def test_without_variation_only_equal_means_are_within():
    spreads = [of_mean(0.9, 0.0), of_mean(0.9 - 1e-9, 0.0), of_mean(0.9, 0.0)]

    assert one_standard_error(spreads, [(3, 0), (1, 0), (2, 0)], "maximize").within == (0, 2)


@pytest.mark.parametrize(
    ("spreads", "costs"),
    [([], []), ([of_mean(0.9)], []), ([spread([0.9], 0.2)], [(1, 1)])],
    ids=["none", "no cost", "one replicate"],
)
def test_the_rule_refuses_what_it_cannot_judge(spreads, costs):
    with pytest.raises(StudyError, match="two replicates or more"):
        one_standard_error(spreads, costs, "maximize")


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [(0.9, "maximize", True), (0.89, "maximize", False), (0.91, "minimize", False)],
)
def test_a_limit_is_reached_in_its_direction(value, direction, expected):
    assert reaches(value, 0.9, direction) is expected
