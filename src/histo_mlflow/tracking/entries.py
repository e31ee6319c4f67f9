"""Texts in the form that MLflow takes; the limits are those of its `utils/validation.py`."""

import getpass
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ENTRIES_PER_CALL = 100
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 5000  # servers before MLflow 2.22 take no more
NAME_CHARACTERS = 250
DIGEST_CHARACTERS = 36


def name(key: str) -> str:
    """A name that MLflow takes on every platform: letters, digits, `_ - . /` and spaces.

    It has to be the path that it looks like, so a part between slashes that says nothing (or "the
    folder above") becomes `_` as well.
    """
    parts = re.sub(r"[^\w\-. /]", "_", key).split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)[:NAME_CHARACTERS]


def named(values: Mapping[str, T]) -> dict[str, T]:
    """Values under names that MLflow takes; keys whose names are the same get a digest behind.

    Class names may differ in nothing but characters that MLflow does not take, and no metric may
    take another's place.
    """
    times = Counter(map(name, values))
    found = {}
    for key, value in values.items():
        plain = name(key)
        if times[plain] > 1 and plain != key:
            end = "-" + hashlib.sha256(key.encode()).hexdigest()[:8]
            plain = plain[: NAME_CHARACTERS - len(end)] + end
        found[plain] = value
    return found


def param_text(value: object) -> str:
    """`value` as text; what is too long is cut and ends in its length and digest."""
    text = str(value)
    if len(text) <= PARAM_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    end = f"... ({len(text):,} characters, sha256 {digest})"
    return text[: PARAM_CHARACTERS - len(end)] + end


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """`items` in order, `size` at a time."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def source_tags() -> dict[str, str]:
    """What MLflow's pages show as user and source; its own detection would import git tools."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.name": Path(sys.argv[0]).name or "python",
        "mlflow.source.type": "LOCAL",
    }
