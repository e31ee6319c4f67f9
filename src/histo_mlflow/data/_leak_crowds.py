"""Many images that are all linked: is it one scene many times, or a chain of different ones?

The search keeps a few candidates an image, so that of a hundred copies each is linked with a dozen,
as in a chain of coincidences. In a crowd the image with most links is therefore compared with all
the others: it looks like its copies, and not like what a chain led to.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from histo_mlflow.data._leak_confirm import in_best_turn
from histo_mlflow.data._leak_groups import united
from histo_mlflow.data._leak_marks import TURNS, Marks, Pixels

CROWD = 20
"""A crowd is more linked images than these."""
HUBS = 20
"""How many images of a crowd are compared with the rest of it, at most."""


def hub_pairs(
    pixels: Pixels,
    marks: Marks,
    links: npt.NDArray[np.int64],
    threshold: float,
    tick: Callable[[int], object],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs below the threshold of the hubs of each crowd, (m, 3), and their distances.

    Args:
        pixels: uint8 (n, px, px, 3).
        marks: of the same images.
        links: int64 (k, 2), the pairs that were found; of the result they may be part.
        threshold: what is below it is alike.
        tick: told how many pairs were compared by their pixels.
    """
    of = united(len(pixels), links.tolist())
    degree = np.bincount(links.ravel(), minlength=len(pixels))
    pairs, found = [np.empty((0, 3), np.int64)], [np.empty(0)]
    for crowd in np.flatnonzero(np.bincount(of) > CROWD):
        rest = np.flatnonzero(of == crowd)
        for _ in range(HUBS):
            hub = rest[np.argmax(degree[rest])]
            rest = rest[rest != hub]
            tried, distance = in_best_turn(pixels, marks, _every_turn(hub, rest), tick)
            near = distance < threshold
            pairs.append(tried[near])
            found.append(distance[near])
            rest = np.setdiff1d(rest, tried[near, :2])
            # What looks like few others is the link of a chain.
            if near.sum() < CROWD or not len(rest):
                break
    return np.concatenate(pairs), np.concatenate(found)


def _every_turn(hub: np.int64, rest: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The pairs of one image with others in each turn, (8 m, 3), rows a < b."""
    other = np.repeat(rest, TURNS)
    turns = np.tile(np.arange(TURNS), len(rest))
    return np.stack((np.minimum(hub, other), np.maximum(hub, other), turns), axis=1)
