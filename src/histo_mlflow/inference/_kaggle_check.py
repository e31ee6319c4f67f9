"""What is wrong with the header, the ids and the values of a submission, all of it at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from histo_mlflow.data.findings import Finding, Level, counted
from histo_mlflow.inference._kaggle_file import (
    Row,
    Table,
    found,
    is_undecoded,
)

SUFFIX = re.compile(r"\.(?:tiff?|png|jpe?g|bmp|gif|webp|npy|h5)$", re.IGNORECASE)
"""How a file's name ends that was taken for an id."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)
_DIGITS = re.compile(r"[+-]?\d+", re.ASCII)
_NOTHING = frozenset(
    {"", "nan", "+nan", "-nan", "na", "n/a", "<na>", "#n/a", "null", "none", "nat"}
)
_SHOWN_CHARACTERS = 60

Fault = Literal[
    "row-length",
    "decimal-comma",
    "suffix-in-ids",
    "folder-in-ids",
    "spaces-in-ids",
    "empty-ids",
    "repeated-ids",
    "extra-ids",
    "empty-values",
    "infinite-values",
    "out-of-range",
    "text-values",
    "spaces-in-values",
]

_SAYS: Mapping[Fault, tuple[Level, str]] = {
    "row-length": (Level.FAIL, "{} with another number of cells than the header"),
    "decimal-comma": (Level.FAIL, "{} with a comma as the decimal sign; write a point"),
    "suffix-in-ids": (Level.FAIL, "{} with a file's suffix left in the id"),
    "folder-in-ids": (Level.FAIL, "{} with a folder left in the id"),
    "spaces-in-ids": (Level.FAIL, "{} with spaces around the id"),
    "empty-ids": (Level.FAIL, "{} without an id"),
    "repeated-ids": (Level.FAIL, "{} with an id that an earlier one has"),
    "extra-ids": (Level.FAIL, "{} with an id that the sample does not have"),
    "empty-values": (Level.FAIL, "{} without a value, or with NaN"),
    "infinite-values": (Level.FAIL, "{} with an infinite value"),
    "out-of-range": (Level.FAIL, "{} with a value outside [0, 1], which is no probability"),
    "text-values": (Level.FAIL, "{} with text where a number was expected"),
    "spaces-in-values": (Level.WARN, "{} with spaces around the value, which every reader takes"),
}


@dataclass
class _Seen:
    """What the rows held so far."""

    faults: dict[Fault, list[str]] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)  # the line of the first row of each
    values: list[float] = field(default_factory=list)

    def blame(self, fault: Fault, line: int, what: str = "") -> None:
        self.faults.setdefault(fault, []).append(_place(line, what))


@dataclass(frozen=True)
class _Columns:
    """Where ids and values are; None where a column could not be told."""

    width: int
    id: int | None
    value: int | None


def check_table(
    table: Table, columns: tuple[str, str], ids: Sequence[str] | None
) -> tuple[list[Finding], list[float]]:
    """All that is wrong with a submission, but for its form.

    Args:
        table: from `read_cells`.
        columns: names of the columns of ids and of values.
        ids: those of the sample in its order; None where there is no sample.

    Returns:
        Findings, none for a good file; and the values that are probabilities.
    """
    if not table.rows:
        return [], []
    header, *rows = table.rows
    known = frozenset(ids or ())
    if _is_data(header, columns, known):
        findings = [
            found(
                "no-header",
                Level.FAIL,
                f"the first line is no header; {','.join(columns)} was expected",
                [_place(header.line, table.delimiter.join(header.cells))],
                1,
            )
        ]
        where, rows = _Columns(2, 0, 1), [header, *rows]
    else:
        findings, where = _header(header, columns)
    if not rows:
        return [*findings, Finding("no-rows", Level.FAIL, "there is a header and nothing else")], []
    seen = _Seen()
    for row in rows:
        _look_at(row, where, table.delimiter, known if ids is not None else None, seen)
    for fault, (level, says) in _SAYS.items():
        if places := seen.faults.get(fault):
            n = len(places)
            findings.append(found(fault, level, says.format(counted(n, "row")), places, n))
    if ids is not None and where.id is not None:
        findings += _against_sample(seen.ids, ids)
    return [*findings, *_suspicions(seen.values)], seen.values


def _place(line: int, what: str = "") -> str:
    text = what if len(what) <= _SHOWN_CHARACTERS else what[: _SHOWN_CHARACTERS - 3] + "..."
    plain = text.encode("utf-8", errors="replace").decode()
    # A file from somebody else may hold what moves a terminal's cursor.
    plain = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in plain)
    return f"line {line}: {plain}" if plain else f"line {line}"


def _is_data(header: Row, columns: tuple[str, str], known: frozenset[str]) -> bool:
    """Whether the first line is a row already."""
    cells = [cell.strip() for cell in header.cells]
    if {cell.casefold() for cell in cells} & {name.casefold() for name in columns}:
        return False
    if SUFFIX.sub("", cells[0]) in known:
        return True
    return len(cells) == 2 and _NUMBER.fullmatch(cells[1]) is not None


def _header(header: Row, columns: tuple[str, str]) -> tuple[list[Finding], _Columns]:
    cells, wanted = header.cells, ",".join(columns)
    place = [_place(header.line, ",".join(cells))]
    findings = []

    def blame(check: str, why: str) -> None:
        findings.append(found(check, Level.FAIL, f"{why}; {wanted} was expected", place, 1))

    if len(cells) != len(columns):
        index = len(cells) == 3 and cells[0].strip().casefold() in ("", "unnamed: 0", "index")
        hint = ", the first of them an index (pandas writes none with index=False)" if index else ""
        blame("column-number", f"there {_are(len(cells))}{hint}")
    there = _located(cells, columns)
    exact = all(name in cells for name in columns)
    if not exact and len(cells) >= len(columns):
        blame("column-names", "the columns are called otherwise")
    id_at, value_at = there
    if exact and id_at is not None and value_at is not None and id_at > value_at:
        blame("column-order", "the columns are in another order")
    return findings, _Columns(len(cells), id_at, value_at)


