"""Groups that have to be one: equal pixels, and union-find over pairs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

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


def bounded_groups(
    groups: Sequence[str], links: npt.NDArray[np.int64], allowed: float, most: float
) -> tuple[str, ...]:
    """`joined_groups`, but no chain of links makes a group of more than `allowed` images.

    What would be larger falls into stars: the group with most links and all that it is linked with,
    then the next. Copies of one scene are one star, a chain of coincidences many. Where one star is
    half of what is linked, it takes the rest with it. Nothing is joined to more than `most` images,
    be they copies or not.

    Args:
        groups: group of each image.
        links: int64 (m, 2), rows of two images that belong together.
        allowed: images that a group may have however it is linked.
        most: images that a star may have.
    """
    names, codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    codes = codes.ravel()
    images = np.bincount(codes)
    linked: defaultdict[int, set[int]] = defaultdict(set)
    for a, b in codes[links].tolist():
        if a != b:
            linked[a].add(b)
            linked[b].add(a)
    of = united(len(names), ((a, b) for a, others in linked.items() for b in others))
    too_large = np.bincount(of, weights=images) > allowed
    for crowd in np.flatnonzero(too_large):
        members = np.flatnonzero(of == crowd)
        total = int(images[members].sum())
        star_of = _stars(members.tolist(), linked)
        hubs = np.array([star_of[member] for member in members.tolist()])
        stars = [members[hubs == hub] for hub in np.unique(hubs)]
        sizes = [int(images[star].sum()) for star in stars]
        if total <= most and 2 * max(sizes) >= total:
            continue
        of[members] = members
        for star, size in zip(stars, sizes, strict=True):
            if size <= most:
                of[star] = star.min()
    return tuple(str(name) for name in names[of[codes]])


def _stars(members: list[int], linked: Mapping[int, set[int]]) -> dict[int, int]:
    """The hub of each member: the most linked come first, the others go where their links are."""
    hub_of: dict[int, int] = {}
    for hub in sorted(members, key=lambda member: (-len(linked[member]), member)):
        free = [other for other in linked[hub] if other not in hub_of]
        if hub not in hub_of and free:
            hub_of |= dict.fromkeys((hub, *free), hub)
    # Who is left over has only neighbours with a hub; and a link by coincidence may have led the
    # hub of one scene to a member of another, whose other links are there.
    return {member: _most_linked(member, linked, hub_of) for member in members}


def _most_linked(member: int, linked: Mapping[int, set[int]], hub_of: Mapping[int, int]) -> int:
    own = hub_of.get(member)
    if own == member:
        return member
    votes = Counter(hub_of[other] for other in linked[member] if other in hub_of)
    return max(votes, key=lambda hub: (votes[hub], hub == own, -hub))
