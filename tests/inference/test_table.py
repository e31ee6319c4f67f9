"""The same answers are the same bytes, however they come, and say what they were made from."""

import json

import numpy as np
import pandas as pd
import pytest

from histo_mlflow.errors import DataError, DiskError
from histo_mlflow.inference import table
from histo_mlflow.registry.answer import answer_table

CLASSES = ("a", "b,c", "d e")
FACTS = {"model": "x", "rows": 500}


def answers(n: int) -> pd.DataFrame:
    raw = np.random.default_rng(3).random((n, 3))
    values = raw / raw.sum(axis=1, keepdims=True)
    made = answer_table(
        CLASSES, values, abstain_below=0.5, model_version='v "1"', model_digest="d" * 64
    )
    made.insert(0, "id", [f'é{i},"\n' if i % 7 == 0 else f"i{i}" for i in range(n)])
    return made


def write(folder, name, frames, facts=FACTS):
    table.write_table(folder / "work", name, frames, CLASSES, facts)
    table.give_name(folder / "work", folder / name)
    return folder / name


def cut(frame, *lengths):
    at = 0
    for length in lengths:
        yield frame.iloc[at : at + length]
        at += length
    yield frame.iloc[at:]


@pytest.fixture(params=[".parquet", ".csv"])
def name(request):
    return f"p{request.param}"


def test_rows_come_back_bit_by_bit(tmp_path, name):
    frame = answers(500)

    path = write(tmp_path, name, [frame])

    back = pd.concat(table.read_table(path), ignore_index=True)
    pd.testing.assert_frame_equal(back, frame, check_exact=True, check_dtype=False)
    assert list(back.columns) == ["id", "class", "p_a", "p_b,c", "p_d e", *back.columns[-3:]]


def test_bytes_do_not_depend_on_how_the_rows_came(tmp_path, name, monkeypatch):
    monkeypatch.setattr(table, "ROW_GROUP", 64)
    frame = answers(500)
    ways = [[frame], cut(frame, 1, 63, 64, 100), cut(frame, 0, 300), cut(frame, *[7] * 60)]
    written = []
    for index, way in enumerate(ways):
        (tmp_path / str(index)).mkdir()
        written.append(write(tmp_path / str(index), name, way).read_bytes())

    assert len(set(written)) == 1


def test_any_reader_reads_it(tmp_path, name):
    frame = answers(20)
    path = write(tmp_path, name, [frame])

    found = pd.read_parquet(path) if name.endswith("parquet") else pd.read_csv(path)

    assert found["id"].tolist() == frame["id"].tolist()
    assert found["abstain"].tolist() == frame["abstain"].tolist()
    np.testing.assert_allclose(found["p_a"], frame["p_a"], rtol=1e-15)


def test_a_folder_of_shards_is_one_parquet_data_set(tmp_path):
    frame = answers(40)
    for index, part in enumerate(cut(frame, 25)):
        write(tmp_path, f"p-0000{index + 1}-of-00002.parquet", [part], {"shard": index})
    (tmp_path / "work").rmdir()

    assert pd.read_parquet(tmp_path)["id"].tolist() == frame["id"].tolist()


def test_no_rows_are_a_table_too(tmp_path, name):
    path = write(tmp_path, name, [answers(0)])

    assert sum(map(len, table.read_table(path))) == 0
    assert table.read_facts(path)["rows"] == 500


def test_facts_come_back(tmp_path, name):
    assert table.read_facts(write(tmp_path, name, [answers(3)])) == {"format": 1, **FACTS}


def test_what_is_not_ours_or_not_whole_has_no_facts(tmp_path, name):
    path = tmp_path / name
    assert table.read_facts(path) is None
    path.write_text("id,class\n")
    assert table.read_facts(path) is None
    write(tmp_path, name, [answers(3)])
    path.write_bytes(path.read_bytes()[:-9])
    assert table.read_facts(path) is None


def test_an_edited_csv_is_no_longer_ours(tmp_path):
    path = write(tmp_path, "p.csv", [answers(3)])
    path.write_text(path.read_text().replace("i1", "i9"))

    assert json.loads((tmp_path / "p.csv.json").read_text())["model"] == "x"
    assert table.read_facts(path) is None


@pytest.mark.parametrize("out", ["p", "p.txt", "p.parquet.gz", ".csv"])
def test_other_suffixes_are_refused(tmp_path, out):
    with pytest.raises(DataError, match=r"end in \.parquet or \.csv"):
        table.checked_suffix(tmp_path / out)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(DataError, match="got the folder"):
        table.checked_suffix(tmp_path / "p.csv")


def test_a_disk_that_refuses_is_told(tmp_path, name):
    (tmp_path / "work").write_text("in the way")
    with pytest.raises(DiskError):
        write(tmp_path, name, [answers(3)])
