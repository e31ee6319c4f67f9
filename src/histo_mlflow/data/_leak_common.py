"""What the images of a data set have in common: black bars, a round frame, a ruler, a caption.

Where such a pattern is most of the detail of an image, any two of them look alike. The mean detail
map of the data set holds the pattern and hardly anything of one photograph, so a share of it is
taken from every map before two are compared. The share grows with the number of images, since the
mean of a few is mostly these few; and it stops where the mean is itself most of a usual image, for
that is no pattern but one photograph many times over.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SAMPLE = 2_000
"""Images that the mean is of."""
HALF = 20
"""Images of which half the mean is taken away."""
KEPT = 0.1
"""Share of its detail (as energy) that the median image keeps."""
_STEPS = 20


def sampled(n: int) -> npt.NDArray[np.bool_]:
    """Which of n images the mean is of, bool (n,): all, or `SAMPLE` drawn with a fixed seed."""
    chosen = np.zeros(n, np.bool_)
    chosen[np.random.default_rng(0).permutation(n)[:SAMPLE]] = True
    return chosen


def common_share(maps: Floats) -> float:
    """The share of their mean to take from detail maps, (n, s, s); 0 for fewer than two."""
    n = len(maps)
    if n < 2:
        return 0.0
    rows = maps.reshape(n, -1)
    mean = rows.mean(axis=0)
    energy = np.maximum(np.einsum("ni,ni->n", rows, rows), np.float32(1e-6))
    along, of_mean = rows @ mean, float(mean @ mean)
    for share in np.linspace(n / (n + HALF), 0, _STEPS, endpoint=False):
        left = 1 - (2 * share * along - share**2 * of_mean) / energy
        if np.median(left) >= KEPT:
            return float(share)
    return 0.0
