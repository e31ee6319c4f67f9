"""Which of the three jobs `predict` is about, and what it prints: one image, many, or a merge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow.errors import DataError
from histo_mlflow.inference.engine import Kind
from histo_mlflow.inference.inputs import is_one_image
from histo_mlflow.inference.shards import parse_shard
from histo_mlflow.jobs._predict_models import told_model
from histo_mlflow.jobs.predict import Predicted, Wanted, predict
from histo_mlflow.jobs.predict_merge import Merged, merge_shards
from histo_mlflow.jobs.predict_one import predict_one, render, shows_blocks
from histo_mlflow.jobs.talk import Talk

DEFAULT_OUT = Path("predictions.parquet")


@dataclass(frozen=True)
class PredictOptions:
    """What was asked for; see `predict.Wanted`.

    Attributes:
        inputs: of `inputs.list_inputs`.
        models: of `find_model`.
        out: the file; None is `DEFAULT_OUT`, or nowhere for one image.
        shard: such as "2/4".
        merge: join shards instead.
    """

    inputs: tuple[str, ...]
    models: tuple[str, ...]
    out: Path | None
    skip_bad: bool
    abstain_below: float | None
    tta: bool
    engine: Kind
    device: str
    threads: int
    batch_size: int
    chunk_images: int
    shard: str | None
    merge: bool
    restart: bool
    tracking_uri: str | None
    runs_dir: str


def run_predict(
    options: PredictOptions, encoding: str | None, *, talk: Talk
) -> tuple[dict[str, Any], str]:
    """Do what the options say.

    Args:
        options: of the command.
        encoding: of the stream that the text will go to.
        talk: to the user.

    Returns:
        The result as JSON values, and as text.

    Raises:
        HistoMlflowError: see the jobs.
    """
    if options.merge:
        if options.inputs or options.shard:
            raise DataError(
                "Expected only --out beside --merge, which joins shards that are predicted "
                "already; leave INPUT and --shard out"
            )
        merged = merge_shards(options.out or DEFAULT_OUT, restart=options.restart, talk=talk)
        return vars(merged), _told_merged(merged)
    shard = parse_shard(options.shard)
    if options.out is None and options.shard is None and is_one_image(options.inputs):
        one = predict_one(
            options.inputs[0],
            models=options.models,
            engine=options.engine,
            device=options.device,
            tta=options.tta,
            abstain_below=options.abstain_below,
            tracking_uri=options.tracking_uri,
            runs_dir=options.runs_dir,
            talk=talk,
        )
        return one.to_dict(), render(one, blocks=shows_blocks(encoding))
    wanted = Wanted(
        engine=options.engine,
        device=options.device,
        threads=options.threads,
        tta=options.tta,
        batch_size=options.batch_size,
        chunk_images=options.chunk_images,
        abstain_below=options.abstain_below,
        skip_bad=options.skip_bad,
        shard=shard,
        restart=options.restart,
    )
    done = predict(
        options.inputs,
        options.out or DEFAULT_OUT,
        wanted,
        models=options.models,
        tracking_uri=options.tracking_uri,
        runs_dir=options.runs_dir,
        talk=talk,
    )
    return done.to_dict(), _told(done)


def _told(done: Predicted) -> str:
    counts = "  ".join(f"{name} {n:,}" for name, n in list(done.classes.items())[:12])
    lines = [f"{done.out}  {done.images:,} images", counts]
    if done.abstain_below:
        lines.append(f"abstains on {done.abstained:,} (below {done.abstain_below:.2f})")
    if done.bad:
        lines.append(f"left out {done.bad:,} bad images, see {done.bad_list}")
    if done.images_per_second is not None:
        lines.append(f"{done.seconds:,.1f} s  {done.images_per_second:,.1f} images/s")
    return "\n".join([*lines, told_model(done.model_version, done.model_digest)])


def _told_merged(merged: Merged) -> str:
    bad = f", {merged.bad:,} bad ones left out" if merged.bad else ""
    return f"{merged.out}  {merged.images:,} images of {merged.shards} shards{bad}"
