"""What pydantic finds wrong with a study file, in this project's words and at its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from histo_mlflow.recipe import MONITORS, did_you_mean
from histo_mlflow.recipe.words import shown
from histo_mlflow.tuning.study._part import Part
from histo_mlflow.tuning.study._study_model import Confirm, StudyFile
from histo_mlflow.tuning.study.pruners import (
    PRUNERS,
    WRAPPED,
    Hyperband,
    Median,
    NoPruner,
    Patient,
    Wilcoxon,
)
from histo_mlflow.tuning.study.samplers import SAMPLERS, CmaEs, Gp, Grid, Qmc, Random, Tpe
from histo_mlflow.tuning.study.space import CategoricalAxis, FloatAxis, IntAxis
from histo_mlflow.yaml_places import Mistake, Path

AXES = ("float", "int", "categorical")
_PARTS: dict[str, tuple[type[Part], ...]] = {
    "space": (FloatAxis, IntAxis, CategoricalAxis),
    "sampler": (Tpe, Gp, CmaEs, Random, Grid, Qmc),
    "pruner": (NoPruner, Median, Hyperband, Patient, Wilcoxon),
    "confirm": (Confirm,),
}
_PLAIN = {
    "dict_type": "should be keys with values",
    "model_type": "should be keys with values",
    "model_attributes_type": "should be keys with values",
    "tuple_type": "should be a list",
    "int_parsing_size": "should be a valid integer",
    "int_from_float": "should be a valid integer",
}


def sentences(error: ValidationError, raw: Mapping[str, Any]) -> list[tuple[Mistake, Path]]:
    """A mistake for each error, with the path of the part that cannot be read because of it.

    Args:
        error: of a `StudyFile`.
        raw: what it was given.
    """
    found = []
    for detail in error.errors():
        path = _path(detail, raw)
        part = path[:2] if path and path[0] in {"space", "set"} else path[:1]
        found.append((Mistake(path, _message(detail, path, raw)), part))
    return found


def _path(detail: Any, raw: Mapping[str, Any]) -> Path:
    """Where it is in the file: pydantic's place without the tags of its unions."""
    path: list[str | int] = []
    node: Any = raw
    last = len(detail["loc"]) - 1
    for position, part in enumerate(detail["loc"]):
        inside = part in node if isinstance(node, Mapping) else _is_position(part, node)
        if inside:
            path.append(part)
            node = node[part]
        elif position == last and detail["type"] == "missing":
            path.append(part)
    return tuple(path)


def _is_position(part: Any, node: Any) -> bool:
    return isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)


def _message(detail: Any, path: Path, raw: Mapping[str, Any]) -> str:
    kind, got = detail["type"], shown(detail["input"])
    if kind == "extra_forbidden":
        where, known = _known(path, raw)
        return f"is no key of {where}{did_you_mean(str(path[-1]), known)}"
    if kind == "missing":
        return "is missing"
    if path == ("metric",) and kind == "literal_error":
        return _metric(detail["input"])
    if path == ("name",):
        return (
            "(the file's name without .yaml) should be made of at most 100 letters, digits, dots, "
            f"dashes and underscores, got {got}"
        )
    if kind == "union_tag_not_found":
        return f"needs {_tag(path)}: one of {', '.join(_names(path))}"
    if kind == "union_tag_invalid":
        tag, names = str(detail["ctx"]["tag"]), _names(path)
        given = detail["input"].get(_tag(path), tag)
        hint = _off(given, names) or did_you_mean(tag, names)
        return f"{_tag(path)} should be one of {', '.join(names)}, got {shown(given)}{hint}"
    if kind == "model_attributes_type" and path[0] in {"sampler", "pruner"}:
        names, given = _names(path), detail["input"]
        got = "nothing: leave it out for the default" if given is None else got
        wanted = f"should be a name ({', '.join(names)}) or keys with values"
        return f"{wanted}, got {got}{_off(given, names)}"
    return f"{_in_plain_words(kind, detail['msg'])}, got {got}"


def _in_plain_words(kind: str, message: str) -> str:
    if kind in _PLAIN:
        return _PLAIN[kind]
    message = message.removeprefix("Value error, ").replace("Input should", "should")
    for name in ("Tuple", "String", "Dictionary"):
        message = message.replace(f"{name} should", "should")
    return message.split(", unable to")[0].replace(" after validation", "")


def _tag(path: Path) -> str:
    return "type" if path[0] == "space" else "name"


def _off(given: Any, names: tuple[str, ...]) -> str:
    """What YAML has made a switch of."""
    if not isinstance(given, bool):
        return ""
    told = "on and yes as true" if given else "off and no as false"
    write = "; write none" if not given and "none" in names else ""
    return f" (YAML reads {told}{write})"


def _names(path: Path) -> tuple[str, ...]:
    if path[0] == "pruner" and "wraps" in path:
        return WRAPPED
    return {"space": AXES, "sampler": SAMPLERS, "pruner": PRUNERS}[str(path[0])]


def _metric(given: Any) -> str:
    names = f"should be one of {', '.join(MONITORS)}, got {shown(given)}"
    if isinstance(given, str) and given.startswith("test/"):
        return (
            f"{names}: a study chooses by validation alone; what the test split has chosen it can "
            "no longer judge"
        )
    return names + did_you_mean(str(given), MONITORS)


def _known(path: Path, raw: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The place of a wrong key, in words, and the keys that there are."""
    if len(path) == 1:
        return "a study", list(StudyFile.model_fields)
    around: Any = raw
    for part in path[:-1]:
        around = around[part]
    tag = _tag(path)
    named = str(around.get(tag))
    for model in _PARTS[str(path[0])]:
        field = model.model_fields.get(tag)
        if field is None or named in get_args(field.annotation):
            return (named if field else str(path[0])), list(model.model_fields)
    return str(path[0]), []
