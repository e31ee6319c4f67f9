"""One HTML page that stands alone: pictures inside, no script, nothing fetched.

All text is escaped, and the page itself forbids scripts and anything from elsewhere, so that a
class called `<script>` is a class with an odd name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import style
from histo_mlflow.evaluation._page_css import CSS

Kind = Literal["good", "warn", "bad", "plain"]

_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBER = re.compile(r"[-+\u2212]?[\d,]+(\.\d+)?( ?(%|px|x|s|MB))?")
_UNDEFINED = "undefined"


@dataclass(frozen=True)
class Mark:
    """A word in a coloured field, such as PASS, for a cell of a table."""

    text: str
    kind: Kind = "plain"


Cell = str | int | float | Mark | None


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Note:
    """A paragraph that must not be missed."""

    text: str
    kind: Kind = "warn"


@dataclass(frozen=True)
class Items:
    """A list of short paragraphs."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines to be copied as they are."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table.

    Columns of numbers stand at the right. Whole numbers get thousands separators, other floats four
    digits, None is "undefined"; whoever wants it otherwise gives text.

    Attributes:
        columns: headings.
        rows: as many cells as there are columns.
        caption: what it shows, with n.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG, put into the page.

    Attributes:
        png: the file, or its bytes.
        alt: what it shows, for who cannot see it.
        caption: a line below it.
    """

    png: Path | bytes
    alt: str
    caption: str = ""


Block = Text | Note | Items | Code | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


def page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """Make a page.

    Args:
        title: of the page and its window.
        facts: (name, value), shown large at the top.
        sections: in order; with three or more there is a list of contents.

    Returns:
        A whole HTML document of UTF-8 text.

    Raises:
        DataError: a picture is no PNG or has no alternative text, or a row of a table has not one
            cell for each column.
    """
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in facts
    )
    contents = "".join(
        f'<a href="#part-{i}">{escape(section.title)}</a>\n'
        for i, section in enumerate(sections, start=1)
    )
    parts = "".join(
        f'<section id="part-{i}">\n<h2>{escape(section.title)}</h2>\n'
        f"{''.join(_block(block) for block in section.blocks)}</section>\n"
        for i, section in enumerate(sections, start=1)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n"
        + (f"<dl>\n{tiles}</dl>\n" if facts else "")
        + (f'<nav aria-label="Contents">\n{contents}</nav>\n' if len(sections) > 2 else "")
        + f"</header>\n<main>\n{parts}</main>\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Text():
            return f"<p>{escape(block.text)}</p>\n"
        case Note():
            return f'<p class="note {block.kind}">{escape(block.text)}</p>\n'
        case Items():
            items = "".join(f"<li>{escape(item)}</li>\n" for item in block.items)
            return f"<ul>\n{items}</ul>\n"
        case Code():
            return f"<pre><code>{escape(block.text)}</code></pre>\n"
        case Table():
            return _table(block)
        case Picture():
            return _picture(block)


def _table(table: Table) -> str:
    if any(len(row) != len(table.columns) for row in table.rows):
        wrong = next(row for row in table.rows if len(row) != len(table.columns))
        raise DataError(
            f"Expected {len(table.columns)} cells in each row of a table, got {len(wrong)}."
        )
    right = [_is_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]
    classes = [' class="number"' if numeric else "" for numeric in right]
    head = "".join(
        f'<th scope="col"{name}>{escape(column)}</th>'
        for column, name in zip(table.columns, classes, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{name}>{_cell(cell)}</td>" for cell, name in zip(row, classes, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>\n" if table.caption else ""
    return (
        f'<div class="wide"><table>\n{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """Whether a column is read digit below digit."""
    told = [cell for cell in cells if cell is not None and cell not in ("", "-", _UNDEFINED)]
    return bool(told) and all(
        isinstance(cell, int | float)
        or (isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None)
        for cell in told
    )


def _cell(cell: Cell) -> str:
    if cell is None:
        return f'<span class="none">{_UNDEFINED}</span>'
    if isinstance(cell, Mark):
        return f'<span class="mark {cell.kind}">{escape(cell.text)}</span>'
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4f}" if isinstance(cell, float) else escape(cell)


def _picture(picture: Picture) -> str:
    if not picture.alt.strip():
        raise DataError("Expected a text that says what a picture shows, got none.")
    png = picture.png if isinstance(picture.png, bytes) else picture.png.read_bytes()
    if not png.startswith(_PNG) or len(png) < 24:
        raise DataError(f"Expected a PNG for the picture {picture.alt!r}, got something else.")
    pixels = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    # As large as drawn, at 96 px an inch; the spare pixels keep it sharp on fine screens.
    width, height = (round(px * 96 / style.DPI) for px in pixels)
    data = base64.b64encode(png).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>\n" if picture.caption else ""
    return (
        f'<figure>\n<img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}" '
        f'width="{width}" height="{height}">\n{caption}</figure>\n'
    )
