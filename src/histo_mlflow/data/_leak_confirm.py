"""How alike the pixels of two images are, and from where on that is no coincidence.

The similarity is the greatest correlation of the two detail maps over small shifts and zooms, so it
knows nothing of brightness, contrast, white balance and vignetting: the one real near-duplicate
that is most alike across two lesions of HAM10000 is one photograph in two white balances. The
distance is 1 - similarity.

The threshold comes from decoys: each candidate pair once more with one image wrongly mirrored or
upside down. A decoy has the tones, the frame and the shapes of its pair and cannot be the same
scene, so whatever is less alike than the best decoy is not told from a coincidence. The threshold
keeps a margin to it, since a pair was the best of several turns and its decoy had one try.

What the images of the data set have in common is taken from both maps first (`_leak_common`): a
frame or black bars look like themselves upside down, too, and would be all that is compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from histo_mlflow.data._leak_candidates import Candidates
from histo_mlflow.data._leak_marks import (
    FINE_PX,
    TURNS,
    ZOOMS,
    Floats,
    Marks,
    Pixels,
    detail,
    luminance,
    reduced,
    turned,
)

SCREEN_SIMILARITY = 0.5
LOOSEST = 0.5
"""Upper bound of the threshold, a distance."""
REFUSED = 60
"""How many of the nearest refused pairs are kept, for a look at the threshold."""
_MARGIN = 0.9
_CERTAIN = 0.2
_CLEARLY = 0.1
_ZOOMED = ((ZOOMS[0], ZOOMS[0]), (ZOOMS[1], ZOOMS[0]), (ZOOMS[0], ZOOMS[1]))
_STEP_SCREEN = 4096
_BLOCK_BYTES = 8_000_000
_WRONG = (2, 4, 6)  # upside down, left-right, top-bottom


@dataclass(frozen=True, eq=False)
class Confirmed:
    """Pairs that are alike, and how that was decided.

    Attributes:
        pairs: int64 (m, 3), rows a < b and the turn of b that makes it look like a.
        distance: float64 (m,), 0 for the same detail, 1 for none in common.
        threshold: pairs below it are confirmed.
        decoys: how many wrong pairings it was judged by.
        closest_decoy: the least distance of one of them; 1 where none came near.
        refused: the nearest pairs above the threshold, as `pairs`, nearest first.
        refused_distance: float64, theirs.
    """

    pairs: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    threshold: float
    decoys: int
    closest_decoy: float
    refused: npt.NDArray[np.int64]
    refused_distance: npt.NDArray[np.float64]


def confirm(
    pixels: Pixels, marks: Marks, candidates: Candidates, tick: Callable[[int], object]
) -> Confirmed:
    """Keep the candidates that are more alike than every decoy.

    Args:
        pixels: uint8 (n, px, px, 3), of which single rows are read.
        marks: of the same images.
        candidates: (m, 4), rows a < b, turn, and a number that is not used; a pair may stand there
            in several turns, of which the best counts.
        tick: told how many pairs were compared by their pixels.
    """
    pairs, screened = _best_turns(marks.coarse, candidates[:, :3])
    wrong = pairs.copy()
    wrong[:, 2] = _AFTER[pairs[:, 2], np.arange(len(pairs)) % len(_WRONG)]
    similarity = _similarities(pixels, pairs, screened, marks.common, tick)
    decoys = _similarities(pixels, wrong, _screened(marks.coarse, wrong), marks.common, tick)
    # The hash may prefer the wrong turn of a symmetric scene: the right one is then clearly better.
    swapped = decoys > similarity + _CLEARLY
    pairs = np.where(swapped[:, None], wrong, pairs)
    similarity, decoys = (
        np.where(swapped, decoys, similarity),
        np.where(swapped, similarity, decoys),
    )
    # A pair that is surely one scene says by its decoy how symmetric the scene is, nothing else.
    decoys = decoys[similarity < 1 - _CERTAIN]
    closest = float(1 - decoys.max(initial=0.0))
    threshold = min(_MARGIN * closest, LOOSEST)
    distance = 1 - similarity
    near = distance < threshold
    order = np.argsort(distance, kind="stable")
    refused = order[~near[order]][:REFUSED]
    return Confirmed(
        pairs[near],
        distance[near],
        threshold,
        len(decoys),
        closest,
        pairs[refused],
        distance[refused],
    )


def in_best_turn(
    pixels: Pixels, marks: Marks, pairs: npt.NDArray[np.int64], tick: Callable[[int], object]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Each pair once, (m, 3), and its distance; 1 where the small maps are not alike.

    Args:
        pixels: uint8 (n, px, px, 3).
        marks: of the same images.
        pairs: int64 (k, 3), a pair in each turn that is to be tried.
        tick: told how many pairs were compared by their pixels.
    """
    best, screened = _best_turns(marks.coarse, pairs)
    return best, 1 - _similarities(pixels, best, screened, marks.common, tick)


