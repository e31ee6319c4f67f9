"""Which pairs of images may be near-duplicates: a hash of 64 bits, compared by sorting.

The perceptual hash is the signs of the low cosine coefficients about their medians, so that every
bit halves the data set. Pairs that agree in some bits are found by sorting on these bits first:
on 2 of 8 blocks, for each choice (Manku, Jain and Das Sarma, "Detecting near-duplicates for web
crawling", 2007), by which no pair within 6 bits is missed; and on bits drawn at random (Indyk and
Motwani, "Approximate nearest neighbors", 1998), by which most within 14 are met.

Work grows as n log n, also where many images hash alike: each looks at no more than its next
neighbours in each order, and keeps no more than its nearest candidates.
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt

from histo_mlflow.data._leak_marks import TURNS, Floats, turned_cosines

Hashes = npt.NDArray[np.uint64]
Candidates = npt.NDArray[np.int64]
"""(m, 4): rows a < b of two images, the turn of b, and how many bits differ; without repeats."""

BITS = 16
SURE_BITS = 6
"""All pairs that differ in no more bits are candidates, but for crowds of equal hashes."""
WINDOW = 32
PER_IMAGE = 8
_BLOCKS = 8
_DRAWS = 64
_MANY = 1 << 17
_STEP = 1 << 16


def hashes(cosines: Floats) -> list[Hashes]:
    """The hash of every image in each of its 8 turns, uint64 (n,) each."""
    middle = np.zeros(cosines.shape[1:], np.float32)
    # Over all turns of all images the odd coefficients have the median 0 by symmetry.
    even = np.arange(0, cosines.shape[1], 2)
    for u in even:
        for v in even:
            middle[u, v] = np.median(np.concatenate((cosines[:, u, v], cosines[:, v, u])))
    return [_packed(turned_cosines(cosines, turn) > middle) for turn in range(TURNS)]


def candidates(found: list[Hashes], skipped: npt.NDArray[np.bool_]) -> Candidates:
    """Pairs whose hashes differ in at most `BITS` bits in some turn, nearest first for each image.

    Args:
        found: what `hashes` gives.
        skipped: bool (n,), images that are no candidates (flat ones).
    """
    rows = np.flatnonzero(~skipped)
    if len(rows) < 2:
        return np.empty((0, 4), np.int64)
    near = [
        _few(_of_turn(found[0][rows], found[turn][rows], turn), len(rows)) for turn in range(TURNS)
    ]
    kept = _few(np.concatenate(near), len(rows))
    kept[:, 0], kept[:, 1] = rows[kept[:, 0]], rows[kept[:, 1]]
    return kept


def differing_bits(a: Hashes, b: Hashes) -> npt.NDArray[np.int64]:
    """How many bits differ, int64 (n,)."""
    bits = (a ^ b).view(np.uint16).reshape(-1, 4)
    count: npt.NDArray[np.int64] = _ONES[bits].sum(axis=1, dtype=np.int64)
    return count


_ONES = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)


def _packed(signs: npt.NDArray[np.bool_]) -> Hashes:
    # Column by column: a block then holds one frequency across and all of them down.
    bits = np.packbits(np.swapaxes(signs, 1, 2).reshape(len(signs), 64), axis=1)
    return np.ascontiguousarray(bits).view(np.uint64)[:, 0]


def _of_turn(plain: Hashes, other: Hashes, turn: int) -> Candidates:
    n = len(plain)
    bits_plain, bits_other = _unpacked(plain), _unpacked(other)
    codes = [
        _agreeing(
            _first(bits_plain, leading), _first(bits_other, leading), len(leading), plain, other
        )
        for leading in _leading_bits(n)
    ]
    code = np.unique(np.concatenate(codes))
    a, b = code // n, code % n
    bits = differing_bits(plain[a], other[b])
    return np.stack((a, b, np.full(len(a), turn), bits), axis=1)


def _leading_bits(n: int) -> list[list[int]]:
    """For each order, the bits that it sorts by first: enough to leave few images a value."""
    blocks = np.arange(64).reshape(_BLOCKS, -1)
    chosen = combinations(range(_BLOCKS), 2 if n <= _MANY else 3)
    rng = np.random.default_rng(0)
    width = min(max(int(n).bit_length() - 1, 8), 24)
    drawn = [rng.choice(64, width, replace=False) for _ in range(_DRAWS)]
    return [*(blocks[list(each)].ravel().tolist() for each in chosen), *(d.tolist() for d in drawn)]


def _unpacked(values: Hashes) -> npt.NDArray[np.uint8]:
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1)


def _first(bits: npt.NDArray[np.uint8], leading: list[int]) -> Hashes:
    """The same bits with the leading ones as the highest."""
    rest = [bit for bit in range(64) if bit not in leading]
    packed = np.packbits(bits[:, [*leading, *rest]], axis=1)
    return np.ascontiguousarray(packed).view(">u8")[:, 0].astype(np.uint64)


def _agreeing(
    keys: Hashes, others: Hashes, leading: int, plain: Hashes, turned: Hashes
) -> npt.NDArray[np.int64]:
    """Codes a * n + b of pairs a < b equal in the leading bits and nearly so in the rest."""
    n = len(keys)
    order = np.argsort(others, kind="stable")
    ranked = others[order]
    low_bits = np.uint64(64 - leading)
    heads = ranked >> low_bits
    codes = []
    for start in range(0, n, _STEP):
        key = keys[start : start + _STEP]
        at = np.searchsorted(ranked, key)
        first = np.maximum(np.searchsorted(heads, key >> low_bits, "left"), at - WINDOW)
        last = np.minimum(np.searchsorted(heads, key >> low_bits, "right"), at + WINDOW)
        counts = np.maximum(last - first, 0)
        a = np.repeat(np.arange(start, start + len(key)), counts)
        within = np.arange(len(a)) - np.repeat(np.cumsum(counts) - counts, counts)
        b = order[np.repeat(first, counts) + within]
        a, b = a[a < b], b[a < b]
        near = differing_bits(plain[a], turned[b]) <= BITS
        codes.append(a[near] * n + b[near])
    return np.concatenate(codes)


def _few(pairs: Candidates, n: int) -> Candidates:
    """Those among the `PER_IMAGE` nearest of one of their images."""
    by_bits = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0], pairs[:, 3]))]
    kept = np.zeros(len(by_bits), np.bool_)
    for side in (0, 1):
        order = np.argsort(by_bits[:, side], kind="stable")
        counts = np.bincount(by_bits[:, side], minlength=n)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept[order[rank < PER_IMAGE]] = True
    return by_bits[kept]
