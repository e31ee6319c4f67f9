"""YAML read with the line of every key, and refused where it would be read in a surprising way.

PyYAML takes the last of two equal keys without a word, lets a name stand for any amount of text
(anchors and aliases) and makes objects of tags; a recipe or a study needs none of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Keys and positions from the top of the file to a value."""

LARGEST_BYTES = 256 * 1024
_DEEPEST = 20
_MAP, _SEQ = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"


@dataclass(frozen=True, order=True)
class Mistake:
    """What is wrong, at one place."""

    path: Path
    message: str


@dataclass
class Read:
    """A file's content: values, the line of each key or item (from 1), what cannot stand."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def read_file(path: File, what: str) -> Read:
    """Parse a file, which should be a recipe or a study (`what`).

    Raises:
        ValueError: it cannot be read; the sentence begins with the path.
    """
    try:
        if (size := path.stat().st_size) > LARGEST_BYTES:
            raise ValueError(
                f"{path} should be a {what} file, and is too large for one: {size:,} bytes, "
                f"at most {LARGEST_BYTES:,} are read"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from error
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def read(text: str) -> Read:
    """Parse a YAML document.

    Raises:
        ValueError: it is no YAML, or is nested too deeply.
    """
    found = Read()
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            found.data = _value(loader, node, (), found, set())
    except yaml.YAMLError as error:
        raise ValueError(f"is not a YAML file: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply to be read") from error
    return found


def _value(loader: Any, node: yaml.Node, path: Path, found: Read, seen: set[int]) -> Any:
    found.lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in seen:
        found.mistakes.append(Mistake(path, "should be written out: aliases (*name) are not read"))
        return None
    seen.add(id(node))
    if len(path) > _DEEPEST:
        raise RecursionError
    if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
        return {
            key: _value(loader, value, (*path, key), found, seen)
            for key, value in _pairs(node, path, found)
        }
    if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
        return [
            _value(loader, item, (*path, position), found, seen)
            for position, item in enumerate(node.value)
        ]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node, path, found)
    found.mistakes.append(Mistake(path, f"has the tag {node.tag}, which is not read"))
    return None


def _pairs(node: yaml.MappingNode, path: Path, found: Read) -> Iterator[tuple[str, yaml.Node]]:
    first: dict[str, int] = {}
    for key_node, value in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            found.mistakes.append(Mistake(path, f"has a key in line {line} that is no text"))
            continue
        key = str(key_node.value)
        if key in first:
            found.mistakes.append(
                Mistake((*path, key), f"is given twice, in lines {first[key]} and {line}")
            )
            continue
        first[key] = found.lines[(*path, key)] = line
        yield key, value


def _scalar(loader: Any, node: yaml.ScalarNode, path: Path, found: Read) -> Any:
    try:
        value = loader.construct_object(node)
        if isinstance(value, int):
            str(value)  # Python refuses to write out more than 4,300 digits, as 0x... can have.
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError):
        # Of what looks like a date, or has a tag that it does not fit (!!bool maybe), for example.
        told = f"cannot be read: {str(node.value)[:60]!r}"
        if node.style is None:
            told += "; put text that looks like a date or a number in quotes"
        found.mistakes.append(Mistake(path, told))
        return None
    if isinstance(value, int | float) and (problem := _surprise(str(node.value), value, path)):
        found.mistakes.append(Mistake(path, problem))
    return value


def _surprise(text: str, value: float, path: Path) -> str | None:
    """What YAML 1.1 makes of a number that means another one to most readers."""
    if len(text) > 40:
        return None  # Such a number is refused for its size.
    if re.fullmatch(r"[-+]?0[\d_]+", text):
        meant = int(text.replace("_", ""))
        told = (
            f"is {value} to YAML, which reads {text} as an octal number: write {meant} (or {value})"
        )
        return None if meant == value else told
    if ":" not in text:
        return None
    number = f"{value:.15g}"
    told = f"is {number} to YAML, which reads {text} as a number in sixties: write "
    parts = text.split(":")
    if path != ("wall_time",) or not all(part.isdigit() for part in parts) or len(parts) > 3:
        return f'{told}{number}, or "{text}" in quotes if it is text'
    if len(parts) == 3:
        return f"{told}{_duration(parts, 'hms')}"
    return f"{told}{_duration(parts, 'hm')} or {_duration(parts, 'ms')}"


def _duration(parts: list[str], units: str) -> str:
    return "".join(f"{int(n)}{unit}" for n, unit in zip(parts, units, strict=True) if int(n))
