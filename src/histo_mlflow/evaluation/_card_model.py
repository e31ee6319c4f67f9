"""The parts of a model card about the model: what it is, of what data, how it was trained."""

from histo_mlflow.evaluation._card_facts import CardFacts
from histo_mlflow.evaluation._card_text import (
    MOST_NAMED,
    NOT_RECORDED,
    count,
    fact,
    is_known,
    known,
    listed,
    number,
    yes_no,
)
from histo_mlflow.evaluation.page import Block, Section, Table, Text

SPLITS = ("train", "val", "test")
_LABELS = {
    "metadata": "a table of the data set",
    "folder": "the names of the folders",
    "placeholder": "stand-ins, not a diagnosis",
    "synthetic": "the generator of the images",
}
_KINDS = {
    "group": "whole {kind} groups, none of them in two splits",
    "row": "image by image, so images of one {kind} may lie in several splits",
    "given": "as the data set gives it",
}
_MAIN = (
    "epochs", "batch_size", "accumulate", "optimiser", "lr", "group_lrs", "layer_decay",
    "weight_decay", "momentum", "schedule", "warmup_epochs", "frozen_epochs", "clip_norm",
    "label_smoothing", "class_weights", "sampling", "ema_decay", "policy", "monitor", "patience",
    "seed",
)  # fmt: skip
"""Params of the recipe that a card names; the others are with the run."""
_PACKAGES = ("histo-mlflow", "torch", "torchvision", "timm", "numpy", "pandas", "mlflow")


def details(facts: CardFacts) -> Section:
    """What the model is."""
    spec, tags = facts.spec, facts.tags
    classes = facts.classes
    head = fact(spec, "head")
    if head == "hidden":
        head += f" ({fact(spec, 'hidden')} units)"
    rows = [
        ("recipe", fact(tags, "histo.recipe")),
        ("architecture", fact(spec, "name")),
        ("head", head),
        ("dropout in the head", fact(spec, "dropout")),
        ("initial weights", fact(tags, "histo.weights.source")),
        ("sha256 of the initial weights", fact(tags, "histo.weights.sha256")),
        ("classes", f"{len(classes)}: {listed(classes)}" if classes else NOT_RECORDED),
        ("output", _output(fact(spec, "output"))),
        ("input", _input(facts)),
        ("normalisation", _normalisation(facts)),
        ("run", known(facts.run_id)),
        ("model", f"models:/{facts.model_id}" if facts.model_id else NOT_RECORDED),
    ]
    if facts.members > 1:
        told = f"{facts.members} models of this architecture; their logits are averaged"
        rows.insert(2, ("ensemble", told))
    blocks: list[Block] = [Text(facts.summary)] if facts.summary.strip() else []
    return Section("Model Details", [*blocks, Table(("what", "value"), rows)])


def _output(output: str) -> str:
    told = {
        "softmax": "softmax: a logit a class, and probabilities that sum to 1",
        "sigmoid": "sigmoid: one logit, of the second class",
    }
    return told.get(output, output)


def _input(facts: CardFacts) -> str:
    rule = facts.rule
    px = fact(rule, "image_px")
    told = {
        "cover": f"the largest centred square, scaled to {px} x {px} px",
        "squash": f"both sides scaled to {px} x {px} px; the aspect ratio is lost",
        "crop": f"the centred square of {fact(rule, 'crop_px')} px, scaled to {px} x {px} px",
    }
    fit = fact(rule, "fit")
    return f"a JPEG, PNG or TIFF, read as RGB; {told[fit]} ({fit})" if fit in told else NOT_RECORDED


def _normalisation(facts: CardFacts) -> str:
    mean, std = facts.spec.get("mean"), facts.spec.get("std")
    if not mean or not std:
        return NOT_RECORDED
    both = [", ".join(number(value) for value in values) for values in (mean, std)]
    return f"inside the model: mean {both[0]}, standard deviation {both[1]} of [0, 1]"


def data(facts: CardFacts) -> Section:
    """Which images, with labels from where, how many."""
    tags = facts.tags
    source = fact(tags, "histo.data.label_source")
    label = f"{source}: {_LABELS[source]}" if source in _LABELS else source
    rows = [
        ("source", fact(facts.params, "source")),
        ("labels", label),
        ("what a group is", fact(tags, "histo.data.group_kind")),
        ("digest of the data", fact(tags, "histo.data.digest")),
    ]
    blocks: list[Block] = [Table(("what", "value"), rows)]
    if facts.counts:
        blocks.append(_counts(facts))
    else:
        blocks.append(Text(f"Images and groups of each class and split: {NOT_RECORDED}."))
    return Section("Training Data", blocks)


