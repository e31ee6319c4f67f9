"""Draw patches that look like H&E-stained tissue, with a signal that a network has to learn.

What tells the classes apart is the shape of nuclei: tumour nuclei are larger, vary more in size,
are less round, paler inside, and show nucleoli. How much of a patch nuclei cover is drawn from one
distribution for both classes, and each slide has its own stain, so the colour of a patch says
little. The classes overlap on purpose: see `SEPARATION`.

Colour follows Beer-Lambert: a pixel is `white * exp(-(h * H + e * E))` with the optical densities
H and E of haematoxylin and eosin. The reference vectors are those of Macenko et al., A method for
normalizing histology slides for quantitative analysis, ISBI 2009.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

PATCH_PX = 96
# Distance of the classes' mean atypia in standard deviations: the best possible AUC is
# Phi(SEPARATION / sqrt(2)), 0.98 for 3.0, and what the pixels show of it is less.
SEPARATION = 3.0

HAEMATOXYLIN = np.array([0.5626, 0.7201, 0.4062], dtype=np.float32)
EOSIN = np.array([0.2159, 0.8012, 0.5581], dtype=np.float32)

_REACH = 12  # half side of the window one nucleus is drawn in, in pixels

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stain:
    """How one slide was stained and scanned.

    Attributes:
        haematoxylin: Optical density of R, G, B, float32 of shape (3,).
        eosin: The same for eosin.
        white: Level of the empty background, float32 of shape (3,), at most 255.
    """

    haematoxylin: Plane
    eosin: Plane
    white: Plane


def draw_stain(rng: np.random.Generator) -> Stain:
    """The stain of one slide: strength and hue vary as they do between laboratories."""
    tilt = rng.normal(0.0, 0.035, (2, 3)).astype(np.float32)
    strength = rng.uniform(0.75, 1.25, 2).astype(np.float32)
    return Stain(
        haematoxylin=np.clip(HAEMATOXYLIN + tilt[0], 0.05, None) * strength[0],
        eosin=np.clip(EOSIN + tilt[1], 0.05, None) * strength[1],
        white=rng.uniform(236.0, 250.0, 3).astype(np.float32),
    )


def draw_patch(rng: np.random.Generator, stain: Stain, *, tumour: bool) -> npt.NDArray[np.uint8]:
    """One patch.

    Args:
        rng: All randomness of the patch comes from here.
        stain: The stain of its slide.
        tumour: The class.

    Returns:
        uint8 RGB of shape (96, 96, 3).
    """
    atypia = rng.normal(SEPARATION / 2 if tumour else -SEPARATION / 2)
    eosin, gaps = _stroma(rng)
    haematoxylin = np.full((PATCH_PX, PATCH_PX), 0.06, dtype=np.float32) * (1 - gaps)
    _add_nuclei(rng, haematoxylin, eosin, gaps, atypia)
    density = haematoxylin[..., None] * stain.haematoxylin + eosin[..., None] * stain.eosin
    noise = rng.normal(0.0, 1.5, (PATCH_PX, PATCH_PX, 1)).astype(np.float32)
    pixels = stain.white * np.exp(-density) + noise
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return rounded


def _smooth_noise(rng: np.random.Generator, across: int, along: int, side: int) -> Plane:
    """Noise of unit variance with features of side/across by side/along pixels."""
    coarse = rng.standard_normal((across, along)).astype(np.float32)
    fine = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(fine, dtype=np.float32)


def _stroma(rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Eosin of fibres that run one way, and the clear gaps (0 to 1) between them."""
    side = 3 * PATCH_PX // 2  # enough to turn by any angle and cut the middle out
    fibres = Image.fromarray(_smooth_noise(rng, int(rng.integers(22, 40)), 6, side))
    turned = fibres.rotate(rng.uniform(0.0, 180.0), Image.Resampling.BILINEAR)
    start = (side - PATCH_PX) // 2
    texture = np.asarray(turned, dtype=np.float32)[
        start : start + PATCH_PX, start : start + PATCH_PX
    ]
    cloud = _smooth_noise(rng, 7, 7, PATCH_PX)
    openness = rng.uniform(1.0, 2.2)
    gaps = 1.0 / (1.0 + np.exp(-9.0 * (cloud + 0.25 * texture - openness)))
    eosin = rng.uniform(0.42, 0.62) + 0.13 * texture + 0.06 * cloud
    filled = np.clip(eosin, 0.08, None) * (1 - gaps)
    return filled.astype(np.float32), gaps.astype(np.float32)


