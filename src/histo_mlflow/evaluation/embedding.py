"""Features of images in two dimensions, for a person to look at: neighbours stay neighbours.

t-SNE (van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008) keeps who is near whom;
distances between clusters and their sizes mean nothing. What can be counted is counted in the
features themselves: `neighbour_agreement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import style

Floats = npt.NDArray[np.float64]

LEAST = 5
"""Fewer images have no neighbourhoods to keep."""
PERPLEXITY = 30.0
COMPONENTS = 50
MOST_CLASSES = 20
_MARKERS = ("o", "s", "^", "D", "v", "P")
_SEVEN = len(style.CLASS_COLOURS)


@dataclass(frozen=True)
class Agreement:
    """How often the nearest other image has the same label.

    Attributes:
        share: of the images that have a neighbour, in [0, 1]; None where there is none.
        chance: what labels given out at random would reach.
        by_class: share for each class, in class order; None for a class without such images.
        chance_by_class: likewise of labels given out at random.
        images: that were looked at.
    """

    share: float | None
    chance: float | None
    by_class: tuple[float | None, ...]
    chance_by_class: tuple[float | None, ...]
    images: int


def tsne(features: npt.NDArray[np.floating], *, seed: int) -> Floats:
    """Lay features out in a plane: principal components first (50 at most), then t-SNE.

    The same features and seed give the same points on the same machine. The perplexity is 30, and
    less for fewer than 91 rows: a third of the other rows.

    Args:
        features: (n, D), finite.
        seed: of scikit-learn's generator.

    Returns:
        float64 (n, 2).

    Raises:
        DataError: fewer than 5 rows, not two-dimensional, NaN or infinity, or rows that are all
            equal.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < LEAST or rows.shape[1] < 1:
        raise DataError(
            f"Expected features of at least {LEAST} images for a t-SNE, got shape {rows.shape}."
        )
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise DataError(
            f"Expected finite features, got NaN or infinity for {style.count(bad, 'image')}."
        )
    if (rows == rows[0]).all():
        raise DataError(
            f"Expected features that differ, got {len(rows):,} equal rows: there is nothing to "
            "spread out."
        )
    # In units of the features' own spread: t-SNE's first layout must not hang on their scale.
    rows = (rows - rows.mean(axis=0)) / rows.std()
    reduced = PCA(min(COMPONENTS, *rows.shape), random_state=seed).fit_transform(rows)
    if reduced.shape[1] == 1:  # t-SNE begins from two components
        reduced = np.column_stack([reduced, np.zeros(len(reduced))])
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    laid = TSNE(
        perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed
    ).fit_transform(reduced)
    return np.asarray(laid, dtype=np.float64)


def neighbour_agreement(
    features: npt.NDArray[np.floating],
    labels: Sequence[str],
    groups: Sequence[str],
    classes: Sequence[str],
    *,
    looked_at: int = 50,
) -> Agreement:
    """How often the nearest image of another group has the same label.

    Counted in the features, not in the picture. Images of the same group (lesion, slide) do not
    count, since they show the same thing.

    Args:
        features: (n, D), finite.
        labels: class of each.
        groups: group of each.
        classes: in their order.
        looked_at: neighbours searched for one of another group; an image with none among them is
            left out.
    """
    truth = _indices(labels, classes)
    members = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    n = len(truth)
    nearest = np.full(n, -1, dtype=np.int64)
    if n > 1:
        k = min(looked_at, n - 1)
        found = NearestNeighbors(n_neighbors=k).fit(np.asarray(features, dtype=np.float32))
        near = found.kneighbors(return_distance=False)
        other = members[near] != members[:, None]
        nearest = np.where(other.any(axis=1), near[np.arange(n), other.argmax(axis=1)], -1)
    has = nearest >= 0
    same = truth[has] == truth[nearest[has]]
    counts = np.bincount(truth, minlength=len(classes))
    return Agreement(
        share=float(same.mean()) if has.any() else None,
        chance=float((counts * (counts - 1)).sum() / (n * (n - 1))) if n > 1 else None,
        by_class=tuple(
            float(same[truth[has] == k].mean()) if (truth[has] == k).any() else None
            for k in range(len(classes))
        ),
        chance_by_class=tuple(
            float((m - 1) / (n - 1)) if n > 1 and m else None for m in counts.tolist()
        ),
        images=int(has.sum()),
    )


