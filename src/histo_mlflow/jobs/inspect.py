"""A data set as it lies there, and what is to be said of it. Needs no torch, so it starts fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from histo_mlflow.data.checks import Finding, check
from histo_mlflow.data.scan import scan
from histo_mlflow.data.sources import Listing, SourceOptions, listing
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.paths import cache_dir
from histo_mlflow.recipe import Recipe


@dataclass(frozen=True)
class Inspected:
    """The files, what each holds, and the findings of every check."""

    listing: Listing
    scanned: pd.DataFrame
    findings: Sequence[Finding]


def inspect(recipe: Recipe, *, talk: Talk) -> Inspected:
    """Find the data set's files, read every one once, and check everything.

    Raises:
        DataError: the data set is not there.
    """
    data = recipe.data
    found = listing(
        data.source,
        _root(recipe),
        SourceOptions(
            metadata_csv=data.metadata_csv,
            image_column=data.image_column,
            class_column=data.class_column,
            group_column=data.group_column,
            placeholder_labels=data.placeholder_labels,
            demo_images=data.demo_images,
        ),
    )
    scanned = scan(found, cache_dir(), progress=talk.bars)
    return Inspected(found, scanned, check(found, scanned))


def _root(recipe: Recipe) -> Path:
    data = recipe.data
    if data.source == "demo":
        return cache_dir() / "demo"
    if data.data_dir == "auto":
        return Path("data") / recipe.name
    return Path(data.data_dir).expanduser()
