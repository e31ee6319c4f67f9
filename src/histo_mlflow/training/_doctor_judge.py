"""What a watched trial shows of the data: pictures, order, and the metric that chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np
import torch

from histo_mlflow.data.batches import Indices, PackedDataset, epoch_order
from histo_mlflow.data.findings import Finding, counted, failed, passed, warned
from histo_mlflow.training._doctor_trial import TRIAL_IMAGES, Trial, sample, unbegun
from histo_mlflow.training.state import FitSettings
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import Policy, augment

OTHER_PICTURE = 2.0
"""Mean distance in levels; two devices round the same picture to within a fraction of one."""
LOOKS = 20
"""Epochs that are looked at before a policy, or the order of few images, is said to repeat."""
RARE = 1e-3
"""Chance of a false alarm that is put up with."""


def augmentation(trial: Trial, policy: Policy, seed: int) -> Finding:
    """A sample looks different in two epochs if the policy is random, and only then."""
    name = "augmentation"
    altered = sum(
        not torch.equal(shown.images, trial.raw[torch.from_numpy(shown.index)])
        for shown in trial.met("val", 0) + trial.met("val", 1)
    )
    if altered:
        return failed(name, "the images of the evaluation were altered on their way to the model")
    first, second = (_by_sample(trial, epoch) for epoch in (0, 1))
    both = sorted(first.keys() & second.keys())
    differ = sum(not torch.equal(first[i], second[i]) for i in both)
    if not policy.is_random:
        touched = sum(not torch.equal(first[i], trial.raw[i]) for i in first)
        if differ or touched:
            return failed(name, "the policy says that nothing happens, but images were altered")
        return passed(name, "none, as the policy says: every epoch shows the same pictures")
    same, still = _repeats(trial.raw, policy, seed)
    if not same:
        return failed(name, "equal seed, epoch and position gave two different pictures")
    due = [_drawn_pictures(trial, policy, seed, epoch) for epoch in (0, 1)]
    should = sum(not torch.equal(due[0][i], due[1][i]) for i in both)
    if not differ and should:
        return failed(
            name,
            f"the policy is random, but two epochs showed {counted(len(both), 'sample')} in the "
            "very same way: the pictures are augmented once and then repeat",
        )
    others = sum(
        _distance(image, wanted[i]) > OTHER_PICTURE
        for wanted, met in zip(due, (first, second), strict=True)
        for i, image in met.items()
    )
    if others:
        return failed(
            name,
            f"{others} of {len(first) + len(second)} training pictures are not what the policy "
            "makes of the packed images: another channel order, another policy or other draws",
        )
    if not differ:
        return passed(name, f"happens rarely: {still:.0%} of pictures repeat from epoch to epoch")
    return passed(name, f"two epochs showed {differ} of {len(both)} samples differently")


def _by_sample(trial: Trial, epoch: int) -> dict[int, torch.Tensor]:
    return {
        int(index): image
        for shown in trial.met("train", epoch)
        for index, image in zip(shown.index, shown.images, strict=True)
    }


def _drawn_pictures(trial: Trial, policy: Policy, seed: int, epoch: int) -> dict[int, torch.Tensor]:
    """What the policy makes of the packed images at the places that they had in the epoch."""
    index = np.concatenate([shown.index for shown in trial.met("train", epoch)])
    pictures = augment(
        trial.raw[torch.from_numpy(index)], policy, seed, epoch, np.arange(len(index))
    )
    return {int(i): image for i, image in zip(index, pictures, strict=True)}


def _distance(image: torch.Tensor, other: torch.Tensor) -> float:
    return float((image.float() - other.float()).abs().mean())


def _repeats(raw: torch.Tensor, policy: Policy, seed: int) -> tuple[bool, float]:
    """Whether the same address gives the same picture, and the share that repeats over epochs."""
    positions = np.arange(len(raw), dtype=np.int64)
    first = augment(raw.clone(), policy, seed, 0, positions)
    same = torch.equal(first, augment(raw.clone(), policy, seed, 0, positions))
    equal = [
        (augment(raw.clone(), policy, seed, epoch, positions) == first).flatten(1).all(dim=1)
        for epoch in range(1, LOOKS + 1)
    ]
    return same, float(torch.stack(equal).double().mean())


def corners(policy: Policy, image_px: int, seed: int) -> Finding:
    """No turn or shift fills in a constant: a white image stays white.

    Colour changes and erasing are switched off, since they may darken what they are told to.
    """
    plain = replace(policy, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, erase_p=0.0)
    white = torch.full((32, 3, image_px, image_px), 255, dtype=torch.uint8)
    white = white.contiguous(memory_format=torch.channels_last)
    moved = augment(white, plain, seed, 0, np.arange(len(white), dtype=np.int64))
    filled = (moved < 250).all(dim=1)  # bilinear rounding never takes white that far
    share = filled.double().mean(dim=(1, 2))
    if bool((share > 0).any()):
        black = float((moved == 0).all(dim=1).double().mean())
        return failed(
            "corners",
            f"turning a white image filled in {float(share.max()):.1%} of its pixels at worst "
            f"({black:.1%} of all pure black): the model would learn the corners; turn by quarters "
            "or reflect the border",
        )
    return passed("corners", "turns and shifts fill in nothing: a white image stays white")


def order(trial: Trial, train: PackedDataset, settings: FitSettings) -> Finding:
    """Every epoch has an order of its own, with all samples once, and not class by class.

    The fewer the images, the more often a sound draw equals another: only what luck would hardly
    ever give is a mistake. Where the loop showed what `epoch_order` gives, that is judged, over
    many epochs.
    """
    name, n, few = "order", len(train), sample(train, TRIAL_IMAGES, settings.seed)
    tiny = n < TRIAL_IMAGES
    shown = [np.concatenate([s.index for s in trial.met("train", epoch)]) for epoch in (0, 1)]
    whole = [_drawn(train, settings, epoch) for epoch in range(LOOKS if tiny else 2)]
    as_drawn = all(np.array_equal(shown[epoch], _drawn(few, settings, epoch)) for epoch in (0, 1))
    untold = False
    for orders, labels in ((whole, train.labels), (shown, few.labels)):
        luck = _luck(settings, labels)
        if orders is shown and as_drawn:
            continue
        in_file_order = _leading(orders, np.arange(len(orders[0])))
        repeated = _leading(orders[1:], orders[0])
        if in_file_order >= (len(orders) if tiny else 1) and luck**in_file_order < RARE:
            return failed(
                name, "the training images come in the order of the files, never shuffled"
            )
        if repeated >= (len(orders) - 1 if tiny else 1) and luck**repeated < RARE:
            return failed(
                name, "two epochs have the very same order: shuffled once, not every epoch"
            )
        untold |= repeated == len(orders) - 1
    if settings.sampling == "shuffled":
        for drawn in (*whole, *shown):
            if not np.array_equal(np.sort(drawn), np.arange(len(drawn))):
                return failed(name, "an epoch does not show every training image exactly once")
    if untold:
        return passed(name, f"{n} images are too few to tell a new order from the one before")
    labels = train.labels[whole[0]]
    shares = np.bincount(labels) / n
    expected = (n - 1) * (1 - float(shares @ shares))
    changes = int((np.diff(labels) != 0).sum())
    # Under a random order the count's standard deviation is about sqrt(n) / 2 at most.
    if changes < expected / 2 and expected - changes > 3 * np.sqrt(n):
        return failed(
            name,
            f"the training images come sorted by class: the class changes {changes:,} times in an "
            f"epoch, {expected:,.0f} were expected",
        )
    return passed(name, f"{settings.sampling} anew in every epoch")


def _drawn(train: PackedDataset, settings: FitSettings, epoch: int) -> Indices:
    sampling, labels = settings.sampling, train.labels
    return epoch_order(len(train), settings.seed, epoch, sampling=sampling, labels=labels)


def _leading(orders: Sequence[Indices], one: Indices) -> int:
    """How many epochs from the first on have the same order."""
    return sum(1 for _ in takewhile(lambda drawn: np.array_equal(drawn, one), orders))


def _luck(settings: FitSettings, labels: Indices) -> float:
    """Chance that a sound order equals the one before it; at least that of equalling the files'."""
    if settings.sampling == "balanced":
        counts = np.unique(labels, return_counts=True)[1]
        return float((1 / counts).sum() / len(counts) ** 2) ** len(labels)
    return math.exp(-math.lgamma(len(labels) + 1))


