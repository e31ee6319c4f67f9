"""The pictures of an evaluation: of the predictions alone, and of the images behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from histo_mlflow import files
from histo_mlflow.data.pack import Pack
from histo_mlflow.device import DevicePlan
from histo_mlflow.errors import ModelError
from histo_mlflow.evaluation import plots, predictions
from histo_mlflow.evaluation.embedding import LEAST, embedding_figure, tsne
from histo_mlflow.evaluation.evaluate import Evaluation, evaluate
from histo_mlflow.evaluation.grids import sample_grid
from histo_mlflow.evaluation.mistakes import confident_mistakes, least_certain, surest_hits
from histo_mlflow.evaluation.overlays import gradcam_grid
from histo_mlflow.evaluation.style import count, save
from histo_mlflow.explain.feature_map import find_feature_map
from histo_mlflow.explain.features import features
from histo_mlflow.explain.gradcam import gradcam
from histo_mlflow.jobs.deliver import deliver_pictures
from histo_mlflow.jobs.judge import write_numbers
from histo_mlflow.jobs.output_folder import replacing
from histo_mlflow.jobs.prepare import Prepared
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.run_images import rows_of
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.build import Classifier
from histo_mlflow.randomness import permutation
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.tracking.run import TrackedRun

FIGURES = "figures"
PICTURE_BYTES = 8_000_000
"""About what all pictures need."""
MOST_CONFUSED = 40
"""Classes of a confusion matrix that can still be read."""
EXPLAINED = 12
EMBEDDED = 2_000
EMBED_BATCH = 128


@dataclass(frozen=True, eq=False)
class Images:
    """The pixels behind a predictions table, and the model that said what it says.

    Attributes:
        pack: of the whole data set.
        model: in eval mode, on the plan's device; None for an ensemble, which has no one place to
            look into.
        plan: where and how to compute.
    """

    pack: Pack
    model: Classifier | None
    plan: DevicePlan

    def of(self, rows: pd.DataFrame) -> npt.NDArray[np.uint8]:
        """The images of some rows of the table, (n, px, px, 3).

        Raises:
            DataError: an id that the data set does not have.
        """
        return self.pack.pixels()[rows_of(self.pack, rows)]


def images_of(pack: Pack, model_folder: Path, plan: DevicePlan) -> Images:
    """Bring the pixels of a data set and the model of a folder together.

    Raises:
        ModelFolderError: the folder is not as it was written.
    """
    members = read_model_folder(model_folder).members
    model = members[0].to(plan.device).to(memory_format=plan.memory_format)
    return Images(pack, model if len(members) == 1 else None, replace(plan, precision="fp32"))


def illustrate(
    run: TrackedRun,
    folder: RunFolder,
    table: str,
    prepared: Prepared,
    plan: DevicePlan,
    *,
    talk: Talk,
) -> None:
    """Draw the evaluation of a finished run and give it to the store; once, however often called.

    The model is in the store by then, so that nothing that is drawn can cost it. The folder of the
    pictures gets its name when all of them are on disk.

    Args:
        run: gets the pictures.
        folder: of the run, with its results and its model.
        table: name of the predictions among the results.
        prepared: the data set.
        plan: where to compute.
        talk: says what happens.

    Raises:
        TrackingError: the store did not take them; nothing is lost.
        DiskError: they cannot be written.
    """
    if not folder.evaluation.is_dir():
        started = perf_counter()
        rows = predictions.load(folder.results / table)
        evaluation = evaluate(rows, group_kind=prepared.manifest.group_kind)
        images = images_of(prepared.pack, folder.model, plan)
        with files.told(folder.path, PICTURE_BYTES), replacing(folder.evaluation) as new:
            write_numbers(new, evaluation)
            draw_predictions(new / FIGURES, rows, evaluation)
            draw_images(new / FIGURES, rows, evaluation, images, talk=talk)
        talk.say("pictures", f"{folder.evaluation} ({perf_counter() - started:.1f} s)")
    deliver_pictures(run, folder)


def draw_predictions(folder: Path, table: pd.DataFrame, evaluation: Evaluation) -> None:
    """Draw what needs nothing but the predictions: curves, confusion, reliability, intervals.

    Args:
        folder: gets PNG files; made if need be.
        table: the predictions that were judged.
        evaluation: what came of it.
    """
    classes, split = evaluation.classes, evaluation.split
    entries = [one.to_dict() for one in evaluation.metrics]
    rows = predictions.of_split(table, split)
    facts = _facts(evaluation)
    band = evaluation.replicates
    in_class = {str(name): int(n) for name, n in rows["label"].value_counts().items()}
    drawn = {
        "roc": plots.roc(table, classes, split=split, band=band, metrics=entries),
        "precision_recall": plots.precision_recall(
            table, classes, split=split, band=band, metrics=entries
        ),
        "reliability": plots.reliability(
            table,
            classes,
            split=split,
            temperature=None if evaluation.temperature is None else evaluation.temperature.value,
        ),
        "metrics": plots.metric_intervals(entries, facts=facts),
        "classes": plots.class_bars(entries, rows=in_class, facts=facts),
    }
    if len(classes) <= MOST_CONFUSED:
        drawn["confusion"] = plots.confusion(table, classes, split=split)
    if not evaluation.slices.empty:
        drawn["slices"] = plots.slices_figure(
            evaluation.to_dict()["slices"],
            metric=evaluation.slice_metric,
            facts=facts,
        )
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")


def draw_images(
    folder: Path, table: pd.DataFrame, evaluation: Evaluation, images: Images, *, talk: Talk
) -> None:
    """Draw what needs the images: mistakes, doubts, Grad-CAM, and features in a plane.

    Args:
        folder: gets PNG files; made if need be.
        table: the predictions that were judged.
        evaluation: what came of it.
        images: of the table's ids.
        talk: says what cannot be drawn.
    """
    rows = predictions.of_split(table, evaluation.split)
    facts = _facts(evaluation)
    for name, heading, picked in (
        ("confident_mistakes", "Most confident mistakes", confident_mistakes(rows)),
        ("least_certain", "Least certain", least_certain(rows)),
    ):
        if len(picked):
            grid = sample_grid(
                images.of(picked),
                picked["title"].tolist(),
                heading=heading,
                facts=f"{facts} · one image a group",
            )
            save(grid, folder / f"{name}.png")
    if images.model is None:
        talk.say("", "no Grad-CAM and no t-SNE of an ensemble: it has no one model to look at")
        return
    _draw_gradcam(folder, rows, images, images.model, facts, talk=talk)
    _draw_embedding(folder, rows, evaluation, images, images.model)


def _draw_gradcam(
    folder: Path, rows: pd.DataFrame, images: Images, model: Classifier, facts: str, *, talk: Talk
) -> None:
    """Where the model looked: at the surest hits of each class, and at the surest mistakes."""
    classes = list(predictions.classes_of(rows))
    try:
        place = find_feature_map(model)
    except ModelError as error:
        talk.say("WARN", str(error))
        return
    for name, heading, picked in (
        ("gradcam_hits", "Grad-CAM of sure hits", surest_hits(rows, EXPLAINED)),
        ("gradcam_mistakes", "Grad-CAM of sure mistakes", confident_mistakes(rows, EXPLAINED)),
    ):
        if picked.empty:
            continue
        pixels = images.of(picked)
        said = [classes.index(one) for one in picked["predicted"]]
        maps = gradcam(
            model,
            torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
            said,
            place=place,
        )
        grid = gradcam_grid(
            pixels,
            maps,
            picked["title"].tolist(),
            heading=heading,
            facts=f"{facts} · for the predicted class",
        )
        save(grid, folder / f"{name}.png")


def _draw_embedding(
    folder: Path, rows: pd.DataFrame, evaluation: Evaluation, images: Images, model: Classifier
) -> None:
    if len(rows) < LEAST:
        return
    chosen = np.sort(permutation(evaluation.seed, 0, len(rows))[:EMBEDDED])
    some = rows.iloc[chosen]
    vectors = features(model, images.of(some), batch_size=EMBED_BATCH, plan=images.plan)
    sampled = f", {len(some):,} of them drawn" if len(some) < len(rows) else ""
    figure = embedding_figure(
        tsne(vectors, seed=evaluation.seed),
        some["label"].tolist(),
        evaluation.classes,
        heading="t-SNE of the trained model's features",
        facts=f"{_facts(evaluation)}{sampled}",
        wrong=(some["label"] != some["predicted"]).to_numpy(),
    )
    save(figure, folder / "embedding.png")


def _facts(evaluation: Evaluation) -> str:
    groups = count(evaluation.groups, evaluation.group_kind)
    return f"{evaluation.split}: {count(evaluation.rows, 'image')} of {groups}"
