"""The figures of a data set, drawn into a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from histo_mlflow.evaluation import explore as figures
from histo_mlflow.evaluation.columns import category_by_class, number_by_class
from histo_mlflow.evaluation.embedding import embedding_figure
from histo_mlflow.evaluation.style import save
from histo_mlflow.jobs._explore_look import Overview, Seer
from histo_mlflow.jobs.samples import draw_augmented, draw_samples, spread
from histo_mlflow.recipe import Recipe
from histo_mlflow.vision.augment import Policy

GRID = 5
MOST_COLUMNS = 12
"""Columns of metadata that are drawn."""


def draw(
    folder: Path, view: Overview, recipe: Recipe, policy: Policy, seer: Seer
) -> dict[str, Path]:
    """Draw every figure into a folder; name -> file, without those that there is nothing to draw
    for.

    Args:
        folder: is there and is empty.
        view: what is drawn.
        recipe: its pixels and seed are used.
        policy: what training would do to a sample.
        seer: its weights are named in the figure of features.
    """
    manifest, classes = view.audited.manifest, view.audited.manifest.classes
    note = _unreal_word(view)
    made: dict[str, Path] = {}

    def keep(name: str, make: Callable[[], Figure]) -> None:
        made[name] = folder / f"{name}.png"
        save(make(), made[name])

    keep(
        "class_balance",
        lambda: figures.class_balance(view.classes, group_kind=manifest.group_kind, facts=note),
    )
    _draw_samples(folder, view, recipe, policy, made)
    keep(
        "intensities",
        lambda: figures.intensity_histograms(
            view.intensities, image_px=recipe.pixels.image_px, of=len(manifest.table)
        ),
    )
    keep(
        "image_sizes",
        lambda: figures.image_sizes(view.sizes, image_px=recipe.pixels.image_px),
    )
    if manifest.group_kind != "image":
        keep(
            "group_sizes",
            lambda: figures.group_sizes(view.groups, group_kind=manifest.group_kind),
        )
    drawers = {"number": number_by_class, "category": category_by_class}
    shown = [column for column in view.columns if column.kind in drawers and column.distinct > 1]
    for i, column in enumerate(shown[:MOST_COLUMNS], start=1):
        slug = re.sub(r"[^A-Za-z0-9]+", "_", column.name).strip("_")[:40]
        made[f"column {column.name}"] = folder / f"metadata_{i:02d}_{slug}.png"
        save(drawers[column.kind](column, classes=classes), made[f"column {column.name}"])
    if view.seen.points is not None:
        points, labels = view.seen.points, manifest.table["label"].to_numpy()[view.seen.rows]
        facts = " · ".join(filter(None, [weights_told(recipe, seer), note]))
        keep(
            "tsne",
            lambda: embedding_figure(
                points, labels.tolist(), classes, heading="t-SNE of features", facts=facts
            ),
        )
    return made


def _draw_samples(
    folder: Path, view: Overview, recipe: Recipe, policy: Policy, made: dict[str, Path]
) -> None:
    labels, seed = view.audited.manifest.table["label"].tolist(), recipe.training.seed
    rows = spread(labels, seed, GRID * GRID)
    pixels = view.audited.pack.pixels()[rows]
    titles = [str(labels[row]) for row in rows]
    note = ", ".join(filter(None, ["all images, the classes in turn", _unreal_word(view)]))
    made["samples"] = folder / "samples.png"
    draw_samples(made["samples"], pixels, titles, note, columns=GRID)
    made["augmented"] = folder / "augmented.png"
    named = f"policy {recipe.augment.policy}"
    draw_augmented(made["augmented"], pixels, titles, policy, seed, named)


def weights_told(recipe: Recipe, seer: Seer) -> str:
    """Model and weights for a line of facts."""
    if seer.weights is None:
        return ""
    if seer.weights.source == "none":
        return f"{recipe.model.model}, random weights: colours and textures, nothing learned"
    return f"{recipe.model.model}, weights {seer.weights.source.rpartition('/')[2]}"


def _unreal_word(view: Overview) -> str:
    source = view.audited.manifest.label_source
    return {"synthetic": "synthetic", "placeholder": "placeholder labels"}.get(source, "")
