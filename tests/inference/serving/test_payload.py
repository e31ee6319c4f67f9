"""A body is bounded before it is parsed, and its cells are judged by row."""

import base64
import json
import time
from typing import Any

import pytest

from histo_mlflow.inference.serving.answers import RefusedError
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.inference.serving.payload import check_csv, json_table, media_type
from histo_mlflow.registry.predictor import BadImagesError

A, B = base64.b64encode(b"first").decode(), base64.b64encode(b"second one").decode()
SAME = {
    "split": {"dataframe_split": {"columns": ["image"], "data": [[A], [B]]}},
    "split with an index": {
        "dataframe_split": {"columns": ["image"], "index": [7, 7], "data": [[A], [B]]}
    },
    "split with more columns": {
        "dataframe_split": {"columns": ["id", "image"], "data": [[1, A], [None, B]]}
    },
    "records": {"dataframe_records": [{"image": A}, {"image": B, "id": 3}]},
    "inputs by column": {"inputs": {"image": [A, B]}},
    "inputs by row": {"inputs": [{"image": A}, {"image": B}]},
    "inputs of one column": {"inputs": [A, B]},
    "instances": {"instances": [{"image": A}, {"image": B}]},
    "instances of one column": {"instances": [A, B]},
    "with params": {"inputs": [A, B], "params": {"x": 1}},
    "with a key that MLflow does not know": {"inputs": [A, B], "model": "gpt"},
}


def table(value: Any, **limits: int) -> list[Any]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    split = json_table(bytearray(body), Limits(**limits))["dataframe_split"]
    assert split["columns"] == ["image"]
    return [row[0] for row in split["data"]]


def refused(value: Any, **limits: int) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        table(value, **limits)
    return caught.value


@pytest.mark.parametrize("form", SAME)
def test_every_form_of_mlflow_is_the_same_table(form: str) -> None:
    assert table(SAME[form]) == [A, B]


def test_one_value_is_a_table_of_one_row() -> None:
    assert table({"inputs": {"image": A}}) == [A]


def test_no_rows_are_no_images() -> None:
    assert table({"dataframe_split": {"columns": ["image"], "data": []}}) == []
    assert table({"inputs": []}) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_in_any_unicode_is_read_as_mlflow_reads_it(encoding: str) -> None:
    assert table(json.dumps({"inputs": [A]}).encode(encoding)) == [A]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe\xfd",
        b"[1]",
        b"7",
        b"null",
        b'"text"',
        b"{}",
        b"NaN",
        b'{"inputs": [1' + b"1" * 5000 + b"]}",
        b'{"messages": [{"role": "user"}]}',
        b'{"inputs": ["a"], "instances": ["a"]}',
        b'{"dataframe_split": {}, "inputs": []}',
        b'{"inputs": ["a"], "params": 5}',
        b'{"inputs": "' + A.encode() + b'"}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_what_is_no_table_is_a_400_that_says_what_is_expected(body: bytes) -> None:
    error = refused(body)
    assert error.status == 400
    assert "xpected" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "value",
    [
        {"dataframe_split": {"data": [[A]]}},
        {"dataframe_split": {"columns": ["picture"], "data": [[A]]}},
        {"dataframe_split": {"columns": ["image", "image"], "data": [[A, B]]}},
        {"dataframe_split": {"columns": "image", "data": [[A]]}},
        {"dataframe_split": {"columns": [["image"]], "data": [[A]]}},
        {"dataframe_split": {"columns": ["image"]}},
        {"dataframe_split": [[A]]},
        {"dataframe_records": [{"picture": A}]},
        {"dataframe_records": []},
        {"dataframe_records": {"image": A}},
        {"dataframe_records": [{"image": A}, A]},
        {"inputs": {"picture": [A]}},
        {"inputs": 5},
        {"inputs": [{"image": A}, A]},
    ],
    ids=json.dumps,
)
def test_a_table_without_the_column_is_a_400(value: Any) -> None:
    error = refused(value)
    assert (error.status, error.reason) == (400, "column")


@pytest.mark.parametrize("row", [[], [A, B], A, {"image": A}, None], ids=json.dumps)
def test_a_row_that_is_no_row_is_named(row: Any) -> None:
    error = refused({"dataframe_split": {"columns": ["image"], "data": [[A], row]}})
    assert str(error) == "Row 1: expected a list of 1 values."


def test_cells_that_are_no_base64_text_are_named_by_row() -> None:
    cells = [A, None, 7, 1.5, True, [A, A], {"b64": A}, "%", "A", "gr\u00fc\u00df", "\ud800", B]
    with pytest.raises(BadImagesError) as caught:
        table({"inputs": {"image": cells}})
    wanted = "bytes or base64 text was expected, got "
    assert dict(caught.value.problems) == {
        1: wanted + "nothing",
        2: wanted + "int",
        3: wanted + "float",
        4: wanted + "bool",
        5: wanted + "a list of 2",
        6: wanted + "dict",
        7: "the text is not base64",
        8: "the text is not base64",
        9: "the text is not base64",
        10: "the text is not base64",
    }


def test_too_many_images_are_413() -> None:
    assert len(table({"inputs": [A] * 5}, images=5)) == 5
    error = refused({"inputs": [A] * 6}, images=5)
    assert (error.status, error.reason) == (413, "too_many_images")
    assert "6 in one request, at most 5" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs": ' + b"[" * 15_000 + b"]" * 15_000 + b"}",
        b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
        b"[" * 15_000,
        b'{"inputs": [' + b"[]," * 5_000_000 + b"[]]}",
        b'{"inputs": [' + b"0," * 5_000_000 + b"0]}",
        b'{"inputs": {' + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}}",
    ],
    ids=["very deep", "deep", "deep objects", "never closed", "lists", "numbers", "keys"],
)
def test_json_that_would_take_memory_or_the_stack_is_refused_at_once(body: bytes) -> None:
    started = time.process_time()
    assert refused(body).status in (400, 413)
    assert time.process_time() - started < 0.3


def test_csv_is_bounded_by_its_lines_and_commas() -> None:
    check_csv(b"image\n" + b"aa\n" * 5, Limits(images=5))
    for body in (b"image\n" + b"a\n" * 20, b"image\r" + b"a\r" * 20, b"," * 2000):
        with pytest.raises(RefusedError) as caught:
            check_csv(body, Limits(images=5))
        assert caught.value.status == 413


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'text/csv; charset="utf-8"',
        "application/x-parquet",
        "image/jpeg",
        "application/octet-stream",
        "image/png;",
    ],
)
def test_content_types_that_are_taken(value: str) -> None:
    assert media_type(value).name == value.partition(";")[0].lower()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/json; format=pandas-split",
        "image/svg+xml",
        "application/json, text/csv",
    ],
)
def test_all_others_are_415(value: str | None) -> None:
    with pytest.raises(RefusedError) as caught:
        media_type(value)
    assert caught.value.status == 415
