"""Two tiny epochs of the real loop on a copy, watched: what the loop does, not what it says.

The copy is trained on a handful of images by `loop.fit` itself. What its data sets were asked for
and what its model met is written down, so that an order, an augmentation or a mode that went wrong
anywhere on the way shows here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from histo_mlflow.data.batches import Batch, Indices, PackedDataset
from histo_mlflow.data.pack import open_pack
from histo_mlflow.device import DevicePlan
from histo_mlflow.errors import TrainingError
from histo_mlflow.models.build import Classifier
from histo_mlflow.randomness import permutation
from histo_mlflow.training.loop import fit
from histo_mlflow.training.state import EpochRecord, FitSettings, LoopState, Progress
from histo_mlflow.training.step import LossFunction
from histo_mlflow.training.stopping import Stopping

TRIAL_IMAGES = 8
TRIAL_LR = 1e-3
"""Large enough that every weight that is updated at all changes in float32."""
METRICS = ("loss", "auc", "average_precision", "accuracy", "balanced_accuracy")

State = dict[str, Tensor]


@dataclass(frozen=True)
class Shown:
    """What the model met in one forward pass.

    epoch: 0 or 1.
    split: "train" or "val", by the data set that was asked last.
    index: int64 (B,), samples of the trial's data set.
    images: (B, 3, H, W), as they reached the model.
    active: batch norms and dropouts that were in training mode.
    received: float32 (B, 3, H, W), as they reached the backbone.
    """

    epoch: int
    split: str
    index: Indices
    images: Tensor
    active: tuple[str, ...]
    received: Tensor | None = None


@dataclass(frozen=True)
class Trial:
    """What two epochs on a copy left behind.

    states: copies of the state dict before, between and after the epochs.
    averages: copies of the averaged model's before and after; none without an average.
    raw: uint8 (n, 3, H, W), the images as they lie in the pack.
    problem: the loop's own error, where it ended in one.
    """

    states: tuple[State, ...]
    averages: tuple[State, ...]
    raw: Tensor
    shown: tuple[Shown, ...]
    records: tuple[EpochRecord, ...]
    best_epoch: int | None
    problem: str | None

    def met(self, split: str, epoch: int) -> list[Shown]:
        """The forward passes over one split in one epoch."""
        return [shown for shown in self.shown if (shown.split, shown.epoch) == (split, epoch)]


@contextmanager
def untouched_randomness(plan: DevicePlan) -> Iterator[None]:
    """Put torch's global generators back as they were; the loop seeds them at every step."""
    cuda = [torch.device(plan.device)] if plan.device.startswith("cuda") else []
    mps = torch.mps.get_rng_state() if plan.device == "mps" else None
    with torch.random.fork_rng(devices=cuda):
        yield
    if mps is not None:
        torch.mps.set_rng_state(mps)


def exact(plan: DevicePlan) -> DevicePlan:
    """The plan in float32: rounding must not look like a difference."""
    return replace(plan, precision="fp32")


def sample(train: PackedDataset, n: int, seed: int) -> PackedDataset:
    """At most n images, the classes in turn, drawn by the seed."""
    drawn = permutation(seed, 0, len(train))
    labels = train.labels[drawn]
    by_class = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    chosen = drawn[np.lexsort((labels, rank))][:n]
    return PackedDataset(train.pack_path, train.rows[chosen], train.labels[chosen])


def copied(state: LoopState) -> LoopState:
    """A copy whose optimiser holds the copied tensors; as if it had not begun yet.

    Gradients are not copied (torch's own rule for parameters), nor is a half-done epoch.
    """
    twin = copy.deepcopy(state)
    twin.epoch, twin.history, twin.progress, twin.micro_batch = 0, [], Progress(), None
    twin.stopping = unbegun(twin.stopping)
    return twin


def unbegun(stopping: Stopping) -> Stopping:
    """A copy that has not seen an epoch yet."""
    twin = copy.copy(stopping)
    twin.best_value, twin.best_epoch, twin.waited = None, None, 0
    return twin


def snapshot(model: nn.Module) -> State:
    """A copy of every weight and buffer."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names whose tensors differ in any bit that counts (NaN equals NaN)."""
    return [
        name
        for name, tensor in before.items()
        if not torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(after[name]))
    ]


