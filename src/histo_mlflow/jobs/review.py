"""The labels of a data set that are most likely wrong, for somebody to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from histo_mlflow import files
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.grids import sample_grid
from histo_mlflow.evaluation.review import estimated_noise, review_notes, review_queue
from histo_mlflow.evaluation.style import count, save
from histo_mlflow.jobs.log_back import log_to_run
from histo_mlflow.jobs.output_folder import refuse_strangers, replacing
from histo_mlflow.jobs.run_images import pack_of, rows_of
from histo_mlflow.jobs.run_record import RunRecord, load_run
from histo_mlflow.jobs.talk import Talk

QUEUE, NOISE, GRID = "queue.csv", "estimated_noise.csv", "queue.png"
SHOWN = 30
REVIEW = "review"


@dataclass(frozen=True, eq=False)
class Reviewed:
    """What is to be reviewed.

    Attributes:
        queue: see `evaluation.review.review_queue`.
        noise: see `evaluation.review.estimated_noise`.
        notes: what to know of them.
        folder: where queue, noise and grid are.
    """

    queue: pd.DataFrame
    noise: pd.DataFrame
    notes: tuple[str, ...]
    folder: Path


def review(
    reference: str,
    *,
    out: Path | None = None,
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    talk: Talk,
) -> Reviewed:
    """Rank the labels that a run predicted without having learnt from them.

    Of a cross-validation that is every image; of a training its validation and test images.

    Args:
        reference: the id of a run, the folder of one, or a predictions table (`.parquet`).
        out: folder for the queue; None: `review/<run>`.
        tracking_uri: MLflow store; None: where the run was begun.
        runs_dir: where the folders of runs are.
        talk: says what happens.

    Raises:
        DataError: no such run or table, or its rows are of one label only.
        DiskError: `out` holds something else.
        TrackingError: the store did not take it; the folder is written all the same.
    """
    record = load_run(reference, tracking_uri=tracking_uri, runs_dir=runs_dir)
    folder = out or Path(REVIEW) / (record.run_id or record.name)
    refuse_strangers(folder, QUEUE, (QUEUE, NOISE, GRID))
    table = record.predictions
    if (table["split"] == "train").any():
        raise DataError(
            f"Expected predictions of images that the model did not learn from, but "
            f"{reference} has rows of the training split: a label learnt by heart looks right."
        )
    queue, noise = review_queue(table), estimated_noise(table)
    with replacing(folder) as new:
        files.write_text(new / QUEUE, queue.to_csv(index=False))
        files.write_text(new / NOISE, noise.to_csv(index=False))
        _draw(new / GRID, record, queue, talk=talk)
    issues = int(queue["issue"].sum())
    talk.say("review", f"{count(issues, 'likely wrong label')} of {len(queue):,}: {folder / QUEUE}")
    log_to_run(record, folder, REVIEW, {"review/issues": issues}, tracking_uri, talk=talk)
    return Reviewed(queue, noise, tuple(review_notes(table)), folder)


def _draw(path: Path, record: RunRecord, queue: pd.DataFrame, *, talk: Talk) -> None:
    """The first of the queue, one image a group; not where the images are not here."""
    if record.folder is None:
        talk.say("WARN", "no folder of the run is here, so no picture of the queue")
        return
    try:
        pack = pack_of(record, record.folder, talk=Talk(quiet=True))
    except DataError as error:
        talk.say("WARN", f"no picture of the queue: {error}")
        return
    first = queue[queue["issue"]].drop_duplicates("group").head(SHOWN)
    if first.empty:
        return
    titles = [
        f"{r.rank}. {r.id}\n{r.label} {r.p_label:.2f}, {r.suggested} {r.p_suggested:.2f}"
        for r in first.itertuples()
    ]
    grid = sample_grid(
        pack.pixels()[rows_of(pack, first)],
        titles,
        heading="Labels most likely wrong",
        facts=f"of {len(queue):,} images; label and suggestion with their probabilities",
    )
    save(grid, path)
