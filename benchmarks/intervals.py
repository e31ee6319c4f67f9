"""Do 95 % intervals cover 95 % of the time, and how fast are they?

Coverage: clustered data are drawn again and again from a world whose truth is known (from a sample
of 400,000 groups); counted is how often the interval holds the truth, by group and naively. All of
it is synthetic.

Speed: the replicates of the macro AUC of seven classes, all draws at once, against scikit-learn
called for every draw.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from _timing import machine
from histo_mlflow.evaluation.bootstrap import Draws, draws, interval
from histo_mlflow.evaluation.delong import auc_interval
from histo_mlflow.evaluation.measured import sample_of
from histo_mlflow.evaluation.predictions import predictions_table
from histo_mlflow.evaluation.replicates import rank, ranking

METRICS = ("auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "log_loss", "brier")
GROUPED = 400_000


def world(
    rng: np.random.Generator, groups: int, per_group: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Images of slides: label and logit share a part with the others of their slide.

    A third of the slides hold tumour; most images of such a slide show it. What makes a slide look
    suspicious (stain, scanner) moves the logit of all its images.
    """
    sizes = rng.poisson(per_group - 1, groups) + 1
    slide = np.repeat(np.arange(groups), sizes)
    ill = rng.random(groups) < 1 / 3
    label = (rng.random(len(slide)) < np.where(ill, 0.8, 0.05)[slide]).astype(np.int64)
    shift = rng.normal(0, 1, groups)[slide]
    logit = 2.4 * label - 1.2 + shift + rng.normal(0, 1, len(slide))
    return slide, label, logit


def coverage(repetitions: int, groups: int, per_group: int, replicates: int) -> None:
    """Print how often each interval holds the truth."""
    slide, label, logit = world(np.random.default_rng(1), GROUPED, per_group)
    truth = _whole(slide, label, logit)
    print(f"\ncoverage of 95 % intervals, synthetic: {groups} groups of about {per_group} images, "
          f"{repetitions} repetitions, {replicates} replicates")  # fmt: skip
    held = {(name, kind): 0 for name in METRICS for kind in ("group", "naive")}
    held |= {("auc", "DeLong by group"): 0, ("auc", "DeLong naive"): 0}
    for repetition in range(repetitions):
        rng = np.random.default_rng([2, repetition])
        slide, label, logit = world(rng, groups, per_group)
        for kind, of in (("group", slide), ("naive", None)):
            drawn = draws(of, len(slide), replicates=replicates, seed=repetition)
            value, effective, replicated = _replicates(slide, label, logit, drawn)
            for name in METRICS:
                found = interval(
                    value[name], replicated[name], drawn.n_groups, effective=effective[name]
                )
                held[name, kind] += _holds(found.low, found.high, truth[name])
            closed = auc_interval(label == 1, logit, of)
            held["auc", f"DeLong {'by group' if of is not None else 'naive'}"] += _holds(
                closed.low, closed.high, truth["auc"]
            )
    print("| metric | truth | by group | naive |\n|---|---|---|---|")
    for name in METRICS:
        shares = [100 * held[name, kind] / repetitions for kind in ("group", "naive")]
        print(f"| {name} | {truth[name]:.4f} | {shares[0]:.1f} % | {shares[1]:.1f} % |")
    shares = [100 * held["auc", f"DeLong {kind}"] / repetitions for kind in ("by group", "naive")]
    print(f"| auc, DeLong | {truth['auc']:.4f} | {shares[0]:.1f} % | {shares[1]:.1f} % |")


def _holds(low: float | None, high: float | None, truth: float) -> int:
    """An interval that is not given holds nothing."""
    return int(low is not None and high is not None and low <= truth <= high)


def _table(
    slide: npt.NDArray[np.int64], label: npt.NDArray[np.int64], logit: npt.NDArray[np.float64]
) -> object:
    n = len(slide)
    ids = [str(i) for i in range(n)]
    groups = [str(g) for g in slide]
    return predictions_table(
        ids, groups, ["test"] * n, label, logit[:, None], ("normal", "tumour"), "sigmoid"
    )


def _whole(
    slide: npt.NDArray[np.int64], label: npt.NDArray[np.int64], logit: npt.NDArray[np.float64]
) -> dict[str, float]:
    rows = _table(slide, label, logit)
    found = sample_of(rows, draws(slide, len(slide), replicates=1)).whole()  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if value is not None}


def _replicates(
    slide: npt.NDArray[np.int64],
    label: npt.NDArray[np.int64],
    logit: npt.NDArray[np.float64],
    drawn: Draws,
) -> tuple[dict[str, float | None], dict[str, float], dict[str, npt.NDArray[np.float64]]]:
    prepared = sample_of(_table(slide, label, logit), drawn)  # type: ignore[arg-type]
    parts = [prepared.of(counts) for counts in drawn.chunks()]
    return (
        prepared.whole(),
        prepared.effective_groups(),
        {name: np.concatenate([part[name] for part in parts]) for name in METRICS},
    )


def speed(rows: int, groups: int, replicates: int, looped: int) -> None:
    """Print the time of all replicates, and that of as many calls of scikit-learn."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 7, rows)
    scores = rng.normal(size=(rows, 7))
    scores[np.arange(rows), truth] += 1.5
    codes = rng.integers(0, groups, rows)
    print(f"\nmacro AUC of 7 classes, {rows:,} synthetic predictions in {groups:,} groups, "
          f"{replicates:,} replicates")  # fmt: skip
    started = perf_counter()
    drawn = draws(codes, rows, replicates=replicates)
    ranked = [rank(truth == k, scores[:, k], drawn.codes) for k in range(7)]
    ours = np.concatenate(
        [np.mean([ranking(one, c)["auc"] for one in ranked], axis=0) for c in drawn.chunks()]
    )
    taken = perf_counter() - started
    counts = np.concatenate(list(drawn.chunks()))[:looped]
    started = perf_counter()
    theirs = [
        np.mean(
            [
                roc_auc_score(truth == k, scores[:, k], sample_weight=one[drawn.codes])
                for k in range(7)
            ]
        )
        for one in counts
    ]
    per_draw = (perf_counter() - started) / looped
    print(f"all at once {taken:.1f} s (with average precision and two operating points); "
          f"scikit-learn {per_draw * 1000:.0f} ms a draw (mean of {looped}), so "
          f"{per_draw * replicates:.0f} s; {per_draw * replicates / taken:.0f}x; "
          f"largest difference {np.abs(ours[:looped] - theirs).max():.1e}")  # fmt: skip


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--groups", type=int, nargs="+", default=[22, 60])
    parser.add_argument("--per-group", type=int, default=20)
    parser.add_argument("--looped", type=int, default=40)
    wanted = parser.parse_args()
    print(machine())
    for groups in wanted.groups:
        coverage(wanted.repetitions, groups, wanted.per_group, wanted.replicates)
    speed(50_000, 7_000, 2_000, wanted.looped)


if __name__ == "__main__":
    main()
