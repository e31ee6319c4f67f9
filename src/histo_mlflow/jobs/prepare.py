"""From a recipe to packed pixels and splits: everything before the first weight moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import numpy as np
import pandas as pd

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.data.checks import Finding, Level, worst
from histo_mlflow.data.findings import counted, have, passed, warned
from histo_mlflow.data.fingerprint import data_digest
from histo_mlflow.data.leaks import Leaks, find_leaks
from histo_mlflow.data.manifest import Manifest
from histo_mlflow.data.pack import Item, Pack, pack_images
from histo_mlflow.data.sources import to_manifest
from histo_mlflow.data.splits import (
    Splits,
    kfold_by_group,
    kfold_by_row,
    split_as_given,
    split_by_group,
    split_by_row,
)
from histo_mlflow.errors import DataError
from histo_mlflow.jobs.inspect import inspect
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.paths import cache_dir
from histo_mlflow.recipe import Recipe
from histo_mlflow.vision.decode import DecodeRule


@dataclass(frozen=True)
class Audited:
    """A data set that passes its checks, packed, and what in it looks the same."""

    manifest: Manifest
    findings: Sequence[Finding]
    digest: str
    pack: Pack
    leaks: Leaks


@dataclass(frozen=True)
class Prepared:
    """A data set that may be trained on."""

    manifest: Manifest
    findings: Sequence[Finding]
    splits: Splits
    digest: str
    pack: Pack
    leaks: Leaks

    def dataset(self, split: str) -> PackedDataset:
        """The images of one split, in the order of the manifest."""
        rows = self.splits.rows(split)
        return PackedDataset(self.pack.path, rows, self.manifest.targets()[rows])

    @cached_property
    def crossing(self) -> int:
        """Images with a look-alike, or a member of their group, on another side of the split."""
        return self.leaks.crossing(self.splits.table["split"].tolist())

    def leak_groups(self) -> Finding:
        """No image is among `crossing`."""
        name, n = "leak-groups", len(self.manifest.table)
        if self.crossing:
            return warned(
                name,
                f"{self.crossing:,} of {n:,} images have one that belongs to them or looks the "
                "same in another split (`histo-mlflow data leaks` shows which), and scores will "
                "flatter",
            )
        return passed(name, f"none of {n:,} images has a look-alike in another split")


def prepare(recipe: Recipe, *, talk: Talk) -> Prepared:
    """Check, pack, audit and split a recipe's data set.

    Raises:
        DataError: the data set is not there, or a check says FAIL.
        SplitError: it cannot be divided as asked.
    """
    audited = audit(recipe, talk=talk)
    manifest, leaks = audited.manifest, audited.leaks
    talk.say("leaks", _leaks_line(leaks, manifest.group_kind, joined=joins(recipe)))
    if (conflict := _conflict(leaks)) is not None:
        talk.warn(conflict)
    splits = divide(manifest, recipe, leaks)
    counts = splits.counts()["images"]
    talk.say(
        "split",
        f"by {splits.kind}: "
        + ", ".join(f"{name} {n:,}" for name, n in counts.items())
        + (" - LEAKS between splits, scores will flatter" if splits.leaking else ""),
    )
    prepared = Prepared(manifest, audited.findings, splits, audited.digest, audited.pack, leaks)
    if prepared.crossing:
        talk.warn(prepared.leak_groups())
    return prepared


def audit(recipe: Recipe, *, talk: Talk) -> Audited:
    """Check and pack a recipe's data set, and find which images show the same.

    Raises:
        DataError: the data set is not there, or a check says FAIL.
    """
    inspected = inspect(recipe, talk=talk)
    for finding in inspected.findings:
        if finding.level is Level.WARN:
            talk.warn(finding)
    if worst(inspected.findings) is Level.FAIL:
        failed = [f for f in inspected.findings if f.level is Level.FAIL]
        raise DataError(
            f"the data set fails {len(failed)} of {len(inspected.findings)} checks, so nothing was "
            f"trained: {'; '.join(_told(f) for f in failed)} "
            "(`histo-mlflow data check` lists all)"
        )
    manifest = to_manifest(inspected.listing)
    groups = manifest.table["group"].nunique()
    talk.say(
        "data",
        f"{len(manifest.table):,} images, {len(manifest.classes)} classes, "
        f"{groups:,} {manifest.group_kind} groups in {manifest.root}",
    )
    pack = packed(manifest, inspected.scanned, recipe, talk=talk)
    table = manifest.table
    leaks = find_leaks(
        pack, table["group"].tolist(), table["label"].tolist(), cache_dir(), progress=talk.bars
    )
    if leaks.held_back:
        talk.warn(
            warned(
                "leak-chains",
                f"the near-duplicates would chain {leaks.largest:,} of {pack.n:,} images into one "
                f"group; {leaks.held_back:,} of these pairs are told and not joined",
            )
        )
    digest = data_digest(manifest, inspected.scanned)
    return Audited(manifest, inspected.findings, digest, pack, leaks)


def joins(recipe: Recipe) -> bool:
    """Whether the recipe's split keeps leak groups whole; a row-wise or given one cannot."""
    return recipe.split.leak_groups == "join" and recipe.split.split == "group"