def _are(n: int) -> str:
    return "is 1 column" if n == 1 else f"are {n} columns"


def _located(cells: Sequence[str], columns: tuple[str, str]) -> tuple[int | None, int | None]:
    """Positions of ids and values: by name, by a name that is nearly right, by what is left."""
    near = [cell.strip().strip("\ufeff").casefold() for cell in cells]
    found_at: list[int | None] = []
    for name in columns:
        if name in cells:
            found_at.append(cells.index(name))
        elif name.casefold() in near:
            found_at.append(near.index(name.casefold()))
        else:
            found_at.append(None)
    id_at, value_at = found_at
    if len(cells) == 2:
        if id_at is None:
            id_at = 0 if value_at is None else 1 - value_at
        if value_at is None:
            value_at = 1 - id_at
    elif len(cells) == 1 and value_at is None:
        id_at = 0
    return id_at, value_at


def _look_at(
    row: Row, where: _Columns, delimiter: str, known: frozenset[str] | None, seen: _Seen
) -> None:
    """One row: its length, its id, its value."""
    cells, readable = list(row.cells), True
    if len(cells) != where.width:
        at = where.value
        split = (
            delimiter == ","
            and at is not None
            and len(cells) == where.width + 1
            and _DIGITS.fullmatch(cells[at].strip())
            and _DIGITS.fullmatch(cells[at + 1].strip())
        )
        if split and at is not None:
            cells[at : at + 2] = [f"{cells[at]},{cells[at + 1]}"]
        else:
            seen.blame("row-length", row.line, delimiter.join(row.cells))
            readable = False
    if where.id is not None and where.id < len(cells):
        _id(cells[where.id], row.line, known, seen)
    if where.value is not None and readable:
        _value(cells[where.value], row.line, seen)


def _id(cell: str, line: int, known: frozenset[str] | None, seen: _Seen) -> None:
    if is_undecoded(cell):
        return  # told as the encoding's fault
    name = cell.strip()
    if not name:
        seen.blame("empty-ids", line)
        return
    if name != cell:
        seen.blame("spaces-in-ids", line, f"{cell!r}")
    if known is None or name not in known:
        name = _bare(name, line, known, seen)
    if known is not None and name not in known:
        seen.blame("extra-ids", line, name)
    elif name in seen.ids:
        seen.blame("repeated-ids", line, f"{name} (first on line {seen.ids[name]})")
    else:
        seen.ids[name] = line


def _bare(name: str, line: int, known: frozenset[str] | None, seen: _Seen) -> str:
    """The id in a file's name or path; the name itself where that is no id either."""
    last = re.split(r"[/\\]", name)[-1]
    stem = SUFFIX.sub("", last)
    if known is not None and not {last, stem} & known:
        return name
    bare = last if known is not None and last in known else stem
    if last != name:
        seen.blame("folder-in-ids", line, name)
    if bare != last:
        seen.blame("suffix-in-ids", line, name)
    return bare


def _value(cell: str, line: int, seen: _Seen) -> None:
    if is_undecoded(cell):
        return  # told as the encoding's fault
    text = cell.strip()
    if text != cell and text:
        seen.blame("spaces-in-values", line, f"{cell!r}")
    if text.casefold() in _NOTHING:
        seen.blame("empty-values", line, text)
    elif _INFINITE.fullmatch(text):
        seen.blame("infinite-values", line, text)
    elif _COMMA.fullmatch(text):
        seen.blame("decimal-comma", line, text)
    elif not _NUMBER.fullmatch(text):
        seen.blame("text-values", line, text)
    elif (value := float(text)) in (float("inf"), float("-inf")):
        seen.blame("infinite-values", line, text)
    elif not 0 <= value <= 1:
        seen.blame("out-of-range", line, text)
    else:
        seen.values.append(value)


def _against_sample(lines: Mapping[str, int], ids: Sequence[str]) -> Iterator[Finding]:
    """What is missing, and whether the rest is in the sample's order."""
    if missing := [name for name in ids if name not in lines]:
        n = len(missing)
        yield found(
            "missing-ids",
            Level.FAIL,
            f"{n:,} of the sample's {counted(len(ids), 'id')} {'has' if n == 1 else 'have'} no row",
            missing,
            n,
        )
    wanted = [name for name in ids if name in lines]
    moved = [there for there, name in zip(lines, wanted, strict=True) if there != name]
    if moved:
        yield found(
            "reordered-ids",
            Level.WARN,
            f"{counted(len(moved), 'row')} in another order than the sample's; Kaggle joins rows "
            "by id, so the score is the same",
            [_place(lines[name], name) for name in moved],
            len(moved),
        )


def _suspicions(values: Sequence[float]) -> Iterator[Finding]:
    """What can be scored and is hardly meant."""
    if len(values) < 2:
        return
    held = set(values)
    if len(held) == 1:
        yield Finding(
            "constant",
            Level.WARN,
            f"all {len(values):,} values are {values[0]:g}, which ranks nothing (AUC 0.5)",
        )
    elif held == {0.0, 1.0}:
        yield Finding(
            "hard-labels",
            Level.WARN,
            f"all {len(values):,} values are 0 or 1: labels instead of probabilities cost AUC",
        )
