"""`histo-mlflow doctor`: what would go wrong, before anything is trained."""

from __future__ import annotations

import json
import sys
from typing import Literal, cast

import click

from histo_mlflow.cli.options import RecipeCommand, given, recipe_options


@click.command(cls=RecipeCommand)
@click.option(
    "--dataset", default="demo", show_default=True, help="Recipe: a shipped name, or a .yaml file."
)
@click.option(
    "--doctor",
    "level",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="full: also learn one batch by heart.",
)
@click.option(
    "--tracking-uri",
    default=None,
    help="MLflow store. [MLFLOW_TRACKING_URI, or sqlite:///mlflow.db]",
)
@click.option(
    "--runs-dir", default="runs", show_default=True, help="Folder for the local files of runs."
)
@click.option("--quiet", is_flag=True, help="No talk and no progress bars on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on stdout.")
@recipe_options()
def doctor(
    dataset: str,
    level: str,
    tracking_uri: str | None,
    runs_dir: str,
    quiet: bool,
    as_json: bool,
    **overrides: str | None,
) -> None:
    """Examine machine, store, data and training of a recipe; make no run.

    Prints a PASS, WARN or FAIL line a check. Two tiny epochs are trained on a copy of the model
    and watched: optimiser groups, frozen phase, augmentation, order, modes, the metric that
    chooses. Exit code 1 if a check is FAIL.
    """
    from histo_mlflow.data.findings import Level, render, to_json, worst
    from histo_mlflow.jobs.doctor import diagnose
    from histo_mlflow.jobs.talk import Talk
    from histo_mlflow.recipe import load

    findings = diagnose(
        load(dataset, given(overrides)),
        tracking_uri=tracking_uri,
        runs_dir=runs_dir,
        level=cast(Literal["quick", "full"], level),
        talk=Talk(quiet=quiet),
    )
    click.echo(json.dumps(to_json(findings), indent=2) if as_json else render(findings))
    if worst(findings) is Level.FAIL:
        sys.exit(1)
