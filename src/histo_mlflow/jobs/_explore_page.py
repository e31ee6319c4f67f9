"""A data set as the sections of a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from histo_mlflow.data.checks import Level
from histo_mlflow.evaluation.page import (
    Block,
    Cell,
    Code,
    Kind,
    Mark,
    Note,
    Picture,
    Section,
    Table,
    Text,
)
from histo_mlflow.evaluation.style import count
from histo_mlflow.jobs import _explore_holds as holds
from histo_mlflow.jobs._explore_look import Overview, Seer
from histo_mlflow.jobs._explore_short import short
from histo_mlflow.recipe import Recipe
from histo_mlflow.vision.augment import Policy

_KINDS: Mapping[Level, Kind] = {Level.PASS: "good", Level.WARN: "warn", Level.FAIL: "bad"}
RANDOM = (
    "Random weights: what is seen are colours and textures, nothing learned. Give weights=imagenet "
    "or weights=FILE for features that tell more."
)


def sections(
    view: Overview,
    recipe: Recipe,
    policy: Policy,
    seer: Seer,
    made: Mapping[str, Path],
    leak_picture: Path,
    command: str,
) -> list[Section]:
    """The page below its title.

    Args:
        view: what was counted.
        recipe: what it is looked at for.
        policy: its augmentation.
        seer: the backbone, or why there is none.
        made: the figures, as `draw` gives them.
        leak_picture: of pairs that look the same; need not be there.
        command: how this page was made.
    """
    found = [
        Section("In short", short(view)),
        Section("Classes", holds.classes(view, made)),
        Section("Samples", [holds.shown(made, "samples", "Sample images of each class in turn")]),
        Section("Augmentation", holds.augmentation(policy, recipe, made)),
        Section("Intensity", holds.intensity(view, made)),
        Section("Image sizes", holds.sizes(view, recipe, made)),
        Section("Groups", holds.groups(view, made)),
        Section("Metadata", holds.metadata(view, made)),
        Section("Images that look the same", _leaks(view, leak_picture)),
        Section("Split of this recipe", _split(view, recipe)),
        Section("Features", _features(view, recipe, seer, made)),
        Section("Checks", _checks(view)),
        Section("How to make this page again", _again(view, recipe, command)),
    ]
    return [section for section in found if section.blocks]


def _leaks(view: Overview, picture: Path) -> list[Block]:
    told, kind = view.leaks, view.audited.manifest.group_kind
    summary = view.audited.leaks.summary()
    grouped = kind != "image"
    rows: list[tuple[str, int, int]] = [
        (told_as, *(summary[f"{pairs}_pairs_{where}_groups"] for where in ("within", "across")))
        for pairs, told_as in (("equal", "equal pixels"), ("near", "near-duplicates"))
    ]
    ways: list[list[Cell]] = [
        [
            name,
            number if isinstance(number, str) else f"{number:,}",
            Mark("this recipe", "good" if number == 0 else "warn") if name == told.how else "",
        ]
        for name, number in told.crossing.items()
    ]
    blocks: list[Block] = [
        Table(
            ["pairs", f"within a {kind}", f"across {kind}s"] if grouped else ["pairs", "found"],
            rows if grouped else [[name, within + across] for name, within, across in rows],
            f"{summary['images']:,} images compared, also turned and mirrored; "
            f"{summary['flat_images']:,} flat ones left out",
        ),
        Table(
            ["split by", "images that would leak", ""],
            ways,
            "an image leaks if one that belongs to it or looks the same is in another split",
        ),
    ]
    pairs = view.audited.leaks.pairs
    conflicts: list[list[Cell]] = [
        [p["id_a"], p["label_a"], p["id_b"], p["label_b"], p["kind"]]
        for p in pairs[pairs["conflict"]].head(10).to_dict(orient="records")
    ]
    if conflicts:
        caption = (
            f"look-alikes with different labels, {len(conflicts)} of "
            f"{summary['pairs_with_different_labels']:,}"
        )
        blocks.append(Table(["image", "label", "image", "label", "kind"], conflicts, caption))
    if picture.is_file():
        blocks.append(Picture(picture, "Pairs of images that look the same"))
    return blocks


def _split(view: Overview, recipe: Recipe) -> list[Block]:
    if isinstance(view.splits, str):
        return [Note(f"It cannot be drawn: {view.splits}", "bad")]
    counts = view.splits.counts().fillna(0).astype("int64")
    shown = counts.T.head(holds.MOST_ROWS)
    rows: list[list[Cell]] = [
        [str(name), *(int(n) for n in row)]
        for name, row in zip(shown.index, shown.to_numpy(), strict=True)
    ]
    crossing = view.leaks.crossing[view.leaks.how]
    blocks: list[Block] = [
        Table(
            ["", *map(str, counts.index)],
            rows,
            f"by {view.splits.kind}, seed {recipe.split.split_seed}; images unless said otherwise",
        )
    ]
    if view.splits.leaking or crossing:
        blocks.append(
            Note(
                f"{crossing:,} images have one that belongs to them or looks the same in another "
                "split: scores will flatter."
            )
        )
    return blocks


def _features(view: Overview, recipe: Recipe, seer: Seer, made: Mapping[str, Path]) -> list[Block]:
    seen, manifest = view.seen, view.audited.manifest
    if seen.points is None or seen.agreement is None or seer.weights is None:
        return [Note(f"There is no t-SNE of features: {seen.why}")]
    blocks: list[Block] = []
    if seer.weights.source == "none":
        blocks.append(Note(RANDOM))
    n, of = len(seen.rows), len(manifest.table)
    blocks += [
        Text(
            f"{count(n, 'image')} of {of:,} (of each class up to 30 at least, else at random) as "
            f"{recipe.model.model} sees them before any training here; weights: "
            f"{'random' if seer.weights.source == 'none' else seer.weights.source}. Near points "
            "look alike to it; distances between clusters mean nothing."
        ),
        holds.shown(made, "tsne", "t-SNE of the features of sampled images, coloured by class"),
    ]
    found = seen.agreement
    if found.share is not None and found.chance is not None:
        group = manifest.group_kind if manifest.group_kind != "image" else "image"
        whose = "another image" if group == "image" else f"an image of another {group}"
        blocks.append(
            Text(
                f"In the features themselves, the nearest that is {whose} has the same label for "
                f"{100 * found.share:.1f} % of {count(found.images, 'image')}; labels given out at "
                f"random would reach {100 * found.chance:.1f} %."
            )
        )
        told = zip(manifest.classes, found.by_class, found.chance_by_class, strict=True)
        rows: list[list[Cell]] = [
            [name, *("-" if part is None else f"{100 * part:.1f} %" for part in parts)]
            for name, *parts in list(told)[: holds.MOST_ROWS]
        ]
        blocks.append(Table(["class", "nearest has the same label", "at random"], rows))
    return blocks


def _checks(view: Overview) -> list[Block]:
    rows: list[list[Cell]] = []
    # What is wrong stands first.
    levels = list(Level)[::-1]
    for finding in sorted(view.audited.findings, key=lambda f: levels.index(f.level)):
        more = finding.count - len(finding.offenders)
        named = ", ".join(finding.offenders) + (f" and {more:,} more" if more > 0 else "")
        message = finding.message + (f" ({named})" if named else "")
        rows.append([Mark(str(finding.level), _KINDS[finding.level]), finding.check, message])
    return [Table(["", "check", "found"], rows)]


def _again(view: Overview, recipe: Recipe, command: str) -> list[Block]:
    return [
        Code(command),
        Text(
            f"Recipe {recipe.name}, seed {recipe.training.seed}. Digest of the data: "
            f"{view.audited.digest}"
        ),
    ]
