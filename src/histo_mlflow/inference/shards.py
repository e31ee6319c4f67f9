"""Which part of the images one process predicts, and where it stops on the way.

Everything follows from positions in the whole listing, so that a shard which is run again, or a run
that is gone on with, puts the same images into the same batches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from histo_mlflow.errors import DataError


@dataclass(frozen=True)
class Shard:
    """Part `index` of `of`; counted from 1."""

    index: int
    of: int

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


WHOLE = Shard(1, 1)


def parse_shard(text: str | None) -> Shard:
    """The shard of "2/4"; None is all of it.

    Raises:
        DataError: not two numbers i/n with 1 <= i <= n <= 99999.
    """
    if text is None:
        return WHOLE
    found = re.fullmatch(r"\s*(\d{1,5})\s*/\s*(\d{1,5})\s*", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise DataError(f"Expected a shard such as 2/4 (1/4 to 4/4), got {text!r}")
    return Shard(int(found[1]), int(found[2]))


def shard_path(out: Path, shard: Shard) -> Path:
    """`predictions-00002-of-00004.parquet` of `predictions.parquet`; the name itself for 1/1."""
    if shard.of == 1:
        return out
    return out.with_name(f"{out.stem}-{shard.index:05d}-of-{shard.of:05d}{out.suffix}")


def shard_span(images: int, shard: Shard, batch: int) -> range:
    """The positions of a shard: contiguous, so that the shards one after the other are the whole.

    Where there are at least as many batches as shards, no batch is cut, and an image has the very
    bits that it has without shards.

    Args:
        images: of the whole listing.
        shard: which.
        batch: images a batch.
    """
    unit = batch if images >= shard.of * batch else 1
    units = -(-images // unit)
    first = (shard.index - 1) * units // shard.of * unit
    last = shard.index * units // shard.of * unit
    return range(min(first, images), min(last, images))


def chunk_spans(span: range, chunk: int) -> list[range]:
    """Cut a shard into chunks, the last of which may be shorter."""
    return [range(at, min(at + chunk, span.stop)) for at in range(span.start, span.stop, chunk)]
