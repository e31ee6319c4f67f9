"""What each kind of input comes to, and what becomes of rubbish among it."""

import os
import struct
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import process_time

import pandas as pd
import pytest

from histo_mlflow.errors import DataError, ImageError
from histo_mlflow.inference import inputs
from histo_mlflow.inference._listing import MAGICS
from histo_mlflow.inference.inputs import Item, Reader, is_one_image, list_inputs
from histo_mlflow.vision import decode
from tiny_models import image_bytes, write_images

PNG = image_bytes(1)


def ids(*given):
    return [item.id for item in list_inputs([str(one) for one in given]).items]


def refused(*given):
    with pytest.raises(DataError) as caught:
        list_inputs([str(one) for one in given])
    return str(caught.value)


def why_not(item):
    with Reader() as reader, pytest.raises(ImageError) as caught:
        reader.read(item)
    return str(caught.value)


def read(*given):
    with Reader() as reader:
        return {item.id: reader.read(item) for item in list_inputs([*map(str, given)]).items}


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)


def write_zip(path: Path, members, **options) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in members:
            opened.writestr(name, data, **options)
    return path


class TestFolders:
    def test_ids_are_relative_paths_in_order(self, tmp_path):
        expected = write_images(tmp_path, 12)

        assert ids(tmp_path) == expected
        assert expected[0] == "slide0/0000.jpg"

    def test_bytes_are_those_of_the_files(self, tmp_path):
        write_images(tmp_path, 6)

        for name, data in read(tmp_path).items():
            assert data == (tmp_path / name).read_bytes()

    def test_what_is_no_image_is_left_out_and_told(self, tmp_path):
        put(tmp_path, "a.PNG", "b.jpeg", "c.TIFF", "notes.txt", "x.gif", "deep/y.webp", "z.svs")

        listing = list_inputs([str(tmp_path)])

        assert [item.id for item in listing.items] == ["a.PNG", "b.jpeg", "c.TIFF"]
        (told,) = listing.told_left_out()
        assert "left out 4 names (no JPEG, PNG or TIFF)" in told
        assert "notes.txt" in told

    def test_hidden_names_are_skipped(self, tmp_path):
        put(tmp_path, "a.png", ".b.png", "._a.png", ".cache/c.png", "__MACOSX/a.png")

        listing = list_inputs([str(tmp_path)])

        assert [item.id for item in listing.items] == ["a.png"]
        assert listing.left_out == ()

    def test_names_without_suffix_are_told_by_their_first_bytes(self, tmp_path):
        put(tmp_path, "IM0001")
        (tmp_path / "README").write_text("no image")

        listing = list_inputs([str(tmp_path)])

        assert [item.id for item in listing.items] == ["IM0001"]
        assert [where for where, _ in listing.left_out] == ["README"]

    def test_first_bytes_are_those_that_decode_takes(self):
        assert [magic for magic, _ in decode._SIGNATURES] == list(MAGICS)

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_links_are_followed_and_loops_end(self, tmp_path):
        put(tmp_path / "data", "real/a.png")
        put(tmp_path / "elsewhere", "b.png", "deep/c.png")
        data = tmp_path / "data"
        (data / "again").symlink_to(data, target_is_directory=True)
        (data / "aaa").symlink_to(data / "real", target_is_directory=True)
        (data / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (data / "one.png").symlink_to(data / "real" / "a.png")

        listing = list_inputs([str(data)])

        assert [item.id for item in listing.items] == [
            "linked/b.png",
            "linked/deep/c.png",
            "one.png",
            "real/a.png",
        ]
        assert [where for where, _ in listing.left_out] == ["aaa", "again"]

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_a_link_to_nothing_is_a_bad_image(self, tmp_path):
        put(tmp_path, "a.png")
        (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")

        _, bad = list_inputs([str(tmp_path)]).items

        assert why_not(bad) == "a link to nothing"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
    def test_a_pipe_is_not_opened(self, tmp_path):
        put(tmp_path, "a.png")
        os.mkfifo(tmp_path / "b.png")

        listing = list_inputs([str(tmp_path)])

        assert [item.id for item in listing.items] == ["a.png"]
        assert listing.left_out == (("b.png", "no plain file"),)

    def test_names_of_all_scripts(self, tmp_path):
        names = ["Präparat 1.png", "切片.png", "срез/a b.png", "émoji 🔬.png", "a'b\"c,d.png"]
        put(tmp_path, *names)

        assert sorted(read(tmp_path)) == sorted(names)

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are Unicode")
    def test_a_name_that_is_no_utf8_gets_an_id_that_is(self, tmp_path):
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)

        assert read(tmp_path) == {"caf\\xe9.png": PNG}

    def test_no_image_is_refused_with_what_is_there(self, tmp_path):
        assert "got none" in refused(tmp_path)
        put(tmp_path, "a.txt")

        assert "left out 1 name (no JPEG, PNG or TIFF): a.txt" in refused(tmp_path)

    def test_twenty_thousand_files_are_listed_in_a_moment(self, tmp_path):
        for number in range(20_000):
            (tmp_path / f"{number:05d}.png").touch()

        begun = process_time()
        found = ids(tmp_path)

        assert (len(found), found[-1]) == (20_000, "19999.png")
        assert process_time() - begun < 5

    def test_a_file_that_has_changed_since_is_said_to(self, tmp_path):
        put(tmp_path, "a.png")
        (item,) = list_inputs([str(tmp_path)]).items
        (tmp_path / "a.png").write_bytes(PNG + b"more")

        assert "another length than when it was listed" in why_not(item)

    def test_a_file_that_is_gone_may_come_back(self, tmp_path):
        put(tmp_path, "a.png")
        (item,) = list_inputs([str(tmp_path)]).items
        (tmp_path / "a.png").unlink()
        with Reader() as reader:
            with pytest.raises(ImageError, match="cannot be read"):
                reader.read(item)
            assert reader.unreachable == {"a.png"}

    def test_a_huge_file_is_not_read(self, tmp_path):
        with (tmp_path / "a.png").open("wb") as file:
            file.truncate(inputs.MAX_IMAGE_BYTES + 1)

        assert "too large" in why_not(list_inputs([str(tmp_path)]).items[0])


class TestTables:
    def write(self, folder, text, name="list.csv"):
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    def test_paths_are_relative_to_the_table_and_ids_are_as_written(self, tmp_path, monkeypatch):
        put(tmp_path / "set", "im/a.png", "im/b.png")
        path = self.write(tmp_path / "set", f"path\nim/b.png\n./im\\a.png\n{tmp_path}/set/im/a.png")
        monkeypatch.chdir(tmp_path)

        assert list(read(path)) == ["im/b.png", "im/a.png", f"{tmp_path}/set/im/a.png"]

    def test_ids_stay_text_and_other_columns_are_told(self, tmp_path):
        put(tmp_path, "a.png", "b.png")
        path = self.write(tmp_path, "\ufefflabel,id,path\nx,007,a.png\ny,NA,b.png\n")

        listing = list_inputs([str(path)])

        assert [item.id for item in listing.items] == ["007", "NA"]
        assert listing.notes == (f"{path}: the columns label are not read",)

    def test_parquet_is_the_same(self, tmp_path):
        put(tmp_path, "a.png", "b.png")
        path = tmp_path / "list.parquet"
        pd.DataFrame({"id": [2, 1], "path": ["a.png", "b.png"]}).to_parquet(path)

        assert list(read(path)) == ["2", "1"]

    def test_a_file_that_is_not_there_is_a_bad_image(self, tmp_path):
        put(tmp_path, "a.png", "d/x")
        path = self.write(tmp_path, "path\na.png\ngone.png\nhttp://x/a.png\nd\n\0.png\n")

        items = list_inputs([str(path)]).items

        assert [item.problem for item in items[:4]] == [
            None,
            "no such file",
            "no such file",
            "a folder or no plain file, an image was expected",
        ]
        assert items[4].problem is not None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("file\na.png\n", "Expected the column 'path'"),
            ("path,id\na.png,\nb.png,2\n", "1 blank ones (first: row 1)"),
            ("path,x\na.png,1\n  ,2\n", "(first: row 2)"),
            ("path\na.png\na.png\n", "'a.png' twice: image 1 is "),
            ("path,id\na.png,1\nb.png,1\n", "'1' twice"),
            ("path\n", "got none"),
            ("", "cannot be read"),
            ('path\n"a.png\n', "cannot be read"),
        ],
        ids=[
            "column",
            "blank-id",
            "blank-path",
            "path-twice",
            "id-twice",
            "rows",
            "empty",
            "quote",
        ],
    )
    def test_mistakes_are_told(self, tmp_path, text, said):
        put(tmp_path, "a.png", "b.png")

        assert said in refused(self.write(tmp_path, text))

    def test_a_parquet_file_that_is_none_is_told(self, tmp_path):
        assert "cannot be read" in refused(self.write(tmp_path, "path\na.png", "list.parquet"))


