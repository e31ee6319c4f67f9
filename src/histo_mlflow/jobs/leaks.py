"""The leak audit as files, and what each way to split would leak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow import files
from histo_mlflow.data.leaks import Leaks
from histo_mlflow.data.pack import Pack
from histo_mlflow.errors import SplitError
from histo_mlflow.evaluation.leak_pairs import leak_pairs
from histo_mlflow.evaluation.style import count, save
from histo_mlflow.jobs.prepare import Audited, Prepared, audit, divide, joins
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import Recipe


@dataclass(frozen=True, eq=False)
class LeakReport:
    """The audit of a recipe's data set.

    Attributes:
        audited: the data set and its leaks.
        crossing: way to split -> how many images have one that belongs to them or looks the same
            in another split; a sentence where that split cannot be drawn.
        how: the way the recipe splits, a key of `crossing`.
    """

    audited: Audited
    crossing: Mapping[str, int | str]
    how: str

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        leaks = self.audited.leaks
        return {
            "data": str(self.audited.manifest.root),
            "group_kind": self.audited.manifest.group_kind,
            **leaks.summary(),
            "images_crossing": dict(self.crossing),
            "recipe_splits_by": self.how,
            "conflicts": [
                [pair["id_a"], pair["label_a"], pair["id_b"], pair["label_b"]]
                for pair in leaks.pairs[leaks.pairs["conflict"]].to_dict(orient="records")
            ],
        }


def report(recipe: Recipe, *, talk: Talk) -> LeakReport:
    """Audit a recipe's data set and try the ways to split it.

    Raises:
        DataError: the data set is not there, or a check says FAIL.
    """
    audited = audit(recipe, talk=talk)
    ways = {"row": {"split": "row"}, "group": {"split": "group"}}
    if (audited.manifest.table["given_split"] != "").all():
        ways["given"] = {"split": "given"}
    tried = {name: _with_split(recipe, folds=None, fold=0, **way) for name, way in ways.items()}
    tried = {name: _with_split(way, leak_groups="report") for name, way in tried.items()}
    tried["group, leak groups joined"] = _with_split(tried["group"], leak_groups="join")
    how = "group, leak groups joined" if joins(recipe) else recipe.split.split
    tried[how] = recipe
    crossing = {name: _crossing(audited, way) for name, way in tried.items()}
    return LeakReport(audited, crossing, how)


def render(told: LeakReport) -> str:
    """The report as lines for a person."""
    facts, leaks = told.audited.leaks.summary(), told.audited.leaks
    kind = told.audited.manifest.group_kind
    lines = [
        f"{facts['images']:,} images in {leaks.declared:,} declared {kind} groups; "
        f"{facts['flat_images']:,} are flat and left out",
        f"equal pixels     {_pairs(facts, 'equal', kind)}",
        f"near-duplicates  {_pairs(facts, 'near', kind)}",
        f"                 distance below {facts['threshold']:.3f}{_by_chance(facts)}",
        f"labels           {count(facts['pairs_with_different_labels'], 'pair')} with different "
        "labels",
        f"leak groups      {facts['leak_groups']:,}; {_largest(leaks)}",
    ]
    for name, number in told.crossing.items():
        mark = "  <- this recipe" if name == told.how else ""
        result = number if isinstance(number, str) else f"{count(number, 'image')} would leak"
        lines.append(f"split by {name}: {result}{mark}")
    for pair in leaks.pairs[leaks.pairs["conflict"]].head(10).to_dict(orient="records"):
        lines.append(
            f"CONFLICT  {pair['id_a']} is {pair['label_a']}, {pair['id_b']} is {pair['label_b']} "
            f"({pair['kind']}, distance {pair['distance']:.3f})"
        )
    return "\n".join(lines)


def write_report(prepared: Prepared, data_folder: Path, figures_folder: Path) -> None:
    """Write `leaks.json`, `leaks.csv`, and, where there are pairs, `leak_pairs.png`.

    Args:
        prepared: the data set with its audit and its splits.
        data_folder: for the tables; made if missing.
        figures_folder: for the picture; made if missing.

    Raises:
        DiskError: the disk is full or refuses.
    """
    facts = {
        **prepared.leaks.summary(),
        "groups_of_the_split": int(prepared.splits.table["group"].nunique()),
        "images_crossing": prepared.crossing,
    }
    _write(prepared.leaks, prepared.pack, facts, data_folder, figures_folder)


def write_folder(told: LeakReport, folder: Path) -> None:
    """Write the report's three files into one folder.

    Raises:
        DiskError: the disk is full or refuses.
    """
    _write(told.audited.leaks, told.audited.pack, told.to_json(), folder, folder)


def _write(
    leaks: Leaks, pack: Pack, facts: Mapping[str, Any], data_folder: Path, figures_folder: Path
) -> None:
    files.make_folder(data_folder)
    files.write_json(data_folder / "leaks.json", dict(facts))
    table = leaks.pairs.drop(columns=["row_a", "row_b"])
    files.write_text(data_folder / "leaks.csv", table.to_csv(index=False))
    if len(leaks.pairs):
        files.make_folder(figures_folder)
        drawn = leak_pairs(
            pack.pixels(), leaks.pairs, facts=f"near is below {leaks.alike.threshold:.3f}"
        )
        save(drawn, figures_folder / "leak_pairs.png")


def _pairs(facts: Mapping[str, Any], kind: str, group_kind: str) -> str:
    within, across = facts[f"{kind}_pairs_within_groups"], facts[f"{kind}_pairs_across_groups"]
    if group_kind == "image":  # nothing is known of what belongs together
        return count(within + across, "pair")
    return f"{count(within, 'pair')} within a {group_kind}, {across:,} across {group_kind}s"


def _largest(leaks: Leaks) -> str:
    if not leaks.held_back:
        return f"the largest has {leaks.largest:,} images"
    return (
        f"one would have {leaks.largest:,} images, so "
        f"{count(leaks.held_back, 'near-duplicate pair')} told and not joined"
    )


def _by_chance(facts: Mapping[str, Any]) -> str:
    """What the threshold was set by: pairs that cannot match, since one is turned wrongly."""
    if not facts["decoys"]:
        return ""
    decoys = count(facts["decoys"], "pair")
    return f"; by chance ({decoys} turned wrongly) {facts['closest_decoy']:.3f} or more"


def _with_split(recipe: Recipe, **fields: Any) -> Recipe:
    return recipe.model_copy(update={"split": recipe.split.model_copy(update=fields)})


def _crossing(audited: Audited, recipe: Recipe) -> int | str:
    """Images that a split leaks, or the sentence why there is no such split."""
    try:
        splits = divide(audited.manifest, recipe, audited.leaks)
    except SplitError as error:
        return f"cannot be drawn: {error}"
    return audited.leaks.crossing(splits.table["split"].tolist())
