"""The mean of several runs' logits as one predictions table, and what it gains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from histo_mlflow import files
from histo_mlflow.errors import DataError, DiskError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.combine import mean_logits
from histo_mlflow.jobs.compare import RunsCompared, Split, compare_records, names_of
from histo_mlflow.jobs.run_record import RunRecord, load_run
from histo_mlflow.jobs.talk import Talk


def ensemble_runs(
    references: Sequence[str],
    out: Path,
    *,
    split: Split = "test",
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    talk: Talk,
) -> RunsCompared:
    """Average the logits of runs image by image, and compare the mean with the first run.

    Args:
        references: two or more ids of runs, folders of runs or predictions tables, all of the same
            images in the same splits.
        out: the table of the ensemble is written here (`.parquet`).
        split: whose images are compared.
        tracking_uri: MLflow store.
        runs_dir: where folders of runs are looked for first.
        talk: says what happens.

    Raises:
        DataError: fewer than two runs, or they differ in images, labels, groups, splits, classes.
        DiskError: `out` is there already, or cannot be written.
    """
    if len(references) < 2:
        raise DataError(f"Expected two runs or more to average, got {len(references)}.")
    if out.suffix != ".parquet":
        raise DataError(f"Expected the name of a .parquet file for the ensemble, got {out}.")
    if out.exists():
        raise DiskError(f"Expected a free name for the ensemble, but {out} is there already.")
    records = [
        load_run(reference, tracking_uri=tracking_uri, runs_dir=runs_dir)
        for reference in references
    ]
    names = names_of(records)
    mean = mean_logits({name: one.predictions for name, one in zip(names, records, strict=True)})
    joined = RunRecord(str(out), out.stem, None, {}, {}, mean, None, {}, None)
    found = compare_records([*records, joined], split=split)
    with files.told(out.parent, 1000 * len(mean)):
        predictions.save(mean, out)
    talk.say("ensemble", f"mean of {len(records)} runs in {out}")
    return found
