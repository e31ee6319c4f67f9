"""How many columns of a terminal a text takes, and cutting it to fit."""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"


def columns(text: str) -> int:
    """Columns of a line: none for combining marks, two for wide East Asian characters.

    Width is that of Unicode's annex 11 ("East Asian Width").
    """
    return sum(map(_column, text))


def fit(text: str, width: int, *, plain: bool = False) -> str:
    """Cut a line at its end so that it takes at most `width` columns; what is cut is told.

    Control characters become `?`, so that no text moves the cursor.

    Args:
        text: without a line break at its end.
        width: in columns.
        plain: ASCII alone; any other character becomes `?`.
    """
    safe = "".join("?" if unicodedata.category(one) in _CONTROL else one for one in text)
    end = "..." if plain else ELLIPSIS
    if plain:
        safe = safe.replace(ELLIPSIS, end).encode("ascii", "replace").decode()
    if columns(safe) <= width:
        return safe
    if width <= columns(end):
        return end[: max(width, 0)]
    kept, used = [], columns(end)
    for one in safe:
        used += _column(one)
        if used > width:
            break
        kept.append(one)
    return "".join(kept) + end


_CONTROL = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def _column(one: str) -> int:
    if unicodedata.combining(one):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1
