"""From the bytes of a submission to its cells, with whatever is wrong with its form.

What a CSV reader refuses or takes for something else is a FAIL (pandas and Python's own were
compared); what all take alike is a WARN where it is a sign of something gone wrong, and else a
PASS that is told: Kaggle's own samples end their lines in CRLF. Reading goes on after each fault,
so that one look at a file names all of them.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from histo_mlflow.data.findings import SHOWN, Finding, Level, counted

MOST_BYTES = 100 * 2**20
"""Of a submission: some 1.7 million rows of PCam's."""

_OTHER_DELIMITERS = (";", "\t", "|")
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Row:
    """The cells of one line; `line` counts from 1."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """What a file held.

    Attributes:
        rows: every line that is not blank, the header among them.
        delimiter: what its cells are divided by; "," in a file as it should be.
        findings: what is wrong with its form.
    """

    rows: tuple[Row, ...]
    delimiter: str
    findings: tuple[Finding, ...]


def found(check: str, level: Level, message: str, places: Sequence[str], n: int) -> Finding:
    """A finding that may count more than the places it lists."""
    return Finding(check, level, message, tuple(places[:SHOWN]), n)


def at_lines(check: str, level: Level, message: str, lines: Iterable[int]) -> Finding:
    """A finding whose offenders are lines."""
    places = [f"line {line}" for line in lines]
    return found(check, level, message, places, len(places))


def read_cells(data: bytes) -> Table:
    """Divide a submission into its cells.

    Args:
        data: the file as it is, at most `MOST_BYTES`.

    Returns:
        Rows and findings; bytes that are no UTF-8 are kept as lone surrogates, which a caller can
        tell from any character.
    """
    text, findings = _decoded(data)
    if not text.strip():
        findings = [*findings, Finding("empty-file", Level.FAIL, "the file holds no text")]
        return Table((), ",", tuple(findings))
    text, more = _line_ends(text)
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    else:
        more.append(
            at_lines(
                "last-line",
                Level.WARN,
                "the last line has no end, as in a file that was cut off",
                [len(lines)],
            )
        )
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line]
    blank = [number for number, line in enumerate(lines, 1) if not line]
    if blank:
        first = blank[0] == 1
        level = Level.FAIL if first else Level.WARN
        why = "the first of them hides the header" if first else "every reader skips them"
        more.append(
            at_lines("blank-lines", level, f"{counted(len(blank), 'blank line')}; {why}", blank)
        )
    header = numbered[0][1]
    delimiter = ","
    if "," not in header:
        delimiter = next((sign for sign in _OTHER_DELIMITERS if sign in header), ",")
    if delimiter != ",":
        name = "tabs" if delimiter == "\t" else f"{delimiter!r}"
        more.append(
            Finding("delimiter", Level.FAIL, f"cells are divided by {name}, a comma was expected")
        )
    rows, quoting = _divided(numbered, delimiter)
    return Table(rows, delimiter, (*findings, *more, *quoting))


def _decoded(data: bytes) -> tuple[str, list[Finding]]:
    """The text, whatever it is encoded in."""
    for mark, name in _WIDE:
        if data.startswith(mark):
            return data.decode(name, errors="replace"), [
                Finding("encoding", Level.FAIL, f"the file is {name.upper()}, not UTF-8")
            ]
    findings = []
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
        findings.append(
            Finding(
                "byte-order-mark",
                Level.FAIL,
                "the file begins with a byte order mark (U+FEFF), which becomes a part of the "
                "first column's name; write it as UTF-8 without one",
            )
        )
    if b"\0" in data:
        odd, even = data[1::2].count(0), data[::2].count(0)
        if max(odd, even) > len(data) // 4:
            name = "utf-16-le" if odd > even else "utf-16-be"
            findings.append(Finding("encoding", Level.FAIL, "the file is UTF-16, not UTF-8"))
            return data.decode(name, errors="replace"), findings
        lines = [n for n, line in enumerate(data.split(b"\n"), 1) if b"\0" in line]
        findings.append(at_lines("encoding", Level.FAIL, "there are NUL bytes in the text", lines))
        data = data.replace(b"\0", b"")
    text = data.decode("utf-8", errors="surrogateescape")
    lines = [n for n, line in enumerate(text.split("\n"), 1) if is_undecoded(line)]
    if lines:
        findings.append(
            at_lines("encoding", Level.FAIL, "there are bytes that are no UTF-8", lines)
        )
    return text, findings


def is_undecoded(text: str) -> bool:
    """Whether a text holds bytes that could not be decoded."""
    return not text.isascii() and re.search("[\ud800-\udfff]", text) is not None


def _line_ends(text: str) -> tuple[str, list[Finding]]:
    """The text with LF line ends only."""
    findings: list[Finding] = []
    if "\r" not in text:
        return text, findings
    windows = text.count("\r\n")
    if windows:
        findings.append(
            found(
                "line-ends",
                Level.PASS,
                f"{counted(windows, 'line')} {'ends' if windows == 1 else 'end'} in CRLF, which is "
                "harmless: Kaggle's own samples do",
                [],
                windows,
            )
        )
    text = text.replace("\r\n", "\n")
    if lone := text.count("\r"):
        findings.append(
            found(
                "carriage-returns",
                Level.WARN,
                f"{counted(lone, 'carriage return')} without a line feed, the line end of an old "
                "Mac, which most readers take",
                [],
                lone,
            )
        )
        text = text.replace("\r", "\n")
    return text, findings


def _divided(
    lines: Sequence[tuple[int, str]], delimiter: str
) -> tuple[tuple[Row, ...], list[Finding]]:
    """The cells of each line, and what is wrong with quotation marks."""
    rows, quoted, broken = [], [], []
    for number, line in lines:
        if '"' not in line:
            rows.append(Row(number, tuple(line.split(delimiter))))
            continue
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True))
            sound = not any('"' in cell for cell in cells)
        except csv.Error:
            sound = False
        if sound:
            quoted.append(number)
        else:
            broken.append(number)
            cells = line.replace('"', "").split(delimiter)
        rows.append(Row(number, tuple(cells)))
    findings = []
    if quoted:
        findings.append(
            at_lines(
                "quotes",
                Level.PASS,
                f"{counted(len(quoted), 'line')} with quotation marks, which is harmless",
                quoted,
            )
        )
    if broken:
        findings.append(
            at_lines(
                "broken-quotes",
                Level.FAIL,
                f"{counted(len(broken), 'line')} with a quotation mark that is not closed, or "
                "within a cell",
                broken,
            )
        )
    return tuple(rows), findings
