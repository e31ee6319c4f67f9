"""Logits of a whole split, in the order of the data set."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import nn

from histo_mlflow.data.batches import PackedDataset, batches
from histo_mlflow.device import DevicePlan
from histo_mlflow.training.memory import is_out_of_memory

logger = logging.getLogger(__name__)


def predict_logits(
    model: nn.Module, dataset: PackedDataset, *, batch_size: int, plan: DevicePlan
) -> np.ndarray:
    """Run a model in evaluation mode over every image once, without augmentation.

    The model's own mode is put back afterwards. What does not fit into memory is judged again in
    batches of half the size, which changes no more than the last bits.

    Returns:
        float64 (n, K), or (n, 1) for a sigmoid output.
    """
    was_training = model.training
    model.eval()
    try:
        while True:
            try:
                return _predict(model, dataset, batch_size, plan)
            except (RuntimeError, MemoryError) as error:
                if batch_size == 1 or not is_out_of_memory(error):
                    raise
            batch_size //= 2
            logger.warning("out of memory: judging in batches of %d images", batch_size)
    finally:
        model.train(was_training)


def _predict(
    model: nn.Module, dataset: PackedDataset, batch_size: int, plan: DevicePlan
) -> np.ndarray:
    parts = []
    order = np.arange(len(dataset), dtype=np.int64)
    with torch.inference_mode(), plan.autocast():
        for batch in batches(dataset, order, batch_size, drop_last=False, device=plan.device):
            images = batch.images.contiguous(memory_format=plan.memory_format)
            parts.append(model(images).float())
    return torch.cat(parts).cpu().double().numpy()
