"""From a pack to batches: a pure order, and one gather for each batch.

There are no worker processes in the steady state: gathering a shuffled batch from the memory map
takes about 2 us an image, less than handing it from one process to another. The data set is an
ordinary torch one all the same and works under a DataLoader, spawned workers included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from histo_mlflow.data.pack import open_pack
from histo_mlflow.errors import DataError
from histo_mlflow.randomness import Stream, permutation, uniforms

Sampling = Literal["shuffled", "balanced", "sequential"]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Some samples of a data set.

    images: uint8, shape (B, 3, H, W), channels_last in memory.
    labels: int64, shape (B,), on the device of `images`.
    index: int64, shape (B,), which samples of the data set these are.
    positions: int64, shape (B,), their places in the epoch's order; what augmentation does to a
        sample hangs on this, not on the batch.
    """

    images: Tensor
    labels: Tensor
    index: Indices
    positions: Indices

    def __len__(self) -> int:
        return len(self.index)


class PackedDataset(Dataset[tuple[Tensor, int]]):
    """The rows of a pack that form one split, with their labels.

    Args:
        pack_path: the folder of the pack.
        rows: int64, shape (n,), rows of the pack; sample i is row rows[i].
        labels: int64, shape (n,), class indices.

    The memory map is opened on first use and left out when the object is pickled, so that a
    spawned worker opens its own.

    Raises:
        DataError: rows and labels of different shapes, or, on first use, no whole pack or a row
            outside of it.
    """

    def __init__(self, pack_path: Path, rows: Indices, labels: Indices) -> None:
        if rows.ndim != 1 or rows.shape != labels.shape:
            raise DataError(
                f"one label for each row was expected, got rows {rows.shape}, labels {labels.shape}"
            )
        self.pack_path = pack_path
        self.rows = np.ascontiguousarray(rows, dtype=np.int64)
        self.labels = np.ascontiguousarray(labels, dtype=np.int64)
        self._pixels: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image, uint8 (H, W, 3), and its label."""
        return torch.from_numpy(self._map()[self.rows[index]].copy()), int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return these samples in one gather; what a DataLoader calls, with `collate_fn=as_is`.

        The order of the epoch is not known here, so the positions are the indices themselves.
        """
        index = np.asarray(indices, dtype=np.int64)
        return self.gather(index, index)

    def gather(self, index: Indices, positions: Indices, *, pinned: bool = False) -> Batch:
        """Return the samples `index` as a batch on the CPU, in page-locked memory if asked for."""
        mapped = self._map()
        nhwc = torch.empty((len(index), *mapped.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        # mode="clip" writes straight into `out`; the rows were checked when the map was opened.
        np.take(mapped, self.rows[index], axis=0, out=nhwc.numpy(), mode="clip")
        labels = torch.from_numpy(self.labels[index])
        labels = labels.pin_memory() if pinned else labels
        return Batch(nhwc.permute(0, 3, 1, 2), labels, index, positions)

    def ids(self, index: Indices) -> tuple[str, ...]:
        """Return the ids of these samples, read from the pack."""
        known = open_pack(self.pack_path).ids
        return tuple(known[row] for row in self.rows[index])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}

    def _map(self) -> npt.NDArray[np.uint8]:
        if self._pixels is None:
            # A plain array over the map: np.memmap's own bookkeeping costs more than a small copy.
            pixels = np.asarray(open_pack(self.pack_path).pixels())
            if len(self.rows) and not 0 <= self.rows.min() <= self.rows.max() < len(pixels):
                raise DataError(
                    f"rows 0 to {len(pixels) - 1} were expected, got {self.rows.min()} to "
                    f"{self.rows.max()} for the pack {self.pack_path}"
                )
            self._pixels = pixels
        return self._pixels


def as_is(batch: Batch) -> Batch:
    """Return the batch: the `collate_fn` for a DataLoader over a PackedDataset."""
    return batch


def epoch_order(
    n: int, seed: int, epoch: int, *, sampling: Sampling, labels: Indices | None = None
) -> Indices:
    """Return the samples of one epoch in order: a pure function of its arguments.

    Args:
        n: the number of samples in the data set.
        seed: the run's seed.
        epoch: which epoch.
        sampling: "sequential": 0 to n - 1. "shuffled": each once, in random order. "balanced": n
            draws with replacement in which each class that is there is equally likely, and each of
            its samples equally likely within it.
        labels: int64, shape (n,); needed for "balanced" only.

    Returns:
        int64, shape (n,).

    Raises:
        DataError: an unknown sampling, or "balanced" without a label for each sample.
    """
    if sampling == "sequential":
        return np.arange(n, dtype=np.int64)
    if sampling == "shuffled":
        return permutation(seed, epoch, n)
    if sampling != "balanced":
        raise DataError(f"sampling must be shuffled, balanced or sequential, got {sampling!r}")
    if labels is None or labels.shape != (n,):
        got = "none" if labels is None else f"shape {labels.shape}"
        raise DataError(f"balanced sampling needs a label for each of {n} samples, got {got}")
    by_class = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    draws = uniforms(seed, epoch, np.arange(n, dtype=np.int64), Stream.BALANCED, 2)
    drawn = (draws[:, 0] * len(counts)).astype(np.int64)
    members = (draws[:, 1] * counts[drawn]).astype(np.int64)
    chosen: Indices = by_class[starts[drawn] + members].astype(np.int64)
    return chosen


def batches(
    dataset: PackedDataset,
    order: Indices,
    batch_size: int,
    *,
    drop_last: bool,
    device: str = "cpu",
    start: int = 0,
) -> Iterator[Batch]:
    """Yield the samples of `order`, `batch_size` at a time.

    For CUDA a batch is gathered into page-locked memory and copied without waiting; elsewhere
    memory is never pinned.

    Args:
        dataset: the samples.
        order: int64, indices into `dataset`, as `epoch_order` gives them.
        batch_size: how many a batch; the last may be smaller.
        drop_last: leave a smaller last batch out.
        device: where images and labels shall lie.
        start: how many batches to skip, for resuming in the middle of an epoch; the batches after
            are what they would have been.

    Raises:
        ValueError: batch_size below 1 or start below 0.
    """
    if batch_size < 1 or start < 0:
        raise ValueError(f"batch_size >= 1, start >= 0 were expected, got {batch_size}, {start}")
    order = np.asarray(order, dtype=np.int64)
    end = len(order) - len(order) % batch_size if drop_last else len(order)
    pinned = torch.device(device).type == "cuda"
    for first in range(start * batch_size, end, batch_size):
        positions = np.arange(first, min(first + batch_size, end), dtype=np.int64)
        batch = dataset.gather(order[positions], positions, pinned=pinned)
        if device != "cpu":
            images = batch.images.to(device, non_blocking=pinned)
            labels = batch.labels.to(device, non_blocking=pinned)
            batch = Batch(images, labels, batch.index, batch.positions)
        yield batch