def _counts(facts: CardFacts) -> Table:
    cells = {(row["split"], row.get("class")): row for row in facts.counts}
    splits = [name for name in SPLITS if (name, None) in cells]
    there = list(dict.fromkeys(name for _, name in cells if name is not None))
    names = [name for name in facts.classes if name in there]
    names += [name for name in there if name not in names]

    def row(title: str, name: str | None) -> list[str]:
        found = [cells.get((split, name)) for split in splits]
        told = [
            "0" if one is None else f"{count(one['images'])} ({count(one['groups'])})"
            for one in found
        ]
        return [title, *told]

    rows = [row(name, name) for name in names[:MOST_NAMED]]
    more = (
        f"; {len(names) - MOST_NAMED:,} more classes are not listed"
        if (len(names) > MOST_NAMED)
        else ""
    )
    return Table(
        ["class", *splits],
        [*rows, row("all", None)],
        f"Images, and in brackets the groups that the split keeps whole{more}",
    )


def division(facts: CardFacts) -> Section:
    """How it was split, and what crosses."""
    tags, params, leaks = facts.tags, facts.params, facts.leaks
    kind = fact(tags, "histo.split.kind")
    told = _KINDS[kind].format(kind=facts.group_kind) if kind in _KINDS else ""
    folds = (
        f"fold {fact(params, 'fold')} of {fact(params, 'folds')} is the test split"
        if is_known(params, "folds")
        else f"validation {fact(params, 'val_fraction')}, test {fact(params, 'test_fraction')}"
    )
    rows = [
        ("kind", f"{kind}: {told}" if told else kind),
        ("shares", folds),
        ("seed", fact(params, "split_seed")),
        ("does it leak by design", known(yes_no(fact(tags, "histo.split.leaking")))),
        ("look-alikes", _joined(fact(params, "leak_groups"), kind)),
        ("images that cross", count(tags.get("histo.leak_groups.crossing"))),
        ("equal pairs across groups", count(leaks.get("equal_pairs_across_groups"))),
        ("near-duplicate pairs across groups", count(leaks.get("near_pairs_across_groups"))),
        ("look-alikes with different labels", count(leaks.get("pairs_with_different_labels"))),
        ("near-duplicate pairs told and not joined", count(leaks.get("near_pairs_held_back"))),
    ]
    text = (
        "An image crosses when one that belongs to it, or looks the same, lies in another split; "
        "scores then flatter."
    )
    return Section("Split and Leak Audit", [Text(text), Table(("what", "value"), rows)])


def _joined(how: str, kind: str) -> str:
    if how == NOT_RECORDED:
        return how
    joined = how == "join" and kind == "group"
    return "kept on one side of the split" if joined else "only told, not kept on one side"


def training(facts: CardFacts) -> Section:
    """How it was trained, by which code, on what machine."""
    params, tags, outcome = facts.params, facts.tags, facts.outcome
    main = [
        (name, "none" if fact(params, name) == "{}" else fact(params, name))
        for name in _MAIN
        if is_known(params, name)
    ]
    seconds = outcome.get("seconds")
    packages = facts.provenance.get("packages") or {}
    versions = {name: packages.get(name, tags.get(f"device.{name}")) for name in _PACKAGES}
    told = [f"{name} {version}" for name, version in versions.items() if version]
    python = known(facts.provenance.get("python") or tags.get("device.python"))
    machine = [
        ("epochs done", count(outcome.get("epochs"))),
        ("epoch of the weights", count(outcome.get("best_epoch"))),
        *([("duration", f"{seconds:,.0f} s")] if isinstance(seconds, int | float) else []),
        ("code commit", fact(tags, "histo.git.commit")),
        ("uncommitted changes", uncommitted(facts)),
        ("device", fact(tags, "device.device")),
        ("name of the device", fact(tags, "device.device_name")),
        ("precision", fact(tags, "device.precision")),
        ("versions", ", ".join([f"Python {python}", *told])),
    ]
    blocks: list[Block] = [Table(("param", "value"), main)] if main else []
    if not main:
        blocks.append(Text(f"Params of the training: {NOT_RECORDED}."))
    return Section("Training Procedure", [*blocks, Table(("what", "value"), machine)])


def uncommitted(facts: CardFacts) -> str:
    """Whether the code had changes that were not committed; why not, where that is not known."""
    dirty = yes_no(fact(facts.tags, "histo.git.dirty"))
    if dirty is None:
        return fact(facts.tags, "histo.git.problem")
    return "yes; they are in the run's artifact provenance" if dirty else "no"
