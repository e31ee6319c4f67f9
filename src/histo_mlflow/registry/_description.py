"""What `model.json` must hold, checked when it is written and when it is read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from histo_mlflow.errors import ModelFolderError

FORMAT = "histo-mlflow model"
FORMAT_VERSION = 3
DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"
CARD = "MODEL_CARD.md"
MOST_BYTES = 64 * 2**20
"""Of a description: 10,000 classes with thresholds by three rules have some 10 MB."""

RULES = frozenset({"youden", "sensitivity", "cost"})
"""How a threshold can be chosen."""
COLDEST, HOTTEST = 1e-6, 1e6
"""Beyond these, logits of float32 would not stay numbers when divided."""

_FIRST = frozenset({"format", "format_version", "spec", "rule", "files", "provenance"})
_FIELDS = {1: _FIRST, 2: _FIRST | {"calibration"}, 3: _FIRST | {"calibration", "abstain"}}


def weights_names(members: int) -> tuple[str, ...]:
    """File names of the weights of one model, or of the several of an ensemble, in order."""
    return (WEIGHTS,) if members == 1 else tuple(f"weights_{k}.safetensors" for k in range(members))


def read_description(data: bytes, path: Path) -> dict[str, Any]:
    """Read `model.json`; what an earlier version lacks (calibration, abstain) is returned as None.

    Args:
        data: its content.
        path: what messages begin with.

    Raises:
        ModelFolderError: it is not JSON, not ours, of another version, or lacks or adds a field.
    """
    try:
        description = json.loads(data.decode())
    except (ValueError, RecursionError) as error:  # also what is not UTF-8, or nested too deep
        raise ModelFolderError(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ModelFolderError(f"{path} does not describe a model of histo-mlflow")
    version = description.get("format_version")
    if type(version) is not int or version not in _FIELDS:
        raise ModelFolderError(
            f"{path} has format version {version}, version {FORMAT_VERSION} or an earlier one was "
            "expected: use the release of histo-mlflow that wrote it"
        )
    files = description.get("files")
    if (
        description.keys() != _FIELDS[version]
        or not isinstance(description["provenance"], dict)
        or not isinstance(files, dict)
        or not all(isinstance(digest, str) for digest in files.values())
        or set(files) - {CARD} != set(weights_names(_members(files)))
        or (version == 1 and set(files) != {WEIGHTS})
    ):
        raise ModelFolderError(
            f"{path} must hold {', '.join(sorted(_FIELDS[version]))}, with digests of {WEIGHTS}, "
            f"or of weights_0.safetensors and so on, and of nothing else but {CARD}"
        )
    return {"calibration": None, "abstain": None, **description}


def members_of(description: Mapping[str, Any]) -> tuple[str, ...]:
    """File names of the weights that a description names, in order."""
    return weights_names(_members(description["files"]))


def checked_calibration(
    calibration: object, classes: Sequence[str], where: str
) -> dict[str, Any] | None:
    """Return a calibration as JSON values if it is one; `write_model_folder` says what one is.

    Args:
        calibration: None for none.
        classes: of the model.
        where: what the message begins with.

    Raises:
        ModelFolderError: a key is missing or unknown, the temperature is no number above 0, or a
            threshold no probability.
    """
    if calibration is None:
        return None
    if not isinstance(calibration, Mapping) or set(calibration) != {"temperature", "thresholds"}:
        raise ModelFolderError(
            f"{where}: Expected a calibration of temperature and thresholds, or none, "
            f"got {_keys(calibration)}"
        )
    temperature = calibration["temperature"]
    if not _is_within(temperature, COLDEST, HOTTEST):
        raise ModelFolderError(
            f"{where}: Expected a temperature above 0 ({COLDEST:g} to {HOTTEST:g}), "
            f"got {temperature!r}"
        )
    thresholds = _checked_thresholds(calibration["thresholds"], classes, where)
    return {"temperature": float(temperature), "thresholds": thresholds}


def checked_abstain(abstain: object, where: str) -> dict[str, Any] | None:
    """Return a rule to abstain as JSON values if it is one; `write_model_folder` says what one is.

    Raises:
        ModelFolderError: a key is missing or unknown, or a value out of range.
    """
    if abstain is None:
        return None
    if not isinstance(abstain, Mapping) or set(abstain) != {"below", "share", "rows"}:
        raise ModelFolderError(
            f"{where}: Expected a rule to abstain of below, share and rows, or none, "
            f"got {_keys(abstain)}"
        )
    for name in ("below", "share"):
        if not _is_within(abstain[name], 0, 1):
            raise ModelFolderError(
                f"{where}: Expected {name} of the rule to abstain in [0, 1], got {abstain[name]!r}"
            )
    if type(abstain["rows"]) is not int or abstain["rows"] < 1:
        raise ModelFolderError(
            f"{where}: Expected the rows of the rule to abstain to be 1 or more, "
            f"got {abstain['rows']!r}"
        )
    return dict(abstain)


def _checked_thresholds(thresholds: object, classes: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(thresholds, Mapping) or not set(thresholds) <= RULES:
        raise ModelFolderError(
            f"{where}: Expected thresholds by {', '.join(sorted(RULES))}, got {_keys(thresholds)}"
        )
    for rule, chosen in thresholds.items():
        if len(classes) == 2:
            _check_threshold(chosen, str(rule), where)
            continue
        if not isinstance(chosen, Mapping) or not set(chosen) <= set(classes):
            raise ModelFolderError(
                f"{where}: Expected the classes {', '.join(classes)} in the threshold {rule}, "
                f"got {_keys(chosen)}"
            )
        for name, of_class in chosen.items():
            _check_threshold(of_class, f"{rule} of {name}", where)
    return {str(rule): dict(chosen) for rule, chosen in thresholds.items()}


def _check_threshold(threshold: object, name: str, where: str) -> None:
    value = threshold.get("value") if isinstance(threshold, Mapping) else threshold
    if not isinstance(threshold, Mapping) or not _is_within(value, 0, 1):
        raise ModelFolderError(
            f"{where}: Expected a probability as the value of the threshold {name}, got {value!r}"
        )


def _keys(value: object) -> object:
    """What is told of a value that should have been another mapping."""
    return sorted(map(str, value)) if isinstance(value, Mapping) else value


def _members(files: Mapping[str, Any]) -> int:
    return max(1, len(set(files) - {CARD}))


def _is_within(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