class TestKaggleSets:
    def test_ids_and_order_are_those_of_the_list(self, tmp_path):
        put(tmp_path, "test/a.tif", "test/b.tif", "test/c.tif", "test/d.tif", "train/e.tif")
        (tmp_path / "sample_submission.csv").write_text("id,label\nc,0\na,0\nb.tif,0\nx,0\n")

        listing = list_inputs([str(tmp_path)])

        assert listing.kind == "Kaggle set"
        assert [item.id for item in listing.items] == ["c", "a", "b.tif", "x"]
        assert [item.problem for item in listing.items] == [
            *([None] * 3),
            "no file in test/ has this id",
        ]
        assert listing.left_out == (("test/d.tif", "no id of sample_submission.csv"),)

    def test_an_id_with_two_files_is_a_bad_image(self, tmp_path):
        put(tmp_path, "test/a.tif", "test/a.png")
        (tmp_path / "sample_submission.csv").write_text("id\na\n")

        assert "2 files in test/ have this id" in why_not(list_inputs([str(tmp_path)]).items[0])

    def test_the_real_one(self, realdata):
        folder = realdata / "pcam_kaggle"
        listed = pd.read_csv(folder / "sample_submission.csv")["id"].tolist()

        found = read(folder)

        assert list(found) == listed
        assert found[listed[0]] == (folder / f"test/{listed[0]}.tif").read_bytes()