def active_modules(model: nn.Module) -> tuple[str, ...]:
    """Batch norms and dropouts in training mode; outside of training there must be none.

    A batch norm without running statistics always uses the batch's, whatever its mode.
    """
    return tuple(
        name
        for name, module in moded_modules(model).items()
        if module.training or (isinstance(module, _BatchNorm) and module.running_mean is None)
    )


def moded_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Batch norms and dropouts: what does another thing in training than in evaluation."""
    kinds = (_BatchNorm, _DropoutNd)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


class _Watched(PackedDataset):
    """A split that writes down what it was asked for. `fit` takes no other kind of data set."""

    def __init__(self, source: PackedDataset, name: str, asked: list[tuple[str, Indices]]) -> None:
        super().__init__(source.pack_path, source.rows, source.labels)
        self._name, self._asked = name, asked

    def gather(self, index: Indices, positions: Indices, *, pinned: bool = False) -> Batch:
        self._asked.append((self._name, index))
        return super().gather(index, positions, pinned=pinned)


def run_trial(
    state: LoopState,
    train: PackedDataset,
    settings: FitSettings,
    *,
    loss_function: LossFunction,
    plan: DevicePlan,
) -> Trial:
    """Train a copy of `state` for two epochs of one step; one of them frozen where any is.

    Metrics are made up: in the second epoch the monitored one improves, all others worsen, and so
    does every metric of the training images.
    """
    twin = copied(state)
    twin.stopping.patience = None
    for group in twin.optimiser.param_groups:
        group["initial_lr"] = TRIAL_LR if group.get("initial_lr", group["lr"]) > 0 else 0.0
    if plan.precision == "fp16":
        # The first fp16 steps may be skipped while the loss scale is sought.
        plan, twin.scaler = exact(plan), torch.amp.GradScaler(enabled=False)
    few = sample(train, TRIAL_IMAGES, settings.seed)
    asked: list[tuple[str, Indices]] = []
    shown: list[Shown] = []
    _watch(twin, asked, shown)
    states, records, problem = [snapshot(twin.model)], [], None
    averages = [] if twin.ema is None else [snapshot(twin.ema.model)]
    try:
        for record in fit(
            twin,
            _Watched(few, "train", asked),
            _Watched(few, "val", asked),
            _short(settings, len(few)),
            loss_function=loss_function,
            measure=lambda *_: _made_up(twin.stopping.monitor, asked[-1][0], twin.epoch),
            plan=plan,
        ):
            records.append(record)
            states.append(snapshot(twin.model))
    except TrainingError as error:
        problem = str(error)
    if twin.ema is not None:
        averages.append(snapshot(twin.ema.model))
    return Trial(
        tuple(states),
        tuple(averages),
        _packed(few),
        tuple(shown),
        tuple(records),
        twin.stopping.best_epoch,
        problem,
    )


def _packed(few: PackedDataset) -> Tensor:
    """The pixels of the pack itself, not on the way that the loop's go."""
    pixels = open_pack(few.pack_path).pixels()[few.rows]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _short(settings: FitSettings, n: int) -> FitSettings:
    """Two epochs of one step; what is about the course of the rate is left out."""
    return replace(
        settings,
        epochs=2,
        frozen_epochs=min(settings.frozen_epochs, 1),
        batch_size=n,
        eval_batch_size=n,
        schedule="constant",
        warmup_epochs=0.0,
        accumulate=1,
    )


def _watch(twin: LoopState, asked: list[tuple[str, Indices]], shown: list[Shown]) -> None:
    def note(model: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        split, index = asked[-1]
        images = arguments[0].detach().cpu().clone()
        shown.append(Shown(twin.epoch, split, index, images, active_modules(model)))

    def receive(backbone: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        shown[-1] = replace(shown[-1], received=arguments[0].detach().float().cpu().clone())

    models: dict[int, Classifier] = {id(model): model for model in (twin.model, twin.judged_model)}
    for model in models.values():
        model.register_forward_pre_hook(note)
        model.backbone.register_forward_pre_hook(receive)


def _made_up(monitor: str, split: str, epoch: int) -> dict[str, float]:
    """The monitored metric improves from epoch 0 to 1; all others worsen, in training too."""
    values = {}
    for name in METRICS:
        rises = (f"{split}/{name}" == monitor) == (epoch == 1)
        values[name] = (0.4 if rises else 0.6) if name == "loss" else (0.6 if rises else 0.4)
    return values
