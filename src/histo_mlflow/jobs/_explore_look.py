"""What there is to say of a data set before training: all the numbers, nothing drawn yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.data import overview
from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.data.overview import Column, Intensities
from histo_mlflow.data.splits import Splits
from histo_mlflow.device import DevicePlan, keep_freed_memory, plan_device
from histo_mlflow.errors import DataError, SplitError, WeightsError
from histo_mlflow.evaluation.embedding import Agreement, neighbour_agreement, tsne
from histo_mlflow.explain.features import features
from histo_mlflow.jobs.inspect import inspect
from histo_mlflow.jobs.leaks import LeakReport, report
from histo_mlflow.jobs.prepare import Audited, divide
from histo_mlflow.jobs.samples import Rows, sampled
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.backbones import full_name
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.download import Remote
from histo_mlflow.models.weights import WeightsFacts, load_pretrained, origin_of
from histo_mlflow.randomness import derive
from histo_mlflow.recipe import Recipe

MOST_COUNTED = 20_000
"""Images whose pixels are counted, at most; more would not change a histogram that can be seen."""
LEAST_OF_A_CLASS = 30
"""Images of each class in the sample that is embedded, where there are so many."""


@dataclass(frozen=True, eq=False)
class Seer:
    """A backbone that sees images, or why there is none.

    Attributes:
        model: None where there is none.
        plan: where it runs.
        weights: what it was filled with; None without a model.
        why: a sentence, "" with a model.
    """

    model: Classifier | None
    plan: DevicePlan | None
    weights: WeightsFacts | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Seen:
    """Some images as a backbone sees them.

    Attributes:
        rows: which images.
        points: (n, 2); None where there are none.
        agreement: of neighbours' labels; None likewise.
        why: a sentence, "" with points.
    """

    rows: Rows
    points: npt.NDArray[np.float64] | None
    agreement: Agreement | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Overview:
    """The numbers of a data set.

    Attributes:
        leaks: the audited data set and what each way to split would leak.
        classes: as `overview.class_table`.
        groups: as `overview.group_sizes`.
        mixed_groups: groups with several labels.
        sizes: as `overview.file_sizes`.
        intensities: of the packed pixels.
        columns: of the metadata.
        splits: as the recipe would draw them, or the sentence why it cannot.
        seen: the sample that is embedded.
    """

    leaks: LeakReport
    classes: pd.DataFrame
    groups: pd.Series
    mixed_groups: int
    sizes: pd.DataFrame
    intensities: Intensities
    columns: tuple[Column, ...]
    splits: Splits | str
    seen: Seen

    @property
    def audited(self) -> Audited:
        """The data set."""
        return self.leaks.audited


def audited_with_sizes(recipe: Recipe, *, talk: Talk) -> tuple[LeakReport, pd.DataFrame]:
    """Check, pack and audit the data set; what the scan says of its files.

    Raises:
        DataError: the data set is not there, or a check says FAIL.
    """
    told = report(recipe, talk=talk)
    summary = told.audited.leaks.summary()
    across = summary["equal_pairs_across_groups"] + summary["near_pairs_across_groups"]
    kind = told.audited.manifest.group_kind
    talk.say("leaks", f"{across:,} pairs of look-alikes across {kind}s")
    # Read a moment ago, so it comes from the cache.
    return told, inspect(recipe, talk=Talk(quiet=True)).scanned


def get_seer(recipe: Recipe, *, wanted: bool, talk: Talk) -> Seer:
    """The recipe's backbone with its weights; no backbone where they cannot be downloaded.

    Raises:
        ModelError: no such model, or it cannot be built for this size.
        WeightsError: a file of weights that was named is not there or does not fit.
        DeviceError: the device that was asked for is not there.
    """
    name, machine = full_name(recipe.model.model), recipe.machine
    origin = origin_of(name, recipe.model.weights)
    if not wanted:
        return Seer(None, None, None, "it was not asked for (--sample 0)")
    plan = plan_device(machine.device, "fp32", machine.memory_format, machine.threads)
    plan.use_threads()
    if plan.device == "cpu":
        keep_freed_memory()
    # The head is not used: any two classes do.
    spec = specify(
        name,
        ("a", "b"),
        image_px=recipe.pixels.image_px,
        normalisation=recipe.model.normalisation,
    )
    model = build(spec, derive(recipe.training.seed, "weights"))
    try:
        weights = load_pretrained(model, recipe.model.weights)
    except WeightsError as error:
        if not isinstance(origin, Remote):
            raise
        talk.say("WARN", f"no features: {error}")
        return Seer(None, plan, None, str(error))
    talk.say("model", f"{spec.name}, weights: {weights.source}")
    model = model.to(plan.device).to(memory_format=plan.memory_format)
    return Seer(model, plan, weights)


def look_over(
    recipe: Recipe,
    told: LeakReport,
    scanned: pd.DataFrame,
    seer: Seer,
    sample: int,
    *,
    talk: Talk,
) -> Overview:
    """Count everything, and let the backbone see up to `sample` images."""
    manifest, pack = told.audited.manifest, told.audited.pack
    labels, seed = manifest.table["label"].tolist(), recipe.training.seed
    counted = sampled(labels, seed, MOST_COUNTED, least=0)
    return Overview(
        leaks=told,
        classes=overview.class_table(manifest),
        groups=overview.group_sizes(manifest),
        mixed_groups=overview.mixed_groups(manifest),
        sizes=overview.file_sizes(manifest, scanned),
        intensities=overview.intensities(pack.pixels(), counted),
        columns=overview.metadata(manifest),
        splits=_splits(recipe, told.audited),
        seen=_see(recipe, told.audited, seer, sample, talk=talk),
    )


def _splits(recipe: Recipe, audited: Audited) -> Splits | str:
    try:
        return divide(audited.manifest, recipe, audited.leaks)
    except SplitError as error:
        return str(error)


def _see(recipe: Recipe, audited: Audited, seer: Seer, sample: int, *, talk: Talk) -> Seen:
    manifest, seed = audited.manifest, recipe.training.seed
    labels, groups = manifest.table["label"].to_numpy(), manifest.table["group"].to_numpy()
    rows = sampled(labels.tolist(), seed, sample, least=LEAST_OF_A_CLASS)
    if seer.model is None or seer.plan is None:
        return Seen(rows[:0], None, None, seer.why)
    talk.say("features", f"of {len(rows):,} images")
    dataset = PackedDataset(audited.pack.path, rows, manifest.targets()[rows])
    found = features(
        seer.model, dataset, batch_size=recipe.training.eval_batch_size, plan=seer.plan
    )
    try:
        points = tsne(found, seed=seed % 2**32)
    except DataError as error:
        talk.say("WARN", f"no t-SNE: {error}")
        return Seen(rows[:0], None, None, str(error))
    agreement = neighbour_agreement(
        found, labels[rows].tolist(), groups[rows].tolist(), manifest.classes
    )
    return Seen(rows, points, agreement)
