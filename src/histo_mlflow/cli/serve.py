"""`histo-mlflow serve`: a model behind HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import click

from histo_mlflow.cli.options import engine_options, model_options, not_empty


@click.command()
@click.option(
    "--model",
    "reference",
    required=True,
    callback=not_empty,
    metavar="MODEL",
    help="models:/NAME@champion, models:/NAME/3, models:/m-..., the id or folder of a run, or a "
    "model folder.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=not_empty,
    help="Address to listen on. Any but this machine's own needs a token.",
)
@click.option(
    "--port",
    default=5002,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0 takes any free one and prints it.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A further name by which the server may be called; may be given several times.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File with the token that requests must send as 'Authorization: Bearer TOKEN'. "
    "[HISTO_MLFLOW_TOKEN]",
)
@click.option(
    "--max-body-mb",
    default=32.0,
    show_default=True,
    type=click.FloatRange(min=0.001, max=4096),
    help="MiB of one body, as sent and as inflated.",
)
@click.option(
    "--max-images",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Images of one request.",
)
@click.option(
    "--max-pixels",
    default=25_000_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Pixels of one image; read from its header before anything is decoded.",
)
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0.1, max=86_400),
    help="Seconds from a whole request to its answer, the wait in the queue included.",
)
@click.option(
    "--queue",
    default=16,
    show_default=True,
    type=click.IntRange(min=0),
    help="Requests that may wait; one more is told to come again (503).",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Threads that compute; each request is computed by one.",
)
@engine_options
@click.option(
    "--threads",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="CPU threads of the model; 0 for all cores.",
)
@model_options("address and model")
def serve(
    reference: str,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    token_file: Path | None,
    max_body_mb: float,
    max_images: int,
    max_pixels: int,
    timeout: float,
    queue: int,
    workers: int,
    device: str,
    engine: str,
    threads: int,
    tracking_uri: str | None,
    runs_dir: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Serve a model over HTTP: MLflow's /invocations with limits, and a page for one image.

    Takes what `mlflow models serve` takes, and single images as they are. The model folder is
    checked byte by byte, and no code that came along with the model is run. The address is printed
    on stdout when requests are taken. SIGTERM, SIGHUP or Ctrl-C finishes what has begun.
    """
    from histo_mlflow.inference.serving.limits import MIB, Limits
    from histo_mlflow.jobs.serve import Address, serve_model
    from histo_mlflow.jobs.talk import Talk

    def started(facts: dict[str, Any]) -> None:
        click.echo(json.dumps(facts) if as_json else facts["url"])

    serve_model(
        reference,
        Address(host, port, allowed_hosts, token_file),
        Limits(
            body_bytes=int(max_body_mb * MIB),
            images=max_images,
            pixels=max_pixels,
            seconds=timeout,
            queue=queue,
            workers=workers,
        ),
        device=device,
        threads=threads,
        engine=cast(Literal["torch", "onnx"], engine),
        tracking_uri=tracking_uri,
        runs_dir=runs_dir,
        talk=Talk(quiet=quiet),
        started=started,
    )
