"""A data set in a few numbers and sentences: the top of its page."""

from __future__ import annotations

import pandas as pd

from histo_mlflow.data.checks import Level
from histo_mlflow.data.findings import have
from histo_mlflow.evaluation.page import Block, Items, Note
from histo_mlflow.evaluation.style import count
from histo_mlflow.jobs import _explore_holds as holds
from histo_mlflow.jobs._explore_look import Overview

_UNREAL = {
    "synthetic": "The images and labels are synthetic: they show that the machinery works and say "
    "nothing about medicine.",
    "placeholder": "The labels are placeholders: what is trained on them proves nothing and can "
    "never be promoted.",
}


def tiles(view: Overview) -> list[tuple[str, str]]:
    """The numbers that stand at the top of the page."""
    audited, manifest = view.audited, view.audited.manifest
    summary = audited.leaks.summary()
    levels = [finding.level for finding in audited.findings]
    kinds = [f"{levels.count(level)} {level}" for level in Level if levels.count(level)]
    across = summary["equal_pairs_across_groups"] + summary["near_pairs_across_groups"]
    grouped = manifest.group_kind != "image"
    return [
        ("images", f"{len(manifest.table):,}"),
        ("classes", f"{len(manifest.classes):,}"),
        (f"{manifest.group_kind}s", f"{int(view.groups.sum()):,}" if grouped else "not grouped"),
        ("largest to smallest class", _imbalance(view.classes["images"])),
        ("labels from", manifest.label_source),
        (
            "look-alike pairs across " + (f"{manifest.group_kind}s" if grouped else "images"),
            f"{across:,}",
        ),
        ("checks", ", ".join(kinds)),
    ]


def _imbalance(images: pd.Series) -> str:
    if images.min() == 0:
        return "a class is empty"
    return f"{images.max() / images.min():.1f} : 1"


def short(view: Overview) -> list[Block]:
    """What to know before reading on."""
    audited, manifest = view.audited, view.audited.manifest
    images = view.classes["images"]
    blocks: list[Block] = []
    if manifest.label_source in _UNREAL:
        blocks.append(Note(_UNREAL[manifest.label_source]))
    kind, n = manifest.group_kind, len(manifest.table)
    largest, smallest = images.idxmax(), images.idxmin()
    items = [
        f"{count(n, 'image')} of {len(manifest.classes)} classes; the largest, {largest}, has "
        f"{images.max():,} ({100 * images.max() / n:.1f} %), the smallest, {smallest}, "
        f"{images.min():,} ({100 * images.min() / n:.1f} %){_flattering(images)}.",
        "No groups are known, so each image counts as its own: images of one patient or slide may "
        "end up on both sides of a split."
        if kind == "image"
        else f"{int(view.groups.sum()):,} {kind}s with up to {int(view.groups.index.max()):,} "
        f"images each; {holds.mixed(view)}.",
        _leaks_short(view),
        _split_short(view),
    ]
    warned = [f for f in audited.findings if f.level is not Level.PASS]
    items.append(
        f"{len(audited.findings)} checks, none failed"
        + (f"; {len(warned)} warn: {', '.join(f.check for f in warned)}." if warned else ".")
    )
    return [*blocks, Items(items)]


def _flattering(images: pd.Series) -> str:
    """What accuracy would hide, where one class outweighs the others."""
    share = images.max() / images.sum()
    if share < 1.5 / len(images):
        return ""
    return (
        f"; saying {images.idxmax()} of every image would be right in {100 * share:.1f} %, so "
        "accuracy flatters: look at AUC or balanced accuracy"
    )


def _leaks_short(view: Overview) -> str:
    summary, kind = view.audited.leaks.summary(), view.audited.manifest.group_kind
    near, equal = summary["near_pairs_across_groups"], summary["equal_pairs_across_groups"]
    conflicts = summary["pairs_with_different_labels"]
    told = (
        f"{count(equal, 'pair')} of equal images and {count(near, 'near-duplicate pair')} lie "
        f"across {kind}s; {count(conflicts, 'pair')} of look-alikes "
        f"{have(conflicts)} different labels."
    )
    held = summary["near_pairs_held_back"]
    return told + (
        f" {count(held, 'pair')} would chain too many and is not joined." if held else ""
    )


def _split_short(view: Overview) -> str:
    if isinstance(view.splits, str):
        return f"The split of this recipe cannot be drawn: {view.splits}"
    counts = view.splits.counts()["images"]
    return (
        f"The split of this recipe, by {view.splits.kind}: "
        + ", ".join(f"{name} {n:,}" for name, n in counts.items())
        + "."
    )
