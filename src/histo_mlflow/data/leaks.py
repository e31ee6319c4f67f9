"""Which images show the same thing, whatever their groups say: the audit before the split.

Three things make images belong together: the group that the data set declares, equal pixels (also
turned or mirrored), and near-duplicates: one photograph twice, recompressed, in other colours,
turned, or cropped by a few per cent. Joined by union-find they are the leak groups, which a split
keeps whole.

That pixels are alike is a fact of the pack alone, found once and kept in the cache (`<cache>/leaks/
<digest>.json`); groups and labels are laid over it each time.

Flat images (blank patches) are linked to nothing: they are alike without showing the same place.
A few wrong links make groups larger and nothing worse, but many would chain a data set into one
group. Where near-duplicates would make a group larger than `LARGEST_SHARE` of the images, those
that all look like one of them are joined, up to `LARGEST_CROWD` of the images, and links that lead
on from there are told and held back. Groups elsewhere do not change by it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from histo_mlflow import files
from histo_mlflow.data._leak_candidates import candidates, hashes
from histo_mlflow.data._leak_confirm import confirm
from histo_mlflow.data._leak_crowds import hub_pairs
from histo_mlflow.data._leak_groups import bounded_groups, equal_pairs, joined_groups, united
from histo_mlflow.data._leak_marks import Pixels, make_marks, turned
from histo_mlflow.data.pack import Pack
from histo_mlflow.errors import DataError

__all__ = [
    "Alike",
    "Leaks",
    "alike_pixels",
    "find_alike",
    "find_leaks",
    "joined_groups",
    "turned",
]

# Raise it when what is found in the same pixels changes: old findings are then not used.
_VERSION: Final = 2
LARGEST_SHARE: Final = 0.05
LARGEST_IMAGES: Final = 20
"""A joined group of no more images is never held back, however small the data set."""
LARGEST_CROWD: Final = 0.25
"""Share of the images that copies of one scene may be: a split can still hold them on one side."""
_PAIR_COLUMNS: Final = {"a": "int64", "b": "int64", "turn": "int64", "distance": "float64"}


@dataclass(frozen=True, eq=False)
class Alike:
    """Which rows of a pack hold the same picture.

    Attributes:
        pairs: columns a, b (rows, a < b), kind ("equal" or "near"), turn (of b, 0 .. 7: quarters
            counter-clockwise, from 4 on mirrored left-right after) and distance (0 is the same
            detail, 1 none in common); nearest first.
        refused: the nearest pairs that were compared and not taken, the same columns.
        threshold: near-duplicates are below this distance.
        decoys: wrong pairings that the threshold was set by.
        closest_decoy: the least distance of one of them.
        candidates: candidate pairs, a pair counting once for each turn.
        flat: images without detail, linked to nothing.
        seconds: how long the search took.
    """

    pairs: pd.DataFrame
    refused: pd.DataFrame
    threshold: float
    decoys: int
    closest_decoy: float
    candidates: int
    flat: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Leaks:
    """The audit of a data set.

    Attributes:
        pairs: one row a pair: id_a, id_b, kind, turn, distance, group_a, group_b, label_a, label_b,
            across (the declared groups differ), conflict (the labels differ), row_a, row_b.
        groups: leak group of each image, in the order given.
        declared: number of declared groups.
        held_back: near pairs that would chain too many images and were not joined.
        largest: images in the largest group that joining all pairs makes.
        alike: what was found in the pixels, and how.
    """

    pairs: pd.DataFrame
    groups: tuple[str, ...]
    declared: int
    held_back: int
    largest: int
    alike: Alike

    def summary(self) -> dict[str, Any]:
        """The audit in numbers, as JSON values."""
        pairs, alike = self.pairs, self.alike
        numbers: dict[str, Any] = {"images": len(self.groups), "declared_groups": self.declared}
        for kind in ("equal", "near"):
            of_kind = pairs["kind"] == kind
            numbers[f"{kind}_pairs_within_groups"] = int((of_kind & ~pairs["across"]).sum())
            numbers[f"{kind}_pairs_across_groups"] = int((of_kind & pairs["across"]).sum())
        return {
            **numbers,
            "pairs_with_different_labels": int(pairs["conflict"].sum()),
            "leak_groups": len(set(self.groups)),
            "largest_leak_group_if_joined": self.largest,
            "near_pairs_held_back": self.held_back,
            "flat_images": alike.flat,
            "threshold": round(alike.threshold, 4),
            "closest_decoy": round(alike.closest_decoy, 4),
            "decoys": alike.decoys,
            "candidates": alike.candidates,
            "seconds": round(alike.seconds, 2),
        }

    def crossing(self, splits: Sequence[str]) -> int:
        """How many images have a look-alike, or a member of their group, in another split.

        Args:
            splits: name of the split of each image, in the order of `groups`.
        """
        rows = self.pairs[["row_a", "row_b"]].to_numpy(np.int64)
        of_all = joined_groups(self.groups, rows)
        frame = pd.DataFrame({"group": of_all, "split": list(splits)})
        return int((frame.groupby("group")["split"].transform("nunique") > 1).sum())


def find_leaks(
    pack: Pack,
    groups: Sequence[str],
    labels: Sequence[str],
    cache_dir: Path,
    *,
    progress: bool = True,
) -> Leaks:
    """Audit a packed data set; the same pack is looked through once.

    Args:
        pack: the packed images.
        groups: declared group of each of its rows.
        labels: class of each.
        cache_dir: what was found is kept below it.
        progress: show a bar on stderr.

    Raises:
        DataError: not one group and label for each image of the pack.
    """
    if not len(groups) == len(labels) == pack.n:
        raise DataError(
            f"each of the {pack.n:,} packed images needs a group and a label: got {len(groups):,} "
            f"groups and {len(labels):,} labels"
        )
    alike = alike_pixels(pack, cache_dir, progress=progress)
    pairs = _told(alike.pairs, pack.ids, groups, labels)
    rows = alike.pairs[["a", "b"]].to_numpy(np.int64)
    # Large declared groups (slides) are no fault; what counts is how much the near pairs add.
    equal_only = joined_groups(groups, rows[(alike.pairs["kind"] == "equal").to_numpy()])
    allowed = max(LARGEST_IMAGES, LARGEST_SHARE * pack.n, 2 * _largest(equal_only))
    joined = bounded_groups(equal_only, rows, allowed, max(allowed, LARGEST_CROWD * pack.n))
    return Leaks(
        pairs=pairs,
        groups=joined,
        declared=len(set(groups)),
        held_back=sum(joined[a] != joined[b] for a, b in rows.tolist()),
        largest=_largest(joined_groups(groups, rows)),
        alike=alike,
    )


def alike_pixels(pack: Pack, cache_dir: Path, *, progress: bool = True) -> Alike:
    """`find_alike` of a pack, from the cache if this pack was looked through before."""
    key = hashlib.sha256(f"{_VERSION}\0{pack.key}".encode()).hexdigest()
    path = cache_dir / "leaks" / f"{key}.json"
    if (known := _load(path, pack.n)) is not None:
        return known
    alike = find_alike(pack.pixels(), progress=progress)
    files.make_folder(path.parent)
    files.write_json(path, _to_json(alike))
    return alike


def find_alike(pixels: Pixels, *, progress: bool = True) -> Alike:
    """Find equal and nearly equal images, whatever groups they are of.

    Memory grows with n, as each image is kept as less than 1 KB of marks and at most some dozens of
    candidates; time grows as n log n once these are that many (`benchmarks/leaks.py` measures).

    Args:
        pixels: uint8 (n, px, px, 3); a memory map stays one.
        progress: show a bar on stderr.
    """
    started = perf_counter()
    with tqdm(
        total=len(pixels), desc="leaks", unit="img", disable=not progress, leave=False
    ) as bar:
        marks = make_marks(pixels, bar.update)
        equal = equal_pairs(pixels, marks)
        likely = candidates(hashes(marks.cosines), marks.flat)
        bar.reset(total=2 * len(likely))
        bar.unit = "pair"
        near = confirm(pixels, marks, likely, bar.update)
        links = np.concatenate((equal[:, :2], near.pairs[:, :2]))
        of_hubs, hub_distance = hub_pairs(pixels, marks, links, near.threshold, bar.update)
    of_all = np.concatenate((near.pairs, of_hubs))
    _, first = np.unique(of_all[:, :2], axis=0, return_index=True)
    near_pairs, distance = of_all[first], np.concatenate((near.distance, hub_distance))[first]
    same = united(len(pixels), ((int(a), int(b)) for a, b, _ in equal))
    new = same[near_pairs[:, 0]] != same[near_pairs[:, 1]]
    return Alike(
        pairs=pd.concat(
            [
                _frame(equal, np.zeros(len(equal)), "equal"),
                _frame(near_pairs[new], distance[new], "near"),
            ],
            ignore_index=True,
        ).sort_values(["distance", "a", "b"], ignore_index=True),
        refused=_frame(near.refused, near.refused_distance, "refused"),
        threshold=near.threshold,
        decoys=near.decoys,
        closest_decoy=near.closest_decoy,
        candidates=len(likely),
        flat=int(marks.flat.sum()),
        seconds=perf_counter() - started,
    )


def _frame(
    pairs: npt.NDArray[np.int64], distance: npt.NDArray[np.float64], kind: str
) -> pd.DataFrame:
    columns = {"a": pairs[:, 0], "b": pairs[:, 1], "turn": pairs[:, 2], "distance": distance}
    return pd.DataFrame({**columns, "kind": pd.Series([kind] * len(pairs), dtype="str")})


def _told(
    pairs: pd.DataFrame, ids: Sequence[str], groups: Sequence[str], labels: Sequence[str]
) -> pd.DataFrame:
    """The pairs under the names that a person knows."""
    told: dict[str, Any] = {}
    for name, values in (("id", ids), ("group", groups), ("label", labels)):
        column = np.asarray(values, dtype=object).astype(str)
        for side in ("a", "b"):
            told[f"{name}_{side}"] = pd.Series(column[pairs[side].to_numpy()], dtype="str")
    frame = pd.DataFrame(told)
    frame["kind"], frame["turn"] = pairs["kind"], pairs["turn"]
    frame["distance"] = pairs["distance"].round(6)
    frame["across"] = frame["group_a"] != frame["group_b"]
    frame["conflict"] = frame["label_a"] != frame["label_b"]
    frame["row_a"], frame["row_b"] = pairs["a"], pairs["b"]
    return frame


def _largest(groups: Sequence[str]) -> int:
    return int(pd.Series(groups).value_counts().max())


def _to_json(alike: Alike) -> dict[str, Any]:
    facts = {
        name: getattr(alike, name)
        for name in ("threshold", "decoys", "closest_decoy", "candidates", "flat", "seconds")
    }
    tables = {name: getattr(alike, name).to_dict(orient="list") for name in ("pairs", "refused")}
    kept = {"format": _VERSION, **facts, **tables}
    return {**kept, "digest": _digest(kept)}


def _digest(kept: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _load(path: Path, n: int) -> Alike | None:
    """What was kept of n images, or None where it is not there exactly as it was written."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("digest") != _digest(kept) or kept.pop("format") != _VERSION:
            return None
        for name in ("pairs", "refused"):
            frame = pd.DataFrame(kept[name], columns=[*_PAIR_COLUMNS, "kind"])
            kept[name] = frame.astype({**_PAIR_COLUMNS, "kind": "str"})
            if not kept[name][["a", "b"]].isin(range(n)).all(axis=None):
                return None
        return Alike(**kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # then it is found anew, which is always right
