"""`histo-mlflow recipe`: what is shipped, and what a recipe comes to."""

from __future__ import annotations

import click

from histo_mlflow.cli.options import RecipeCommand, given, recipe_options
from histo_mlflow.recipe import load, shipped


@click.group()
def recipe() -> None:
    """Look at recipes."""


@recipe.command("list")
def list_recipes() -> None:
    """Name every shipped recipe with its summary."""
    for name in shipped():
        click.echo(f"{name:26}{load(name).summary}")


@recipe.command("show", cls=RecipeCommand)
@click.argument("dataset")
@recipe_options()
def show(dataset: str, **overrides: str | None) -> None:
    """Print the recipe DATASET whole as YAML, with the options laid over it.

    What is printed can be saved, changed and given back: `histo-mlflow train --dataset FILE.yaml`.
    """
    click.echo(load(dataset, given(overrides)).to_yaml(), nl=False)
