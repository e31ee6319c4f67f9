"""`histo-mlflow evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from histo_mlflow.cli.options import finished_run_options


@click.command()
@click.argument("run")
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["test", "val"]),
    help="Split to judge; temperature and thresholds are chosen on val. What comes of val goes to "
    "evaluation_val/.",
)
@click.option(
    "--miss-cost",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help='How many false alarms one miss weighs in the threshold "cost".',
)
@click.option(
    "--slice-metric",
    default="accuracy",
    show_default=True,
    type=click.Choice(["accuracy", "log_loss", "brier"]),
    help="What slices are compared by.",
)
@click.option(
    "--replicates",
    default=2000,
    show_default=True,
    type=click.IntRange(min=100),
    help="Draws of the bootstrap.",
)
@click.option(
    "--bootstrap-seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Seed of these draws.",
)
@click.option(
    "--pictures/--no-pictures", default=True, show_default=True, help="Draw pictures as well."
)
@click.option(
    "--tta",
    is_flag=True,
    help="Predict eight views of each image as well, and say what their mean gains.",
)
@click.option(
    "--out",
    default=None,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for numbers and pictures as well; an earlier evaluation in it is replaced.",
)
@finished_run_options("the evaluation")
def evaluate(
    run: str,
    split: str,
    miss_cost: float,
    slice_metric: Literal["accuracy", "log_loss", "brier"],
    replicates: int,
    bootstrap_seed: int,
    pictures: bool,
    tta: bool,
    out: Path | None,
    tracking_uri: str | None,
    runs_dir: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Judge a finished run again, and log what comes of it to the same run.

    RUN is the id of a run, the folder of one, or a predictions table (.parquet). Metrics get
    intervals by group beside naive ones; temperature and thresholds are chosen on validation; the
    slices that the model is worst on, the images it is wrong about and where it looked are shown.
    Every training does this at its end.
    """
    from histo_mlflow.jobs.evaluate import Wanted, evaluate_run
    from histo_mlflow.jobs.judge import HEADLINE, shown
    from histo_mlflow.jobs.talk import Talk

    found = evaluate_run(
        run,
        Wanted(split, miss_cost, slice_metric, replicates, bootstrap_seed, pictures, tta),
        tracking_uri=tracking_uri,
        runs_dir=runs_dir,
        out=out,
        talk=Talk(quiet=quiet),
    )
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        for name in HEADLINE:
            click.echo(f"{split} {name} {shown(found.evaluation.named(name))}")
