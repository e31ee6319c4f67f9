"""What the best epoch's weights say of one side of a division, as a predictions table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.device import DevicePlan
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.probabilities import Output
from histo_mlflow.jobs.development import Rows
from histo_mlflow.models.build import Classifier
from histo_mlflow.training.judging import predict_logits


def final_predictions(
    model: Classifier,
    dataset: PackedDataset,
    rows: Rows,
    split: str,
    *,
    classes: Sequence[str],
    output: Output,
    batch_size: int,
    plan: DevicePlan,
) -> pd.DataFrame:
    """Predict every image of a data set, in float32 whatever the training precision was.

    Args:
        model: with the weights that are judged.
        dataset: n images with their labels.
        rows: ids, groups and attributes of the same n.
        split: their name in the table: "val" or "test".
        classes: K names, in the order of the logits.
        output: how logits become probabilities.
        batch_size: images at once.
        plan: device and memory format.

    Returns:
        One row an image, in the order of `dataset` (`evaluation.predictions`).
    """
    exact = replace(plan, precision="fp32")
    return predictions.predictions_table(
        rows.ids,
        rows.groups,
        [split] * len(rows.ids),
        dataset.labels,
        predict_logits(model, dataset, batch_size=batch_size, plan=exact),
        classes,
        output,
        rows.attributes,
    )
