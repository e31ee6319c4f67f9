"""The sections of the page on what a data set holds: labels, pixels, groups, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from histo_mlflow.data.findings import have
from histo_mlflow.evaluation.page import Block, Cell, Picture, Table, Text
from histo_mlflow.evaluation.style import count
from histo_mlflow.jobs._explore_look import Overview
from histo_mlflow.jobs.samples import VARIANTS
from histo_mlflow.recipe import Recipe
from histo_mlflow.vision.augment import Policy

MOST_ROWS = 60
"""Classes in a table; explore.json holds all."""


def mixed(view: Overview) -> str:
    """How many groups have several labels, as a clause."""
    kind, n = view.audited.manifest.group_kind, view.mixed_groups
    return f"{f'{n:,}' if n else 'none'} of the {kind}s {have(n)} images with different labels"


def shown(made: Mapping[str, Path], name: str, alt: str, caption: str = "") -> Picture:
    """A figure that was drawn."""
    return Picture(made[name], alt, caption)


def classes(view: Overview, made: Mapping[str, Path]) -> list[Block]:
    """Images and groups of each class."""
    kind = view.audited.manifest.group_kind
    grouped = kind != "image"
    rows: list[list[Cell]] = []
    for name, row in view.classes.head(MOST_ROWS).iterrows():
        cells: list[Cell] = [str(name), int(row["images"]), f"{100 * row['share']:.1f} %"]
        if grouped:
            each, most = row["images_per_group"], row["largest_group"]
            cells += [int(row["groups"]), None if np.isnan(each) else f"{each:.2f}"]
            cells += [None if np.isnan(most) else int(most)]
        rows.append(cells)
    columns = ["class", "images", "share"]
    columns += [f"{kind}s", f"images a {kind}", f"most of one {kind}"] if grouped else []
    left = len(view.classes) - len(rows)
    caption = f"{count(len(view.audited.manifest.table), 'image')}" + (
        f"; {left:,} more classes are in explore.json" if left else ""
    )
    return [
        shown(made, "class_balance", "Bars: images and groups of each class"),
        Table(columns, rows, caption),
    ]


def augmentation(policy: Policy, recipe: Recipe, made: Mapping[str, Path]) -> list[Block]:
    """What training would do to an image."""
    active = {
        name: value for name, value in asdict(policy).items() if value != asdict(Policy())[name]
    }
    told = ", ".join(f"{name} {_told(value)}" for name, value in active.items())
    text = (
        f"The policy {recipe.augment.policy} of this recipe: {told}. The first column is the image "
        f"as it is; the others are {VARIANTS} epochs."
        if policy.is_random
        else f"The policy {recipe.augment.policy} of this recipe changes nothing."
    )
    return [
        Text(text),
        shown(made, "augmented", "Five images and what augmentation makes of them"),
    ]


def _told(value: object) -> str:
    if isinstance(value, tuple | list):
        return " to ".join(f"{part:g}" for part in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def intensity(view: Overview, made: Mapping[str, Path]) -> list[Block]:
    """How bright the pixels are."""
    found = view.intensities
    rows: list[list[Cell]] = [
        [
            name,
            f"{found.mean[k]:.1f}",
            f"{found.deviation[k]:.1f}",
            f"{found.mean[k] / 255:.4f}",
            f"{found.deviation[k] / 255:.4f}",
            f"{100 * found.share(0)[k]:.2f} %",
            f"{100 * found.share(255)[k]:.2f} %",
        ]
        for k, name in enumerate(("red", "green", "blue"))
    ]
    columns = ["channel", "mean", "SD", "mean (0-1)", "SD (0-1)", "pixels at 0", "pixels at 255"]
    return [
        shown(made, "intensities", "Histograms of the red, green and blue values"),
        Table(columns, rows, f"over all pixels of {count(found.images, 'image')}"),
    ]


def sizes(view: Overview, recipe: Recipe, made: Mapping[str, Path]) -> list[Block]:
    """The files, and what the model is given of them."""
    sizes, pixels = view.sizes, recipe.pixels
    rows: list[list[Cell]] = [
        [f"{row['width']} x {row['height']}", int(row["images"])]
        for row in sizes.head(10).to_dict(orient="records")
    ]
    more = len(sizes) - len(rows)
    how = {
        "cover": "the short side is brought to that and the middle is cut out",
        "squash": "both sides are brought to that, whatever the aspect",
        "crop": f"the middle {pixels.crop_px} px are cut out and resized",
    }[pixels.fit]
    return [
        Text(f"The model is given {pixels.image_px} x {pixels.image_px} px: {how}."),
        shown(made, "image_sizes", "Width against height of the image files"),
        Table(["size (px)", "images"], rows, f"and {more:,} more sizes" if more else ""),
    ]


def groups(view: Overview, made: Mapping[str, Path]) -> list[Block]:
    """What belongs together."""
    kind = view.audited.manifest.group_kind
    if "group_sizes" not in made:
        return [
            Text(
                "The source knows no groups: each image is its own, and a split can only keep "
                "together what looks the same."
            )
        ]
    return [
        Text(f"All images of a {kind} stay on one side of a split by group; {mixed(view)}."),
        shown(made, "group_sizes", f"How many {kind}s have how many images"),
    ]


def metadata(view: Overview, made: Mapping[str, Path]) -> list[Block]:
    """What the source says beside the label."""
    if not view.columns:
        return []
    rows: list[list[Cell]] = [
        [
            column.name,
            column.kind,
            column.distinct,
            column.missing,
            "-" if column.association is None else f"{column.association:.2f}",
        ]
        for column in view.columns
    ]
    blocks: list[Block] = [
        Text(
            "What the source says beside the label. A column that goes with the class is a way to "
            "look for slices on which a model fails, and a way for a model to be right for a wrong "
            "reason."
        ),
        Table(
            ["column", "kind", "values", "missing", "goes with the class (0-1)"],
            rows,
            "Cramér's V (bias-corrected) of categories, correlation ratio of numbers",
        ),
    ]
    for column in view.columns:
        if (name := f"column {column.name}") in made:
            blocks.append(shown(made, name, f"{column.name} by class"))
    return blocks
