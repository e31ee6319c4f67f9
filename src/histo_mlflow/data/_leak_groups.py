"""Groups that have to be one: equal pixels, and union-find over pairs."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from histo_mlflow.data._leak_marks import TURNS, Marks, Pixels, turned


def equal_pairs(pixels: Pixels, marks: Marks) -> npt.NDArray[np.int64]:
    """Pairs of images whose pixels are equal in some turn, int64 (m, 3): rows a < b, turn of b.

    k equal images give the k - 1 pairs with the first of them. Flat images are left out: blank
    patches are equal without showing the same place.
    """
    rows = np.flatnonzero(~marks.flat)
    _, bucket = np.unique(marks.sums[rows], axis=0, return_inverse=True)
    bucket = bucket.ravel()
    order = np.argsort(bucket, kind="stable")
    shared = np.bincount(bucket)[bucket[order]] > 1
    firsts: dict[int, list[int]] = {}
    pairs = []
    for at in order[shared]:
        row, known = int(rows[at]), firsts.setdefault(int(bucket[at]), [])
        for first in known:
            turn = _equal_turn(pixels[first], pixels[row])
            if turn is not None:
                pairs.append((first, row, turn))
                break
        else:
            known.append(row)
    return np.array(pairs, np.int64).reshape(-1, 3)


def _equal_turn(a: Pixels, b: Pixels) -> int | None:
    """The least turn of b, (px, px, 3), that makes it equal to a."""
    matching = (turn for turn in range(TURNS) if np.array_equal(a, turned(b[None], turn)[0]))
    return next(matching, None)


def united(n: int, links: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Connected components by union-find, int64 (n,): the least member of each one's component."""
    parent = list(range(n))

    def root(of: int) -> int:
        while parent[of] != of:
            parent[of] = parent[parent[of]]
            of = parent[of]
        return of

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(each) for each in range(n)], np.int64)


def joined_groups(groups: Sequence[str], links: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """The group of each image once the groups of linked images are one.

    A joined group is called as the first of its groups in alphabetical order, so neither the order
    of the images nor that of the links matters.

    Args:
        groups: declared group of each image.
        links: int64 (m, 2), rows of two images that belong together.
    """
    names, codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    codes = codes.ravel()
    linked = zip(codes[links[:, 0]].tolist(), codes[links[:, 1]].tolist(), strict=True)
    return tuple(str(name) for name in names[united(len(names), linked)[codes]])
