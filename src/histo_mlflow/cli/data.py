"""`histo-mlflow data`: look at a data set before anything is trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from histo_mlflow.cli.options import RecipeCommand, given, not_empty, recipe_options


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


@data.command("explore", cls=RecipeCommand)
@click.option(
    "--dataset", default="demo", show_default=True, help="Recipe: a shipped name, or a .yaml file."
)
@click.option(
    "--out",
    default=None,
    callback=not_empty,
    help="Folder for the page; an earlier page in it is replaced. [explore/RECIPE]",
)
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Images whose features are laid out by t-SNE, at most; 0 for none.",
)
@click.option("--experiment", default=None, help="MLflow experiment. [the recipe's name]")
@click.option(
    "--tracking-uri",
    default=None,
    help="MLflow store. [MLFLOW_TRACKING_URI, or sqlite:///mlflow.db]",
)
@click.option("--no-track", is_flag=True, help="Write the page alone, no MLflow run.")
@click.option("--quiet", is_flag=True, help="No talk and no progress bars on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print what is on the page as JSON.")
@recipe_options(sections={"data", "split", "pixels", "augment", "model", "machine"})
def explore(
    dataset: str,
    out: str | None,
    sample: int,
    experiment: str | None,
    tracking_uri: str | None,
    no_track: bool,
    quiet: bool,
    as_json: bool,
    **overrides: str | None,
) -> None:
    """See a data set on one page before anything is trained on it.

    Class balance, samples, what augmentation does to them, intensities, sizes, groups, metadata,
    look-alikes, the split, and a t-SNE of the features that the recipe's model has to begin with.
    The page is one HTML file that needs no network, and an MLflow run of its own.
    """
    from histo_mlflow.jobs.signals import ending_at_once

    with ending_at_once():
        from histo_mlflow.jobs.explore import explore as look
        from histo_mlflow.jobs.talk import Talk
        from histo_mlflow.recipe import load

    found = look(
        load(dataset, given(overrides)),
        out=None if out is None else Path(out),
        sample=sample,
        track=not no_track,
        tracking_uri=tracking_uri,
        experiment=experiment,
        talk=Talk(quiet=quiet),
    )
    if as_json:
        click.echo(json.dumps({"run_id": found.run_id, **found.facts}, indent=2))
    else:
        click.echo(f"page {found.page}")
        if found.run_id is not None:
            click.echo(f"run {found.run_id}")


@data.command("sources")
def sources() -> None:
    """Describe each data source: the files it expects, and how to get them."""
    from histo_mlflow.data.sources import SOURCES

    for source in SOURCES.values():
        click.echo(f"{source.name}: {source.summary}\n\n{source.layout}\n\n{source.how_to_get}\n")
