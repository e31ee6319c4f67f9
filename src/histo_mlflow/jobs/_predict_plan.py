"""All of a prediction that is settled before its first image is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import histo_mlflow
from histo_mlflow.device import available_cores, plan_device
from histo_mlflow.inference.chunks import work_folder
from histo_mlflow.inference.engine import Kind
from histo_mlflow.inference.inputs import Item, Listing, items_digest, names_digest
from histo_mlflow.inference.shards import WHOLE, Shard, chunk_spans, shard_span
from histo_mlflow.jobs._predict_models import Members, chosen_models, load_members
from histo_mlflow.jobs.talk import Talk


@dataclass(frozen=True)
class Wanted:
    """How to predict.

    Attributes:
        engine: what computes.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: batches worked on at the same time; 0 is one a core. No number depends on it.
        tta: mean over eight views of an image.
        batch_size: images a batch.
        chunk_images: images between two savings, in whole batches.
        abstain_below: abstain where the greatest probability is lower; None takes the model's own.
        skip_bad: leave bad images out and list them, instead of failing.
        shard: which part.
        restart: throw away what an earlier attempt left, also a whole output.
    """

    engine: Kind = "torch"
    device: str = "cpu"
    threads: int = 0
    tta: bool = False
    batch_size: int = 64
    chunk_images: int = 1024
    abstain_below: float | None = None
    skip_bad: bool = False
    shard: Shard = WHOLE
    restart: bool = False


@dataclass(frozen=True)
class Plan:
    """What is done where.

    Attributes:
        out: the file, of this shard.
        listing: the whole input.
        members: the models.
        wanted: what was asked for.
        span: positions of the shard.
        chunks: the same in pieces, each predicted and saved by itself.
        device: that computes.
        threads: batches at the same time.
    """

    out: Path
    listing: Listing = field(repr=False)
    members: Members = field(repr=False)
    wanted: Wanted
    span: range
    chunks: tuple[range, ...]
    device: str
    threads: int

    def items(self, index: int) -> tuple[Item, ...]:
        """The images of a chunk."""
        span = self.chunks[index]
        return self.listing.items[span.start : span.stop]

    @property
    def folder(self) -> Path:
        """Where it is kept until it is whole."""
        return work_folder(self.out)

    def numbers(self) -> dict[str, Any]:
        """Everything that the numbers depend on, but for the images' own bytes.

        Not whether and where the model abstains: that is applied at the end.
        """
        items, wanted = self.listing.items, self.wanted
        return {
            "model": self.members.digest,
            "input": {"images": len(items), "ids": items_digest(items, range(len(items)))},
            "settings": {
                "engine": wanted.engine,
                "tta": wanted.tta,
                "batch_size": wanted.batch_size,
                "chunk_images": _chunk(wanted),
                "shard": str(wanted.shard),
                "device": self.device,
            },
        }

    def facts(self) -> dict[str, Any]:
        """What the output says it was made from; equal in all shards but for the last two."""
        items, wanted = self.listing.items, self.wanted
        return {
            "model": self.members.digest,
            "model_version": self.members.version,
            "classes": list(self.members.classes),
            "input": {"images": len(items), "names": names_digest(items)},
            "input_digest": items_digest(items),
            "settings": {
                "engine": wanted.engine,
                "tta": wanted.tta,
                "batch_size": wanted.batch_size,
                "abstain_below": self.members.abstain_below,
            },
            "machine": {"device": self.device, **software()},
            "shard": [wanted.shard.index, wanted.shard.of],
            "positions": [self.span.start, self.span.stop],
        }


def software() -> dict[str, str]:
    """The versions that a result's last bits may depend on."""
    return {"histo-mlflow": histo_mlflow.__version__, "torch": version("torch")}


def planned(
    listing: Listing,
    out: Path,
    wanted: Wanted,
    models: Sequence[str],
    tracking_uri: str | None,
    runs_dir: str,
    talk: Talk,
) -> Plan:
    """Settle machine, models and chunks; see `predict`."""
    machine = plan_device(wanted.device, "fp32", "contiguous")
    members = load_members(
        chosen_models(models, tracking_uri, talk),
        engine=wanted.engine,
        device=machine.device,
        tta=wanted.tta,
        abstain_below=wanted.abstain_below,
        tracking_uri=tracking_uri,
        runs_dir=runs_dir,
        talk=talk,
    )
    threads = wanted.threads or available_cores()
    images = len(listing.items)
    span = shard_span(images, wanted.shard, wanted.batch_size)
    part = f", {len(span):,} of them in shard {wanted.shard}" if wanted.shard.of > 1 else ""
    talk.say("predict", f"{images:,} images ({listing.kind}){part}; model {members.version}")
    chunks = tuple(chunk_spans(span, _chunk(wanted)))
    return Plan(out, listing, members, wanted, span, chunks, machine.device, threads)


def _chunk(wanted: Wanted) -> int:
    """Images a chunk: whole batches, at least one."""
    return max(1, wanted.chunk_images // wanted.batch_size) * wanted.batch_size
