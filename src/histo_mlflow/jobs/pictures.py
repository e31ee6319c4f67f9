"""The pictures of a run, drawn into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from histo_mlflow.evaluation.grids import augmented_grid, sample_grid
from histo_mlflow.evaluation.plots import confusion, learning_curves, roc
from histo_mlflow.evaluation.style import save
from histo_mlflow.jobs.prepare import Prepared
from histo_mlflow.randomness import permutation
from histo_mlflow.vision.augment import Policy, augment

SAMPLES = 30
AUGMENTED, VARIANTS = 5, 7


def draw_data(folder: Path, prepared: Prepared, policy: Policy, seed: int) -> None:
    """`samples.png` and `augmented.png` from the training split."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, labels = _spread(prepared, seed, SAMPLES)
    note = "training split" + (
        ", synthetic" if prepared.manifest.label_source == "synthetic" else ""
    )
    pixels = prepared.pack.pixels()
    save(sample_grid(pixels[rows], labels, heading="Samples", facts=note), folder / "samples.png")
    every = max(1, len(rows) // AUGMENTED)
    chosen, titles = rows[::every][:AUGMENTED], labels[::every][:AUGMENTED]
    images = torch.from_numpy(np.array(pixels[chosen])).permute(0, 3, 1, 2)
    variants = [
        augment(images, policy, seed, epoch, np.arange(len(chosen), dtype=np.int64))
        for epoch in range(VARIANTS)
    ]
    stacked = torch.stack(variants, dim=1).permute(0, 1, 3, 4, 2).contiguous().numpy()
    save(
        augmented_grid(
            pixels[chosen],
            stacked,
            titles=titles,
            heading="Augmentation",
            facts=f"{note}, {VARIANTS} draws of the policy",
        ),
        folder / "augmented.png",
    )


def draw_results(
    folder: Path,
    history: Sequence[Mapping[str, Any]],
    predictions: pd.DataFrame,
    classes: Sequence[str],
    best_epoch: int | None,
) -> None:
    """`learning_curves.png`, `roc.png` and `confusion.png`, the last two of the test split."""
    folder.mkdir(parents=True, exist_ok=True)
    save(learning_curves(history, best_epoch=best_epoch), folder / "learning_curves.png")
    save(roc(predictions, classes, split="test"), folder / "roc.png")
    save(confusion(predictions, classes, split="test"), folder / "confusion.png")


def _spread(prepared: Prepared, seed: int, n: int) -> tuple[np.ndarray, list[str]]:
    """Rows of up to n training images, the classes in turn, and their labels."""
    rows = prepared.splits.rows("train")
    rows = rows[permutation(seed, 0, len(rows))]
    labels = prepared.manifest.table["label"].to_numpy()[rows]
    turn = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    order = np.lexsort((labels, turn))[:n]
    order = order[np.argsort(labels[order], kind="stable")]
    return rows[order], [str(label) for label in labels[order]]