def embedding_figure(
    points: npt.NDArray[np.floating],
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    heading: str = "t-SNE of features",
    facts: str = "",
    wrong: npt.NDArray[np.bool_] | None = None,
) -> Figure:
    """Draw an embedding, coloured by class; small classes lie on top of large ones.

    Of more than 20 classes the largest 20 have colours of their own.

    Args:
        points: (n, 2), as `tsne` gives them.
        labels: class of each point.
        classes: all classes, in their order; those without points are not drawn.
        heading: the figure's title.
        facts: said below it, after the number of images.
        wrong: (n,), which images a model got wrong; they are ringed.

    Raises:
        DataError: no point, lengths that differ, or a label that is no class.
    """
    at = np.asarray(points, dtype=np.float64)
    if at.ndim != 2 or at.shape[1] != 2 or not len(at) or not np.isfinite(at).all():
        raise DataError(f"Expected finite points of shape (n, 2), n at least 1, got {at.shape}.")
    truth = _indices(labels, classes)
    if len(truth) != len(at) or (wrong is not None and np.shape(wrong) != (len(at),)):
        raise DataError(f"Expected a label (and a mark, if any) for each of {len(at)} points.")
    told = " · ".join(filter(None, [style.count(len(at), "image"), facts]))
    with style.styled():
        fig = style.figure(8.4, 6.2, heading, style.fitted(told, 8.1 * style.DPI, 9.5))
        axes = fig.add_subplot()
        _scatter(axes, at, truth, classes)
        if wrong is not None:
            _ring(axes, at, np.asarray(wrong, dtype=bool))
        axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
        axes.margins(0.03)
        legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=0.9)
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([52])
    return fig


def _scatter(axes: Axes, at: Floats, truth: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    counts = np.bincount(truth, minlength=len(classes))
    largest = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    rest = ~np.isin(truth, largest)
    area = float(np.clip(34_000 / len(at), 10, 50))
    shared: dict[str, Any] = {"s": area, "linewidths": 0.35, "edgecolors": "white"}
    if rest.any():
        left = int((np.delete(counts, largest) > 0).sum())
        label = f"{style.count(left, 'other class', 'other classes')}\nn = {int(rest.sum()):,}"
        axes.scatter(at[rest, 0], at[rest, 1], color=style.FAINT, label=label, zorder=1.0, **shared)
    # Rank by size: the rarest is drawn last.
    rank = {int(k): place for place, k in enumerate(largest)}
    for k in sorted(rank):
        if not counts[k]:
            continue
        axes.scatter(
            at[truth == k, 0],
            at[truth == k, 1],
            color=style.CLASS_COLOURS[k % _SEVEN],
            marker=next(islice(cycle(_MARKERS), k // _SEVEN, None)),
            alpha=0.85,
            label=f"{style.shorten(classes[k], 24)}\nn = {counts[k]:,}",
            zorder=2 + rank[k] / len(classes),
            **shared,
        )


def _ring(axes: Axes, at: Floats, wrong: npt.NDArray[np.bool_]) -> None:
    label = f"predicted wrongly\nn = {int(wrong.sum()):,} of {len(wrong):,}"
    axes.scatter(
        at[wrong, 0],
        at[wrong, 1],
        s=float(np.clip(34_000 / len(at), 10, 50)) * 2.6,
        facecolors="none",
        edgecolors=style.INK,
        linewidths=0.9,
        label=label,
        zorder=4,
    )


def _indices(labels: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    known = {name: k for k, name in enumerate(classes)}
    unknown = sorted({str(label) for label in labels} - set(known))
    if unknown:
        raise DataError(
            f"Expected labels among the {len(classes)} classes, got {', '.join(unknown[:5])}."
        )
    return np.array([known[str(label)] for label in labels], dtype=np.int64)
