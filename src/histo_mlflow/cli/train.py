"""`histo-mlflow train`."""

from __future__ import annotations

import json
from typing import Literal

import click

from histo_mlflow.cli.options import RecipeCommand, given, not_empty, recipe_options


@click.command(cls=RecipeCommand)
@click.option(
    "--dataset",
    default=None,
    help="Recipe: a shipped name, or a .yaml file. [demo, or that of the run to go on with]",
)
@click.option("--experiment", default=None, help="MLflow experiment. [the recipe's name]")
@click.option("--run-name", default=None, help="MLflow run name.")
@click.option(
    "--tracking-uri",
    default=None,
    help="MLflow store. [MLFLOW_TRACKING_URI, or sqlite:///mlflow.db]",
)
@click.option(
    "--runs-dir",
    default="runs",
    show_default=True,
    callback=not_empty,
    help="Folder for the local files of each run.",
)
@click.option(
    "--run-dir",
    default=None,
    callback=not_empty,
    help="Folder for this run's files instead; a run that is in it is gone on with.",
)
@click.option(
    "--resume", default=None, metavar="RUN_ID", callback=not_empty, help="Go on with this run."
)
@click.option(
    "--checkpoint-seconds",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Save the state within an epoch this often, and at the end of each.",
)
@click.option(
    "--checkpoint-steps",
    default=None,
    type=click.IntRange(min=1),
    help="Save the state every so many steps as well.",
)
@click.option(
    "--doctor",
    "doctor_level",
    default="quick",
    show_default=True,
    type=click.Choice(["off", "quick", "full"]),
    help="What is examined before the first step; full also learns one batch by heart.",
)
@click.option(
    "--pictures/--no-pictures",
    default=True,
    show_default=True,
    help="Draw the evaluation at the end; `histo-mlflow evaluate` can draw it later.",
)
@click.option("--started-by", default=None, hidden=True, help="Process that this one ends with.")
@click.option("--quiet", is_flag=True, help="No talk and no progress bars on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@recipe_options()
def train(
    dataset: str | None,
    experiment: str | None,
    run_name: str | None,
    tracking_uri: str | None,
    runs_dir: str,
    run_dir: str | None,
    resume: str | None,
    checkpoint_seconds: float,
    checkpoint_steps: int | None,
    doctor_level: Literal["off", "quick", "full"],
    pictures: bool,
    started_by: str | None,
    quiet: bool,
    as_json: bool,
    **overrides: str | None,
) -> None:
    """Train a model by a recipe and track the run in MLflow.

    The data set is checked and split first; then every epoch's loss, AUC and more are sent to
    MLflow, and the best epoch's weights are judged on the test split, logged as a model that
    `mlflow models serve` can serve, and kept under the runs folder. Any field of the recipe can
    be replaced by an option below; in brackets is the value where neither recipe nor option
    gives one.

    Whatever ended a run, `--resume RUN_ID`, or the same command with the same `--run-dir`, goes
    on with it exactly where it was.
    """
    from histo_mlflow.jobs.parent import ending_with_parent
    from histo_mlflow.jobs.signals import ending_at_once

    with ending_with_parent(started_by=started_by):  # before the imports, which take seconds
        with ending_at_once():
            from histo_mlflow.jobs.epochs import CheckpointPolicy
            from histo_mlflow.jobs.resume import wanted_recipe
            from histo_mlflow.jobs.talk import Talk
            from histo_mlflow.jobs.train import train as run_training

        result = run_training(
            wanted_recipe(
                dataset, given(overrides), resume=resume, runs_dir=runs_dir, run_dir=run_dir
            ),
            tracking_uri=tracking_uri,
            experiment=experiment,
            run_name=run_name,
            runs_dir=runs_dir,
            run_dir=run_dir,
            resume=resume,
            checkpoints=CheckpointPolicy(checkpoint_seconds, checkpoint_steps),
            doctor_level=None if doctor_level == "off" else doctor_level,
            pictures=pictures,
            talk=Talk(quiet=quiet),
        )
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        click.echo(f"run {result.run_id}  {result.ending}  best epoch {result.best_epoch}")
        click.echo("test " + "  ".join(f"{k} {v:.4f}" for k, v in result.headline().items()))
        click.echo(f"model models:/{result.model_id}")
