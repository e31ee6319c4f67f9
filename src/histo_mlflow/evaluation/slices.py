"""For whom is a model worse? One number a slice, with intervals that allow for looking at many.

A slice is the rows with one value of a column (a localization, a sex, a slide) or one bin of a
number (age). Each is compared with all other rows. Looked at one by one, one slice in twenty would
seem worse by chance; the intervals here hold for all slices at once: the bootstrap's draws give the
joint distribution of all differences, and its largest standardised one sets the width (max-t;
Westfall and Young 1993, Romano and Wolf 2005, doi 10.1198/016214504000000539).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.bootstrap import LEVEL, Draws, Floats
from histo_mlflow.evaluation.calibration import squared_errors
from histo_mlflow.evaluation.probabilities import Output, log_probabilities, probabilities
from histo_mlflow.evaluation.rows import Indices

UNKNOWN = "unknown"
BINS = 4
LEAST_ROWS = 10
MOST_VALUES = 100

Better = Literal["higher", "lower"]
SliceMetric = Literal["accuracy", "log_loss", "brier"]
BETTER: Mapping[SliceMetric, Better] = {"accuracy": "higher", "log_loss": "lower", "brier": "lower"}


def quality(metric: SliceMetric, truth: Indices, logits: npt.ArrayLike, output: Output) -> Floats:
    """What the metric is the mean of, (n,): right or not, the loss in nats, the squared error.

    Args:
        metric: whose parts.
        truth: (n,) class indices.
        logits: (n, K), or (n, 1) for a sigmoid.
        output: how logits become probabilities.
    """
    if metric == "log_loss":
        return np.asarray(-log_probabilities(logits, output)[np.arange(len(truth)), truth])
    probs = probabilities(logits, output)
    if metric == "brier":
        return squared_errors(truth, probs)
    return np.asarray(probs.argmax(axis=1) == truth, dtype=np.float64)


def sliced(values: pd.Series, *, bins: int = BINS) -> pd.Series:
    """Name the slice of each row: the value itself, or for numbers the quantile bin.

    Of dates it is the year.

    Numbers with at most 2 x bins different values are taken as they are; blanks are "unknown".
    """
    blank = values.isna() | (values.astype("str").str.strip() == "")
    if pd.api.types.is_datetime64_any_dtype(values):
        values = values.dt.strftime("%Y")
    numbers = pd.to_numeric(values.where(~blank), errors="coerce")
    numbers = numbers.replace([np.inf, -np.inf], [np.finfo(float).max, np.finfo(float).min])
    if numbers[~blank].notna().all() and numbers.nunique() > 2 * bins:
        cut = pd.qcut(numbers, bins, labels=False, duplicates="drop")
        ends = numbers.groupby(cut).agg(["min", "max"])
        names = {k: f"{low:.10g} to {high:.10g}" for k, (low, high) in ends.iterrows()}
        return cut.map(names).astype("str").where(~blank, UNKNOWN)
    return values.astype("str").where(~blank, UNKNOWN)


def compare_slices(
    quality: Floats,
    columns: Mapping[str, Sequence[str]],
    drawn_from: Draws,
    *,
    better: Better = "higher",
    level: float = LEVEL,
    least: int = LEAST_ROWS,
) -> pd.DataFrame:
    """Compare the mean of a per-row quality in each slice with that of all other rows.

    Args:
        quality: (n,) such as right (0 or 1), or each row's log loss.
        columns: column name -> n names of slices.
        drawn_from: the draws of groups.
        better: which way is better.
        level: how often all intervals should cover at once.
        least: slices with fewer rows, or all rows, are named in no row of the result.

    Returns:
        One row a slice, the most surely worst first: `column`, `slice`, `rows`, `groups`, `value`,
        `rest`, `difference`, `low`, `high` (simultaneous interval of the difference), `p` (adjusted
        for all looks), `worse` (whether the interval lies on the worse side of 0).

    Raises:
        DataError: lengths differ.
    """
    found = _looks(columns, drawn_from, len(quality), least)
    if not found:
        return pd.DataFrame(columns=_COLUMNS)
    summed, m = _summed(np.stack([mask for _, mask in found]), quality, drawn_from), len(found)
    inside, outside, observed = (part[0] for part in _differences(summed.sum(axis=0)[None], m))
    drawn = np.concatenate(
        [_differences(np.asarray(counts @ summed), m)[2] for counts in drawn_from.chunks()]
    )
    table = pd.DataFrame([facts for facts, _ in found])
    own = np.nanstd(drawn, axis=0, ddof=1)
    spread = np.fmax(own, _under_no_difference(summed, m))
    # A slice of one group, or all right, hardly differs from draw to draw and tells nothing of how
    # far it may lie: those are counted as independent looks.
    varies = (own > 0) & (table["groups"].to_numpy() > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = np.abs(drawn - np.nanmean(drawn, axis=0)) / own
        seen = np.where(spread > 0, np.abs(observed) / spread, 0.0)
    largest = np.where(np.isfinite(standard) & varies, standard, 0.0).max(axis=1)
    lone = int((~varies).sum())
    width = max(float(np.quantile(largest, level)), _independent_width(lone, level))
    table["value"], table["rest"], table["difference"] = inside, outside, observed
    table["low"], table["high"] = observed - width * spread, observed + width * spread
    by_draws = [(1 + (largest >= one).sum()) / (1 + len(largest)) for one in seen]
    by_looks = -np.expm1(lone * np.log1p(-2 * stats.norm.sf(seen) * (1 - 1e-15)))
    table["p"] = np.maximum(by_draws, by_looks)
    surely = (1.0 if better == "higher" else -1.0) * observed + width * spread
    table["worse"] = (surely < 0) & (spread > 0)
    return table.iloc[np.argsort(surely, kind="stable")].reset_index(drop=True)


def _looks(
    columns: Mapping[str, Sequence[str]], drawn_from: Draws, n: int, least: int
) -> list[tuple[dict[str, object], npt.NDArray[np.bool_]]]:
    """What is known of each slice with enough rows in and out of it, and its rows, (n,)."""
    found = []
    for column, names in columns.items():
        if len(names) != n:
            raise DataError(f"Expected {n:,} values of {column!r}, one a row, got {len(names):,}.")
        array = np.asarray(names, dtype=object)
        for value, count in pd.Series(array).value_counts().items():
            mask = array == value
            if least <= count <= n - least:
                groups = len(np.unique(drawn_from.codes[mask]))
                facts = {"column": column, "slice": value, "rows": int(count), "groups": groups}
                found.append((facts, mask))
    return found


def _summed(masks: npt.NDArray[np.bool_], quality: Floats, drawn_from: Draws) -> Floats:
    """Sums over the rows of each group, (n_groups, 2 m + 3): rows and quality in each of m slices,
    then rows, quality and its square of all.
    """
    codes, n = drawn_from.codes, drawn_from.n_groups
    sums = [
        *(np.bincount(codes[mask], minlength=n) for mask in masks),
        *(np.bincount(codes[mask], weights=quality[mask], minlength=n) for mask in masks),
        np.bincount(codes, minlength=n),
        *(np.bincount(codes, weights=one, minlength=n) for one in (quality, quality**2)),
    ]
    return np.stack(sums, axis=1).astype(np.float64)


_COLUMNS = [
    "column",
    "slice",
    "rows",
    "groups",
    "value",
    "rest",
    "difference",
    "low",
    "high",
    "p",
    "worse",
]


def _independent_width(looks: int, level: float) -> float:
    """How many standard errors cover all of so many independent looks (Sidak 1967)."""
    return float(stats.norm.ppf((1 + level ** (1 / looks)) / 2)) if looks else 0.0


def _under_no_difference(summed: Floats, m: int) -> Floats:
    """Standard error of each difference if all rows came from one distribution, (m,).

    In a small slice where by chance every row is right the draws never differ and tell nothing; the
    spread of all rows does. Rows of a group depend on each other: their intraclass correlation, by
    analysis of variance, makes the variance of a mean larger (Donner and Klar 2000, section 1.2).
    """
    sizes, totals = summed[:, 2 * m], summed[:, 2 * m + 1]
    n, squares = sizes.sum(), (summed[:, 2 * m + 2]).sum()
    mean = totals.sum() / n
    variance = max(squares / n - mean**2, 0.0)
    # sum over pairs of different rows of one group of their residuals' product
    residual = totals - sizes * mean
    within = summed[:, 2 * m + 2] - 2 * mean * totals + sizes * mean**2
    pairs = (sizes * (sizes - 1)).sum()
    shared = (residual**2 - within).sum() / pairs if pairs else 0.0
    alike = float(np.clip(shared / variance, 0, 1)) if variance else 0.0
    inside = summed[:, :m]
    rows = inside.sum(axis=0)
    rest = sizes[:, None] - inside
    errors = np.zeros(m)
    for part, count in ((inside, rows), (rest, n - rows)):
        other_pairs = (part * (part - 1)).sum(axis=0)
        errors += variance * (count + alike * other_pairs) / count**2
    return np.asarray(np.sqrt(errors))


def _differences(drawn: Floats, m: int) -> tuple[Floats, Floats, Floats]:
    """Mean inside, mean outside, their difference: (b, m) each; NaN where a draw lacks either."""
    rows, total = drawn[:, :m], drawn[:, m : 2 * m]
    all_rows, all_total = drawn[:, 2 * m, None], drawn[:, 2 * m + 1, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        inside, outside = total / rows, (all_total - total) / (all_rows - rows)
    return inside, outside, inside - outside