def _centres(rng: np.random.Generator, n: int) -> Plane:
    """About n places, (k, 2), roughly evenly spread: a shaken lattice that was turned."""
    spacing = PATCH_PX / np.sqrt(n)
    steps = np.arange(-PATCH_PX, PATCH_PX, spacing)
    lattice = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    angle = rng.uniform(0.0, np.pi / 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shaken = lattice @ turn.T + rng.uniform(-0.42, 0.42, lattice.shape) * spacing
    placed = shaken + PATCH_PX / 2 + rng.uniform(-spacing / 2, spacing / 2, 2)
    inside = ((placed > -4) & (placed < PATCH_PX + 4)).all(axis=1)
    kept: Plane = placed[inside].astype(np.float32)
    return kept


def _add_nuclei(
    rng: np.random.Generator, haematoxylin: Plane, eosin: Plane, gaps: Plane, atypia: float
) -> None:
    """Draw nuclei into both planes; their size and form follow the atypia, their area does not."""
    covered = rng.uniform(0.14, 0.30)
    radius = np.clip(3.9 + 0.42 * atypia, 2.5, 6.5)
    spread = np.clip(0.16 + 0.05 * atypia, 0.06, 0.34)
    # E[r^2] of a log-normal radius, so that wider spread does not mean more area.
    area = np.pi * radius**2 * np.exp(2 * spread**2)
    centres = _centres(rng, max(6, round(covered * PATCH_PX**2 / area)))
    at = np.clip(np.rint(centres).astype(int), 0, PATCH_PX - 1)
    centres = centres[gaps[at[:, 1], at[:, 0]] < 0.5]
    n = len(centres)
    # Lymphocytes, small and dark, turn up in both classes and blur the difference.
    immune = rng.random(n) < rng.uniform(0.0, 0.35)
    size = np.where(immune, 2.9, radius * np.exp(rng.normal(0.0, spread, n)))
    size = np.clip(size, 1.8, 7.5)
    longer = 1.0 + np.where(immune, 0.05, np.abs(rng.normal(0.0, 0.16 + 0.05 * max(atypia, -2), n)))
    pale = np.where(immune, 0.0, np.clip(0.30 + 0.10 * atypia + rng.normal(0.0, 0.14, n), 0.0, 0.7))
    nucleolus = (rng.random(n) < np.clip(0.30 + 0.2 * atypia, 0.02, 0.9)) & ~immune
    cover, inner = _nuclei_windows(rng, centres, size, longer, pale, nucleolus)
    # Stain of a paler nucleus is shared out again, so that paleness does not show in the mean.
    dark = rng.uniform(1.05, 1.45) * np.where(immune, 1.15, 1.0) / (1.0 - 0.55 * pale)
    stain = cover * inner * dark.astype(np.float32)[:, None, None]
    _paste(haematoxylin, eosin, centres, cover, stain)
    haematoxylin *= 1.0 + 0.07 * rng.standard_normal(haematoxylin.shape, dtype=np.float32)


def _paste(haematoxylin: Plane, eosin: Plane, centres: Plane, cover: Plane, stain: Plane) -> None:
    """Lay windows (n, 24, 24) over both planes around their centres, one over the other."""
    corners = np.floor(centres).astype(int) - _REACH
    for i, (x, y) in enumerate(corners.tolist()):
        here = (
            slice(max(y, 0), min(y + 2 * _REACH, PATCH_PX)),
            slice(max(x, 0), min(x + 2 * _REACH, PATCH_PX)),
        )
        there = (
            slice(here[0].start - y, here[0].stop - y),
            slice(here[1].start - x, here[1].stop - x),
        )
        covered = cover[i][there]
        haematoxylin[here] += stain[i][there] - covered * haematoxylin[here]
        eosin[here] -= 0.55 * covered * eosin[here]


def _nuclei_windows(
    rng: np.random.Generator,
    centres: Plane,
    size: npt.NDArray[np.float64],
    longer: npt.NDArray[np.float64],
    pale: npt.NDArray[np.float64],
    nucleolus: npt.NDArray[np.bool_],
) -> tuple[Plane, Plane]:
    """Cover (0 to 1) and inner stain of n nuclei, each (n, 24, 24), all at once."""
    n = len(centres)
    offset = (centres - np.floor(centres)).astype(np.float32)
    axis = np.arange(2 * _REACH, dtype=np.float32) - _REACH
    dx = axis[None, None, :] - offset[:, 0, None, None]
    dy = axis[None, :, None] - offset[:, 1, None, None]
    angle = rng.uniform(0.0, np.pi, n).astype(np.float32)[:, None, None]
    stretch = np.sqrt(longer).astype(np.float32)[:, None, None]
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / stretch
    across = (dy * np.cos(angle) - dx * np.sin(angle)) * stretch
    distance = np.sqrt(along * along + across * across) + np.float32(1e-3)
    cos, sin = along / distance, across / distance
    # A wavy outline: the third harmonic of the polar angle, by the triple-angle formulas.
    wave = rng.normal(0.0, 0.28, (2, n)).astype(np.float32)[..., None, None]
    wave = wave * (longer.astype(np.float32)[:, None, None] - 1.0)
    ripple = wave[0] * cos * (4 * cos * cos - 3) + wave[1] * sin * (3 - 4 * sin * sin)
    edge = size.astype(np.float32)[:, None, None] * (1.0 + np.clip(ripple, -0.25, 0.25))
    shape = 1.0 / (1.0 + np.exp(np.clip((distance - edge) / 0.45, -30.0, 30.0)))
    # Vesicular nuclei: chromatin gathers at the rim and in nucleoli, the middle is pale.
    relative = np.minimum(distance / edge, 1.0)
    inner = 1.0 - pale.astype(np.float32)[:, None, None] * (1.0 - relative * relative * relative)
    place = rng.uniform(-0.3, 0.3, (2, n)).astype(np.float32)[..., None, None] * edge
    seen = nucleolus.nonzero()[0]
    x, y = along[seen] - place[0, seen], across[seen] - place[1, seen]
    inner[seen] += 0.75 * np.exp((x * x + y * y) / -1.6)
    return shape.astype(np.float32), inner.astype(np.float32)
