"""`histo-mlflow review`."""

from __future__ import annotations

from pathlib import Path

import click

from histo_mlflow.cli.options import finished_run_options

SHOWN = 10


@click.command()
@click.argument("run")
@click.option(
    "--out",
    default=None,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the queue; an earlier queue in it is replaced. [review/RUN]",
)
@finished_run_options("the queue")
def review(
    run: str,
    out: Path | None,
    tracking_uri: str | None,
    runs_dir: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """List the labels that are most likely wrong, for somebody to look at.

    RUN is the id of a cross-validation, which has predicted every image by a model that did not see
    it, or of a training, which has done so for validation and test; or a folder or a predictions
    table (.parquet). The queue is written as CSV and, where the images are here, drawn as a grid.
    """
    from histo_mlflow.jobs.review import review as find
    from histo_mlflow.jobs.talk import Talk

    found = find(run, out=out, tracking_uri=tracking_uri, runs_dir=runs_dir, talk=Talk(quiet=quiet))
    if as_json:
        click.echo(found.queue.to_json(orient="records", indent=2))
        return
    for note in found.notes:
        click.echo(f"NOTE {note}")
    first = found.queue.head(SHOWN)[["rank", "id", "label", "suggested", "p_label", "p_suggested"]]
    click.echo(first.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
