"""What the leak audit costs on a real data set, and how often it is right.

1. Seconds and memory of the search over a pack that is there already, one thread. Memory is the
   peak of what Python and NumPy allocated (tracemalloc); the pack itself is a memory map.
2. Precision and what lies above the threshold, from `leak_labels.csv`: pairs labelled from contact
   sheets of their pixels, "same" where both show one scene (the same lesion with the same marks
   about it), "different" where not. Not blind: the distances were shown. Pairs are named by id.
3. Recall by the declared groups: of all pairs within a group, how many are below the threshold when
   compared in all 8 turns, and how many of those the search met as candidates.

`python benchmarks/leaks.py --dataset ham10000 --data-dir FOLDER` prints a Markdown section.
"""

import argparse
import tracemalloc
from itertools import combinations
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from _timing import machine
from histo_mlflow.data._leak_confirm import distances
from histo_mlflow.data._leak_marks import make_marks
from histo_mlflow.data.leaks import Alike, find_alike
from histo_mlflow.jobs.prepare import Audited, audit
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import load

LABELS = Path(__file__).with_name("leak_labels.csv")


def measure(pixels: npt.NDArray[np.uint8]) -> tuple[Alike, float, float]:
    """What is found, the seconds it took untraced, and the peak of the allocated MB."""
    started = perf_counter()
    alike = find_alike(pixels, progress=False)
    seconds = perf_counter() - started
    tracemalloc.start()
    find_alike(pixels, progress=False)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return alike, seconds, peak


def judged(audited: Audited, dataset: str) -> str:
    """Verdicts of the labelled pairs of this data set on either side of the threshold."""
    labels = pd.read_csv(LABELS, dtype=str)
    labels = labels[labels["recipe"] == dataset]
    if labels.empty:
        return f"No pairs of {dataset} are labelled."
    pairs = audited.leaks.pairs
    near = pairs[pairs["kind"] == "near"]
    across_of = {frozenset((p.id_a, p.id_b)): bool(p.across) for p in near.itertuples()}
    keys = [frozenset(pair) for pair in labels[["id_a", "id_b"]].to_numpy().tolist()]
    same = (labels["verdict"] == "same").tolist()
    taken = [(across_of[k], s) for k, s in zip(keys, same, strict=True) if k in across_of]
    refused = [s for k, s in zip(keys, same, strict=True) if k not in across_of]
    across = [s for is_across, s in taken if is_across]
    n_across = int(near["across"].sum())
    return (
        f"Precision on labelled near-duplicates: {sum(s for _, s in taken)} of {len(taken)} show "
        f"one scene ({len(near)} were found); across groups {sum(across)} of {len(across)} "
        f"({n_across} were found). Of {len(refused)} labelled pairs above the threshold, "
        f"{sum(refused)} show one scene all the same."
    )


def recalled(audited: Audited) -> str:
    """How the pairs within declared groups score in all turns, and which of them were met."""
    groups = audited.manifest.table.groupby("group", sort=True).indices
    within = np.array([pair for rows in groups.values() for pair in combinations(rows, 2)])
    if within.size == 0:
        return "No declared group has two images."
    pixels, alike = audited.pack.pixels(), audited.leaks.alike
    turns = [np.column_stack((within, np.full(len(within), turn))) for turn in range(8)]
    common = make_marks(pixels, lambda n: None).common
    best = np.min([distances(pixels, pairs, common) for pairs in turns], axis=0)
    below = {tuple(sorted(pair)) for pair in within[best < alike.threshold].tolist()}
    found = {(int(a), int(b)) for a, b in alike.pairs[["a", "b"]].to_numpy()}
    return (
        f"Of {len(within):,} pairs within a declared group {len(below):,} are below the threshold "
        f"in some turn; the search met {len(below & found):,} of them."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", default="ham10000", help="a recipe")
    parser.add_argument("--data-dir", required=True, help="its data folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load(arguments.dataset, {"data_dir": arguments.data_dir})
    audited = audit(recipe, talk=Talk(quiet=True))
    alike, seconds, peak = measure(audited.pack.pixels())
    n = audited.pack.n
    print(f"## Leak audit: {n:,} images of {audited.pack.image_px} px, {arguments.dataset}\n")
    print(f"{machine()}\n")
    print(
        f"{seconds:.1f} s, {peak:,.0f} MB allocated at most; {alike.candidates:,} candidates, "
        f"threshold {alike.threshold:.3f}, closest of {alike.decoys:,} decoys "
        f"{alike.closest_decoy:.3f}.\n"
    )
    for name, value in audited.leaks.summary().items():
        print(f"- {name}: {value}")
    print(f"\n{judged(audited, arguments.dataset)}\n\n{recalled(audited)}")


if __name__ == "__main__":
    main()
