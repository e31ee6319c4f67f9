"""The reliability diagram: does a confidence of 0.8 mean that 80 % are right?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from histo_mlflow.evaluation import metrics, predictions, style
from histo_mlflow.evaluation._drawing import figure, rows_of, told
from histo_mlflow.evaluation.bootstrap import (
    LEAST_DEFINED,
    LEVEL,
    Draws,
    Floats,
    draws,
    expanded_tail,
)
from histo_mlflow.evaluation.calibration import (
    BINS,
    at_temperature,
    brier,
    calibration_bins,
    ece,
)
from histo_mlflow.evaluation.calibration import reliability as binned
from histo_mlflow.evaluation.probabilities import Output, probabilities
from histo_mlflow.evaluation.rows import Indices

_WIDTH = 4.4  # inches, of a diagram


def reliability(
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    split: str = "test",
    temperature: float | None,
) -> Figure:
    """Draw accuracy over confidence as the model is and, beside it, at a temperature.

    Confidence is the largest probability, in 15 bins of equal width; a bin's point stands at its
    mean confidence, with a 95 % interval over groups drawn anew. Below it the number of images a
    bin; empty bins are not drawn.

    Args:
        table: a predictions table.
        classes: its classes, in its order.
        split: whose rows are drawn.
        temperature: what the logits are divided by, fitted on other rows; None if none could be
            fitted, which is then said.

    Raises:
        DataError: no rows of that split, other classes than the table's, or a temperature that is
            not a finite number above 0.
    """
    rows = rows_of(table, classes, split)
    logits, output = predictions.logits_of(rows), predictions.output_of(rows)
    sides = [("As the model is", logits)]
    facts = [told(rows, split)]
    if temperature is None:
        facts.append("no temperature could be fitted")
    else:
        sides.append((f"At temperature {temperature:.3g}", at_temperature(logits, temperature)))
    truth = predictions.targets_of(rows)
    drawn_from = draws(rows["group"], len(rows))
    if drawn_from.n_groups > 1:
        facts.append("95 % intervals, groups resampled")
    probs = [probabilities(values, output) for _, values in sides]
    most = max(int(binned(truth, one).rows.max()) for one in probs)
    with style.styled():
        fig = figure(
            _WIDTH * len(sides), 4.9, "Reliability of the probabilities", " · ".join(facts)
        )
        grid = fig.add_gridspec(2, len(sides), height_ratios=(3.2, 1))
        for i, (title, values) in enumerate(sides):
            above = fig.add_subplot(grid[0, i])
            below = fig.add_subplot(grid[1, i], sharex=above)
            above.set_title(title, pad=21)
            said = _numbers(truth, values, output)
            above.text(0, 1.03, said, transform=above.transAxes, color=style.GREY)
            _diagram(above, truth, probs[i], drawn_from)
            _histogram(below, truth, probs[i])
            below.set(ylim=(0, 1.25 * most))
            # no probability is the largest below 1 / K; the bin that holds it begins here
            start = np.floor(BINS / len(classes)) / BINS
            above.set(xlim=(start - 0.01, 1.01), ylim=(-0.02, 1.04))
            if i == 0:
                above.set_ylabel("share of right predictions")
                below.set_ylabel("images")
    return fig


def _numbers(truth: Indices, logits: Floats, output: Output) -> str:
    probs = probabilities(logits, output)
    loss = metrics.log_loss(truth, logits, output)
    return (
        f"ECE {ece(truth, probs):.3f} · log loss {loss:.3f} nats · Brier {brier(truth, probs):.3f}"
    )


def _diagram(axes: Axes, truth: Indices, probs: Floats, drawn_from: Draws) -> None:
    found = binned(truth, probs)
    there = found.rows > 0
    x, y = found.confidence[there], found.accuracy[there]
    low, high = (edge[there] for edge in _accuracy_intervals(truth, probs, drawn_from))
    axes.plot([0, 1], [0, 1], color=style.GREY, lw=1, ls=(0, (2, 3)))
    known = np.isfinite(low)
    axes.vlines(x[known], low[known], high[known], color=style.BLUE, lw=1.2, alpha=0.6)
    axes.plot(x, y, "-o", color=style.BLUE, lw=1.2, ms=5)
    axes.tick_params(labelbottom=False)
    style.grid(axes)


def _histogram(axes: Axes, truth: Indices, probs: Floats) -> None:
    found = binned(truth, probs)
    there = found.rows > 0
    edges, rows = found.edges, found.rows[there]
    bars = axes.bar(edges[:-1][there], rows, np.diff(edges)[there], align="edge", color=style.SKY)
    axes.bar_label(bars, [f"{n:,}" for n in rows], size=6.5, color=style.GREY, padding=1)
    axes.set_xlabel("confidence (largest probability)")
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _accuracy_intervals(truth: Indices, probs: Floats, drawn_from: Draws) -> tuple[Floats, Floats]:
    """Interval of each bin's accuracy; NaN where too few draws have a row in it, or one group."""
    bins, _ = calibration_bins(truth, probs)
    right = probs.argmax(axis=1) == truth
    cell = drawn_from.codes * BINS + bins
    size = drawn_from.n_groups * BINS
    sums = [
        np.bincount(cell, weights=weights, minlength=size).reshape(drawn_from.n_groups, BINS)
        for weights in (right.astype(np.float64), np.ones(len(right)))
    ]
    with np.errstate(invalid="ignore"):
        shares = np.concatenate(
            [(counts @ sums[0]) / (counts @ sums[1]) for counts in drawn_from.chunks()]
        )
    low, high = np.full(BINS, np.nan), np.full(BINS, np.nan)
    if drawn_from.n_groups < 2:
        return low, high
    tail = expanded_tail(drawn_from.n_groups, LEVEL)
    for k in range(BINS):
        known = shares[np.isfinite(shares[:, k]), k]
        if len(known) >= LEAST_DEFINED * len(shares):
            low[k], high[k] = np.quantile(known, [tail, 1 - tail])
    return low, high
