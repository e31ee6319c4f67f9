"""`histo-mlflow submit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import click

from histo_mlflow.cli.options import engine_options, finished_run_options, not_empty


@click.command()
@click.option(
    "--model",
    default=None,
    callback=not_empty,
    help="models:/NAME@champion, models:/NAME/3, models:/m-..., a run's id or folder, or a model "
    "folder.",
)
@click.option(
    "--data-dir",
    default=None,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the competition: test/ and sample_submission.csv.",
)
@click.option(
    "--out",
    default="submission.csv",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; an earlier one is replaced.",
)
@click.option(
    "--sample",
    default=None,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File whose ids are asked for, in its order. [sample_submission.csv in --data-dir]",
)
@click.option(
    "--positive",
    default=None,
    callback=not_empty,
    help="Class whose probability is asked for. [of two classes the one called 1, positive, "
    "tumour, malignant or cancer, else the second]",
)
@click.option(
    "--tta", is_flag=True, help="Average eight views of each image; eight times the work."
)
@engine_options
@click.option(
    "--check",
    "checked",
    default=None,
    type=click.Path(path_type=Path),
    help="Check this file instead, whoever made it, and name all that is wrong with it.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 for a WARN of the check as well.")
@click.option("--send", is_flag=True, help="Send the file to Kaggle once it has passed its check.")
@click.option(
    "--competition",
    "-c",
    default=None,
    callback=not_empty,
    help="Where to: the name in the address of its page.",
)
@click.option("--message", "-m", default=None, help="Written beside it. [the model and its digest]")
@click.option(
    "--log/--no-log",
    default=True,
    show_default=True,
    help="Note the submission at the run that the model is from.",
)
@finished_run_options("what became of it")
def submit(
    model: str | None,
    data_dir: Path | None,
    out: Path,
    sample: Path | None,
    positive: str | None,
    tta: bool,
    engine: Literal["torch", "onnx"],
    device: str,
    checked: Path | None,
    strict: bool,
    send: bool,
    competition: str | None,
    message: str | None,
    log: bool,
    tracking_uri: str | None,
    runs_dir: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write a Kaggle submission, or check one.

    The ids and their order are those of the sample submission, the values probabilities with all
    their digits. The file gets its name once it has passed its check, which prints a PASS, WARN or
    FAIL line a fault, all of them at once, and exits with 1 if one is FAIL.

    \b
      histo-mlflow submit --model models:/histo-pcam@champion --data-dir data/pcam
      histo-mlflow submit --check submission.csv --sample sample_submission.csv

    --send starts the official kaggle client (pip install 'histo-mlflow[download]'), which takes
    your credentials from where it finds them.
    """
    from histo_mlflow.data.findings import Level, render, worst
    from histo_mlflow.jobs.submit import Wanted, check, ordered
    from histo_mlflow.jobs.submit import submit as make
    from histo_mlflow.jobs.talk import Talk

    talk = Talk(quiet=quiet)
    order = ordered(send, competition, message)
    if checked is not None:
        done = check(checked, sample=sample, data_dir=data_dir, order=order, talk=talk)
    else:
        if model is None or data_dir is None:
            raise click.UsageError("give --model and --data-dir, or --check FILE")
        done = make(
            model,
            data_dir,
            out,
            Wanted(positive, tta, engine, device, log),
            sample=sample,
            order=order,
            tracking_uri=tracking_uri,
            runs_dir=runs_dir,
            talk=talk,
        )
    click.echo(json.dumps(done.to_dict(), indent=2) if as_json else render(done.findings))
    level = worst(done.findings)
    if level is Level.FAIL or (strict and level is Level.WARN):
        sys.exit(1)
