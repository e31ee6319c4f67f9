"""From finished chunks to the output and the list of bad images."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from histo_mlflow import files
from histo_mlflow.data.findings import warned
from histo_mlflow.errors import DataError, DiskError
from histo_mlflow.inference import table
from histo_mlflow.inference.chunks import Chunk, Work, begun_manifest
from histo_mlflow.inference.inputs import Item
from histo_mlflow.jobs._predict_plan import Plan
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry.answer import answer_table

NAMED_BAD = 5
"""Bad images that a message names; the list names all."""
FINAL = "final"
"""In the work folder: the output before it has its name."""
REPLACES = "replaces"
"""Noted of an unfinished output: it was begun with --restart, and may replace what is there."""
Bad = tuple[Item, str]


@dataclass(frozen=True)
class Predicted:
    """What came of a prediction.

    Attributes:
        out: the file.
        images: in it.
        bad: images that are not in it.
        bad_list: the file that lists them, None where there are none.
        reused: images that an earlier attempt had done.
        classes: how many images got each class.
        abstained: on how many of them the model abstains.
        abstain_below: where the greatest probability is lower than this.
        model_version: as in the file.
        model_digest: as in the file.
        seconds: of predicting.
        images_per_second: None where nothing was left to predict.
    """

    out: str
    images: int
    bad: int
    bad_list: str | None
    reused: int
    classes: Mapping[str, int]
    abstained: int
    abstain_below: float
    model_version: str
    model_digest: str
    seconds: float
    images_per_second: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def bad_list_path(out: Path) -> Path:
    """Where the bad images of an output are listed."""
    return out.with_name(f"{out.name}.bad.csv")


def finished(plan: Plan, work: Work, reused: int, seconds: float, talk: Talk) -> Predicted:
    """Give the output its name, unless images are bad and nobody said to skip them.

    Raises:
        DataError: images are bad.
        DiskError: the disk is full or refuses.
    """
    bad = [one for index in range(len(plan.chunks)) for one in _bad_of(plan, work, index)]
    _list_bad(plan.out, bad)
    total = len(plan.span)
    if bad and (not plan.wanted.skip_bad or len(bad) == total):
        raise DataError(_told(plan, bad, total))
    classes: Counter[str] = Counter(dict.fromkeys(plan.members.classes, 0))
    abstained = [0]

    def frames() -> Iterator[pd.DataFrame]:
        for index in range(len(plan.chunks)):
            frame = _frame(plan, work, index)
            classes.update(frame["class"])
            abstained[0] += int(frame["abstain"].sum())
            yield frame

    counts = {"rows": total - len(bad), "bad": len(bad)}
    final = plan.folder / FINAL
    names = plan.members.classes
    table.write_table(final, plan.out.name, frames(), names, {**plan.facts(), **counts})
    table.give_name(final, plan.out)
    if bad:
        text = f"{len(bad):,} of {total:,} images are left out; see {bad_list_path(plan.out)}"
        talk.warn(warned("bad-images", text))
    new = total - reused
    return Predicted(
        out=str(plan.out),
        images=total - len(bad),
        bad=len(bad),
        bad_list=str(bad_list_path(plan.out)) if bad else None,
        reused=reused,
        classes=dict(classes),
        abstained=abstained[0],
        abstain_below=plan.members.abstain_below,
        model_version=plan.members.version,
        model_digest=plan.members.digest,
        seconds=seconds,
        images_per_second=new / seconds if new and seconds else None,
    )


def whole_already(plan: Plan, talk: Talk) -> Predicted | None:
    """What an earlier call of the same command made; None where there is no output yet.

    Raises:
        DataError: the file is there and is another prediction, or none.
    """
    if plan.wanted.restart or not plan.out.exists():
        return None
    begun = begun_manifest(plan.folder)
    if begun is not None and begun["noted"].get(REPLACES):
        return None  # what is there is being replaced, by an attempt that was ended
    found = table.read_facts(plan.out)
    wanted = plan.facts()
    if found is None:
        raise DataError(
            f"Expected a free name for the output, got {plan.out}, which is there and is no "
            "prediction of ours: name another --out, or add --restart to replace it"
        )
    differing = [name for name in wanted if name != "machine" and found.get(name) != wanted[name]]
    if found["bad"] and not plan.wanted.skip_bad:
        differing.append("bad images, which were skipped")
    if differing:
        raise DataError(
            f"{plan.out} is there already and was made otherwise ({', '.join(differing)}): name "
            "another --out, or add --restart to replace it"
        )
    talk.say("predict", f"{plan.out} is whole already; --restart makes it anew")
    classes: Counter[str] = Counter(dict.fromkeys(plan.members.classes, 0))
    abstained = 0
    for frame in table.read_table(plan.out):
        classes.update(frame["class"])
        abstained += int(frame["abstain"].sum())
    return Predicted(
        out=str(plan.out),
        images=found["rows"],
        bad=found["bad"],
        bad_list=str(bad_list_path(plan.out)) if found["bad"] else None,
        reused=found["rows"] + found["bad"],
        classes=dict(classes),
        abstained=abstained,
        abstain_below=plan.members.abstain_below,
        model_version=plan.members.version,
        model_digest=plan.members.digest,
        seconds=0.0,
        images_per_second=None,
    )


def _chunk(plan: Plan, work: Work, index: int) -> tuple[tuple[Item, ...], Chunk]:
    items = plan.items(index)
    chunk = work.read(index, items, len(plan.members.classes), final=True)
    if chunk is None:
        raise DiskError(
            f"a chunk in {work.path} was damaged after it was written; give the same command again"
        )
    return items, chunk


def _frame(plan: Plan, work: Work, index: int) -> pd.DataFrame:
    items, chunk = _chunk(plan, work, index)
    members, good = plan.members, chunk.good
    answers = answer_table(
        members.classes,
        chunk.probabilities[good],
        abstain_below=members.abstain_below,
        model_version=members.version,
        model_digest=members.digest,
    )
    ids = [item.id for item, kept in zip(items, good, strict=True) if kept]
    answers.insert(0, table.ID, pd.Series(ids, dtype="object", index=answers.index))
    return answers


def _bad_of(plan: Plan, work: Work, index: int) -> list[Bad]:
    items, chunk = _chunk(plan, work, index)
    return [(items[position], reason) for position, reason in chunk.bad]


def _list_bad(out: Path, bad: list[Bad]) -> None:
    path = bad_list_path(out)
    if not bad:
        path.unlink(missing_ok=True)  # of an earlier attempt
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "path", "reason"))
    writer.writerows((item.id, item.where, reason) for item, reason in bad)
    files.write_text(path, text.getvalue())


def _told(plan: Plan, bad: list[Bad], total: int) -> str:
    first = "; ".join(f"{item.id}: {reason}" for item, reason in bad[:NAMED_BAD])
    more = f"; and {len(bad) - NAMED_BAD:,} more" if len(bad) > NAMED_BAD else ""
    skip = "" if len(bad) == total else ", or add --on-error skip to do without them"
    return (
        f"{len(bad):,} of {total:,} images cannot be used: {first}{more}. All are listed in "
        f"{bad_list_path(plan.out)}. Mend them and give the same command again, which goes on"
        f"{skip}"
    )
