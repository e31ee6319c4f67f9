"""The model folder: weights and everything needed to use them, in files without code.

    weights.safetensors     the weights, float32; of an ensemble weights_0.safetensors and so on
    model.json              architecture, classes, decode rule, calibration, when to abstain,
                            provenance, digests
    MODEL_CARD.md           what is to be known before it is used (optional)

An ensemble is several models of one architecture, such as those of the folds of a
cross-validation; its logits are the mean of theirs. A folder is written whole or not at all, and
read only when every byte is as it was written.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histo_mlflow.errors import HistoMlflowError, ModelFolderError
from histo_mlflow.models.build import Classifier, ModelSpec, build
from histo_mlflow.models.weights import file_sha256, load_weights_bytes
from histo_mlflow.registry._description import (
    CARD,
    DESCRIPTION,
    FORMAT,
    FORMAT_VERSION,
    MOST_BYTES,
    WEIGHTS,
    checked_abstain,
    checked_calibration,
    members_of,
    read_description,
    weights_names,
)
from histo_mlflow.registry._plain_file import plain_sha256, read_plain
from histo_mlflow.vision.decode import DecodeRule

__all__ = [
    "CARD",
    "DESCRIPTION",
    "FORMAT_VERSION",
    "WEIGHTS",
    "LoadedModel",
    "folder_digest",
    "read_model_folder",
    "write_model_folder",
]

MOST_UNITS = 65_536
"""Of the hidden layer and of the output."""


@dataclass(frozen=True)
class LoadedModel:
    """What a model folder held.

    Attributes:
        members: the classifiers, more than one for an ensemble; in eval mode on the CPU.
        spec: of each of them.
        rule: how bytes become pixels.
        calibration: `{"temperature": T, "thresholds": {...}}`, None for an uncalibrated model; see
            `write_model_folder`.
        facts: the provenance that was written, plus `weights_sha256`, a digest a member.
        abstain: `{"below": p, "share": s, "rows": n}`, None for a model that always answers; see
            `write_model_folder`.
        digest: sha256 of `model.json`, which holds the digests of all other files.
    """

    members: tuple[Classifier, ...] = field(repr=False)
    spec: ModelSpec
    rule: DecodeRule
    calibration: Mapping[str, Any] | None
    facts: Mapping[str, Any]
    abstain: Mapping[str, Any] | None
    digest: str

    @property
    def abstain_below(self) -> float:
        """The model abstains where its greatest probability is below this; 0 for never."""
        return 0.0 if self.abstain is None else float(self.abstain["below"])

    @property
    def temperature(self) -> float:
        """What the mean logits are divided by; 1 for an uncalibrated model."""
        return 1.0 if self.calibration is None else float(self.calibration["temperature"])


def write_model_folder(
    folder: Path,
    *,
    spec: ModelSpec,
    rule: DecodeRule,
    weights_paths: Sequence[Path],
    calibration: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    abstain: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write a model folder in one step.

    Args:
        folder: must not be there yet; its parent is made.
        spec: the architecture and the classes, of every member.
        rule: how bytes become pixels; the same as in training.
        weights_paths: a safetensors file of the model that `spec` builds (`weights.save_weights`);
            several for an ensemble.
        calibration: None, or `{"temperature": T, "thresholds": {rule: {"value": t, ...}}}`: the
            mean logits are divided by T; t cuts the calibrated probability of the second of two
            classes, by the rules youden, sensitivity and cost. With more classes a rule holds a
            threshold a class, `{rule: {class: {"value": t, ...}}}`. There may be no thresholds.
        provenance: JSON values that say where the model came from (run id, digests, metrics).
        abstain: `{"below": p, "share": s, "rows": n}`: the model abstains where its greatest
            calibrated probability is below p, which was a share s of n validation rows. None for a
            model that always answers.
        card: the model card in Markdown.

    Raises:
        ModelFolderError: the folder is there already, a file of weights is not, `rule` and `spec`
            disagree on the size, `calibration` or `abstain` is none, or something is not JSON.
    """
    if os.path.lexists(folder):
        raise ModelFolderError(f"{folder} is there already; a model folder is never overwritten")
    if rule.image_px != spec.image_px:
        raise ModelFolderError(
            f"the model takes images of {spec.image_px} px, but the decode rule makes them "
            f"{rule.image_px} px"
        )
    if not weights_paths:
        raise ModelFolderError(f"{folder}: Expected the weights of one model or more, got none")
    if missing := [path for path in weights_paths if not path.is_file()]:
        raise ModelFolderError(f"{folder}: Expected a file of weights at {missing[0]}, got none")
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec": spec.to_dict(),
        "rule": rule.to_dict(),
        "calibration": checked_calibration(calibration, spec.classes, str(folder)),
        "abstain": checked_abstain(abstain, str(folder)),
        "files": {},
        "provenance": dict(provenance),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for path, name in zip(weights_paths, weights_names(len(weights_paths)), strict=True):
            shutil.copyfile(path, temporary / name)
        if card is not None:
            (temporary / CARD).write_text(card, encoding="utf-8")
        description["files"] = {
            path.name: file_sha256(path) for path in sorted(temporary.iterdir())
        }
        (temporary / DESCRIPTION).write_text(_as_json(description), encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_model_folder(folder: Path) -> LoadedModel:
    """Read a model folder after checking it byte by byte.

    One of format version 1 is a single uncalibrated model. The description is read once, and all
    else must be as that says at the moment when it is used: weights are read, hashed and loaded
    from the same bytes, so that files swapped after the check are refused as well.

    Raises:
        ModelFolderError: a file is missing, added, a link or altered; the description is not ours
            or of a later version; or the weights do not fit the architecture, or hold NaN.
    """
    description, digest = _checked_files(folder)
    names = members_of(description)
    try:
        spec = ModelSpec.from_dict(description["spec"])
        rule = DecodeRule.from_dict(description["rule"])
        _assert_modest(spec, folder)
        members = tuple(build(spec) for _ in names)
        for member, name in zip(members, names, strict=True):
            load_weights_bytes(member, _as_written(folder / name, description), name)
    except (HistoMlflowError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise ModelFolderError(f"the model in {folder} cannot be built: {error}") from error
    if rule.image_px != spec.image_px:
        raise ModelFolderError(
            f"{folder / DESCRIPTION} contradicts itself: the model takes {spec.image_px} px, the "
            f"decode rule makes {rule.image_px} px"
        )
    calibration = checked_calibration(
        description["calibration"], spec.classes, str(folder / DESCRIPTION)
    )
    abstain = checked_abstain(description["abstain"], str(folder / DESCRIPTION))
    digests = [description["files"][name] for name in names]
    facts = {**description["provenance"], "weights_sha256": digests}
    settled = tuple(one.eval() for one in members)
    return LoadedModel(settled, spec, rule, calibration, facts, abstain, digest)


def folder_digest(folder: Path) -> str:
    """What tells one model from another: the digest of the description.

    It holds the digests of all other files, the calibration and the provenance, so that another
    temperature or another member makes another model.

    Raises:
        ModelFolderError: there is no description, or it is no plain file.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"no model folder at {folder}: it is not there, or no folder")
    return plain_sha256(folder / DESCRIPTION)


def _checked_files(folder: Path) -> tuple[dict[str, Any], str]:
    """The description and its digest, once every file is as it says."""
    try:
        found = {entry.name: entry.lstat().st_mode for entry in folder.iterdir()}
    except OSError as error:
        raise ModelFolderError(f"no model folder at {folder}: {error.strerror}") from error
    if DESCRIPTION not in found:
        raise ModelFolderError(f"the model folder {folder} lacks {DESCRIPTION}")
    for name, mode in found.items():
        if not stat.S_ISREG(mode):
            raise ModelFolderError(f"{folder / name} is a link or no plain file")
    data = read_plain(folder / DESCRIPTION, MOST_BYTES)
    description = read_description(data, folder / DESCRIPTION)
    expected = {DESCRIPTION, *description["files"]}
    if missing := sorted(expected - found.keys()):
        raise ModelFolderError(f"the model folder {folder} lacks {', '.join(missing)}")
    if extra := sorted(found.keys() - expected):
        raise ModelFolderError(
            f"the model folder {folder} holds what does not belong there: {', '.join(extra[:5])}"
        )
    for name, written in description["files"].items():
        _assert_written(plain_sha256(folder / name), written, folder / name)
    return description, hashlib.sha256(data).hexdigest()


def _assert_modest(spec: ModelSpec, folder: Path) -> None:
    """Refuse a head that would fill the memory before it can be told that no weights fit it."""
    if max(spec.hidden, len(spec.classes)) > MOST_UNITS:
        raise ModelFolderError(
            f"{folder / DESCRIPTION} asks for {len(spec.classes):,} classes and {spec.hidden:,} "
            f"hidden units, at most {MOST_UNITS:,} were expected"
        )


def _as_written(path: Path, description: Mapping[str, Any]) -> bytes:
    """The bytes of a file, which are those that were described.

    Raises:
        ModelFolderError: they are others.
    """
    data = read_plain(path)
    _assert_written(hashlib.sha256(data).hexdigest(), description["files"][path.name], path)
    return data


def _assert_written(digest: str, written: str, path: Path) -> None:
    if digest != written:
        raise ModelFolderError(
            f"{path} was altered: sha256 {digest[:12]}..., expected {written[:12]}...; fetch the "
            "model again"
        )


def _as_json(description: Mapping[str, Any]) -> str:
    try:
        return json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ModelFolderError(
            f"the provenance or calibration cannot be written as JSON: {error}"
        ) from error
