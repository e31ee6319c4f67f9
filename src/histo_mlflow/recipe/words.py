"""How mistakes in a recipe are told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from histo_mlflow.yaml_places import Mistake, Read


def of_file(mistake: Mistake, content: Read) -> str:
    """What a recipe's file cannot say, with its line."""
    names = [part for part in mistake.path if isinstance(part, str)]
    name = names[-1] if names else "the file"
    return f"{name} {mistake.message}{_at(content.line(mistake.path))}"


def sentence(detail: Any, known: list[str], line: int | None = None) -> str:
    """What pydantic refuses, in our words; `line` is where the value stands in a file."""
    return _without_place(detail, known) + _at(line)


def _at(line: int | None) -> str:
    return "" if line is None else f" (line {line})"


def _without_place(detail: Any, known: list[str]) -> str:
    path = [str(part) for part in detail["loc"]]
    field = path[1] if len(path) > 1 else (path[0] if path else "")
    if detail["type"] == "extra_forbidden":
        return f"unknown field {'.'.join(path)}{did_you_mean(path[-1], known)}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if not field:
        return str(message)
    message = message.replace("Input should be", "should be").replace("String should", "should")
    if detail["type"] == "string_pattern_mismatch" and field == "device":
        message = "should be auto, cpu, mps, cuda or cuda:N"
    if detail["type"] == "string_pattern_mismatch" and field == "name":
        message = "should be made of letters, digits, dots, dashes and underscores"
    if detail["type"] == "missing":
        message = "should be two numbers, low,high"
    message = message.split(", unable to")[0]
    return f"{field} {message}, got {shown(detail['input'])}"


def shown(value: Any) -> str:
    """A value as it is quoted in a message."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes out no integer of more than 4,300 digits, which a file can have as 0x...
        text = f"a value too long to be shown ({type(value).__name__})"
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question in brackets after a wrong one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""
