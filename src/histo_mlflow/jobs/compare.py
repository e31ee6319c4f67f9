"""Runs against each other: how they were made, and how they do on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from histo_mlflow import files
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.bootstrap import REPLICATES
from histo_mlflow.evaluation.compare import Comparison, paired
from histo_mlflow.evaluation.forest import comparison as forest
from histo_mlflow.evaluation.style import save
from histo_mlflow.jobs.run_record import RunRecord, load_run
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.params import same_param

Split = Literal["test", "val"]
Differing = Mapping[str, tuple[str | None, ...]]
"""Name of a fact -> its value in each run, None where it is not known; only facts that differ."""

CROSSVAL = "histo.crossval.folds"
_CODE = {"commit": "histo.git.commit", "uncommitted changes": "histo.git.dirty"}
_DATA = {
    "digest": "histo.data.digest",
    "labels from": "histo.data.label_source",
    "group": "histo.data.group_kind",
    "split by": "histo.split.kind",
    "split leaks": "histo.split.leaking",
    "images that cross": "histo.leak_groups.crossing",
    "weights": "histo.weights.source",
    "weights sha256": "histo.weights.sha256",
}
_MACHINE = {"device": "device.device_name", "precision": "device.precision"}


@dataclass(frozen=True, eq=False)
class RunsCompared:
    """What was found.

    Attributes:
        records: of the runs; the first is the baseline.
        names: of the runs, all different.
        notes: what to know before the numbers, the weightiest first.
        recipe: params that differ.
        code: commit, Python and packages that differ.
        data: what differs in data and split.
        machine: what differs in where it was computed.
        comparison: of the metrics.
        group_kind: what a group is.
    """

    records: tuple[RunRecord, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]
    recipe: Differing
    code: Differing
    data: Differing
    machine: Differing
    comparison: Comparison
    group_kind: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        sections = ("recipe", "code", "data", "machine")
        return {
            "format": 1,
            "runs": [
                {"name": name, "run_id": one.run_id, "reference": one.reference}
                for name, one in zip(self.names, self.records, strict=True)
            ],
            "notes": list(self.notes),
            **{
                section: {
                    fact: dict(zip(self.names, values, strict=True))
                    for fact, values in getattr(self, section).items()
                }
                for section in sections
            },
            "group_kind": self.group_kind,
            "comparison": self.comparison.to_dict(),
        }

    def write(self, folder: Path) -> None:
        """Write `comparison.json`, `comparison.csv` (a row a metric and run) and the figure.

        Raises:
            DiskError: the folder cannot be written to.
        """
        files.make_folder(folder)
        with files.told(folder, 1_000_000):
            files.write_json(folder / "comparison.json", self.to_dict())
            files.write_text(
                folder / "comparison.csv", self.comparison.to_frame().to_csv(index=False)
            )
            save(forest(self.comparison, group_kind=self.group_kind), folder / "comparison.png")


def compare_runs(
    references: Sequence[str],
    *,
    split: Split = "test",
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    replicates: int = REPLICATES,
    seed: int = 0,
    talk: Talk | None = None,
) -> RunsCompared:
    """Compare runs, or tables of predictions, with the first of them.

    Args:
        references: what `load_run` takes, two or more; the first is the baseline.
        split: whose images are compared. Only images that lie in it in every run count, so what one
            run was trained on is never held against another.
        tracking_uri: of the store; see `load_run`.
        runs_dir: where folders of runs are.
        replicates: draws of the bootstrap.
        seed: of the draws.
        talk: says what happens.

    Raises:
        DataError: fewer than two, one named twice, one that cannot be read, no image in common, or
            classes, labels or groups that contradict each other.
        TrackingError: the store is not there, or failed.
    """
    talk = talk or Talk()
    if len(references) < 2:
        raise DataError(f"Expected two runs or more to compare, got {len(references)}.")
    records = []
    for reference in references:
        one = load_run(reference, tracking_uri=tracking_uri, runs_dir=runs_dir)
        whence = "a table" if one.run_id is None else "its folder" if one.folder else "the store"
        talk.say("read", f"{one.name} from {whence}: {len(one.predictions):,} predictions")
        records.append(one)
    return compare_records(records, split=split, replicates=replicates, seed=seed)


def compare_records(
    records: Sequence[RunRecord],
    *,
    split: Split = "test",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> RunsCompared:
    """Compare what `load_run` gave; see `compare_runs`."""
    names = names_of(records)
    found = paired(
        {name: one.predictions for name, one in zip(names, records, strict=True)},
        split=split,
        replicates=replicates,
        seed=seed,
    )
    kinds = [kind for one in records if (kind := one.tags.get("histo.data.group_kind"))]
    return RunsCompared(
        tuple(records),
        names,
        tuple(_notes(records, names, split, found)),
        _params(records),
        _code(records),
        _data(records),
        _tags(records, _MACHINE),
        found,
        kinds[0] if kinds else "group",
    )


def names_of(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Short names where they tell the runs apart, else what the user said."""
    short = [one.name for one in records]
    names = [one.name if short.count(one.name) == 1 else one.reference for one in records]
    ids = [one.run_id or str(Path(one.reference).resolve()) for one in records]
    for i, one in enumerate(ids):
        if one in ids[:i]:
            raise DataError(f"Expected different runs to compare, got {names[i]} twice.")
    return tuple(names)