class TestZips:
    def test_members_are_read_and_nothing_is_written(self, tmp_path):
        members = [("b/x.png", PNG), ("a.jpg", image_bytes(2, "jpg")), ("notes.txt", b"")]
        path = write_zip(tmp_path / "set.zip", members)
        before = sorted(tmp_path.rglob("*"))

        assert read(path) == {"a.jpg": members[1][1], "b/x.png": PNG}
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_name_that_points_elsewhere_is_only_a_name(self, tmp_path):
        names = ["../../up.png", "/etc/abs.png", "C:\\x.png", "a/../b.png"]
        path = write_zip(tmp_path / "set.zip", [(name, PNG) for name in names])

        assert read(path) == dict.fromkeys(names, PNG)

    def test_what_macos_adds_folders_and_links_are_no_images(self, tmp_path):
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        members = [
            ("a/", b""),
            ("a/x.png", PNG),
            ("__MACOSX/a/._x.png", b"x"),
            (link, "/etc/passwd"),
        ]
        path = write_zip(tmp_path / "set.zip", members)

        listing = list_inputs([str(path)])

        assert [item.id for item in listing.items] == ["a/x.png"]
        assert [why for _, why in listing.left_out] == ["a link in a zip"]

    def test_a_name_twice_is_refused(self, tmp_path):
        with pytest.warns(UserWarning, match="Duplicate name"):
            path = write_zip(tmp_path / "set.zip", [("a.png", PNG), ("a.png", PNG)])

        assert "'a.png' twice: image 1 is" in refused(path)

    def test_an_encrypted_member_is_a_bad_image(self, tmp_path):
        path = write_zip(tmp_path / "set.zip", [("a.png", PNG), ("IM1", PNG)])
        data = path.read_bytes()
        flagged = data.replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"
        )
        assert flagged != data
        path.write_bytes(flagged)

        assert "encrypted" in why_not(list_inputs([str(path)]).items[0])

    @pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2], ids=["lzma", "bzip2"])
    def test_other_compressions_are_bad_images(self, tmp_path, method):
        path = write_zip(tmp_path / "set.zip", [("a.png", PNG)], compress_type=method)

        assert "only stored and deflated" in why_not(list_inputs([str(path)]).items[0])

    def test_a_bomb_by_its_declared_size_is_not_opened(self, tmp_path):
        path = write_zip(tmp_path / "set.zip", [("a.png", PNG)])
        (item,) = list_inputs([str(path)]).items
        size = struct.pack("<I", item.size)
        data = path.read_bytes()
        at = data.rindex(size, 0, data.rindex(b"a.png"))  # uncompressed size, central directory
        path.write_bytes(data[:at] + struct.pack("<I", 2**31) + data[at + 4 :])

        assert "too large: 2,147,483,648 bytes" in why_not(list_inputs([str(path)]).items[0])

    def test_a_bomb_that_is_no_image_is_not_blown_up(self, tmp_path):
        bomb = [("a.png", bytes(200 * 2**20))]
        path = write_zip(tmp_path / "set.zip", bomb, compress_type=zipfile.ZIP_DEFLATED)
        del bomb
        begun = process_time()

        assert why_not(list_inputs([str(path)]).items[0]) == "not a JPEG, PNG or TIFF"
        assert process_time() - begun < 0.1

    def test_a_member_that_is_longer_than_it_says_is_cut_and_bad(self, tmp_path):
        payload = PNG + bytes(10 * 2**20)
        path = write_zip(
            tmp_path / "set.zip", [("a.png", payload)], compress_type=zipfile.ZIP_DEFLATED
        )
        size = struct.pack("<I", len(payload))
        path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", len(PNG))))

        assert "damaged in its zip" in why_not(list_inputs([str(path)]).items[0])

    @pytest.mark.parametrize("place", [0.3, 0.6])
    def test_a_damaged_member_is_a_bad_image(self, tmp_path, place):
        path = write_zip(tmp_path / "set.zip", [("a.png", PNG)])
        data = bytearray(path.read_bytes())
        data[int(len(PNG) * place) : int(len(PNG) * place) + 20] = bytes(20)
        path.write_bytes(data)

        assert "damaged in its zip" in why_not(list_inputs([str(path)]).items[0])

    @pytest.mark.parametrize(
        "data", [b"", b"PK\x03\x04 nothing", b"\xff" * 400], ids=["0", "1", "2"]
    )
    def test_what_is_no_zip_is_told(self, tmp_path, data):
        (tmp_path / "set.zip").write_bytes(data)

        assert "Expected a zip" in refused(tmp_path / "set.zip")

    def test_a_cut_zip_is_told(self, tmp_path):
        path = write_zip(tmp_path / "set.zip", [(f"{n}.png", PNG) for n in range(5)])
        path.write_bytes(path.read_bytes()[:-40])

        assert "Expected a zip" in refused(path)

    def test_threads_read_it_at_once(self, tmp_path):
        members = {f"{n:03d}.png": image_bytes(n) for n in range(60)}
        path = write_zip(tmp_path / "set.zip", members.items(), compress_type=zipfile.ZIP_DEFLATED)
        items = list_inputs([str(path)]).items
        before = set(threading.enumerate())
        with Reader() as reader, ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                assert list(pool.map(reader.read, items)) == list(members.values())
        assert set(threading.enumerate()) <= before

    def test_a_zip_that_is_gone_makes_bad_images(self, tmp_path):
        path = write_zip(tmp_path / "set.zip", [("a.png", PNG)])
        (item,) = list_inputs([str(path)]).items
        path.unlink()

        assert "cannot be read" in why_not(item)


