"""What to do when a batch does not fit into memory: compute it in portions.

The gradients of the portions add up to that of the batch. Batch norms are the exception: they see
the portion, not the batch, so their statistics are noisier.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from histo_mlflow.errors import OutOfMemoryError

SMALLEST = 2
"""Images in a portion: batch norm knows no variance of a single image."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: on CUDA, MPS, the CPU, or in NumPy."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def smaller(micro_batch: int | None, batch_size: int) -> int:
    """Half of the portion that did not fit.

    Raises:
        OutOfMemoryError: it cannot be halved.
    """
    failed = min(micro_batch or batch_size, batch_size)
    if failed <= SMALLEST:
        raise OutOfMemoryError(
            f"out of memory with {failed} images at once, and fewer than {SMALLEST} cannot be "
            "trained on: take a smaller image_px, a smaller model or precision=bf16"
        )
    return max(SMALLEST, failed // 2)


def micro_batches(n: int, micro_batch: int | None) -> list[tuple[int, int]]:
    """(start, stop) of the portions of a batch of n images, as even as can be.

    No portion has a single image unless n is 1; an odd rest makes one portion larger by one.
    """
    if micro_batch is None or micro_batch >= n:
        return [(0, n)]
    parts = max(1, min(-(-n // micro_batch), n // SMALLEST))
    edges = [n * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))
