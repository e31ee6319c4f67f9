"""Are mistakes that were planted found? Real images, real training, faults that are known.

Wrong labels: 3 % of the images of HAM10000 get another diagnosis (whole images, drawn at random);
a cross-validation is trained on the altered labels, and counted is how many of them are in the
first 10 % of the review queue.

A bad slice: in the out-of-fold predictions the true labels of one localization are replaced by
other diagnoses; that localization should come first among all slices. Tried for each localization.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from _timing import machine
from histo_mlflow.data.sources.ham10000 import CLASSES, IMAGE_FOLDERS, METADATA
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.evaluate import evaluate
from histo_mlflow.evaluation.review import review_queue
from histo_mlflow.jobs.crossval import crossval
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import load

SHARE, FIRST = 0.03, 0.10


def flip(labels: pd.Series, rng: np.random.Generator) -> pd.Series:
    """Another class for each label, any of the others."""
    return labels.map(lambda name: str(rng.choice([one for one in CLASSES if one != name])))


def alter(source: Path, target: Path, seed: int) -> set[str]:
    """Lay out a copy of the data set whose table has wrong labels; the ids of these images."""
    rng = np.random.default_rng(seed)
    for name in IMAGE_FOLDERS:
        (target / name).symlink_to(source / name, target_is_directory=True)
    table = pd.read_csv(source / METADATA, dtype=str, keep_default_na=False)
    wrong = rng.choice(len(table), round(SHARE * len(table)), replace=False)
    table.loc[wrong, "dx"] = flip(table.loc[wrong, "dx"], rng).to_numpy()
    table.to_csv(target / METADATA, index=False)
    return set(table.loc[wrong, "image_id"])


def review(table: pd.DataFrame, wrong: set[str]) -> None:
    """Print where the wrong labels are in the queue."""
    queue = review_queue(table)
    is_wrong = queue["id"].isin(wrong).to_numpy()
    first = round(FIRST * len(queue))
    issues = queue["issue"].to_numpy()
    print(f"wrong labels: {len(wrong):,} of {len(queue):,} ({100 * SHARE:.0f} %)")
    print(f"in the first {100 * FIRST:.0f} % of the queue: {is_wrong[:first].sum():,} "
          f"({100 * is_wrong[:first].sum() / is_wrong.sum():.0f} % of them; chance "
          f"{100 * FIRST:.0f} %)")  # fmt: skip
    print(f"in the first {len(wrong):,}: {is_wrong[: len(wrong)].sum():,}; called an issue: "
          f"{issues.sum():,}, of these wrong: {(issues & is_wrong).sum():,}")  # fmt: skip


def slices(table: pd.DataFrame, seed: int) -> None:
    """Print where each localization comes when its labels are replaced."""
    rng = np.random.default_rng(seed)
    print("| localization with replaced labels | images | place among the slices | p |")
    print("|---|---|---|---|")
    for place, rows in table.groupby("slice_localization"):
        altered = table.copy()
        altered.loc[rows.index, "label"] = flip(rows["label"], rng).astype("str")
        found = evaluate(altered, replicates=500).slices
        is_planted = (found["column"] == "localization") & (found["slice"] == place)
        where = np.flatnonzero(is_planted)
        told = "too few images" if not len(where) else f"{where[0] + 1} of {len(found)}"
        p = "" if not len(where) else f"{found['p'].iloc[where[0]]:.4f}"
        print(f"| {place} | {len(rows):,} | {told} | {p} |", flush=True)


def main() -> None:
    """Train and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--image-px", default="32")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--folds", default="3")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "data").mkdir()
        wrong = alter(wanted.data_dir.resolve(), place / "data", wanted.seed)
        recipe = load(
            "ham10000",
            {
                "data_dir": str(place / "data"),
                "weights": wanted.weights,
                "image_px": wanted.image_px,
                "epochs": wanted.epochs,
                "folds": wanted.folds,
            },
        )
        started = perf_counter()
        done = crossval(
            recipe,
            tracking_uri=f"sqlite:///{place}/mlflow.db",
            runs_dir=place / "runs",
            pictures=False,
            talk=Talk(),
        )
        table = predictions.load(done.run_dir / "results" / "oof.parquet")
        print(f"HAM10000, {len(table):,} images at {wanted.image_px} px, {wanted.folds} folds of "
              f"{wanted.epochs} epochs: {perf_counter() - started:.0f} s")  # fmt: skip
    review(table, wrong)
    slices(table, wanted.seed)


if __name__ == "__main__":
    main()
