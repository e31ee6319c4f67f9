"""The reliability diagram shows the bins as they are, before and after a temperature."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from figures import HAM, LONG, MANY, TWO, assert_nothing_is_cut_off_or_covered, drawn_table, texts
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import calibration, plots, predictions
from histo_mlflow.evaluation.bootstrap import draws, expanded_tail
from histo_mlflow.evaluation.probabilities import probabilities


def of_test_rows(classes, temperature: float = 1.0):
    """True classes and probabilities of the test rows."""
    rows = predictions.of_split(drawn_table(classes), "test")
    logits, output = predictions.logits_of(rows), predictions.output_of(rows)
    return predictions.targets_of(rows), probabilities(logits / temperature, output)


def points(axes):
    """The line that is not the diagonal."""
    return axes.get_lines()[1].get_xydata()


@pytest.mark.parametrize("temperature", [None, 2.0])
@pytest.mark.parametrize("classes", [LONG[:2], MANY], ids=["two", "many"])
def test_labels_neither_overlap_nor_leave_the_figure(classes, temperature) -> None:
    fig = plots.reliability(drawn_table(classes, 600), classes, temperature=temperature)
    assert_nothing_is_cut_off_or_covered(fig)


@pytest.mark.parametrize("n", [1, 6])
def test_tiny_tables_are_drawn_and_legible(n: int) -> None:
    table = predictions.of_split(drawn_table(HAM), "test").head(n)
    assert_nothing_is_cut_off_or_covered(plots.reliability(table, HAM, temperature=2.0))


def test_before_and_after_stand_side_by_side_with_their_numbers_and_bins() -> None:
    fig = plots.reliability(drawn_table(HAM), HAM, temperature=2.0)

    before, histogram, after, _ = fig.axes
    assert [axes.get_title(loc="left") for axes in (before, after)] == [
        "As the model is", "At temperature 2"
    ]  # fmt: skip
    for axes, temperature in ((before, 1.0), (after, 2.0)):
        truth, probs = of_test_rows(HAM, temperature)
        brier = ((probs - np.eye(7)[truth]) ** 2).sum(axis=1).mean()
        assert axes.texts[0].get_text() == (
            f"ECE {calibration.ece(truth, probs):.3f} · log loss {log_loss(truth, probs):.3f} nats "
            f"· Brier {brier:.3f}"
        )
        bins = calibration.reliability(truth, probs)
        there = bins.rows > 0
        np.testing.assert_allclose(points(axes)[:, 0], bins.confidence[there])
        np.testing.assert_allclose(points(axes)[:, 1], bins.accuracy[there])
        np.testing.assert_array_equal(axes.get_lines()[0].get_xydata(), [[0, 0], [1, 1]])
    bins = calibration.reliability(*of_test_rows(HAM))
    assert [bar.get_height() for bar in histogram.patches] == list(bins.rows[bins.rows > 0])
    assert sum(bar.get_height() for bar in histogram.patches) == 180


def test_empty_bins_are_not_drawn() -> None:
    table = predictions.of_split(drawn_table(TWO), "test").head(3)

    above, below = plots.reliability(table, TWO, temperature=None).axes

    filled = int((calibration.reliability(*(v[:3] for v in of_test_rows(TWO))).rows > 0).sum())
    assert len(points(above)) == len(below.patches) == filled <= 3


def test_without_a_temperature_only_the_model_as_it_is_is_drawn_and_that_is_said() -> None:
    fig = plots.reliability(drawn_table(TWO), TWO, temperature=None)

    assert len(fig.axes) == 2
    assert (
        "test: 180 images in 90 groups · no temperature could be fitted · "
        "95 % intervals, groups resampled" in texts(fig)
    )


def test_intervals_are_those_of_a_loop_over_draws_of_groups() -> None:
    table = drawn_table(HAM)
    rows = predictions.of_split(table, "test")
    truth, probs = of_test_rows(HAM)
    right, bins = probs.argmax(axis=1) == truth, calibration.calibration_bins(truth, probs)[0]
    drawn_from = draws(rows["group"], len(rows))
    fullest = int(np.bincount(bins).argmax())
    inside = bins == fullest
    shares = [
        np.average(right[inside], weights=weights[inside])
        for counts in drawn_from.chunks()
        for weights in counts[:, drawn_from.codes]
        if weights[inside].any()
    ]
    tail = expanded_tail(drawn_from.n_groups, 0.95)

    above = plots.reliability(table, HAM, temperature=None).axes[0]

    confidence = calibration.reliability(truth, probs).confidence[fullest]
    whiskers = {segment[0][0]: segment[:, 1] for segment in above.collections[0].get_segments()}
    np.testing.assert_allclose(
        whiskers[confidence], np.quantile(shares, [tail, 1 - tail]), atol=1e-9
    )


def test_one_group_has_no_intervals_and_claims_none() -> None:
    fig = plots.reliability(drawn_table(TWO).assign(group="g"), TWO, temperature=None)

    assert not fig.axes[0].collections[0].get_segments()
    assert not any("intervals" in text for text in texts(fig))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(DataError, match="temperature above 0"):
        plots.reliability(drawn_table(TWO), TWO, temperature=temperature)
