"""What was done is taken again only if it is whole, of this prediction, and of these images."""

import os
from dataclasses import replace

import numpy as np
import pytest

from histo_mlflow.errors import ResumeError
from histo_mlflow.inference.chunks import Chunk, only_one, open_work, work_folder
from histo_mlflow.inference.inputs import Item

ITEMS = tuple(Item(name, name, None, 10, 1) for name in "abcd")
VALUES = np.random.default_rng(0).random((4, 3))
WANTED = {"model": "d" * 64, "input": {"images": 4}, "settings": {"batch_size": 2, "tta": False}}


@pytest.fixture
def folder(tmp_path):
    path = work_folder(tmp_path / "p.parquet")
    path.mkdir()
    return path


def begun(folder, **options):
    return open_work(folder, WANTED, {"torch": "1"}, restart=options.pop("restart", False))


def test_a_chunk_comes_back_bit_by_bit(folder):
    begun(folder).write(0, ITEMS, Chunk(VALUES, ((2, "truncated"),)))

    found = begun(folder).read(0, ITEMS, 3)

    assert found.probabilities.tobytes() == VALUES.tobytes()
    assert found.bad == ((2, "truncated"),)
    assert found.good.tolist() == [True, True, False, True]
    assert begun(folder).read(1, ITEMS, 3) is None


@pytest.mark.parametrize("at", [0, 20, 64, 70, 200, -1])
def test_a_changed_byte_makes_it_be_done_again(folder, at):
    begun(folder).write(0, ITEMS, Chunk(VALUES))
    (path,) = folder.glob("chunk-*")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)

    assert begun(folder).read(0, ITEMS, 3) is None


@pytest.mark.parametrize("length", [0, 10, 65, 300])
def test_so_does_a_cut(folder, length):
    begun(folder).write(0, ITEMS, Chunk(VALUES))
    (path,) = folder.glob("chunk-*")
    path.write_bytes(path.read_bytes()[:length])

    assert begun(folder).read(0, ITEMS, 3) is None


def test_a_chunk_in_the_place_of_another_is_not_taken(folder):
    begun(folder).write(0, ITEMS, Chunk(VALUES))
    (path,) = folder.glob("chunk-*")
    path.rename(folder / "chunk-00001.bin")

    assert begun(folder).read(1, ITEMS, 3) is None


def test_a_good_image_that_has_changed_is_refused(folder):
    begun(folder).write(0, ITEMS, Chunk(VALUES, ((2, "truncated"),)))
    changed = (ITEMS[0], replace(ITEMS[1], stamp=2), *ITEMS[2:])

    with pytest.raises(ResumeError, match="between 'a' and 'd' have changed"):
        begun(folder).read(0, changed, 3)


def test_a_bad_image_that_has_been_mended_is_tried_again(folder):
    begun(folder).write(0, ITEMS, Chunk(VALUES, ((2, "truncated"),)))
    mended = (*ITEMS[:2], replace(ITEMS[2], size=12, stamp=2), ITEMS[3])

    assert begun(folder).read(0, mended, 3) is None


def test_images_that_could_not_be_reached_are_tried_again(folder):
    begun(folder).write(0, ITEMS, Chunk(VALUES, ((2, "cannot be read"),), again=True))

    assert begun(folder).read(0, ITEMS, 3) is None
    assert begun(folder).read(0, ITEMS, 3, final=True) is not None


def test_other_settings_are_refused_and_named(folder):
    begun(folder).write(0, ITEMS, Chunk(VALUES))
    other = {**WANTED, "model": "e" * 64, "settings": {"batch_size": 2, "tta": True}}

    with pytest.raises(ResumeError) as caught:
        open_work(folder, other, {}, restart=False)

    said = str(caught.value)
    assert "model dddddddddddd... then, eeeeeeeeeeee... now; tta False then, True now" in said
    assert "--restart" in said
    assert begun(folder).read(0, ITEMS, 3) is not None


def test_a_restart_throws_all_away(folder):
    begun(folder).write(0, ITEMS, Chunk(VALUES))
    (folder / "final").mkdir()

    assert begun(folder, restart=True).read(0, ITEMS, 3) is None
    assert not (folder / "final").exists()


def test_what_may_differ_is_kept_from_the_beginning(folder):
    begun(folder)

    assert open_work(folder, WANTED, {"torch": "2"}, restart=False).noted == {"torch": "1"}


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99, "wanted": {}, "noted": {}}', "\xff"])
def test_a_damaged_manifest_is_told(folder, text):
    (folder / "manifest.json").write_text(text, encoding="latin-1")

    with pytest.raises(ResumeError, match="--restart to begin anew"):
        begun(folder)


@pytest.mark.skipif(os.name == "nt", reason="no flock there")
def test_two_at_once_are_refused(tmp_path):
    out = tmp_path / "p.parquet"
    folder = work_folder(out)
    with only_one(folder, out):
        with (
            pytest.raises(ResumeError, match="another process is predicting"),
            only_one(folder, out),
        ):
            pass
        begun(folder)
    with only_one(folder, out):
        assert (folder / "manifest.json").is_file()


def test_where_nothing_was_begun_nothing_is_left(tmp_path):
    out = tmp_path / "p.parquet"
    with only_one(work_folder(out), out):
        pass

    assert list(tmp_path.iterdir()) == []
