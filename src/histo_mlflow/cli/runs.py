"""`histo-mlflow runs`: what lies in the folders of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from histo_mlflow.cli.options import finished_run_options


@click.group()
def runs() -> None:
    """Look after runs that were begun, and compare those that are done."""


@runs.command("sync")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--tracking-uri", default=None, help="MLflow store. [where the run was begun]")
@click.option("--quiet", is_flag=True, help="No talk on stderr.")
def sync(run_dir: Path, tracking_uri: str | None, quiet: bool) -> None:
    """Tell the store whatever it lacks of the run in RUN_DIR, such as after an outage.

    Metric points that the store has already are not sent again. A training that is finished is
    given its artifacts, its model and its ending; one that is not can be gone on with afterwards.
    """
    from histo_mlflow.jobs.deliver import sync as deliver_run
    from histo_mlflow.jobs.talk import Talk

    done = deliver_run(run_dir, tracking_uri=tracking_uri, talk=Talk(quiet=quiet))
    click.echo(f"run {done.run_id}  {done.ending or 'not ended'}  {done.metric_points} points sent")
    if done.model_id:
        click.echo(f"model models:/{done.model_id}")


@runs.command("compare")
@click.argument("references", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["test", "val"]),
    help="Whose images are compared.",
)
@click.option("--by-class", is_flag=True, help="Show the metrics of each class as well.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder for comparison.png, comparison.csv and comparison.json.",
)
@click.option(
    "--replicates",
    default=2000,
    show_default=True,
    type=click.IntRange(min=100),
    help="Draws of the bootstrap.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of them.")
@finished_run_options("the comparison")
def compare(
    references: tuple[str, ...],
    split: Literal["test", "val"],
    by_class: bool,
    out: Path | None,
    tracking_uri: str | None,
    runs_dir: str,
    replicates: int,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare runs with the first one: how they were made, and how they do on the same images.

    A RUN is the id of a run, a run's folder, or a table of predictions (.parquet). Each metric's
    difference comes with an interval that resamples whole groups (lesions, slides, patients), the
    same ones for all runs. Only images that all runs have in the split count; how many are left
    out, and whether the runs saw the same data, is said first.
    """
    from histo_mlflow.jobs.compare import compare_runs
    from histo_mlflow.jobs.compare_text import render
    from histo_mlflow.jobs.talk import Talk

    found = compare_runs(
        references,
        split=split,
        tracking_uri=tracking_uri,
        runs_dir=runs_dir,
        replicates=replicates,
        seed=seed,
        talk=Talk(quiet=quiet),
    )
    click.echo(
        json.dumps(found.to_dict(), indent=2) if as_json else render(found, by_class=by_class)
    )
    if out is not None:
        found.write(out)


@runs.command("ensemble")
@click.argument("references", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("ensemble.parquet"),
    show_default=True,
    help="The ensemble's predictions table; it must not be there yet.",
)
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["test", "val"]),
    help="Whose images are compared.",
)
@finished_run_options("the comparison")
def ensemble(
    references: tuple[str, ...],
    out: Path,
    split: Literal["test", "val"],
    tracking_uri: str | None,
    runs_dir: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Average the logits of runs, and say what the mean gains over the first of them.

    The runs have the same images in the same splits. The mean is a predictions table like any
    other: `evaluate`, `runs compare` and `review` take it.
    """
    from histo_mlflow.jobs.compare_text import render
    from histo_mlflow.jobs.ensemble import ensemble_runs
    from histo_mlflow.jobs.talk import Talk

    found = ensemble_runs(
        references,
        out,
        split=split,
        tracking_uri=tracking_uri,
        runs_dir=runs_dir,
        talk=Talk(quiet=quiet),
    )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else render(found))
