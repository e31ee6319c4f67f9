"""Everything that the page of a data set says, as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from histo_mlflow.jobs._explore_look import Overview, Seer
from histo_mlflow.recipe import Recipe


def to_json(view: Overview, recipe: Recipe, seer: Seer) -> dict[str, Any]:
    """Everything that the page says, as JSON values."""
    audited, manifest, seen = view.audited, view.audited.manifest, view.seen
    agreement = None if seen.agreement is None else asdict(seen.agreement)
    if agreement is not None:
        agreement["by_class"] = dict(zip(manifest.classes, agreement["by_class"], strict=True))
    return {
        "format": 1,
        "recipe": recipe.name,
        "data": str(manifest.root),
        "digest": audited.digest,
        "label_source": manifest.label_source,
        "images": len(manifest.table),
        "group_kind": manifest.group_kind,
        "groups": int(view.groups.sum()),
        "mixed_groups": view.mixed_groups,
        "classes": {
            str(name): {key: _number(value) for key, value in row.items()}
            for name, row in view.classes.iterrows()
        },
        "group_sizes": {str(size): int(n) for size, n in view.groups.items()},
        "image_sizes": view.sizes.to_dict(orient="records"),
        "intensity": {
            "images": view.intensities.images,
            "mean": view.intensities.mean.round(4).tolist(),
            "deviation": view.intensities.deviation.round(4).tolist(),
            "counts": view.intensities.counts.tolist(),
        },
        "metadata": [
            {
                "name": column.name,
                "kind": column.kind,
                "missing": column.missing,
                "distinct": column.distinct,
                "association": column.association,
                "by_class": {
                    str(name): {str(key): _number(value) for key, value in row.items()}
                    for name, row in column.by_class.iterrows()
                },
            }
            for column in view.columns
        ],
        "leaks": view.leaks.to_json(),
        "split": view.splits
        if isinstance(view.splits, str)
        else view.splits.counts().fillna(0).astype(int).to_dict(orient="index"),
        "features": {
            "images": len(seen.rows),
            "model": recipe.model.model,
            "weights": None if seer.weights is None else asdict(seer.weights),
            "why_none": seen.why,
            "nearest_has_same_label": agreement,
        },
    }


def _number(value: Any) -> int | float | None:
    if value is None or np.isnan(value):
        return None
    return int(value) if float(value).is_integer() else float(value)
