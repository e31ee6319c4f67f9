"""Judge a finished run anew, and log what comes of it to the same run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow.device import plan_device
from histo_mlflow.errors import DataError, ModelFolderError, ResumeError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.bootstrap import REPLICATES
from histo_mlflow.evaluation.combine import mean_logits
from histo_mlflow.evaluation.compare import Comparison, Difference
from histo_mlflow.evaluation.evaluate import Evaluation, evaluate
from histo_mlflow.evaluation.forest import comparison as forest
from histo_mlflow.evaluation.slices import SliceMetric
from histo_mlflow.evaluation.style import save
from histo_mlflow.evaluation.thresholds import MISS_COST
from histo_mlflow.jobs.illustrate import (
    FIGURES,
    Images,
    draw_images,
    draw_predictions,
    images_of,
)
from histo_mlflow.jobs.judge import (
    EVALUATION,
    FACTS,
    METRICS,
    SLICES,
    noted,
    run_metrics,
    told,
    write_numbers,
)
from histo_mlflow.jobs.log_back import log_to_run
from histo_mlflow.jobs.output_folder import refuse_strangers, replacing
from histo_mlflow.jobs.resume import begun_recipe
from histo_mlflow.jobs.run_images import pack_of
from histo_mlflow.jobs.run_record import RunRecord, load_run
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.views import gain, views

TTA = "tta"
OUTPUT = (FACTS, METRICS, SLICES, FIGURES, TTA)
"""What a folder of an evaluation holds."""


@dataclass(frozen=True)
class Wanted:
    """How to judge.

    Attributes:
        split: that is judged.
        miss_cost: how many false alarms one miss weighs in the threshold "cost".
        slice_metric: what slices are compared by.
        replicates: draws of the bootstrap.
        seed: of the draws.
        pictures: whether any are drawn.
        tta: whether the mean of eight views is predicted and compared.
    """

    split: str = "test"
    miss_cost: float = MISS_COST
    slice_metric: SliceMetric = "accuracy"
    replicates: int = REPLICATES
    seed: int = 0
    pictures: bool = True
    tta: bool = False


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What came of it.

    Attributes:
        evaluation: of the run's predictions.
        tta: the mean of eight views against one view; None where it was not asked for.
    """

    evaluation: Evaluation
    tta: Comparison | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        tta = None if self.tta is None else self.tta.to_dict()
        return {**self.evaluation.to_dict(), "tta": tta}


def evaluate_run(
    reference: str,
    wanted: Wanted,
    *,
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    out: Path | None = None,
    talk: Talk,
) -> Evaluated:
    """Judge the predictions of a run; numbers and pictures go to its artifacts, under `evaluation`.

    Args:
        reference: the id of a run, the folder of one, or a predictions table (`.parquet`), which
            has no run to log to.
        wanted: how to judge.
        tracking_uri: MLflow store; None: where the run was begun, or `MLFLOW_TRACKING_URI`, or
            `sqlite:///mlflow.db`.
        runs_dir: where the folders of runs are.
        out: numbers and pictures are written here as well.
        talk: says what happens.

    Raises:
        DataError: no such run, no predictions, or `out` holds something else.
        TrackingError: the store did not take it; `out` is written all the same.
    """
    if out is not None:
        refuse_strangers(out, FACTS, OUTPUT)
    record = load_run(reference, tracking_uri=tracking_uri, runs_dir=runs_dir)
    table = record.predictions
    evaluation = evaluate(
        table,
        split=wanted.split,
        group_kind=record.tags.get("histo.data.group_kind", "group"),
        miss_cost=wanted.miss_cost,
        slice_metric=wanted.slice_metric,
        replicates=wanted.replicates,
        seed=wanted.seed,
    )
    for line in (*told(evaluation), *noted(evaluation)):
        talk.say(*line)
    with ExitStack() as stack:
        folder = stack.enter_context(_output(out))
        write_numbers(folder, evaluation)
        if wanted.pictures:
            draw_predictions(folder / FIGURES, table, evaluation)
            if (images := _images(record, talk=talk)) is not None:
                draw_images(folder / FIGURES, table, evaluation, images, talk=talk)
        tta = _views(record, wanted.split, folder / TTA, talk=talk) if wanted.tta else None
        if out is not None:
            stack.close()  # what was asked for is kept, whatever the store says
            folder = out
        judged_test = wanted.split == "test"
        log_to_run(
            record,
            folder,
            EVALUATION if judged_test else f"{EVALUATION}_{wanted.split}",
            # validation has its points already, one an epoch
            run_metrics(evaluation) if judged_test else {},
            tracking_uri,
            talk=talk,
        )
    return Evaluated(evaluation, tta)


@contextmanager
def _output(out: Path | None) -> Iterator[Path]:
    """The folder that was asked for, or one that is gone afterwards."""
    if out is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
    else:
        with replacing(out) as folder:
            yield folder


def _images(record: RunRecord, *, talk: Talk) -> Images | None:
    """The images behind a run's predictions; None, and why, where they are not here."""
    if record.folder is None:
        talk.say("WARN", "no folder of the run is here, so no pictures that need its images")
        return None
    try:
        machine = begun_recipe(record.folder).machine
        pack = pack_of(record, record.folder, talk=Talk(quiet=True))
        # whatever it was trained on, and as final predictions are made
        plan = plan_device("auto", "fp32", machine.memory_format, machine.threads)
        plan.use_threads()
        return images_of(pack, record.folder.model, plan)
    except (DataError, ModelFolderError, ResumeError) as error:
        talk.say("WARN", f"no pictures that need the images: {error}")
        return None


def _views(record: RunRecord, split: str, folder: Path, *, talk: Talk) -> Comparison:
    """Write what test-time augmentation would gain."""
    seen = views(record, splits=(split,), talk=talk)
    one = record.predictions[record.predictions["split"] == split].reset_index(drop=True)
    combined = mean_logits(seen)
    found = gain(one, combined, split=split)
    predictions.save(combined, folder / "predictions.parquet")
    found.to_frame().to_csv(folder / "comparison.csv", index=False)
    kind = record.tags.get("histo.data.group_kind", "group")
    save(forest(found, group_kind=kind), folder / "comparison.png")
    for each in found.differences:
        if each.metric == "auc" and each.label is None and each.name != found.names[0]:
            gained = shown_difference(each)
            talk.say("tta", f"AUC {gained}: the mean of {len(seen)} views against one view")
    return found


def shown_difference(one: Difference) -> str:
    """Such as "+0.0035 (+0.0008 to +0.0064)"."""
    if one.difference is None:
        return "undefined"
    if one.difference_low is None or one.difference_high is None:
        return f"{one.difference:+.4f} (no interval: {one.why})"
    return f"{one.difference:+.4f} ({one.difference_low:+.4f} to {one.difference_high:+.4f})"
