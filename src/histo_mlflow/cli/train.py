"""`histo-mlflow train`."""

from __future__ import annotations

import json

import click

from histo_mlflow.cli.options import RecipeCommand, given, recipe_options


@click.command(cls=RecipeCommand)
@click.option(
    "--dataset", default="demo", show_default=True, help="Recipe: a shipped name, or a .yaml file."
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
    help="Folder for the local files of each run.",
)
@click.option("--quiet", is_flag=True, help="No talk and no progress bars on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@recipe_options()
def train(
    dataset: str,
    experiment: str | None,
    run_name: str | None,
    tracking_uri: str | None,
    runs_dir: str,
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
    """
    from histo_mlflow.jobs.talk import Talk
    from histo_mlflow.jobs.train import train as run_training
    from histo_mlflow.recipe import load

    result = run_training(
        load(dataset, given(overrides)),
        tracking_uri=tracking_uri,
        experiment=experiment,
        run_name=run_name,
        runs_dir=runs_dir,
        talk=Talk(quiet=quiet),
    )
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        click.echo(f"run {result.run_id}  {result.ending}  best epoch {result.best_epoch}")
        click.echo("test " + "  ".join(f"{k} {v:.4f}" for k, v in result.headline().items()))
        click.echo(f"model models:/{result.model_id}")
