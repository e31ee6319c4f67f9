"""A page as Markdown: the same title, facts and sections that `page.page` makes HTML of.

Whatever has a meaning in Markdown or in a table is escaped, so that a class called `a|b` is one
cell, and `<b>` no tag.
"""

import re
from collections.abc import Sequence

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.page import (
    Block,
    Cell,
    Code,
    Items,
    Mark,
    Note,
    Picture,
    Section,
    Table,
    Text,
)

_SPECIAL = re.compile(r"[\\`*\[\]<>|~$]|&(?=[#\w]+;)|(?<![^\W_])_|_(?![^\W_])")
_AT_START = re.compile(r"^(?:[=#]|[-+](?=[-\s]|$)|\d+(?=[.)](?:\s|$)))")


def markdown(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """Write a page as GitHub's Markdown.

    Args:
        title: its first heading.
        facts: (name, value), a list at the top.
        sections: in order.

    Raises:
        DataError: a row of a table has not one cell for each column.
    """
    parts = [f"# {escaped(title)}"]
    if facts:
        parts.append("\n".join(f"- **{escaped(name)}**: {escaped(said)}" for name, said in facts))
    for section in sections:
        parts += [f"## {escaped(section.title)}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """One line of text that Markdown shows as it is."""
    line = " ".join(text.split())
    line = _SPECIAL.sub(lambda found: "\\" + found.group(), line)
    # of "1." the dot is escaped, of "- " and "# " the sign itself
    return _AT_START.sub(
        lambda found: found.group() + "\\" if found.group().isdigit() else "\\" + found.group(),
        line,
    )


def _block(block: Block) -> str:
    match block:
        case Text():
            return escaped(block.text)
        case Note():
            return f"> {escaped(block.text)}"
        case Items():
            return "\n".join(f"- {escaped(item)}" for item in block.items)
        case Code():
            # a fence is longer than any in the text
            longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
            fence = "`" * max(3, longest + 1)
            return f"{fence}\n{block.text}\n{fence}"
        case Table():
            return _table(block)
        case Picture():
            return f"*Picture: {escaped(block.alt)}*"


def _table(table: Table) -> str:
    if wrong := [row for row in table.rows if len(row) != len(table.columns)]:
        raise DataError(
            f"Expected {len(table.columns)} cells in each row of a table, got {len(wrong[0])}."
        )
    rows = [[escaped(column) for column in table.columns], ["---"] * len(table.columns)]
    rows += [[_cell(cell) for cell in row] for row in table.rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{escaped(table.caption)}\n\n{lines}" if table.caption else lines


def _cell(cell: Cell) -> str:
    """The same words as in the HTML."""
    if cell is None:
        return "undefined"
    if isinstance(cell, Mark):
        return f"**{escaped(cell.text)}**"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4f}" if isinstance(cell, float) else escaped(cell)
