"""From the files of all shards to the file that one process would have written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from histo_mlflow import files
from histo_mlflow.data.findings import warned
from histo_mlflow.errors import DataError
from histo_mlflow.inference import table
from histo_mlflow.inference.chunks import only_one, work_folder
from histo_mlflow.inference.shards import Shard, shard_path
from histo_mlflow.jobs._predict_finish import FINAL, bad_list_path
from histo_mlflow.jobs.talk import Talk

SAME = ("model", "model_version", "classes", "input", "settings")
"""What shards must agree in to be parts of one whole."""


@dataclass(frozen=True)
class Merged:
    """The whole.

    Attributes:
        out: the file.
        images: in it.
        bad: images that are not in it.
        shards: it was made from.
    """

    out: str
    images: int
    bad: int
    shards: int


def merge_shards(out: Path, *, restart: bool = False, talk: Talk) -> Merged:
    """Join the shards that lie beside `out`; they stay.

    Args:
        out: as it was given to each shard.
        restart: replace a file of this name.
        talk: to the user.

    Raises:
        DataError: a shard is missing, not whole or of another prediction, or `out` is there.
        ResumeError: another process is at it.
        DiskError: the disk is full or refuses.
    """
    table.checked_suffix(out)
    if out.exists() and not restart:
        raise DataError(
            f"Expected a free name for the whole, got {out}, which is there: name another --out, "
            "or add --restart to replace it"
        )
    paths = _shards(out)
    facts = [_facts(path) for path in paths]
    for path, found in zip(paths, facts, strict=True):
        if differing := [name for name in SAME if found[name] != facts[0][name]]:
            raise DataError(
                f"Expected shards of one prediction, but {paths[0].name} and {path.name} differ in "
                f"{', '.join(differing)}: predict the one that is wrong again"
            )
    _refuse_gaps(paths, facts)
    folder = work_folder(out)
    with only_one(folder, out):
        whole = _whole(facts, talk)
        rows = _rows(paths)
        table.write_table(folder / FINAL, out.name, rows, facts[0]["classes"], whole)
        table.give_name(folder / FINAL, out)
        _merge_bad_lists(paths, out, whole["bad"])
        files.remove_folder(folder)
    return Merged(str(out), whole["rows"], whole["bad"], len(paths))


def _shards(out: Path) -> list[Path]:
    name = re.compile(rf"{re.escape(out.stem)}-(\d{{5}})-of-(\d{{5}}){re.escape(out.suffix)}")
    folder = out.parent
    if not folder.is_dir():
        raise DataError(f"Expected the shards of {out.name} in {folder}, which is no folder")
    numbers = [found for path in folder.iterdir() if (found := name.fullmatch(path.name))]
    of = sorted({int(found[2]) for found in numbers})
    if not of:
        raise DataError(
            f"Expected the shards of {out} beside it, such as "
            f"{shard_path(out, Shard(1, 4)).name}, got none: give --out as it was given to them"
        )
    if len(of) > 1:
        raise DataError(
            f"Expected shards of one division, got parts of {' and of '.join(map(str, of))} beside "
            f"{out}: remove those that are not wanted"
        )
    there = {int(found[1]) for found in numbers}
    if missing := [index for index in range(1, of[0] + 1) if index not in there]:
        first = ", ".join(f"{index}/{of[0]}" for index in missing[:5])
        raise DataError(
            f"Expected all {of[0]} shards beside {out}, {len(missing)} are missing ({first}): "
            "predict them with --shard"
        )
    return [shard_path(out, Shard(index, of[0])) for index in range(1, of[0] + 1)]


def _facts(path: Path) -> dict[str, Any]:
    found = table.read_facts(path)
    if found is None:
        raise DataError(f"{path} is damaged, or no prediction of ours: predict this shard again")
    return found


def _refuse_gaps(paths: list[Path], facts: list[dict[str, Any]]) -> None:
    at = 0
    for path, found in zip(paths, facts, strict=True):
        first, last = found["positions"]
        if first != at or last - first != found["rows"] + found["bad"]:
            raise DataError(f"{path} does not go on where the shard before it ends: predict again")
        at = last
    if at != facts[0]["input"]["images"]:
        raise DataError(f"{paths[-1]} does not end with the last image: predict this shard again")


def _whole(facts: list[dict[str, Any]], talk: Talk) -> dict[str, Any]:
    whole: dict[str, Any] = {
        **facts[0],
        "shard": [1, 1],
        "positions": [0, facts[0]["input"]["images"]],
        "rows": sum(found["rows"] for found in facts),
        "bad": sum(found["bad"] for found in facts),
    }
    del whole["format"]
    if any(found["machine"] != facts[0]["machine"] for found in facts):
        whole["machine"] = [found["machine"] for found in facts]
        text = "the shards were predicted on different machines: last digits may differ"
        talk.warn(warned("machines", text))
    if any(found["input_digest"] != facts[0]["input_digest"] for found in facts):
        # Copies of the same images, with other times.
        whole["input_digest"] = None
    return whole


def _rows(paths: list[Path]) -> Iterator[pd.DataFrame]:
    for path in paths:
        yield from table.read_table(path)


def _merge_bad_lists(paths: list[Path], out: Path, bad: int) -> None:
    target = bad_list_path(out)
    if not bad:
        target.unlink(missing_ok=True)
        return
    lists = [bad_list_path(path) for path in paths]
    texts = [path.read_bytes() for path in lists if path.is_file()]
    head = b"id,path,reason\n"
    files.write_bytes(target, head + b"".join(text.removeprefix(head) for text in texts))
