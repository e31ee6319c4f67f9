"""Predictions to draw, and what is asked of every figure: nothing cut off, nothing covered."""

from itertools import combinations

import matplotlib.text
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.predictions import predictions_table

HAM = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
LONG = (
    "Basal cell carcinoma, nodular type",
    "Squamous cell carcinoma in situ (Bowen)",
    "Benign keratosis / seborrhoeic",
    "Dermatofibroma_of_lower_extremity",
    "Malignant melanoma superficial spreading",
    "Melanocytic naevus, compound",
    "Vascular lesion $1$",
)
MANY = tuple(f"tissue class {i}" for i in range(24))
TWO = ("normal", "tumour")


def drawn_table(classes: tuple[str, ...], n: int = 200, absent: int | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    targets = np.arange(n) % len(classes)
    if absent is not None:
        targets[targets == absent] = 0
    if len(classes) == 2:
        logits, output = rng.normal(targets * 2.0 - 1, 1.5)[:, None], "sigmoid"
    else:
        logits, output = rng.normal(0, 1, (n, len(classes))), "softmax"
        logits[np.arange(n), targets] += 1.5
    splits = np.where(np.arange(n) < n // 10, "val", "test")
    return predictions_table(
        [f"i{i}" for i in range(n)], [f"g{i // 2}" for i in range(n)], splits,
        targets, logits, classes, output,
    )  # fmt: skip


def texts(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text()]


def labels_beyond_the_axes(fig: Figure) -> set[matplotlib.text.Text]:
    """Tick labels that matplotlib keeps but never draws."""
    found = set()
    for axis in (axis for axes in fig.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                found |= {tick.label1, tick.label2}
    return found


def assert_nothing_is_cut_off_or_covered(fig: Figure) -> None:
    with style.styled():
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
    width, height = canvas.get_width_height()
    boxes = {}
    undrawn = labels_beyond_the_axes(fig)
    for text in fig.findobj(matplotlib.text.Text):
        if text.get_visible() and text.get_text().strip() and text not in undrawn:
            box = text.get_window_extent()
            assert -1 <= box.x0 <= box.x1 <= width + 1, text.get_text()
            assert -1 <= box.y0 <= box.y1 <= height + 1, text.get_text()
            boxes[text] = box
    for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
        across = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        down = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        assert min(across, down) < 2, f"{a.get_text()!r} over {b.get_text()!r}"
