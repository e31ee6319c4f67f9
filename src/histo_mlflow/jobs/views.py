"""Test-time augmentation: what a trained model says of an image turned and mirrored.

There is no up in a slide or a skin lesion, so the eight ways to lay a square image down are equally
good views of it. The mean of their logits is one prediction that asks eight times as much work.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.device import DevicePlan, plan_device
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.compare import Comparison, paired
from histo_mlflow.jobs.resume import begun_recipe
from histo_mlflow.jobs.run_images import pack_of, rows_of
from histo_mlflow.jobs.run_record import RunRecord
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.training.judging import predict_logits
from histo_mlflow.vision.views import VIEWS, view

_AGREE = 0.02  # of probabilities: float32 on another device differs by far less


class _Seen(nn.Module):
    """A model that looks at every image in one view."""

    def __init__(self, model: nn.Module, name: str, layout: torch.memory_format) -> None:
        super().__init__()
        self.model, self.name, self.layout = model, name, layout

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(view(images, self.name).contiguous(memory_format=self.layout))
        return logits


def predict_views(
    members: Sequence[nn.Module],
    dataset: PackedDataset,
    table: pd.DataFrame,
    *,
    batch_size: int,
    plan: DevicePlan,
    talk: Talk,
) -> dict[str, pd.DataFrame]:
    """Predict images in each of the eight views.

    Args:
        members: one model, or those of an ensemble, whose logits are averaged; on the device and in
            the memory format of the plan.
        dataset: the images.
        table: what is known of them (ids, labels, slices, classes, kind of output), in their order;
            its predictions are replaced.
        batch_size: images at once.
        plan: where; its precision should be fp32, as of all final predictions.
        talk: says what happens.

    Returns:
        A predictions table for each of `VIEWS`.

    Raises:
        DataError: another number of rows than images.
    """
    if len(table) != len(dataset):
        raise DataError(f"Expected a row an image, got {len(table):,} and {len(dataset):,} images.")
    attributes = predictions.attributes_of(table)
    found = {}
    started = perf_counter()
    for name in VIEWS:
        logits = [
            predict_logits(
                _Seen(member, name, plan.memory_format), dataset, batch_size=batch_size, plan=plan
            )
            for member in members
        ]
        found[name] = predictions.predictions_table(
            table["id"].tolist(),
            table["group"].tolist(),
            table["split"].tolist(),
            predictions.targets_of(table),
            np.mean(logits, axis=0),
            predictions.classes_of(table),
            predictions.output_of(table),
            {str(column): attributes[column].tolist() for column in attributes},
        )
    seconds = perf_counter() - started
    talk.say("views", f"{len(VIEWS)} of {len(table):,} images ({seconds:.1f} s)")
    return found


def views(
    record: RunRecord,
    *,
    splits: Sequence[str] = ("val", "test"),
    device: str = "auto",
    talk: Talk,
) -> dict[str, pd.DataFrame]:
    """Predict the images of a finished run in each of the eight views, with the run's model.

    Args:
        record: of the run; its folder must be on this machine.
        splits: whose images.
        device: where to predict; always in float32.
        talk: says what happens, and where the model does not say today what it said then.

    Raises:
        DataError: no folder, or the data set is not here or not what the run saw.
        ModelFolderError: the model cannot be read.
    """
    folder = record.folder
    if folder is not None and folder.crossval.is_file():
        raise DataError(
            f"Expected a run with one model, got the cross-validation {record.reference}: the "
            "models of its ensemble have seen the images; name the run of a fold"
        )
    if folder is None:
        raise DataError(
            f"Expected the folder of run {record.reference} on this machine, since views are "
            "predicted with its model: name the place with --runs-dir."
        )
    recipe = begun_recipe(folder)
    plan = plan_device(device, "fp32", recipe.machine.memory_format, recipe.machine.threads)
    plan.use_threads()
    table = record.predictions
    table = table[table["split"].isin(list(splits))].reset_index(drop=True)
    if table.empty:
        raise DataError(f"Expected predictions of {' or '.join(splits)} in {record.reference}.")
    pack = pack_of(record, folder, talk=talk)
    dataset = PackedDataset(pack.path, rows_of(pack, table), predictions.targets_of(table))
    members = [
        member.to(plan.device).to(memory_format=plan.memory_format)
        for member in read_model_folder(folder.model).members
    ]
    found = predict_views(
        members, dataset, table, batch_size=recipe.training.eval_batch_size, plan=plan, talk=talk
    )
    before = predictions.probabilities_of(table)
    moved = float(np.abs(predictions.probabilities_of(found["identity"]) - before).max())
    if moved > _AGREE:
        talk.say(
            "WARN",
            f"the model says other probabilities today than when the run ended, by up to "
            f"{moved:.3f}: its files, the decoder or the device are not as they were",
        )
    return found


def gain(base: pd.DataFrame, combined: pd.DataFrame, *, split: str = "test") -> Comparison:
    """Compare the mean of the views, or an ensemble, with one prediction of the same images.

    Raises:
        DataError: see `paired`.
    """
    return paired({"one view": base, f"mean of {len(VIEWS)} views": combined}, split=split)