def distances(
    pixels: Pixels, pairs: npt.NDArray[np.int64], common: Mapping[float, Floats]
) -> npt.NDArray[np.float64]:
    """Distance of each pair (rows a, b and the turn of b) by its pixels, float64 (m,).

    Args:
        pixels: uint8 (n, px, px, 3).
        pairs: int64 (m, 3).
        common: of the marks of all these pixels.
    """
    found = np.empty(len(pairs))
    step = _step(pixels)
    for start in range(0, len(pairs), step):
        block = pairs[start : start + step]
        found[start : start + len(block)] = 1 - _by_pixels(pixels, block, common)
    return found


def _similarities(
    pixels: Pixels,
    pairs: npt.NDArray[np.int64],
    screened: npt.NDArray[np.float64],
    common: Mapping[float, Floats],
    tick: Callable[[int], object],
) -> npt.NDArray[np.float64]:
    """Similarity by pixels where the screen lets a pair pass, 0 elsewhere."""
    found = np.zeros(len(pairs))
    passing = np.flatnonzero(screened > SCREEN_SIMILARITY)
    step = _step(pixels)
    for start in range(0, len(passing), step):
        at = passing[start : start + step]
        found[at] = _by_pixels(pixels, pairs[at], common)
        tick(len(at))
    return found


def _best_turns(
    coarse: npt.NDArray[np.int8], pairs: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Each pair once, in the turn that the small maps say is best, and their similarity there."""
    screened = _screened(coarse, pairs)
    order = np.lexsort((pairs[:, 2], -screened, pairs[:, 1], pairs[:, 0]))
    pairs, screened = pairs[order], screened[order]
    first = np.ones(len(pairs), np.bool_)
    first[1:] = (pairs[1:, :2] != pairs[:-1, :2]).any(axis=1)
    return pairs[first], screened[first]


def _screened(
    coarse: npt.NDArray[np.int8], pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Similarity of the kept small maps, float64 (m,)."""
    found = np.empty(len(pairs))
    for turn in range(TURNS):
        all_at = np.flatnonzero(pairs[:, 2] == turn)
        for start in range(0, len(all_at), _STEP_SCREEN):
            at = all_at[start : start + _STEP_SCREEN]
            a = coarse[pairs[at, 0]].astype(np.float32)
            b = turned(coarse[pairs[at, 1]], turn).astype(np.float32)
            found[at] = _correlation(a, b, shift=1)
    return found


def _by_pixels(
    pixels: Pixels, pairs: npt.NDArray[np.int64], common: Mapping[float, Floats]
) -> npt.NDArray[np.float64]:
    """Similarity of each pair, the best over small zooms and shifts."""
    side = min(FINE_PX, pixels.shape[1])
    shift = max(1, side // 24)
    a, b = (luminance(np.asarray(pixels[pairs[:, column]])) for column in (0, 1))
    maps_a, maps_b = (
        {zoom: detail(reduced(grey, side, zoom)) - common[zoom] for zoom in ZOOMS}
        for grey in (a, b)
    )
    for maps in maps_b.values():
        for turn in np.unique(pairs[:, 2]):
            at = pairs[:, 2] == turn
            maps[at] = turned(maps[at], int(turn))
    best = [_correlation(maps_a[of_a], maps_b[of_b], shift) for of_a, of_b in _ZOOMED]
    greatest: npt.NDArray[np.float64] = np.max(best, axis=0)
    return greatest


def _step(pixels: Pixels) -> int:
    """Pairs looked at at once: bounds the memory."""
    side = int(pixels.shape[1])
    return max(1, _BLOCK_BYTES // (3 * side * side))


def _correlation(a: Floats, b: Floats, shift: int) -> npt.NDArray[np.float64]:
    """Greatest Pearson correlation of (m, s, s) over shifts of up to `shift` pixels, (m,)."""
    m, side = a.shape[:2]
    inner = side - 2 * shift
    still = _unit(a[:, shift : shift + inner, shift : shift + inner])
    best = np.full(m, -1.0)
    for down in range(2 * shift + 1):
        for right in range(2 * shift + 1):
            moved = _unit(b[:, down : down + inner, right : right + inner])
            np.maximum(best, np.einsum("ni,ni->n", still, moved), out=best)
    return best


def _unit(maps: Floats) -> Floats:
    """Rows of mean 0 and length 1, (m, s * s); zeros where a map is constant."""
    rows = maps.reshape(len(maps), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ni,ni->n", rows, rows))[:, None]
    unit: Floats = rows / np.maximum(length, np.float32(1e-6))
    return unit


def _after() -> npt.NDArray[np.int64]:
    """(8, 3): which turn it is to do a turn and then a wrong one."""
    marked = np.arange(4).reshape(1, 2, 2)
    every = [turned(marked, turn).tolist() for turn in range(TURNS)]
    return np.array(
        [
            [every.index(turned(turned(marked, turn), wrong).tolist()) for wrong in _WRONG]
            for turn in range(TURNS)
        ]
    )


_AFTER = _after()
