"""The epochs of a run: trained, saved and logged; gone on with after whatever ended them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from histo_mlflow.errors import Interrupted, TrainingError
from histo_mlflow.jobs.doctor import assert_healthy
from histo_mlflow.jobs.metrics import epoch_measure
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.signals import Ending as SignalEnding
from histo_mlflow.jobs.talk import EpochBar, Talk
from histo_mlflow.jobs.trainable import Trainable
from histo_mlflow.tracking.lifecycle import Ending
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.training.checkpoint import Checkpoints
from histo_mlflow.training.doctor import check_phase
from histo_mlflow.training.loop import fit
from histo_mlflow.training.memory import is_out_of_memory, smaller
from histo_mlflow.training.state import EpochRecord, LoopState, StepRecord

GoOn = Callable[[int, float | None], bool]
"""(epoch from 1, value of the monitored metric or None where it is undefined) -> whether to go on
with the next epoch."""

SHARE = 100
"""Time trained for each second of saving within an epoch: saving costs less than 1 %."""


@dataclass(frozen=True)
class CheckpointPolicy:
    """When to save besides at the end of every epoch: by the clock, or every so many steps."""

    seconds: float = 300.0
    steps: int | None = None


class Epochs:
    """The training part of a run, from its newest checkpoint on.

    Args:
        run: where the points go.
        ready: model and data; its state is moved on, to where the training was if it was begun.
            There is no test split in it.
        folder: of the run.
        policy: when to save within an epoch.
        signals: whoever interrupts waits for what must stay whole.
        talk: says what happens.
        go_on: is asked after every epoch, once it is saved; of a training that was begun first for
            every epoch that it has behind it. False ends it as pruned, unless it is at its own end.
        held: is called at the end of an epoch before anything is written of it; raises where the
            training is another process's by now.

    Raises:
        ResumeError: there are checkpoints, and none can be used.
    """

    def __init__(
        self,
        run: TrackedRun,
        ready: Trainable,
        folder: RunFolder,
        policy: CheckpointPolicy,
        signals: SignalEnding,
        *,
        talk: Talk,
        go_on: GoOn = lambda epoch, value: True,
        held: Callable[[], None] = lambda: None,
    ) -> None:
        self._go_on, self._asked, self._pruned = go_on, 0, False
        self._held = held
        self._run, self._ready, self._folder = run, ready, folder
        self._policy, self._signals, self._talk = policy, signals, talk
        self.checkpoints = Checkpoints(folder.checkpoints, ready.identity())
        self._saved_at, self._cost = monotonic(), 0.0
        self._look: Callable[[], None] = lambda: None
        self._resume()

    @property
    def ending(self) -> Ending:
        """How a training came to its own end."""
        state = self._ready.state
        if self._pruned:
            return "pruned"
        early = state.stopping.exhausted and state.epoch < self._ready.settings.epochs
        return "early_stopped" if early else "finished"

    def train(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: the state is saved, unless a step did not end in time.
            TrainingError: it cannot go on; the last checkpoint stands.
            DiskError: the state cannot be saved; the last checkpoint stands.
        """
        try:
            self._train_in_what_fits()
        except Interrupted:
            self._leave()
            raise

    def _leave(self) -> None:
        """Save on the way out, unless the state is not what it should be; say how to go on."""
        try:
            self._look()
            if self._signals.torn:
                raise TrainingError("a step was left half-way")
            self._save()
            place = _place(self._ready.state.epoch, self._ready.state.progress.steps)
        except TrainingError as problem:  # numbers that are none, too
            self._talk.say("WARN", f"{problem}: the last checkpoint stands")
            place = "at the last checkpoint"
        folder = shlex.quote(str(self._folder.path))
        self._talk.say("saved", f"{place}; go on: histo-mlflow train --run-dir {folder}")

    def _train_in_what_fits(self) -> None:
        """Train; on running out of memory, go back to the last checkpoint with smaller portions."""
        state = self._ready.state
        while True:
            try:
                self._save()
                self._train()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                return
            # Outside the handler, whose traceback keeps the tensors of the step alive.
            portion = smaller(state.micro_batch, self._ready.settings.batch_size)
            with self._signals.whole():
                self.checkpoints.load(state)
                state.micro_batch = portion
                self._look = lambda: None
                self._signals.torn = False
            self._talk.say(
                "memory",
                f"out of memory: going on in portions of {portion} images, the update stays that "
                f"of {self._ready.settings.batch_size}; batch norm sees the portions",
            )

    def _train(self) -> None:
        if not self._is_wanted():
            return
        ready, development = self._ready, self._ready.development
        output, classes = ready.recipe.model.output, development.classes
        with self._talk.epoch_bar(ready.settings.epochs) as bar:
            for record in fit(
                ready.state,
                development.train,
                development.val,
                ready.settings,
                loss_function=ready.objective(),
                measure=lambda targets, logits: epoch_measure(targets, logits, output, classes),
                plan=ready.plan,
                on_step=lambda record: self._after_step(record, bar),
                on_phase=self._at_phase,
                whole=self._signals.whole,
                on_epoch=self._after_epoch,
            ):
                self._talk.say("epoch", epoch_line(record, ready.settings.epochs))
                if not self._is_wanted():
                    return

    def _is_wanted(self) -> bool:
        """Ask of every epoch that was not asked about; what is said of the last one holds."""
        state, wanted = self._ready.state, True
        for entry in state.history[self._asked :]:
            self._asked += 1
            wanted = self._go_on(entry["epoch"], entry.get(state.stopping.monitor))
        at_its_end = state.stopping.exhausted or state.epoch >= self._ready.settings.epochs
        self._pruned = not wanted and not at_its_end
        return wanted

    def _after_step(self, record: StepRecord, bar: EpochBar) -> None:
        bar(record)
        self._look = record.look
        policy = self._policy
        by_steps = policy.steps is not None and record.step % policy.steps == 0
        pause = max(policy.seconds, SHARE * self._cost)
        if by_steps or monotonic() - self._saved_at >= pause:
            record.look()
            self._save()

    def _after_epoch(self, record: EpochRecord) -> None:
        """At the end of an epoch, which nothing interrupts: first the journal, then the state."""
        self._held()
        self._log(self._ready.state.history[-1])
        if record.improved:
            self.checkpoints.save_best(self._ready.state)
        self._save()

    def _at_phase(self, state: LoopState, phase: str) -> None:
        assert_healthy(check_phase(state, frozen=phase == "frozen"))

    def _save(self) -> None:
        started = monotonic()
        with self._signals.whole():
            self.checkpoints.save(self._ready.state)
        self._saved_at = monotonic()
        self._cost = self._saved_at - started

    def _log(self, entry: dict[str, Any]) -> None:
        """Log an entry of the history; what the journal has already stays as it is."""
        metrics = {key: value for key, value in entry.items() if key not in _NO_METRICS}
        self._run.log_epoch(entry["epoch"], {**metrics, "epoch_seconds": entry["seconds"]})

    def _resume(self) -> None:
        state = self._ready.state
        resumed = self.checkpoints.load(state)
        if resumed is None:
            return
        for problem in resumed.damaged:
            self._talk.say("WARN", f"checkpoint {problem}; the one before it is taken")
        self._talk.say("resume", _place(resumed.epoch, resumed.step))
        for entry in state.history:
            self._log(entry)


