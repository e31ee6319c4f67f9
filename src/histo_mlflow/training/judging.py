"""Logits of a whole split, in the order of the data set."""

from __future__ import annotations

import numpy as np
import torch

from histo_mlflow.data.batches import PackedDataset, batches
from histo_mlflow.device import DevicePlan
from histo_mlflow.models.build import Classifier


def predict_logits(
    model: Classifier, dataset: PackedDataset, *, batch_size: int, plan: DevicePlan
) -> np.ndarray:
    """Run a model in evaluation mode over every image once, without augmentation.

    The model's own mode is put back afterwards.

    Returns:
        float64 (n, K), or (n, 1) for a sigmoid output.
    """
    was_training = model.training
    model.eval()
    parts = []
    order = np.arange(len(dataset), dtype=np.int64)
    with torch.inference_mode(), plan.autocast():
        for batch in batches(dataset, order, batch_size, drop_last=False, device=plan.device):
            images = batch.images.contiguous(memory_format=plan.memory_format)
            parts.append(model(images).float())
    model.train(was_training)
    return torch.cat(parts).cpu().double().numpy()
