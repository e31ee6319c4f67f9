"""How every figure looks: one palette, one set of sizes, one heading.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), told apart with any common
colour vision deficiency; the yellow is left out since it fades on white. Figures are made without
pyplot, so nothing global changes and nothing needs a display.
"""

import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.style import context

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation._files import replacing

INK = "#1b1f24"
GREY = "#57606a"
FAINT = "#d0d7de"
BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#000000",
)
SPLIT_COLOURS = {"train": BLUE, "val": RED, "test": GREEN}
CLASS_COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)
LINE_STYLES = ("-", "--", ":", "-.")
SEQUENTIAL = "Blues"
DPI = 130

_HEADING_INCHES = 0.66
_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "A$1$"
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 2.8,  # long enough to tell dashes from dots
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "image.interpolation": "nearest",
    "svg.fonttype": "none",
    "svg.hashsalt": "histo-mlflow",  # else ids are drawn at random
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the house style inside the block; what was set before holds again afterwards."""
    # after_reset: a user's matplotlibrc must not change what a run logs
    with context(_RC, after_reset=True):
        yield


def figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """Make a figure of width x height inches below a bold title and a grey line of facts."""
    whole = height + _HEADING_INCHES
    fig = Figure(figsize=(width, whole), facecolor="white")
    fig.set_layout_engine("constrained", rect=(0, 0, 1, height / whole), h_pad=0.08, w_pad=0.08)
    heading(fig, title, subtitle)
    return fig


def heading_pixels(title: str, subtitle: str) -> int:
    """How wide a figure at `DPI` has to be for its heading, both margins included."""
    renderer, margin = RendererAgg(1, 1, DPI), 0.12 * DPI  # type: ignore[no-untyped-call]
    wide = [_wide(renderer, title, 13, "bold"), _wide(renderer, subtitle, 9.5, "normal")]
    return math.ceil(max(wide) + 2 * margin)


def heading(fig: Figure, title: str, subtitle: str) -> None:
    """Write title and subtitle into the top left corner."""
    width, height = fig.get_size_inches()
    left = 0.12 / width
    fig.text(left, 1 - 0.12 / height, title, va="top", weight="bold", size=13)
    fig.text(left, 1 - 0.41 / height, subtitle, va="top", color=GREY, size=9.5)


def grid(axes: Axes) -> None:
    """Draw faint grid lines behind the data."""
    axes.grid(visible=True)


def class_line(k: int) -> dict[str, Any]:
    """Return colour and line style of class k: 28 pairs before they repeat."""
    return {
        "color": CLASS_COLOURS[k % len(CLASS_COLOURS)],
        "linestyle": LINE_STYLES[k // len(CLASS_COLOURS) % len(LINE_STYLES)],
    }


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text longer than `width` characters; both ends tell names apart."""
    if len(text) <= width:
        return text
    head, tail = width // 2, max(width - 1 - width // 2, 0)
    return text[:head].rstrip() + "…" + text[len(text) - tail :].lstrip()


def wrapped(text: str, width: int, lines: int) -> str:
    """Break a text over at most `lines` lines of `width` characters, shortened if need be."""
    limit = len(text)
    while len(textwrap.wrap(shorten(text, limit), width)) > lines:
        limit -= 1
    return "\n".join(textwrap.wrap(shorten(text, limit), width))


def fitted(text: str, pixels: float, points: float) -> str:
    """Shorten a text until it is at most `pixels` wide at that size and `DPI`."""
    renderer = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
    limit = len(text)
    while limit > 1:
        wide = _wide(renderer, shorten(text, limit), points, "normal")
        if wide <= pixels:
            break
        # at least one letter goes; the share that is too much tells about how many
        limit = min(limit - 1, max(1, round(limit * pixels / wide) + 1))
    return shorten(text, limit)


def _wide(renderer: RendererAgg, text: str, points: float, weight: str) -> float:
    font = FontProperties(family=["DejaVu Sans"], size=points, weight=weight)
    wide: float = renderer.get_text_width_height_descent(text, font, ismath=False)[0]  # type: ignore[no-untyped-call]
    return wide


def ink_on(colour: tuple[float, float, float, float]) -> str:
    """Return white or the ink colour, whichever contrasts more with an RGBA background.

    Contrast as in WCAG 2.2 (w3.org/TR/WCAG22, "contrast ratio").
    """
    background = _luminance(colour[:3])
    on_white = 1.05 / (background + 0.05)
    on_ink = (background + 0.05) / (_luminance(to_rgb(INK)) + 0.05)
    return "white" if on_white > on_ink else INK


def _luminance(rgb: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def count(n: int, noun: str, plural: str | None = None) -> str:
    """Say "1 image" or "1,511 images"."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def save(fig: Figure, path: Path, dpi: int = DPI) -> None:
    """Write the figure in the format of the suffix, whole or not at all, and empty it.

    The figure cannot be used afterwards: its memory is given back. The same figure gives the same
    bytes, since no date or version is written into it.

    Raises:
        DataError: the suffix is not .png, .svg or .pdf.
    """
    suffix = path.suffix.lower()
    undated = {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    if suffix not in undated:
        raise DataError(f"Expected a figure's name to end in .png, .svg or .pdf, got {path.name}.")
    with styled(), replacing(path) as temporary:
        fig.savefig(temporary, format=suffix[1:], dpi=dpi, metadata=undated[suffix])
    fig.clear()
