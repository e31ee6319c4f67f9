"""Parquet is read by a process of its own, and nothing in it takes the server along."""

import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from histo_mlflow.inference.serving import parquet
from histo_mlflow.inference.serving.answers import RefusedError
from histo_mlflow.inference.serving.limits import MIB, Limits
from histo_mlflow.inference.serving.parquet import images_of


def written(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), file, **options)
    return file.getvalue()


def refused(body: bytes, *, seconds: float = 20, **limits: int) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        images_of(body, Limits(**limits), seconds)
    return caught.value


def test_bytes_and_text_and_rows_without_come_back_in_order() -> None:
    values = [b"one", None, b"", b"\n{}three"]
    body = written({"id": [1, 2, 3, 4], "image": pa.array(values, pa.binary())})
    assert images_of(body, Limits(), 20) == values


def test_what_pandas_writes_is_read() -> None:
    file = io.BytesIO()
    pd.DataFrame({"image": ["YWJj", "YQ=="]}).to_parquet(file)
    assert images_of(file.getvalue(), Limits(), 20) == [b"YWJj", b"YQ=="]


def test_no_parquet_and_other_columns_are_400() -> None:
    good = written({"image": [b"x" * 1000]})
    assert refused(b"nonsense").status == 400
    assert refused(good[:-30]).status == 400
    assert "no column 'image'" in str(refused(written({"picture": [b"x"]})))
    assert "Expected bytes" in str(refused(written({"image": [1.5]})))


def test_more_rows_or_bytes_than_allowed_are_413() -> None:
    body = written({"image": [b"x"] * 6})
    assert len(images_of(body, Limits(images=6), 20)) == 6
    error = refused(body, images=5)
    assert error.status == 413
    assert "6 rows in one request, at most 5" in str(error)


def test_a_file_that_repeats_one_large_value_is_refused_with_little_memory() -> None:
    once = pa.array([b"x" * 5 * MIB])
    many = pa.DictionaryArray.from_arrays(pa.array([0] * 900, pa.int32()), once)
    body = written({"image": many}, compression="zstd", store_schema=False)
    assert len(body) < MIB // 2
    assert refused(body).status in (400, 413)


def test_a_signal_of_the_terminal_does_not_reach_the_process_that_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the server would answer 400 to a request that it says it finishes."""
    child = tmp_path / "child.py"
    child.write_text(
        "import os; print('{\"sizes\": [1]}'); print(int(os.getsid(0) == os.getpid()))"
    )
    monkeypatch.setattr(parquet, "_CHILD", child)
    assert images_of(b"", Limits(), 20) == [b"1"]


def test_the_process_that_reads_ends_of_its_own_accord() -> None:
    """Where the server is gone that would end it."""
    code = (
        f"import runpy; child = runpy.run_path({str(parquet._CHILD)!r})\n"
        "child['_limit'](1 << 40, 1)\n"
        "while True: pass"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], timeout=120, check=False)
    assert done.returncode in (-signal.SIGKILL, -signal.SIGXCPU)


def test_one_that_takes_too_long_is_504() -> None:
    assert refused(written({"image": [b"x"]}), seconds=0.01).status == 504