_NO_METRICS = ("epoch", "phase", "seconds")


def _place(epochs: int, steps: int) -> str:
    """Where a training stands, after so many epochs and so many steps of the next."""
    if steps:
        return f"in epoch {epochs + 1}, after step {steps}"
    return f"after epoch {epochs}" if epochs else "at the beginning"


def best_epoch(state: LoopState) -> int:
    """The epoch that was best by the monitored metric.

    Raises:
        TrainingError: no epoch had a defined one.
    """
    if state.stopping.best_epoch is None:
        raise TrainingError(
            f"no epoch had a defined {state.stopping.monitor}, so no best epoch can be chosen: "
            "choose another monitor"
        )
    return state.stopping.best_epoch


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """An epoch on one line."""
    shown = {
        "train loss": "train/loss",
        "val loss": "val/loss",
        "train AUC": "train/auc",
        "val AUC": "val/auc",
    }
    parts = [f"{k} {record.metrics[m]:.4f}" for k, m in shown.items() if m in record.metrics]
    speed = f"{record.metrics['images_per_second']:,.0f} img/s  {record.seconds:.0f} s"
    marks = ("  frozen" if record.phase == "frozen" else "") + ("  best" if record.improved else "")
    return f"{record.epoch:>3}/{epochs}  {'  '.join(parts)}  {speed}{marks}"
