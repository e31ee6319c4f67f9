"""Ways in which going on could be broken, each put into the code of the running process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.phases import wrap

STATE = "histo_mlflow.training._serialise"
LOOP = "histo_mlflow.training.loop"
CHECKPOINT = "histo_mlflow.training.checkpoint"
OPENING = "histo_mlflow.jobs.opening"


def _after_unpack(change: Callable[[Any], None]) -> None:
    def around(original: Any) -> Any:
        def unpack(state: Any, tensors: Any, facts: Any) -> None:
            original(state, tensors, facts)
            change(state)

        return unpack

    wrap(STATE, "unpack", around)


def without(prefix: str) -> Callable[[], None]:
    def around(original: Any) -> Any:
        def pack(state: Any) -> Any:
            tensors, facts = original(state)
            return {k: v for k, v in tensors.items() if not k.startswith(prefix)}, facts

        return pack

    return lambda: wrap(STATE, "pack", around)


def resumed(**changes: Any) -> Callable[[], None]:
    """Attributes of the state, dotted by two underscores, that come back wrong."""

    def change(state: Any) -> None:
        for path, value in changes.items():
            *owners, name = path.split("__")
            owner = state
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, name, value(getattr(owner, name)) if callable(value) else value)

    return lambda: _after_unpack(change)


def order_from_clock() -> None:
    def around(original: Any) -> Any:
        began = time.time_ns() % 1_000_003
        return lambda n, seed, epoch, **rest: original(n, began, epoch, **rest)

    wrap(LOOP, "epoch_order", around)


def global_generator() -> None:
    import torch

    torch.manual_seed(0)
    torch.manual_seed = lambda seed: None  # type: ignore[assignment,return-value]


def augmentation_counts_steps() -> None:
    calls = iter(range(10**9))

    def around(original: Any) -> Any:
        return lambda images, policy, seed, epoch, positions: original(
            images, policy, next(calls), epoch, positions
        )

    wrap(LOOP, "augment", around)


def plain_layout() -> None:
    wrap(STATE, "_like", lambda original: lambda model, value: value.to(model.device).clone())


def ema_stays() -> None:
    wrap("histo_mlflow.models.ema", "Ema.load_state_dict", lambda _: _set_updates)


def _set_updates(self: Any, state: Mapping[str, Any]) -> None:
    self.updates = int(state["updates"])


def blank_progress() -> None:
    def around(original: Any) -> Any:
        def progress(state: Any, tensors: Any, facts: Any) -> Any:
            done = original(state, tensors, facts)
            done.losses = [loss * 0 for loss in done.losses]
            done.logits = [logits * 0 for logits in done.logits]
            return done

        return progress

    wrap(STATE, "_progress", around)


def one_step_too_far() -> None:
    def change(state: Any) -> None:
        done = state.progress
        if done.steps:
            done.steps += 1
            done.losses.append(done.losses[-1])
            done.logits.append(done.logits[-1][-6:])  # of as many images as a step has

    _after_unpack(change)


def schedule_restarts() -> None:
    begun: list[int] = []

    def around(original: Any) -> Any:
        def at(self: Any, epoch: int, step: int) -> float:
            begun.append(epoch) if not begun else None
            return float(original(self, epoch - begun[0], step))

        return at

    wrap(LOOP, "_Rates.at", around)


def never_frozen_again() -> None:
    def around(original: Any) -> Any:
        def enter(model: Any, *, frozen: bool) -> str:
            return str(original(model, frozen=frozen and not resumed))

        return enter

    resumed: list[bool] = []
    _after_unpack(lambda state: resumed.append(True))
    wrap(LOOP, "_enter_phase", around)


def torn_accepted() -> None:
    """The final name is given first, and nobody looks at digests."""
    _in_place(marker_first=False)
    wrap(CHECKPOINT, "_problem", lambda _: lambda folder, names: None)


def marker_first() -> None:
    """The marker is written before what it stands for, and only its presence is looked at."""
    _in_place(marker_first=True)
    wrap(
        CHECKPOINT,
        "_problem",
        lambda _: lambda folder, names: None if (folder / "commit.json").exists() else "no marker",
    )


def _in_place(*, marker_first: bool) -> None:
    def commit(self: Any, name: str, contents: Mapping[str, bytes]) -> None:
        from histo_mlflow import files

        folder = self.folder / name
        files.make_folder(folder)
        if marker_first:
            files.write_new(folder / "commit.json", b"{}")
        for file, data in contents.items():
            files.write_new(folder / file, data)
        files.write_new(folder / "commit.json", b"{}")

    wrap(CHECKPOINT, "Checkpoints._commit", lambda _: commit)


def no_fsync() -> None:
    """Files are written and not waited for."""

    def write(path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(descriptor, data)
        os.close(descriptor)

    wrap("histo_mlflow.files", "write_new", lambda _: write)


def leftovers_stay() -> None:
    wrap(CHECKPOINT, "Checkpoints._remove_leftovers", lambda _: lambda self: None)
    wrap("histo_mlflow.jobs.run_folder", "RunFolder.remove_leftovers", lambda _: lambda self: None)


def history_unlogged() -> None:
    """The journal comes after the checkpoint, and nobody looks at the history when going on."""

    def after_epoch(self: Any, record: Any) -> None:
        if record.improved:
            self.checkpoints.save_best(self._ready.state)
        self._save()
        self._log(self._ready.state.history[-1])

    def resume(original: Any) -> Any:
        def resumed(self: Any) -> None:
            log, self._log = self._log, lambda entry: None
            original(self)
            self._log = log

        return resumed

    wrap("histo_mlflow.jobs.epochs", "Epochs._after_epoch", lambda _: after_epoch)
    wrap("histo_mlflow.jobs.epochs", "Epochs._resume", resume)


def sent_twice() -> None:
    """The journal takes a point again with a new time, and the store is not asked."""

    def append(original: Any) -> Any:
        def appended(self: Any, points: Any) -> Any:
            self._points.clear()
            return original(self, points)

        return appended

    wrap("histo_mlflow.tracking.journal", "Journal.append", append)
    wrap("histo_mlflow.tracking.delivery", "Receiver.missing", lambda _: lambda self, some: some)


def _points_unsent() -> None:
    """What the journal holds from before is not sent."""
    wrap("histo_mlflow.tracking.journal", "Journal.points", lambda _: lambda self: [])
    wrap(
        "histo_mlflow.tracking.outbox",
        "Outbox.put",
        lambda original: (
            lambda self, points, *, replay=False: (
                None if replay and len(points) > 50 else original(self, points, replay=replay)
            )
        ),
    )


def no_key() -> None:
    wrap(
        OPENING,
        "find_or_make",
        lambda original: lambda *args, key, **rest: original(*args, key=None, **rest),
    )


def always_logs() -> None:
    def around(original: Any) -> Any:
        from histo_mlflow.registry import log_model

        def log(run: Any, folder: Path, image: bytes, *, sample: Any, step: int) -> str:
            return log_model.log(run, folder, image, step=step)

        return log

    wrap("histo_mlflow.registry.log_model", "log_once", around)


def begin_noted_first() -> None:
    def around(original: Any) -> Any:
        def logged(self: Any, folder: Path, artifact_path: str | None = None) -> None:
            noted = folder.parent / "delivery.json"
            if folder.name == "begin":
                noted.write_text(json.dumps({"begin": True}))
            original(self, folder, artifact_path)

        return logged

    wrap("histo_mlflow.tracking.run", "TrackedRun.log_artifacts", around)


def ended_noted_first() -> None:
    def around(original: Any) -> Any:
        def end(self: Any, ending: str, cause: str | None = None) -> None:
            noted = self._journal.path.parent / "delivery.json"
            noted.write_text(json.dumps({**json.loads(noted.read_text()), "ended": True}))
            original(self, ending, cause)

        return end

    wrap("histo_mlflow.tracking.run", "TrackedRun.end", around)


def model_forgotten_in_outcome() -> None:
    """The outcome is noted before the model is written."""

    def around(original: Any) -> Any:
        def write_model(
            run: Any, ready: Any, best: Path, folder: Path, evaluation: Any, facts: Any
        ) -> None:
            outcome = {
                "ending": "early_stopped",
                "cause": None,
                "result": {
                    "run_id": run.run_id,
                    "best_epoch": ready.state.stopping.best_epoch,
                    "epochs": ready.state.epoch,
                    "seconds": 0.0,
                    "test": {},
                },
            }
            (folder.parent / "outcome.json").write_text(json.dumps(outcome))
            original(run, ready, best, folder, evaluation, facts)

        return write_model

    wrap("histo_mlflow.jobs.outcome", "_write_model", around)
