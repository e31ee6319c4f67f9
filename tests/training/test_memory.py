"""Portions of a batch: which there are, and that their gradients add up to that of the batch."""

import numpy as np
import pytest
import torch

from histo_mlflow.errors import TrainingError
from histo_mlflow.training.memory import is_out_of_memory, micro_batches, smaller


@pytest.mark.parametrize("n", range(1, 41))
@pytest.mark.parametrize("portion", [None, 2, 3, 4, 5, 7, 8, 16, 32, 64])
def test_portions_cover_a_batch_once_and_none_is_a_single_image(n, portion):
    found = micro_batches(n, portion)

    covered = [image for start, stop in found for image in range(start, stop)]
    assert covered == list(range(n))
    sizes = [stop - start for start, stop in found]
    assert min(sizes) >= min(n, 2)
    if portion is None or portion >= n:
        assert sizes == [n]
    else:
        # An odd rest goes with a pair, or batch norm would see a single image.
        assert max(sizes) <= max(portion, 3 if n % 2 else 2)
        assert max(sizes) - min(sizes) <= 1


def halvings(batch_size):
    portion, seen = None, []
    with pytest.raises(TrainingError) as caught:  # noqa: PT012
        while True:
            portion = smaller(portion, batch_size)
            seen.append(portion)
    return seen, str(caught.value)


def test_a_batch_is_halved_down_to_pairs_and_then_it_is_said_what_to_do():
    assert halvings(64)[0] == [32, 16, 8, 4, 2]
    assert halvings(7)[0] == [3, 2]
    assert halvings(2)[0] == []
    message = halvings(64)[1]
    assert message.startswith("out of memory with 2 images at once")
    assert "image_px" in message


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("f8")),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.1 GiB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 32 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 32 bytes."),
    ],
    ids=["cuda", "python", "numpy", "mps", "linux", "windows"],
)
def test_running_out_of_memory_is_known_in_every_wording(error):
    assert is_out_of_memory(error)


def test_the_wording_is_the_one_that_torch_has_today():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory")]
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)