def _differing(facts: Mapping[str, Sequence[str | None]]) -> dict[str, tuple[str | None, ...]]:
    """Keep what differs among the runs of which it is known."""
    found = {}
    for name, values in facts.items():
        known = [value for value in values if value is not None]
        if any(not same_param(known[0], value) for value in known[1:]):
            found[name] = tuple(values)
    return found


def _params(records: Sequence[RunRecord]) -> Differing:
    """Params that differ; one that a run of the project does not have at all differs as well."""
    names = list(dict.fromkeys(name for one in records for name in one.params))
    return _differing(
        {
            name: [one.params.get(name, "(none)") if one.params else None for one in records]
            for name in names
        }
    )


def _tags(records: Sequence[RunRecord], named: Mapping[str, str]) -> Differing:
    return _differing({name: [one.tags.get(tag) for one in records] for name, tag in named.items()})


def _code(records: Sequence[RunRecord]) -> Differing:
    found = dict(_tags(records, _CODE))
    found |= _differing(
        {"python": [_told(one.provenance.get("python")) for one in records]}
    )  # fmt: skip
    packages = [one.provenance.get("packages") or {} for one in records]
    names = sorted({name for some in packages for name in some}, key=str.lower)
    return found | _differing(
        {name: [_told(some.get(name, "(none)")) if some else None for some in packages]
         for name in names}
    )  # fmt: skip


def _told(value: object) -> str | None:
    return None if value is None else str(value)


def _data(records: Sequence[RunRecord]) -> Differing:
    found = dict(_tags(records, _DATA))
    counts = {
        f"images of {part}": [
            None if one.splits is None else f"{len(one.splits.rows(part)):,}" for one in records
        ]
        for part in ("train", "val", "test")
    }
    return found | _differing(counts)


def _notes(
    records: Sequence[RunRecord], names: Sequence[str], split: Split, found: Comparison
) -> list[str]:
    """What a reader must know before the numbers."""
    notes = []
    digests = {one.tags["histo.data.digest"] for one in records if "histo.data.digest" in one.tags}
    if len(digests) > 1:
        notes.append(
            "the runs saw DIFFERENT DATA (images, labels or groups; see the digests below): only "
            "images of the same id, label and group are compared"
        )
    together = dict(zip(names, records, strict=True))
    for name, n in found.left_out.items():
        if n:
            total = n + found.rows
            notes.append(
                f"{n:,} of the {total:,} {split} images of {name} are left out, since they are not "
                f"in the {split} split of all{_elsewhere(name, together, split)}"
            )
    for name, one in together.items():
        notes += _about(name, one, split, found, together)
    if split == "val":
        notes.append("val chose the best epoch of each run, so its scores flatter all of them")
    return notes + [note for note in found.notes if "are left out" not in note]


def _elsewhere(name: str, records: Mapping[str, RunRecord], split: Split) -> str:
    """Where the other runs had the images of this one's split that they do not share."""
    table = records[name].predictions
    ids = set(table["id"][table["split"] == split])
    told = []
    for other, one in records.items():
        if other == name or one.splits is None:
            continue
        theirs = one.splits.table
        where = theirs["split"][theirs["id"].isin(ids)].value_counts()
        for part in ("train", "val", "test"):
            if part != split and where.get(part, 0):
                told.append(f"{other} had {where[part]:,} of them in {part}")
    return f" ({'; '.join(told)})" if told else ""


def _about(
    name: str,
    one: RunRecord,
    split: Split,
    found: Comparison,
    records: Mapping[str, RunRecord],
) -> list[str]:
    notes = []
    if one.tags.get("histo.split.leaking") == "true":
        notes.append(
            f"the split of {name} LEAKS (by {one.tags.get('histo.split.kind')}): images of one "
            "group lie on both sides, and its scores flatter"
        )
    if CROSSVAL in one.tags:
        notes.append(
            f"{name} is a cross-validation: each image was predicted by the one fold that did not "
            "train on its group"
        )
    elif one.splits is None:
        notes.append(f"what {name} was trained on is not known: it may have seen these images")
    elif n := _trained_on(one, split, [table.predictions for table in records.values()]):
        notes.append(
            f"{n:,} of the {found.rows:,} compared images belong to a group of which {name} saw "
            "other images in training"
        )
    if one.tags.get("histo.git.dirty") == "true":
        notes.append(
            f"{name} ran with uncommitted changes: its commit alone does not tell its code"
        )
    return notes


def _trained_on(one: RunRecord, split: Split, tables: Sequence[pd.DataFrame]) -> int:
    """How many of the compared images have their group in the run's training split."""
    if one.splits is None:
        return 0
    common = set.intersection(*(set(t["id"][t["split"] == split]) for t in tables))
    theirs = one.splits.table
    train = set(theirs["group"][theirs["split"] == "train"])
    return int((theirs["id"].isin(common) & theirs["group"].isin(train)).sum())
