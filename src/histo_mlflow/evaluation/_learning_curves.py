"""The learning curves of a run, drawn from its history."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.style import count

Record = Mapping[str, float]

_PANELS = (  # title, axis label, keys of an epoch's record, factor
    ("Loss", "loss (nats)", ("train/loss", "val/loss"), 1.0),
    ("ROC AUC", "AUC", ("train/auc", "val/auc"), 1.0),
    (
        "Balanced accuracy",
        "balanced accuracy (%)",
        ("train/balanced_accuracy", "val/balanced_accuracy"),
        100.0,
    ),
    ("Accuracy", "accuracy (%)", ("train/accuracy", "val/accuracy"), 100.0),
    ("Learning rate", "learning rate", ("lr",), 1.0),
    ("Speed", "training images per second", ("images_per_second",), 1.0),
)
_MONITORS = (("val/auc", max), ("val/loss", min))


def learning_curves(history: Sequence[Record], *, best_epoch: int | None = None) -> Figure:
    """Draw loss, AUC, accuracies, learning rate and speed over the epochs.

    Args:
        history: one record an epoch with `epoch` and any of `seconds`, `images_per_second`, `lr`,
            `train/loss`, `val/loss`, and `auc`, `accuracy`, `balanced_accuracy` likewise. A value
            that is missing or NaN is a gap; a panel without any value is left out.
        best_epoch: the epoch to mark. By default that of the highest `val/auc`, or without any,
            of the lowest `val/loss`; the first of them on a tie.

    Raises:
        DataError: no record, or a best epoch that is not among them.
    """
    if not history:
        raise DataError("Expected at least one epoch to draw learning curves of, got none.")
    epochs = np.array([record["epoch"] for record in history], dtype=np.float64)
    best, why = (best_epoch, "") if best_epoch is not None else _best(history)
    if best is not None and best not in epochs:
        raise DataError(f"Expected a best epoch from the history ({epochs}), got {best}.")
    panels = [panel for panel in _PANELS if any(_has(history, key) for key in panel[2])]
    columns = min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    facts = [count(len(history), "epoch")]
    if _has(history, "seconds"):
        facts.append(_duration(float(np.nansum(_series(history, "seconds")))))
    if best is not None:
        facts.append(f"best epoch {best}{why}: dotted line")
    with style.styled():
        fig = style.figure(
            max(3.7 * columns, 6.0), 2.75 * rows, "Learning curves", " · ".join(facts)
        )
        for i, panel in enumerate(panels):
            _curve_panel(fig.add_subplot(rows, columns, i + 1), history, epochs, best, panel)
    return fig


def _curve_panel(
    axes: Axes,
    history: Sequence[Record],
    epochs: npt.NDArray[np.float64],
    best: float | None,
    panel: tuple[str, str, tuple[str, ...], float],
) -> None:
    title, label, keys, factor = panel
    marker = "o" if len(epochs) <= 30 else ""
    if best is not None:
        axes.axvline(best, color=style.GREY, lw=1.2, ls=":", zorder=1)
    for key in keys:
        if not _has(history, key):
            continue
        split = key.split("/", maxsplit=1)[0] if "/" in key else ""
        values = factor * _series(history, key)
        line: dict[str, Any] = {"color": style.SPLIT_COLOURS.get(split, style.INK)}
        axes.plot(
            epochs,
            values,
            marker=marker,
            ls="--" if split == "train" else "-",
            label=split,
            **line,
        )
        if split == "val" and best is not None:
            axes.plot([best], values[epochs == best], "o", ms=8, mfc="none", mew=1.6, **line)
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set_xticks(epochs)
    if len(keys) == 1:
        axes.set_ylim(0, 1.08 * float(np.nanmax(_series(history, keys[0]))) or 1.0)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    else:
        axes.legend()
    style.grid(axes)


def _best(history: Sequence[Record]) -> tuple[float | None, str]:
    for key, choose in _MONITORS:
        known = [r for r in history if key in r and math.isfinite(r[key])]
        if known:
            found = choose(known, key=lambda record: record[key])
            name = key.replace("val/auc", "val AUC").replace("val/loss", "val loss")
            return found["epoch"], f" ({name} {found[key]:.3f})"
    return None, ""


def _has(history: Sequence[Record], key: str) -> bool:
    return bool(np.isfinite(_series(history, key)).any())


def _series(history: Sequence[Record], key: str) -> npt.NDArray[np.float64]:
    return np.array([record.get(key, math.nan) for record in history], dtype=np.float64)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
