"""What several figures of a run share: rows of a split, their counts, room for text, panels."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions, style
from histo_mlflow.evaluation.style import count

MOST_PANELS = 12
_COLUMNS = 4


def rows_of(table: pd.DataFrame, classes: Sequence[str], split: str) -> pd.DataFrame:
    """Return the rows of a split.

    Raises:
        DataError: no rows of that split, or other classes than the table's.
    """
    found = predictions.classes_of(table)
    if tuple(classes) != found:
        raise DataError(
            f"Expected the classes of the predictions table ({', '.join(found)}), "
            f"got {', '.join(classes)}."
        )
    return predictions.of_split(table, split)


def told(rows: pd.DataFrame, split: str) -> str:
    """Say "test: 1,511 images in 1,120 groups"."""
    images, groups = len(rows), rows["group"].nunique()
    return f"{split}: {count(images, 'image')} in {count(groups, 'group')}"


def longest(texts: Sequence[str]) -> int:
    """Length of the longest line of some texts."""
    return max(len(line) for text in texts for line in text.splitlines())


def figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """Make a figure of at least width x height inches that its heading fits into."""
    least = style.heading_pixels(title, subtitle) / style.DPI
    return style.figure(max(width, least), height, title, subtitle)


def panels(fig: Figure, n: int) -> list[Axes]:
    """Lay out n panels in rows of at most four, the rows as even as can be."""
    rows = math.ceil(n / _COLUMNS)
    columns = math.ceil(n / rows)
    return [fig.add_subplot(rows, columns, i + 1) for i in range(n)]


def panel_inches(n: int, side: float) -> tuple[float, float]:
    """Width and height of n panels of that side."""
    rows = math.ceil(n / _COLUMNS)
    return side * math.ceil(n / rows), (side + 0.15) * rows
