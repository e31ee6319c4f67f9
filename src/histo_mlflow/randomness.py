"""What (seed, epoch, position) yields: every random number of the project is a pure function.

There is no state to save or to restore. A number is computed from its address (seed, epoch,
position, stream, which draw), so it does not matter in which order, in which batch or in which
process it is asked for, and a resumed run sees exactly what an unbroken one would have seen.

The numbers come from SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), written out here because NumPy does not promise that a `Generator`
draws the same numbers in its next version, and a counter needs no object to be carried along.
"""

import hashlib
from enum import IntEnum

import numpy as np
import numpy.typing as npt

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


class Stream(IntEnum):
    """The purposes that draw numbers. Two streams never share draws; a number is never reused."""

    ORDER = 1
    BALANCED = 2
    AUGMENT = 3
    MIX = 4


def uniforms(
    seed: int, epoch: int, positions: npt.NDArray[np.int64], stream: int, n: int
) -> npt.NDArray[np.float64]:
    """Return `n` numbers for each position, uniform in [0, 1).

    Args:
        seed: any integer; taken modulo 2**64.
        epoch: any integer; taken modulo 2**64.
        positions: int64, shape (B,); places in the epoch's order. Row b of the result depends on
            positions[b] alone, never on its neighbours.
        stream: what the numbers are for, a `Stream`.
        n: how many numbers each position gets. Asking for more leaves the first ones as they were.

    Returns:
        float64, shape (B, n), with 53 random bits each.
    """
    counters = np.asarray(positions, dtype=np.int64).astype(np.uint64)
    start = np.uint64(_absorb(seed, epoch, stream))
    with np.errstate(over="ignore"):
        keys = _mix(start + (counters + np.uint64(1)) * np.uint64(_GOLDEN))
        steps = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        bits = _mix(keys[:, None] + steps[None, :])
    numbers: npt.NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def permutation(seed: int, epoch: int, n: int) -> npt.NDArray[np.int64]:
    """Return the numbers 0 to n - 1 in random order, int64, shape (n,).

    Every number gets a random key and the keys are sorted; n = 0 gives an empty array.
    """
    keys = uniforms(seed, epoch, np.arange(n, dtype=np.int64), Stream.ORDER, 1)[:, 0]
    return np.argsort(keys, kind="stable").astype(np.int64)


def derive(seed: int, *parts: int | str) -> int:
    """Return a seed of its own for the purpose that `parts` name, in [0, 2**63).

    The first 63 bits of SHA-256 over the seed and the parts; 1 and "1" are different parts. This is
    for what takes one seed (`torch.manual_seed` in a worker, a sampler of Optuna), not for bulk.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (int(seed), *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _absorb(*parts: int) -> int:
    state = 0
    for part in parts:
        state = _mix_int((state ^ _mix_int((int(part) + _GOLDEN) & _MASK)) + _GOLDEN & _MASK)
    return state


def _mix_int(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
