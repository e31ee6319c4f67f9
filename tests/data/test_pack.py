"""A pack is whole or not there, is shared, and notices what changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from histo_mlflow.data import _packing
from histo_mlflow.data import pack as module
from histo_mlflow.data.pack import Item, open_pack, pack_images, pack_key
from histo_mlflow.errors import DataError
from histo_mlflow.vision.decode import DecodeRule, decode
from layouts import build_pcam_hdf5, picture

RULE = DecodeRule(24)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    items = []
    for i in range(30):
        path = folder / f"{29 - i}.{('png', 'jpg', 'tif')[i % 3]}"
        picture(i, i % 3, (40, 30)).save(path)
        items.append(Item(f"image {i}", path))
    return items


def digests(items):
    return [f"digest of {item.id}" for item in items]


def pack(items, cache, rule=RULE, **options):
    return pack_images(items, digests(items), rule, cache, progress=False, **options)


def test_row_i_holds_the_pixels_of_item_i(images, tmp_path):
    made = pack(images, tmp_path)
    pixels = made.pixels()

    assert pixels.shape == (30, 24, 24, 3)
    assert pixels.dtype == np.uint8
    assert not pixels.flags.writeable
    for item, row in zip(images, pixels, strict=True):
        assert (row == decode(item.path.read_bytes(), RULE)).all()


def test_a_pack_opens_by_its_folder(images, tmp_path):
    made = pack(images, tmp_path)

    assert open_pack(made.path) == made
    assert made.ids == tuple(item.id for item in images)
    assert (made.n, made.image_px, made.path) == (30, 24, tmp_path / "packs" / made.key)


def test_processes_give_the_same_pixels(images, tmp_path, monkeypatch):
    monkeypatch.setattr(_packing, "_ALONE_BELOW", 1)
    monkeypatch.setattr(_packing, "_CHUNK", 8)
    many = pack(images, tmp_path / "many", workers=2)
    alone = pack(images, tmp_path / "alone", workers=1)

    assert (many.pixels() == alone.pixels()).all()


def test_a_pack_that_is_there_is_not_built_again(images, tmp_path, monkeypatch):
    first = pack(images, tmp_path)
    monkeypatch.setattr(_packing, "fill", None)
    start = time.process_time()

    assert pack(images, tmp_path) == first
    assert time.process_time() - start < 0.1


def test_another_rule_order_id_or_content_makes_another_pack():
    ids, contents = ["a", "b"], ["1", "2"]
    keys = {
        pack_key(ids, contents, RULE),
        pack_key(ids, contents, DecodeRule(25)),
        pack_key(ids, contents, DecodeRule(24, "squash")),
        pack_key(["b", "a"], ["2", "1"], RULE),
        pack_key(["a", "c"], contents, RULE),
        pack_key(ids, ["1", "3"], RULE),
        pack_key(["ab"], contents, RULE),
    }

    assert len(keys) == 7


@pytest.mark.parametrize("damage", ["no marker", "empty marker", "short pixels", "no ids", "key"])
def test_a_pack_that_is_not_whole_is_built_again(images, tmp_path, damage):
    whole = pack(images, tmp_path)
    before = np.array(whole.pixels())
    marker, pixels = whole.path / "pack.json", whole.path / "pixels.npy"
    if damage == "no marker":
        marker.unlink()
    elif damage == "empty marker":
        marker.write_text("")
    elif damage == "short pixels":
        pixels.write_bytes(pixels.read_bytes()[:-1])
    elif damage == "no ids":
        (whole.path / "ids.txt").unlink()
    else:
        marker.write_text(json.dumps(json.loads(marker.read_text()) | {"key": "0" * 64}))

    with pytest.raises(DataError, match="no whole pack"):
        open_pack(whole.path)
    again = pack(images, tmp_path)
    assert (again.pixels() == before).all()
    assert open_pack(again.path) == again
    assert [path.name for path in (tmp_path / "packs").iterdir()] == [again.key]


def test_two_builders_at_once_leave_one_whole_pack(images, tmp_path, monkeypatch):
    both = threading.Barrier(2)
    publish = module._publish

    def publish_together(*arguments):
        both.wait(20)
        publish(*arguments)

    monkeypatch.setattr(module, "_publish", publish_together)
    made = []
    builders = [
        threading.Thread(target=lambda: made.append(pack(images, tmp_path))) for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()

    assert made[0] == made[1] == open_pack(made[0].path)
    assert [path.name for path in (tmp_path / "packs").iterdir()] == [made[0].key]


def test_an_interrupted_builder_leaves_nothing_behind(images, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(_packing, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(images, tmp_path)

    assert not list((tmp_path / "packs").iterdir())


def test_what_a_killed_builder_left_is_removed_after_a_day(images, tmp_path):
    old, fresh = (tmp_path / "packs" / f".building-{name}" for name in ("old", "fresh"))
    for folder in (old, fresh):
        folder.mkdir(parents=True)
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    pack(images, tmp_path)

    assert not old.exists()
    assert fresh.exists()


def test_all_images_that_cannot_be_read_are_reported_at_once(images, tmp_path):
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.touch()
    text.write_text("not an image")
    broken = [
        Item(f"broken {i}", path) for i, path in enumerate([empty, text, tmp_path / "gone"] * 2)
    ]

    with pytest.raises(DataError) as caught:
        pack([*images, *broken], tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(
        "6 of 36 images cannot be read (broken 0: empty file; broken 1: not a"
    )
    assert "broken 2: cannot be read: No such file or directory" in message
    assert "broken 4" in message
    assert "broken 5" not in message
    assert "and 1 more" in message
    assert str(tmp_path) not in message
    assert not list((tmp_path / "cache" / "packs").iterdir())


def test_a_disk_that_is_too_full_is_said_before_the_work(images, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    with pytest.raises(DataError, match=r"need 51,840 bytes in .*packs, which has 1,000 free"):
        pack(images, tmp_path)


@pytest.mark.parametrize("case", ["none", "twice", "digests"])
def test_items_that_do_not_fit_together_are_refused(images, tmp_path, case):
    items = {"none": [], "twice": [images[0], images[0]], "digests": images[:2]}[case]
    contents = digests(items)[:1] if case == "digests" else digests(items)

    with pytest.raises(DataError, match="at least one image, unique ids and one digest"):
        pack_images(items, contents, RULE, tmp_path, progress=False)


def test_rows_of_hdf5_files_are_packed(tmp_path):
    h5py = pytest.importorskip("h5py")
    root = build_pcam_hdf5(tmp_path / "data", (6, 4, 4))
    files = sorted(root.glob("*_x.h5"))
    items = [Item(f"{file.name} {row}", file, row) for row in (3, 0, 2) for file in files]
    pixels = pack(items, tmp_path, DecodeRule(96)).pixels()

    for item, row in zip(items, pixels, strict=True):
        with h5py.File(item.path) as file:
            assert (row == file["x"][item.row]).all()
    with pytest.raises(DataError, match=r"cannot be read \(far: row 99 of .*_x.h5 cannot be read"):
        pack([Item("far", files[0], 99)], tmp_path)


def test_without_h5py_the_extra_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(DataError, match=r"pip install 'histo-mlflow\[hdf5\]'"):
        pack([Item("a", images[0].path, 0)], tmp_path)


def test_a_bar_is_shown_on_stderr_when_wanted(images, tmp_path, capsys):
    pack_images(images, digests(images), RULE, tmp_path, progress=True)
    shown = capsys.readouterr()

    assert "packing: 100%" in shown.err
    assert shown.out == ""


def test_what_a_terminal_sends_to_all_processes_is_left_to_the_parent_of_the_workers():
    """Else those that it ends would fail the pack before the parent can say that it is ending."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        _packing._begin_worker()
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_workers_load_neither_torch_nor_pandas():
    code = (
        "import sys, histo_mlflow.data._packing;"
        "print({'torch', 'pandas', 'mlflow'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "set()"
    assert Path(_packing.__file__).is_file()
