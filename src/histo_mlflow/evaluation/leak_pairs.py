"""Pairs of images that look the same, side by side, for a person to judge."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from histo_mlflow.data.leaks import turned
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.grids import sample_grid
from histo_mlflow.evaluation.style import count

MOST = 12
_COLUMNS = 6  # three pairs a row


def leak_pairs(
    pixels: npt.NDArray[np.uint8], pairs: pd.DataFrame, *, most: int = MOST, facts: str = ""
) -> Figure:
    """Draw the pairs across groups, closest first, then those within groups.

    The second image of a pair is drawn turned as it matches the first. Labels that differ are said
    to do so.

    Args:
        pixels: uint8 (n, px, px, 3); a memory map, of which the rows of the pairs are read.
        pairs: as `Leaks.pairs`.
        most: pairs drawn, at most.
        facts: said below the heading.

    Raises:
        DataError: there are no pairs to draw.
    """
    if pairs.empty:
        raise DataError("Expected at least one pair of images that look the same, got none.")
    drawn = pairs.sort_values(
        ["across", "distance", "id_a", "id_b"], ascending=[False, True, True, True]
    ).head(most)
    images, titles = [], []
    for number, pair in enumerate(drawn.to_dict(orient="records"), start=1):
        second = turned(np.asarray(pixels[pair["row_b"]])[None], int(pair["turn"]))[0]
        images += [np.asarray(pixels[pair["row_a"]]), second]
        between = "across groups" if pair["across"] else "within a group"
        titles += [
            _title(pair, "a", f"{number}: {pair['kind']}, distance {pair['distance']:.3f}"),
            _title(pair, "b", f"{number}: {between}{_turn_told(int(pair['turn']))}"),
        ]
    across = int(pairs["across"].sum())
    told = f"{count(len(drawn), 'pair')} of {len(pairs):,}, {across:,} across groups"
    return sample_grid(
        np.stack(images),
        titles,
        heading="Images that look the same",
        facts=" · ".join(filter(None, [told, facts])),
        columns=_COLUMNS,
    )


def _title(pair: dict[object, object], side: str, first: str) -> str:
    label, group, name = (str(pair[f"{field}_{side}"]) for field in ("label", "group", "id"))
    return "\n".join([first, f"labels differ: {label}" if pair["conflict"] else label, group, name])


def _turn_told(turn: int) -> str:
    told = [f"{90 * (turn % 4)}°"] if turn % 4 else []
    told += ["mirrored"] if turn >= 4 else []
    return ", " + " ".join(told) if told else ""
