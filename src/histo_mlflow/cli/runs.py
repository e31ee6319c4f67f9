"""`histo-mlflow runs`: what lies in the folders of runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def runs() -> None:
    """Look after runs that were begun."""


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
