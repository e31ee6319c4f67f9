"""The local folder of a run: what is needed to go on with it, and to tell the store what it lacks.

runs/<run id>/
  run.json          which run this is, where, and what was decided for its machine
  recipe.yaml       what it was begun with
  journal.jsonl     every metric point
  checkpoints/      see `training.checkpoint`
  begin/            what was known before the first step
  dataset.json      the data set as the store is told; written when all of begin/ is on disk
  results/, model/  what came of it
  parity.parquet    some images, and what the trained model says of them
  evaluation/       its pictures
  outcome.json      how it ended; written when everything above is on disk
  delivery.json     what of it the store has taken

A cross-validation has such a folder too, with crossval.json (which fold is which run) and without
checkpoints. That of a study's trial has trial.json (on which images it is trained, and whether its
checkpoints were removed), no begin/ and no model/.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from histo_mlflow import files
from histo_mlflow.errors import BusyError, ResumeError
from histo_mlflow.tracking.lifecycle import SETTLED

FORMAT = 1
_FILES = (
    "lock run.json recipe.yaml journal.jsonl dataset.json outcome.json delivery.json failure.json "
    "crossval.json trial.json example_image parity.parquet begin checkpoints results model "
    "evaluation"
)
PREDICTIONS = "predictions.parquet"
"""Among the results of a training."""
VAL_PREDICTIONS = "val_predictions.parquet"
"""Among those of a study's trial, where they were asked for."""
OUT_OF_FOLD = "oof.parquet"
"""Among those of a cross-validation."""
NAMES = frozenset(_FILES.split())
"""Of the files and folders of a run."""


@dataclass(frozen=True)
class RunFacts:
    """Which run a folder belongs to.

    Attributes:
        key: made before the run is, and a tag of the run: finds a run whose id was not noted yet.
        run_id: MLflow's id; None until it is known.
        tracking_uri: of the store, without credentials.
        experiment: name in the store.
        plan: device, precision, memory format and threads that were decided on.
        machine: what the bits of a result depend on besides: torch, processor, its capability.
    """

    key: str
    run_id: str | None
    tracking_uri: str
    experiment: str
    plan: Mapping[str, Any]
    machine: Mapping[str, str]


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run's files."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe it was begun with."""
        return self.path / "recipe.yaml"

    @property
    def journal(self) -> Path:
        """Every metric point."""
        return self.path / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Where the training can go on from."""
        return self.path / "checkpoints"

    @property
    def begin(self) -> Path:
        """Artifacts known before the first step."""
        return self.path / "begin"

    @property
    def results(self) -> Path:
        """Artifacts of the finished training."""
        return self.path / "results"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model"

    @property
    def evaluation(self) -> Path:
        """Pictures of the finished training."""
        return self.path / "evaluation"

    @property
    def example(self) -> Path:
        """The image that the logged model shows as its input."""
        return self.path / "example_image"

    @property
    def parity(self) -> Path:
        """Images with what the trained model says of them; `registry.parity` reads it."""
        return self.path / "parity.parquet"

    @property
    def crossval(self) -> Path:
        """Which fold is which run; there in the folder of a cross-validation only."""
        return self.path / "crossval.json"

    @property
    def trial(self) -> Path:
        """On which images it is trained; there in the folder of a study's trial only."""
        return self.path / "trial.json"

    def facts(self) -> RunFacts | None:
        """Which run this is; None where no run was begun.

        Raises:
            ResumeError: `run.json` cannot be read.
        """
        found = self._read("run.json")
        if found is None:
            return None
        if found.pop("format", None) != FORMAT or set(found) != set(RunFacts.__annotations__):
            raise ResumeError(
                f"{self.path / 'run.json'} is not of format {FORMAT}: go on with the version of "
                "histo-mlflow that began this run"
            )
        return RunFacts(**found)

    def write_facts(self, facts: RunFacts) -> None:
        """Note which run this is."""
        files.write_json(self.path / "run.json", {"format": FORMAT, **asdict(facts)})

    def dataset(self) -> dict[str, Any] | None:
        """What `note_dataset` noted; None while `begin` is not whole."""
        return self._read("dataset.json")

    def note_dataset(self, title: str, digest: str, source: str, counts: Mapping[str, int]) -> None:
        """Note the data set for the store (`TrackedRun.log_dataset`), and that `begin` is whole."""
        noted = {"title": title, "digest": digest, "source": source, "counts": dict(counts)}
        files.write_json(self.path / "dataset.json", noted)

    def strangers(self) -> list[str]:
        """Names of what lies in the folder and is none of a run's files."""
        if not self.path.is_dir():
            return []
        names = sorted(path.name for path in self.path.iterdir())
        return [name for name in names if name not in NAMES and not name.endswith(files.PARTIAL)]

    def outcome(self) -> dict[str, Any] | None:
        """How the training came out; None while that is not settled.

        Raises:
            ResumeError: `outcome.json` is not as it was written.
        """
        found = self._read("outcome.json")
        if found is None:
            return None
        missing = {"ending", "cause", "result"} - found.keys()
        if missing or (found["ending"] in SETTLED and not isinstance(found["result"], dict)):
            raise ResumeError(
                f"{self.path / 'outcome.json'} is not as it was written: delete it and give the "
                "same command again, and it is made anew from the last checkpoint"
            )
        return found

    def write_outcome(self, outcome: Mapping[str, Any] | None) -> None:
        """Note how it came out; None takes it back, when the training goes on."""
        if outcome is None:
            (self.path / "outcome.json").unlink(missing_ok=True)
        else:
            files.write_json(self.path / "outcome.json", outcome)

    def delivered(self) -> dict[str, Any]:
        """What the store has taken, by name; empty at first."""
        return self._read("delivery.json") or {}

    def note_delivered(self, name: str, value: Any = True) -> None:
        """Note that the store has taken something."""
        files.write_json(self.path / "delivery.json", {**self.delivered(), name: value})

    def remove_leftovers(self) -> None:
        """Remove what a killed process was just writing."""
        unfinished = [*self.path.rglob(f".*{files.PARTIAL}"), *self.path.glob(".*.new")]
        for path in sorted(unfinished, reverse=True):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ResumeError(f"{path} should be JSON and is not ({error})") from error
        if not isinstance(found, dict):
            raise ResumeError(f"{path} should hold a mapping, got {type(found).__name__}")
        return found


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Keep other processes from writing this run; the system lets go when a process dies.

    Raises:
        BusyError: another process is at it.
    """
    if os.name == "nt":  # pragma: no cover - no flock there
        yield
        return
    import fcntl

    made, held = not folder.path.exists(), False
    files.make_folder(folder.path)
    with files.told(folder.path, 0):
        descriptor = os.open(folder.path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(
                f"another process is training or delivering {folder.path}: wait for it, or end it"
            ) from error
        held = True
        yield
    finally:
        if (
            made
            and held
            and folder.path.is_dir()
            and [path.name for path in folder.path.iterdir()] == ["lock"]
        ):
            shutil.rmtree(folder.path)  # nothing was begun: a mistake leaves no folder
        os.close(descriptor)
