"""What a recipe is called that comes of a study, whose name may hold any characters."""

from __future__ import annotations

import re


def recipe_name(title: str) -> str:
    """A title as a recipe's name; characters that it cannot have become `_`."""
    return re.sub(r"^[^A-Za-z0-9]+", "", re.sub(r"[^A-Za-z0-9_.-]", "_", title))
