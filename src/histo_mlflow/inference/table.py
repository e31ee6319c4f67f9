"""The file of answers: Parquet or CSV, the same bytes for the same answers.

Both say in what they were made from: Parquet in its metadata (key `histo_mlflow`), a CSV in a file
beside it (`predictions.csv.json`). By that, shards are joined only with their own kind, and a
command that is given again sees that its output is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

from histo_mlflow import files
from histo_mlflow.errors import DataError
from histo_mlflow.registry.answer import ABSTAIN, CLASS, DIGEST, VERSION, answer_columns

ID = "id"
FORMAT = 1
SUFFIXES = (".parquet", ".csv")
ROW_GROUP = 65_536
_KEY = b"histo_mlflow"
_FACTS = "json"


def checked_suffix(out: Path) -> Path:
    """The path, if its suffix says how to write it.

    Raises:
        DataError: it is neither .parquet nor .csv, or a folder.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"Expected --out to end in .parquet or .csv, got {out}")
    if out.is_dir():
        raise DataError(f"Expected --out to be a file, got the folder {out}")
    return out


def write_table(
    folder: Path,
    name: str,
    frames: Iterable[pd.DataFrame],
    classes: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write answers into a folder under the name they will have, without holding all of them.

    Args:
        folder: where nobody reads; `give_name` moves the file out of it.
        name: of the file, ending in .parquet or .csv.
        frames: rows in order, with the columns of `columns_of`.
        classes: of the model.
        facts: JSON values that say what the answers were made from.

    Raises:
        DiskError: it cannot be written.
    """
    path = folder / name
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True, ensure_ascii=False)
    files.make_folder(folder)
    with files.told(folder, 0):
        if path.suffix.lower() == ".csv":
            _write_csv(path, frames, classes)
            whole = {**json.loads(text), "sha256": _sha256(path)}
            told = json.dumps(whole, sort_keys=True, ensure_ascii=False)
            _facts_path(path).write_text(told + "\n", encoding="utf-8")
        else:
            _write_parquet(path, frames, _schema(classes, text))


def give_name(folder: Path, out: Path) -> None:
    """Move what `write_table` wrote to its place, durably; a file that is there is replaced.

    Raises:
        DiskError: it cannot be moved.
    """
    files.sync_tree(folder)
    with files.told(out.parent, 0):
        facts = _facts_path(folder / out.name)
        if facts.is_file():  # first, as it holds the table's digest and says nothing of another
            facts.replace(_facts_path(out))
        (folder / out.name).replace(out)
        files.sync_folder(out.parent)


def read_facts(path: Path) -> dict[str, Any] | None:
    """What a table says it was made from; None for one that is not ours, or cannot be read."""
    try:
        if path.suffix.lower() == ".csv":
            if not path.is_file():
                return None
            text = _facts_path(path).read_bytes()
        else:
            text = (pq.read_schema(path).metadata or {}).get(_KEY, b"")
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            return None
        digest = found.pop("sha256", None)
        return found if digest is None or digest == _sha256(path) else None
    except (OSError, ValueError, pa.ArrowException):
        return None


def read_table(path: Path) -> Iterator[pd.DataFrame]:
    """The rows of a table that `write_table` wrote, in pieces, as they were given to it.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if path.suffix.lower() == ".csv":
            with pd.read_csv(
                path, dtype="str", keep_default_na=False, na_filter=False, chunksize=ROW_GROUP
            ) as pieces:
                for piece in pieces:
                    yield _from_text(piece)
            return
        with pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(ROW_GROUP):
                yield batch.to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({error}): predict this shard again") from error


def columns_of(classes: Sequence[str]) -> list[str]:
    """Of the table: id, class, a probability for each class, abstain, model_version and digest."""
    return [ID, *answer_columns(classes)]


def _schema(classes: Sequence[str], facts: str) -> pa.Schema:
    kinds = {ABSTAIN: pa.bool_(), **{name: pa.string() for name in (ID, CLASS, VERSION, DIGEST)}}
    fields = [(name, kinds.get(name, pa.float64())) for name in columns_of(classes)]
    return pa.schema(fields, metadata={_KEY: facts.encode()})


def _write_parquet(path: Path, frames: Iterable[pd.DataFrame], schema: pa.Schema) -> None:
    waiting: list[pa.Table] = []
    rows = 0
    with pq.ParquetWriter(path, schema) as writer:
        for frame in frames:
            table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
            waiting.append(table.replace_schema_metadata(schema.metadata))
            rows += len(frame)
            # Row groups are cut by position, however the rows came.
            while rows >= ROW_GROUP:
                whole = pa.concat_tables(waiting)
                writer.write_table(whole.slice(0, ROW_GROUP).combine_chunks(), ROW_GROUP)
                waiting, rows = [whole.slice(ROW_GROUP)], rows - ROW_GROUP
        if rows:
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), ROW_GROUP)


def _write_csv(path: Path, frames: Iterable[pd.DataFrame], classes: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        nothing = pd.DataFrame(columns=columns_of(classes))
        nothing.to_csv(file, index=False, lineterminator="\n")
        for frame in frames:
            frame[nothing.columns].to_csv(file, index=False, header=False, lineterminator="\n")


def _from_text(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a CSV; the text of a number is the shortest that gives its bits back."""
    numbers = [name for name in table.columns if str(name).startswith("p_")]
    back = table.astype(dict.fromkeys(numbers, "float64"))
    back[ABSTAIN] = table[ABSTAIN] == "True"
    return back


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.{_FACTS}")
