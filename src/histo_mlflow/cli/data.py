"""`histo-mlflow data`: look at a data set before anything is trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from histo_mlflow.cli.options import RecipeCommand, given, recipe_options


@click.group()
def data() -> None:
    """Check data sets, find leaks in them, and list the layouts that are understood."""


@data.command("check", cls=RecipeCommand)
@click.option(
    "--dataset", default="demo", show_default=True, help="Recipe: a shipped name, or a .yaml file."
)
@click.option("--quiet", is_flag=True, help="No progress bar on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on stdout.")
@recipe_options(sections={"data"})
def check(dataset: str, quiet: bool, as_json: bool, **overrides: str | None) -> None:
    """Read every image once and list what is wrong, all at once.

    Prints a PASS, WARN or FAIL line a check, with the first offenders. Exit code 1 if one of them
    is FAIL. What did not change since the last time is not read again.
    """
    from histo_mlflow.data.checks import Level, render, to_json, worst
    from histo_mlflow.jobs.inspect import inspect
    from histo_mlflow.jobs.talk import Talk
    from histo_mlflow.recipe import load

    findings = inspect(load(dataset, given(overrides)), talk=Talk(quiet=quiet)).findings
    click.echo(json.dumps(to_json(findings), indent=2) if as_json else render(findings))
    if worst(findings) is Level.FAIL:
        sys.exit(1)


@data.command("leaks", cls=RecipeCommand)
@click.option(
    "--dataset", default="demo", show_default=True, help="Recipe: a shipped name, or a .yaml file."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder for leaks.json, leaks.csv and leak_pairs.png.",
)
@click.option("--quiet", is_flag=True, help="No talk and no progress bar on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@recipe_options(sections={"data", "split", "pixels"})
def leaks(
    dataset: str, out: Path | None, quiet: bool, as_json: bool, **overrides: str | None
) -> None:
    """Find images that show the same, and say what each way to split would leak.

    Equal pixels and near-duplicates (recompressed, recoloured, turned, slightly cropped) are joined
    with the declared groups, as every training run does before it splits. With --out the pairs are
    written as a table and a picture, for you to look at.
    """
    from histo_mlflow.jobs.leaks import render, report, write_folder
    from histo_mlflow.jobs.talk import Talk
    from histo_mlflow.recipe import load

    told = report(load(dataset, given(overrides)), talk=Talk(quiet=quiet))
    click.echo(json.dumps(told.to_json(), indent=2) if as_json else render(told))
    if out is not None:
        write_folder(told, out)


@data.command("sources")
def sources() -> None:
    """Describe each data source: the files it expects, and how to get them."""
    from histo_mlflow.data.sources import SOURCES

    for source in SOURCES.values():
        click.echo(f"{source.name}: {source.summary}\n\n{source.layout}\n\n{source.how_to_get}\n")
