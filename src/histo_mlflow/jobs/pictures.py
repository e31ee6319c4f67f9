"""The pictures of a run, drawn into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from histo_mlflow.evaluation.plots import learning_curves
from histo_mlflow.evaluation.style import save
from histo_mlflow.jobs.prepare import Prepared
from histo_mlflow.jobs.samples import draw_augmented, draw_samples, spread
from histo_mlflow.vision.augment import Policy

SAMPLES = 30


def draw_data(folder: Path, prepared: Prepared, policy: Policy, seed: int) -> None:
    """`samples.png` and `augmented.png` from the training split."""
    folder.mkdir(parents=True, exist_ok=True)
    note = "training split" + (
        ", synthetic" if prepared.manifest.label_source == "synthetic" else ""
    )
    rows = prepared.splits.rows("train")
    labels = prepared.manifest.table["label"].to_numpy()[rows]
    chosen = spread(labels, seed, SAMPLES)
    pixels, titles = prepared.pack.pixels()[rows[chosen]], [str(name) for name in labels[chosen]]
    draw_samples(folder / "samples.png", pixels, titles, note, columns=6)
    draw_augmented(folder / "augmented.png", pixels, titles, policy, seed, note)


def draw_results(
    folder: Path, history: Sequence[Mapping[str, Any]], best_epoch: int | None
) -> None:
    """`learning_curves.png`; what shows the predictions comes with the evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    save(learning_curves(history, best_epoch=best_epoch), folder / "learning_curves.png")