class TestSeveral:
    def test_they_follow_each_other(self, tmp_path):
        put(tmp_path, "z/b.png", "z/a.png", "one.png")
        path = write_zip(tmp_path / "set.zip", [("m.png", PNG)])

        listing = list_inputs([str(path), str(tmp_path / "one.png"), str(tmp_path / "z")])

        assert [item.id for item in listing.items] == ["m.png", "one.png", "a.png", "b.png"]
        assert listing.kind == "several inputs"

    def test_equal_ids_are_refused_with_both_places(self, tmp_path):
        put(tmp_path, "x/a.png", "y/a.png")

        said = refused(tmp_path / "x", tmp_path / "y")

        assert str(tmp_path / "x/a.png") in said
        assert str(tmp_path / "y/a.png") in said
        assert "columns path and id" in said

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("-", "not read from stdin"),
            ("nowhere", "which is not there"),
            ("s3://bucket/a.png", "only local files are read"),
            ("a\0b", "Expected a "),
        ],
        ids=["stdin", "nowhere", "url", "nul"],
    )
    def test_what_cannot_be_an_input_is_told(self, given, said):
        assert said in refused(given)

    def test_a_file_of_another_kind_is_told(self, tmp_path):
        (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")

        assert "Expected a folder, a .csv or .parquet table" in refused(tmp_path / "a.pdf")

    def test_nothing_is_told(self):
        assert "got none" in refused()

    def test_a_single_image_is_told_from_the_rest(self, tmp_path):
        put(tmp_path, "a.png", "IM1")
        (tmp_path / "list.csv").write_text("path\na.png\n")

        assert is_one_image([str(tmp_path / "a.png")])
        assert is_one_image([str(tmp_path / "IM1")])
        assert not is_one_image([str(tmp_path / "list.csv")])
        assert not is_one_image([str(tmp_path)])
        assert not is_one_image([str(tmp_path / "a.png"), str(tmp_path / "IM1")])
        assert not is_one_image([str(tmp_path / "nowhere.png")])


def test_digests_tell_what_changed(tmp_path):
    one = Item("a", "x/a", None, 10, 1)
    other = Item("b", "x/b", None, 10, 1)
    touched = Item("b", "x/b", None, 10, 2)
    longer = Item("b", "x/b", None, 11, 1)

    assert inputs.items_digest([one, other]) != inputs.items_digest([other, one])
    assert inputs.items_digest([one, other]) != inputs.items_digest([one, touched])
    assert inputs.items_digest([one, other], [1]) == inputs.items_digest([one, longer], [1])
    assert inputs.names_digest([one, other]) == inputs.names_digest([one, touched])
    assert inputs.names_digest([one, other]) != inputs.names_digest([one, longer])


def test_an_item_says_where_it_lies():
    assert Item("a", "s.zip", "d/a.png").where == "s.zip!d/a.png"
    assert Item("a", "caf\udce9.png").where == "caf\\xe9.png"
