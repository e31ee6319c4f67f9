"""Shards are the whole, one after the other, and cut no batch where they need not."""

from pathlib import Path

import pytest

from histo_mlflow.errors import DataError
from histo_mlflow.inference.shards import (
    WHOLE,
    Shard,
    chunk_spans,
    parse_shard,
    shard_path,
    shard_span,
)


@pytest.mark.parametrize("images", [0, 1, 5, 63, 64, 65, 1000, 10_015])
@pytest.mark.parametrize("of", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("batch", [1, 16, 64])
def test_shards_one_after_the_other_are_the_whole(images, of, batch):
    spans = [shard_span(images, Shard(index, of), batch) for index in range(1, of + 1)]

    assert [position for span in spans for position in span] == list(range(images))
    if images >= of * batch:
        assert all(span.start % batch == 0 and len(span) > 0 for span in spans)
        assert max(map(len, spans)) - min(map(len, spans)) <= 2 * batch


def test_few_images_are_shared_out_all_the_same():
    assert [len(shard_span(60, Shard(index, 4), 64)) for index in range(1, 5)] == [15] * 4


def test_chunks_are_whole_batches_but_for_the_last():
    assert chunk_spans(range(128, 300), 64) == [range(128, 192), range(192, 256), range(256, 300)]
    assert chunk_spans(range(5, 5), 64) == []


def test_a_shard_is_read_from_text():
    assert parse_shard(" 2/4 ") == Shard(2, 4)
    assert parse_shard(None) == WHOLE
    assert str(Shard(2, 4)) == "2/4"


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "2", "-1/4", "1/0", "a/b", "1/4/2", "1.5/4"])
def test_what_is_no_shard_is_told(text):
    with pytest.raises(DataError, match="Expected a shard such as 2/4"):
        parse_shard(text)


def test_files_of_shards_sort_in_their_order():
    out = Path("x/predictions.parquet")

    assert shard_path(out, Shard(2, 10)) == Path("x/predictions-00002-of-00010.parquet")
    assert shard_path(out, WHOLE) == out
