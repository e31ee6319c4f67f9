"""Judging: in smaller batches where memory asks for it, and with the model left as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.device import plan_device
from histo_mlflow.training.judging import predict_logits


class Small(nn.Module):
    """Takes no more than so many images at once."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.error, self.sizes = limit, error, []

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > self.limit:
            raise self.error
        return images.float().mean(dim=(2, 3))


@pytest.fixture
def dataset(packed_noise):
    path, labels = packed_noise(11, 16)
    return PackedDataset(path, np.arange(11), labels)


@pytest.fixture
def plan():
    return plan_device("cpu", precision="fp32", memory_format="contiguous", threads=1)


MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_what_does_not_fit_is_judged_in_halves(dataset, plan, caplog):
    whole = predict_logits(Small(99, MEMORY), dataset, batch_size=8, plan=plan)
    model = Small(3, MEMORY).train()
    found = predict_logits(model, dataset, batch_size=8, plan=plan)

    assert np.array_equal(found, whole)
    assert model.sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert model.training
    assert "out of memory: judging in batches of 2 images" in caplog.text


@pytest.mark.parametrize("error", [MEMORY, RuntimeError("shapes cannot be multiplied")])
def test_what_does_not_fit_at_all_and_other_errors_are_raised(error, dataset, plan):
    model = Small(0, error).train()
    with pytest.raises(type(error)):
        predict_logits(model, dataset, batch_size=4, plan=plan)

    assert model.training
    assert model.sizes == ([4, 2, 1] if error is MEMORY else [4])
