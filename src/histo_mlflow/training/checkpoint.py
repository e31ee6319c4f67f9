"""Checkpoints that a training goes on from bit for bit, and that are whole or not there.

    checkpoints/
      epoch-0003-step-000000/   state.safetensors, state.json, commit.json
      epoch-0003-step-000120/
      best-0002/                weights.safetensors, commit.json

A checkpoint is written into a folder with another name: first its files, then `commit.json` with
the digest of each, all of them `fsync`ed; then the folder gets its name. One that does not match
its digests counts as damaged, and the one before it is taken. The newest two are kept, and the best
weights that either of them names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from torch import Tensor

from histo_mlflow import files
from histo_mlflow.errors import NotANumberError, ResumeError
from histo_mlflow.models.weights import file_sha256, weights_bytes
from histo_mlflow.training import _serialise
from histo_mlflow.training.state import LoopState

FORMAT = 1
KEPT = 2
STATE, FACTS, WEIGHTS, COMMIT = (
    "state.safetensors",
    "state.json",
    "weights.safetensors",
    "commit.json",
)
STATE_FILES, BEST_FILES = frozenset({STATE, FACTS}), frozenset({WEIGHTS})


@dataclass(frozen=True)
class Resumed:
    """Where a training goes on.

    Attributes:
        epoch: epochs done.
        step: steps done of the next one.
        damaged: names of newer checkpoints that could not be used, with the reason.
    """

    epoch: int
    step: int
    damaged: tuple[str, ...]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: of this run alone; made on first use. What a kill left half-written in it is
            removed.
        identity: what must be equal for a training to go on from here: recipe, data, splits,
            weights, device plan. Name -> text.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.folder = folder
        self._identity = dict(identity)
        self._saved: tuple[int, int] | None = None

    def save(self, state: LoopState) -> None:
        """Write the state, unless it is saved already; then remove what is no longer needed.

        Raises:
            DiskError: it cannot be written; the earlier checkpoints are intact.
            NotANumberError: a weight, a buffer, a gradient or a loss is not finite; nothing is
                written.
        """
        place = (state.epoch, state.progress.steps)
        if place == self._saved:
            return
        _refuse_broken(state)
        tensors, facts = _serialise.pack(state)
        facts |= {"format": FORMAT, "identity": self._identity}
        self._commit(
            _name(*place),
            {STATE: bytes_of(tensors), FACTS: (json.dumps(facts, indent=1) + "\n").encode()},
        )
        self._saved = place
        self._prune()

    def save_best(self, state: LoopState) -> None:
        """Write the judged weights as those of the best epoch; before `save`, which refers to it.

        Raises:
            DiskError: as `save`.
            NotANumberError: as `save`.
        """
        _refuse_broken(state)
        self._commit(_best(state), {WEIGHTS: weights_bytes(state.judged_model)})

    def best_path(self, state: LoopState) -> Path:
        """The weights of the best epoch.

        Raises:
            ResumeError: they are missing or damaged.
        """
        folder = self.folder / _best(state)
        if problem := _problem(folder, BEST_FILES):
            raise ResumeError(f"the best weights in {folder} cannot be used: {problem}")
        return folder / WEIGHTS

    def load(self, state: LoopState) -> Resumed | None:
        """Put `state` where the newest whole checkpoint is; None where there is no checkpoint.

        Args:
            state: freshly made from the same recipe.

        Raises:
            ResumeError: checkpoints are there and none is whole, or the newest whole one is of
                another recipe, data set or device plan; `state` is unchanged then.
        """
        self._remove_leftovers()
        damaged: list[str] = []
        found = self._names()
        for name in reversed(found):
            problem = _problem(self.folder / name, STATE_FILES) or self._restore(name, state)
            if problem is None:
                older = [
                    other
                    for other in found
                    if other < name and _problem(self.folder / other, STATE_FILES)
                ]
                for other in [*(line.partition(":")[0] for line in damaged), *older]:
                    files.remove_folder(self.folder / other)
                self._saved = (state.epoch, state.progress.steps)
                self._prune()
                return Resumed(state.epoch, state.progress.steps, tuple(damaged))
            damaged.append(f"{name}: {problem}")
        if damaged:
            raise ResumeError(
                f"no checkpoint in {self.folder} is whole ({'; '.join(damaged)}): start a new run"
            )
        return None

    def _restore(self, name: str, state: LoopState) -> str | None:
        """Load one checkpoint; the reason why it cannot be, if so."""
        folder = self.folder / name
        facts = json.loads((folder / FACTS).read_text("utf-8"))
        if facts["format"] != FORMAT:
            raise ResumeError(
                f"{folder} is of checkpoint format {facts['format']}, this version "
                f"reads {FORMAT}: go on with the version that wrote it"
            )
        self._compare(folder, facts["identity"])
        best_epoch = facts["stopping"]["best_epoch"]
        if best_epoch is not None:
            problem = _problem(self.folder / _best_name(best_epoch), BEST_FILES)
            if problem is not None:
                return f"its best weights are not whole ({problem})"
        try:
            tensors = tensors_from((folder / STATE).read_bytes())
        except SafetensorError as error:
            return f"{STATE}: {error}"
        _serialise.unpack(state, tensors, facts)
        return None

    def _compare(self, folder: Path, saved: Mapping[str, str]) -> None:
        differing = [
            f"{key}: {saved.get(key, 'nothing')} there, {self._identity.get(key, 'nothing')} now"
            for key in sorted({*saved, *self._identity})
            if saved.get(key) != self._identity.get(key)
        ]
        if differing:
            raise ResumeError(
                f"the training in {folder.parent} was begun otherwise, and would not be the same "
                f"run: {'; '.join(differing)}. Give what it was begun with, or start a new run"
            )

    def _commit(self, name: str, contents: Mapping[str, bytes]) -> None:
        files.make_folder(self.folder)
        building = self.folder / f".{name}{files.PARTIAL}"
        final = self.folder / name
        needed = sum(map(len, contents.values()))
        with files.told(self.folder, needed):
            if building.exists():
                shutil.rmtree(building)
        try:
            files.write_committed(building, contents, COMMIT)
            if final.exists():  # a damaged one, or the same once more
                files.remove_folder(final)
            files.rename_folder(building, final)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("epoch-*-step-*"))

    def _prune(self) -> None:
        """Remove all but the newest checkpoints and the best weights that they name."""
        names = self._names()
        needed = set(names[-KEPT:])
        for name in names[-KEPT:]:
            facts = json.loads((self.folder / name / FACTS).read_text("utf-8"))
            if (best_epoch := facts["stopping"]["best_epoch"]) is not None:
                needed.add(_best_name(best_epoch))
        for path in [*self.folder.glob("epoch-*"), *self.folder.glob("best-*")]:
            if path.name not in needed:
                files.remove_folder(path)

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(f".*{files.PARTIAL}"):
            shutil.rmtree(path)


def _name(epoch: int, step: int) -> str:
    return f"epoch-{epoch:04d}-step-{step:06d}"


def _best(state: LoopState) -> str:
    if state.stopping.best_epoch is None:
        raise ResumeError("no epoch was the best one yet")
    return _best_name(state.stopping.best_epoch)


def _best_name(epoch: int) -> str:
    return f"best-{epoch:04d}"


def _problem(folder: Path, names: frozenset[str]) -> str | None:
    """Why a folder that was committed with these files cannot be used; None where it is whole."""
    try:
        commit = json.loads((folder / COMMIT).read_text("utf-8"))
        if set(commit) != names:
            return f"{COMMIT} names other files than {', '.join(sorted(names))}"
        for name, facts in commit.items():
            path = folder / name
            if path.stat().st_size != facts["bytes"] or file_sha256(path) != facts["sha256"]:
                return f"{name} was changed or cut off"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:  # a bad block, a folder in a file's place, no permission
        return f"{Path(error.filename or COMMIT).name} cannot be read ({error.strerror})"
    except (ValueError, AttributeError, KeyError, TypeError):
        return f"{COMMIT} cannot be read"
    return None


def _refuse_broken(state: LoopState) -> None:
    for name, tensor in _numbers(state):
        if tensor.is_floating_point() and not _finite(tensor):
            raise NotANumberError(
                f"{name} is not finite after epoch {state.epoch}, step {state.progress.steps}: it "
                "is not saved; the checkpoint before it stands. Lower lr or set clip_norm",
                (),
            )


def _numbers(state: LoopState) -> Iterator[tuple[str, Tensor]]:
    models = {"the model": state.model, "the average": state.judged_model}
    for what, model in models.items():
        yield from ((f"{name} of {what}", tensor) for name, tensor in model.state_dict().items())
    for name, parameter in state.model.named_parameters():
        if parameter.grad is not None:
            yield f"the gradient of {name}", parameter.grad
    if state.progress.losses:
        yield "the loss", torch.stack(state.progress.losses)


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