def monitor(trial: Trial, stopping: Stopping) -> Finding:
    """The best epoch and the early stop hang on the metric that is named, in its direction."""
    name, metric = "monitor", stopping.monitor
    if not metric.startswith("val/"):
        return failed(name, f"the best epoch is chosen by {metric}; only val/ metrics may choose")
    improved = [record.improved for record in trial.records]
    if improved != [True, True] or trial.best_epoch != 2:
        return failed(
            name,
            f"{metric} is named, but a trial in which it alone improved in the second epoch gave "
            f"epoch {trial.best_epoch} as the best: another metric chooses, or the wrong way round",
        )
    twin = unbegun(stopping)
    twin.patience = 2
    sign = -1.0 if metric.rpartition("/")[2] == "loss" else 1.0
    ended = []
    for epoch, value in enumerate((0.5, 0.9, 0.7, 0.6), start=1):
        twin.update(epoch, sign * value)
        ended.append(twin.exhausted)
    if twin.best_epoch != 2 or ended != [False, False, False, True]:
        return failed(
            name,
            f"with patience 2, four epochs of {metric} whose second is the best ended with epoch "
            f"{twin.best_epoch} as the best, stopped: {ended}",
        )
    patience = "no early stop" if stopping.patience is None else f"patience {stopping.patience}"
    return passed(name, f"{metric} chooses the best epoch; {patience}")


def pinned(pin_memory: bool, device: str) -> Finding:
    """Page-locked memory only where CUDA copies from it."""
    cuda = device.startswith("cuda")
    if pin_memory and not cuda:
        return failed("pinned-memory", f"pin_memory is set on {device}: it belongs to CUDA alone")
    if cuda and not pin_memory:
        return warned("pinned-memory", "pin_memory is off on CUDA: every copy waits")
    return passed("pinned-memory", f"{'on' if pin_memory else 'off'}, as fits {device}")
