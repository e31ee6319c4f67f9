"""Figures of a data set before anything is trained: balance, groups, sizes, intensities.

Each says its n; what is drawn comes from `data.overview`. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from histo_mlflow.data.overview import Intensities
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.style import count

MOST_BARS = 40
_CHANNELS = (("red", "#c0392b"), ("green", "#2e8b57"), ("blue", "#2f6db5"))
_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")


def class_balance(table: pd.DataFrame, *, group_kind: str, facts: str = "") -> Figure:
    """Draw images and groups of each class as bars with their numbers.

    Of more than 40 classes the 40 largest are drawn.

    Args:
        table: as `overview.class_table` gives it, at least one class.
        group_kind: "lesion"; with "image" there are no groups to draw.
        facts: said below the heading.
    """
    _some(table, "class")
    shown = table if len(table) <= MOST_BARS else table.nlargest(MOST_BARS, "images")
    grouped = group_kind != "image"
    told = [
        f"{count(int(table['images'].sum()), 'image')}, {count(len(table), 'class', 'classes')}"
    ]
    if len(shown) < len(table):
        told.append(f"the {MOST_BARS} largest are drawn")
    names = [style.shorten(str(name), 28) for name in shown.index]
    height = max(1.6, 0.36 * len(shown) + 0.7)
    with style.styled():
        fig = style.figure(
            10.0 if grouped else 7.2,
            height,
            "Class balance",
            " · ".join([*told, facts]).rstrip(" ·"),
        )
        panels = fig.subplots(1, 2 if grouped else 1, sharey=True, squeeze=False)[0]
        labels = [
            f"{n:,}  ({100 * s:.1f} %)"
            for n, s in zip(shown["images"], shown["share"], strict=True)
        ]
        _bars(panels[0], shown["images"].to_numpy(), labels, "images", style.BLUE)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        if grouped:
            labels = [
                f"{g:,}" + (f"  ({m:.2f} images each)" if g else "")
                for g, m in zip(shown["groups"], shown["images_per_group"], strict=True)
            ]
            _bars(panels[1], shown["groups"].to_numpy(), labels, f"{group_kind}s", style.GREEN)
    return fig


def group_sizes(sizes: pd.Series, *, group_kind: str) -> Figure:
    """Draw how many groups have how many images.

    Args:
        sizes: as `overview.group_sizes` gives it.
        group_kind: "lesion".
    """
    _some(sizes, "group")
    groups = int(sizes.sum())
    images = int((sizes.index.to_numpy() * sizes.to_numpy()).sum())
    each = f"{images / groups:.2f} each on average"
    facts = f"{count(groups, group_kind)}, {count(images, 'image')}, {each}"
    with style.styled():
        fig = style.figure(7.2, 3.0, "Size of groups", facts)
        axes = fig.add_subplot()
        largest = int(sizes.index.max())
        if largest <= 30:
            at = sizes.index.to_numpy()
            drawn = axes.bar(at, sizes.to_numpy(), width=0.72, color=style.GREEN)
            axes.bar_label(drawn, [f"{n:,}" for n in sizes], fontsize=8, color=style.INK, padding=2)
            axes.set_xticks(at)
            axes.set_xlim(min(at.min() - 1, at.mean() - 3), max(at.max() + 1, at.mean() + 3))
        else:
            axes.hist(
                sizes.index.to_numpy(),
                bins=min(40, largest),
                weights=sizes.to_numpy(),
                color=style.GREEN,
            )
        if sizes.max() > 50 * max(1, sizes.min()):
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(_THOUSANDS)
        axes.margins(y=0.12)
        axes.set(xlabel=f"images of one {group_kind}", ylabel=f"{group_kind}s")
        style.grid(axes)
        axes.grid(visible=False, axis="x")
    return fig


def intensity_histograms(found: Intensities, *, image_px: int, of: int) -> Figure:
    """Draw the histogram of each channel, in one scale.

    Args:
        found: what was counted.
        image_px: side of the images that were counted.
        of: images of the whole data set.
    """
    facts = (
        f"{count(found.images, 'image')} of {of:,}, as the model is given them "
        f"({image_px} x {image_px} px)"
    )
    shares = 100 * found.counts / found.counts.sum(axis=1, keepdims=True)
    # One value (a white background, black corners) must not flatten all others.
    inner = shares[:, 1:255]
    top = 1.08 * float(max(inner.max(), min(shares.max(), 2 * inner.max()), 1e-9))
    with style.styled():
        fig = style.figure(10.0, 2.9, "Intensity of the pixels", facts)
        panels = fig.subplots(1, 3, sharey=True)
        for k, (axes, (name, colour)) in enumerate(zip(panels, _CHANNELS, strict=True)):
            axes.bar(np.arange(256), shares[k], width=1.0, color=colour, alpha=0.8)
            mean, deviation = found.mean[k], found.deviation[k]
            axes.axvline(mean, color=style.INK, lw=1.1, ls="--")
            axes.set_title(f"{name}   mean {mean:.1f}, SD {deviation:.1f}", fontsize=9.5)
            axes.set(xlim=(-1, 256), ylim=(0, top), xlabel="value (0-255)")
            axes.set_xticks([0, 64, 128, 192, 255])
            for value in (0, 255):
                if shares[k, value] > top:
                    axes.annotate(
                        f"{shares[k, value]:.1f} %",
                        (value, top * 0.97),
                        (14 if value == 0 else -14, 0),
                        textcoords="offset points",
                        ha="left" if value == 0 else "right",
                        va="top",
                        fontsize=8,
                        arrowprops={"arrowstyle": "->", "color": style.GREY, "lw": 0.8},
                    )
            style.grid(axes)
        panels[0].set_ylabel("share of the pixels (%)")
    return fig


def image_sizes(sizes: pd.DataFrame, *, image_px: int) -> Figure:
    """Draw the widths and heights of the files, the area of a point growing with their number.

    Args:
        sizes: as `overview.file_sizes` gives it.
        image_px: side of the model's square input, drawn for comparison.
    """
    _some(sizes, "size")
    images = int(sizes["images"].sum())
    facts = f"{count(images, 'image')} of {count(len(sizes), 'size')}"
    with style.styled():
        fig = style.figure(7.2, 4.4, "Size of the files", facts)
        axes = fig.add_subplot()
        width, height = sizes["width"].to_numpy(), sizes["height"].to_numpy()
        share = np.sqrt(sizes["images"].to_numpy() / images)
        axes.scatter(
            width, height, s=24 + 420 * share, color=style.BLUE, alpha=0.7, lw=0, label="files"
        )
        if len(sizes) <= 4:
            for x, y, n in zip(width, height, sizes["images"], strict=True):
                axes.annotate(
                    f"{x} x {y} px\n{count(n, 'image')}",
                    (x, y),
                    (0, -16),
                    textcoords="offset points",
                    ha="center",
                    va="top",
                    fontsize=8.5,
                )
        axes.scatter(
            [image_px],
            [image_px],
            marker="s",
            s=60,
            facecolors="none",
            edgecolors=style.RED,
            linewidths=1.6,
            label=f"what the model is given ({image_px} x {image_px} px)",
        )
        far = 1.15 * max(int(width.max()), int(height.max()), image_px)
        axes.plot([0, far], [0, far], color=style.FAINT, lw=1, zorder=0)
        axes.set(xlim=(0, far), ylim=(0, far), xlabel="width (px)", ylabel="height (px)")
        axes.set_aspect("equal")
        style.grid(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        for handle in axes.get_legend().legend_handles:  # type: ignore[union-attr]
            handle.set_sizes([50])  # type: ignore[union-attr]
    return fig


def _bars(axes: Axes, values: np.ndarray, labels: Sequence[str], unit: str, colour: str) -> None:
    drawn = axes.barh(range(len(values)), values, height=0.68, color=colour)
    axes.bar_label(drawn, labels, padding=4, fontsize=8.5, color=style.INK)
    # room for the longest label behind the longest bar
    axes.set_xlim(0, max(float(values.max()), 1.0) * 1.42)
    axes.xaxis.set_major_formatter(_THOUSANDS)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel(unit)
    axes.tick_params(axis="y", length=0)
    style.grid(axes)
    axes.grid(visible=False, axis="y")


def _some(table: pd.DataFrame | pd.Series, what: str) -> None:
    if not len(table):
        raise DataError(f"Expected at least one {what} to draw, got none.")
