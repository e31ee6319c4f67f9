"""What fields of one recipe must have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from histo_mlflow.recipe.sections import Recipe


def disagreements(recipe: Recipe) -> Iterator[str]:
    """A sentence for each pair of fields that cannot stand together."""
    pixels, split, training = recipe.pixels, recipe.split, recipe.training
    data, optimisation = recipe.data, recipe.optimisation
    if (pixels.fit == "crop") != (pixels.crop_px is not None):
        yield (
            f"crop_px belongs to fit=crop: got fit={pixels.fit} and crop_px={pixels.crop_px}; "
            "give both or neither"
        )
    if split.val_fraction + split.test_fraction >= 1:
        yield (
            f"val_fraction and test_fraction leave nothing to train on: "
            f"{split.val_fraction} + {split.test_fraction}"
        )
    if split.folds is not None and split.fold >= split.folds:
        yield f"fold counts from 0 and should be below folds={split.folds}, got {split.fold}"
    if split.folds is not None and split.split == "given":
        yield "folds are drawn: split should be group (or row, which leaks), got given"
    if split.folds is None and split.fold:
        yield f"fold={split.fold} needs folds, the number of folds"
    if optimisation.frozen_epochs >= training.epochs:
        yield (
            f"frozen_epochs should be below epochs={training.epochs}, "
            f"got {optimisation.frozen_epochs}: the whole model would never train"
        )
    if 2 * optimisation.warmup_epochs > training.epochs:
        yield (
            f"warmup_epochs should be at most half of epochs={training.epochs}, "
            f"got {optimisation.warmup_epochs}"
        )
    if optimisation.schedule == "onecycle" and optimisation.warmup_epochs:
        yield "schedule=onecycle has its own warm-up: leave warmup_epochs at 0"
    if optimisation.optimiser != "sgd" and optimisation.momentum is not None:
        yield f"momentum belongs to optimiser=sgd, got optimiser={optimisation.optimiser}"
    columns = ("metadata_csv", "image_column", "class_column")
    missing = [column for column in columns if getattr(data, column) is None]
    if data.source == "spider_skin" and missing:
        yield f"source=spider_skin needs {', '.join(missing)}"
    if data.source != "spider_skin":
        yield from (
            f"{name} belongs to source=spider_skin, got source={data.source}"
            for name in (*columns, "group_column")
            if getattr(data, name) is not None
        )
    if data.source == "demo" and data.data_dir != "auto":
        yield "source=demo generates its own images: leave data_dir at auto"
