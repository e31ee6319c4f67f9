"""`histo-mlflow predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import click

from histo_mlflow.cli.options import engine_options, model_options, not_empty


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "--input",
    "more_inputs",
    multiple=True,
    callback=lambda context, parameter, values: tuple(
        str(not_empty(context, parameter, value)) for value in values
    ),
    help="An INPUT as an option, as `mlflow run -P input=...` gives it.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    callback=lambda context, parameter, values: tuple(
        str(not_empty(context, parameter, value)) for value in values
    ),
    help="models:/NAME@champion, models:/NAME/3, models:/m-..., the id or folder of a run, or a "
    "model folder; given several times, they answer together by their mean logits. "
    "[HISTO_MLFLOW_MODEL, or the only champion of the store]",
)
@click.option(
    "--out",
    default=None,
    type=click.Path(path_type=Path),
    help="The answers, .parquet or .csv. [predictions.parquet; a single image is only shown]",
)
@click.option(
    "--on-error",
    default="fail",
    show_default=True,
    type=click.Choice(["fail", "skip"]),
    help="Bad images: fail once all were tried, or leave them out. Both list them in OUT.bad.csv.",
)
@click.option(
    "--abstain-below",
    default=None,
    type=click.FloatRange(0, 1),
    help="Abstain where the greatest probability is lower. [the model's own threshold]",
)
@click.option("--tta", is_flag=True, help="Mean over eight views of each image; 8 times the work.")
@engine_options
@click.option(
    "--threads",
    default=0,
    type=click.IntRange(min=0),
    help="Batches worked on at the same time. [one a core]",
)
@click.option(
    "--batch-size",
    default=64,
    show_default=True,
    type=click.IntRange(1, 4096),
    help="Images a batch.",
)
@click.option(
    "--chunk-images",
    default=1024,
    show_default=True,
    type=click.IntRange(min=1),
    help="Images between two savings, in whole batches: what a kill can cost.",
)
@click.option(
    "--shard",
    default=None,
    metavar="I/N",
    callback=not_empty,
    help="Predict only part I of N, into a file of its own (OUT-0000I-of-0000N).",
)
@click.option("--merge", is_flag=True, help="Join the shards that lie beside OUT; needs no INPUT.")
@click.option(
    "--restart", is_flag=True, help="Begin anew, and replace the output; else it is gone on with."
)
@click.option("--started-by", default=None, hidden=True, help="Process that this one ends with.")
@model_options("the result")
def predict(
    inputs: tuple[str, ...],
    more_inputs: tuple[str, ...],
    models: tuple[str, ...],
    out: Path | None,
    on_error: str,
    abstain_below: float | None,
    tta: bool,
    engine: Literal["torch", "onnx"],
    device: str,
    threads: int,
    batch_size: int,
    chunk_images: int,
    shard: str | None,
    merge: bool,
    restart: bool,
    tracking_uri: str | None,
    runs_dir: str,
    started_by: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Predict classes and probabilities of images.

    An INPUT is a folder (with all folders in it), a .csv or .parquet table with the column `path`
    and perhaps `id`, a Kaggle set (sample_submission.csv and test/), a .zip, or an image: JPEG, PNG
    or TIFF. A single image is shown with bars; "very likely" is a probability of 0.90 or more,
    "likely" one of 0.66 or more, "unsure" any lower one.

    The answers have id, class, p_CLASS for each class, abstain, model_version and model_digest.
    Whatever ended it, the same command goes on, and the file is the same byte for byte.
    """
    from histo_mlflow.jobs.parent import ending_with_parent
    from histo_mlflow.jobs.signals import ending_at_once

    with ending_with_parent(started_by=started_by):  # before the imports, which take seconds
        with ending_at_once():
            from histo_mlflow.jobs.predict_command import PredictOptions, run_predict
            from histo_mlflow.jobs.talk import Talk
        options = PredictOptions(
            inputs=inputs + more_inputs,
            models=models,
            out=out,
            skip_bad=on_error == "skip",
            abstain_below=abstain_below,
            tta=tta,
            engine=engine,
            device=device,
            threads=threads,
            batch_size=batch_size,
            chunk_images=chunk_images,
            shard=shard,
            merge=merge,
            restart=restart,
            tracking_uri=tracking_uri,
            runs_dir=runs_dir,
        )
        value, text = run_predict(options, sys.stdout.encoding, talk=Talk(quiet=quiet))
    click.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text)