def _leaks_line(leaks: Leaks, group_kind: str, *, joined: bool) -> str:
    facts = leaks.summary()
    equal, near = facts["equal_pairs_across_groups"], facts["near_pairs_across_groups"]
    found = f"{equal:,} equal and {near:,} near-duplicate pairs across {group_kind}s"
    if not joined:
        return f"{found}, told and not joined; {leaks.declared:,} {group_kind} groups"
    what = f"joined but for {leaks.held_back:,}" if leaks.held_back else "joined"
    return f"{found} {what}; {facts['leak_groups']:,} leak groups"


def _conflict(leaks: Leaks) -> Finding | None:
    """What is to be said of look-alikes with different labels, if there are any."""
    pairs = leaks.pairs[leaks.pairs["conflict"]]
    if pairs.empty:
        return None
    first = pairs.iloc[0]
    return warned(
        "leak-labels",
        f"{counted(len(pairs), 'pair')} of images that look the same "
        f"{have(len(pairs))} different labels, such as {first['id_a']} ({first['label_a']}) and "
        f"{first['id_b']} ({first['label_b']}); `histo-mlflow data leaks` shows all",
    )


def _told(finding: Finding) -> str:
    first = f" (such as {', '.join(finding.offenders[:2])})" if finding.offenders else ""
    return f"{finding.check}: {finding.message.rstrip('.')}{first}"


def divide(manifest: Manifest, recipe: Recipe, leaks: Leaks) -> Splits:
    """Split a manifest as the recipe says, by leak groups where `joins`.

    Raises:
        SplitError: it cannot be divided as asked.
    """
    split, table = recipe.split, manifest.table
    ids, labels, groups = (table[column].tolist() for column in ("id", "label", "group"))
    if joins(recipe):
        groups = list(leaks.groups)
    if split.folds is not None:
        fold_of = kfold_by_row if split.split == "row" else kfold_by_group
        return fold_of(
            ids,
            labels,
            groups,
            folds=split.folds,
            fold=split.fold,
            val_fraction=split.val_fraction,
            seed=split.split_seed,
        )
    if split.split == "given":
        return split_as_given(
            ids,
            labels,
            groups,
            table["given_split"].tolist(),
            val_fraction=split.val_fraction,
            seed=split.split_seed,
        )
    how = split_by_row if split.split == "row" else split_by_group
    return how(
        ids,
        labels,
        groups,
        val_fraction=split.val_fraction,
        test_fraction=split.test_fraction,
        seed=split.split_seed,
    )


def decode_rule(recipe: Recipe) -> DecodeRule:
    """The one rule from bytes to pixels, for training and for serving."""
    pixels = recipe.pixels
    return DecodeRule(image_px=pixels.image_px, fit=pixels.fit, crop_px=pixels.crop_px)


def packed(manifest: Manifest, scanned: pd.DataFrame, recipe: Recipe, *, talk: Talk) -> Pack:
    """Pack the images of a manifest by the recipe's decode rule, or find the pack that is there.

    Raises:
        DataError: images cannot be read.
    """
    started = perf_counter()
    table = manifest.table
    rows = table["row"].fillna(-1).astype("int64")
    items = [
        Item(id=str(name), path=manifest.root / str(path), row=None if row < 0 else int(row))
        for name, path, row in zip(table["id"], table["path"], rows, strict=True)
    ]
    digests = table["path"].map(scanned.set_index("path")["sha256"]).tolist()
    pack = pack_images(items, digests, decode_rule(recipe), cache_dir(), progress=talk.bars)
    size_mb = np.prod(pack.pixels().shape) / 1e6
    talk.say(
        "pixels",
        f"{pack.n:,} x {pack.image_px} px packed ({size_mb:,.0f} MB, "
        f"{perf_counter() - started:.1f} s)",
    )
    return pack
