"""The sample, the submission, and a checker that names every fault and nothing else."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.random import Generator, default_rng

from histo_mlflow.data.findings import Finding, Level, worst
from histo_mlflow.errors import DataError
from histo_mlflow.inference import _kaggle_file
from histo_mlflow.inference.kaggle import (
    COLUMNS,
    Sample,
    check_submission,
    faults,
    match_images,
    positive_class,
    read_sample,
    submission_bytes,
    write_submission,
)

ROWS = 40
IDS = tuple(f"{k:040x}" for k in default_rng(7).permutation(ROWS) * 7919 + 10**9)


@dataclass
class Draft:
    """A submission before it is written; `free` are the rows that no fault has touched yet."""

    header: list[str] = field(default_factory=lambda: list(COLUMNS))
    rows: list[list[str]] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    delimiter: str = ","
    line_end: str = "\n"
    mark: bytes = b""
    encoding: str = "utf-8"
    last_end: bool = True
    blank_after: int | None = None

    def take(self, random: Generator) -> list[str]:
        return self.rows[self.free.pop(int(random.integers(len(self.free))))]

    def data(self) -> bytes:
        lines = [self.delimiter.join(row) for row in [self.header, *self.rows]]
        if self.blank_after is not None:
            lines.insert(self.blank_after, "")
        text = self.line_end.join(lines) + (self.line_end if self.last_end else "")
        return self.mark + text.encode(self.encoding, errors="surrogateescape")


def good(random: Generator) -> Draft:
    values = random.random(ROWS)
    rows = [[name, repr(float(value))] for name, value in zip(IDS, values, strict=True)]
    return Draft(rows=rows, free=list(range(ROWS)))


Inject = Callable[[Draft, Generator], None]


def value(text: str) -> Inject:
    def inject(draft: Draft, random: Generator) -> None:
        draft.take(random)[1] = text

    return inject


def named(change: Callable[[str], str]) -> Inject:
    def inject(draft: Draft, random: Generator) -> None:
        row = draft.take(random)
        row[0] = change(row[0])

    return inject


def all_values(change: Callable[[int], str]) -> Inject:
    def inject(draft: Draft, random: Generator) -> None:
        for k, row in enumerate(draft.rows):
            row[1] = change(k)

    return inject


def missing(draft: Draft, random: Generator) -> None:
    row = draft.take(random)
    at = next(k for k, other in enumerate(draft.rows) if other is row)
    del draft.rows[at]
    draft.free = [k - (k > at) for k in draft.free]


def extra(draft: Draft, random: Generator) -> None:
    draft.rows.append([f"{int(random.integers(2**60)):030x}", "0.5"])


def repeated(draft: Draft, random: Generator) -> None:
    draft.rows.append(list(draft.take(random)))


def reordered(draft: Draft, random: Generator) -> None:
    first, second = draft.take(random), draft.take(random)
    first[:], second[:] = list(second), list(first)


def cell_added(draft: Draft, random: Generator) -> None:
    draft.take(random).append("x")


def decimal_comma(draft: Draft, random: Generator) -> None:
    row = draft.take(random)
    row[1] = row[1].replace(".", ",")


def blank(draft: Draft, random: Generator) -> None:
    draft.blank_after = int(random.integers(1, ROWS // 2))


def broken_quotes(draft: Draft, random: Generator) -> None:
    row = draft.take(random)
    row[0] = f'"{row[0]}'


def quotes(draft: Draft, random: Generator) -> None:
    row = draft.take(random)
    row[0] = f'"{row[0]}"'


def index_column(draft: Draft, random: Generator) -> None:
    draft.header.insert(0, "")
    for k, row in enumerate(draft.rows):
        row.insert(0, str(k))


def columns_swapped(draft: Draft, random: Generator) -> None:
    for row in [draft.header, *draft.rows]:
        row.reverse()


def setting(**values: object) -> Inject:
    def inject(draft: Draft, random: Generator) -> None:
        for name, new in values.items():
            setattr(draft, name, new)

    return inject


ROW_FAULTS: dict[str, tuple[str, Inject]] = {
    "an id missing": ("missing-ids", missing),
    "an id that is not asked for": ("extra-ids", extra),
    "an id twice": ("repeated-ids", repeated),
    "two rows swapped": ("reordered-ids", reordered),
    "NaN": ("empty-values", value("nan")),
    "nothing for a value": ("empty-values", value("")),
    "infinity": ("infinite-values", value("-inf")),
    "a number beyond all floats": ("infinite-values", value("1e999")),
    "above 1": ("out-of-range", value("1.0000001")),
    "below 0": ("out-of-range", value("-1e-9")),
    "a percentage": ("text-values", value("50%")),
    "a number as only Python writes it": ("text-values", value("0_1")),
    "a tensor": ("text-values", value("tensor(0.5)")),
    "Arabic digits": ("text-values", value("\u0660.\u0665")),
    ".tif in an id": ("suffix-in-ids", named(lambda name: f"{name}.tif")),
    ".PNG in an id": ("suffix-in-ids", named(lambda name: f"{name}.PNG")),
    "a folder in an id": ("folder-in-ids", named(lambda name: f"test/{name}")),
    "spaces around an id": ("spaces-in-ids", named(lambda name: f" {name}")),
    "spaces around a value": ("spaces-in-values", value(" 0.25")),
    "a row too long": ("row-length", cell_added),
    "a comma as the decimal sign": ("decimal-comma", decimal_comma),
    "a quotation mark left open": ("broken-quotes", broken_quotes),
    "an id in quotation marks": ("quotes", quotes),
    "a byte that is no UTF-8": ("encoding", value("0.5\udcff")),
}
"""Faults of one row: any of them may come together."""

FILE_FAULTS: dict[str, tuple[str, Inject]] = {
    "a mark": ("byte-order-mark", setting(mark=b"\xef\xbb\xbf")),
    "UTF-16": ("encoding", setting(encoding="utf-16")),
    "UTF-16 without a mark": ("encoding", setting(encoding="utf-16-le")),
    "CRLF": ("line-ends", setting(line_end="\r\n")),
    "CR": ("carriage-returns", setting(line_end="\r")),
    "no last line end": ("last-line", setting(last_end=False)),
    "a blank line": ("blank-lines", blank),
    "semicolons": ("delimiter", setting(delimiter=";")),
    "tabs": ("delimiter", setting(delimiter="\t")),
    "other names": ("column-names", setting(header=["image", "prediction"])),
    "capitals": ("column-names", setting(header=["Id", "Label"])),
    "an index column": ("column-number", index_column),
    "columns swapped": ("column-order", columns_swapped),
    "hard labels": ("hard-labels", all_values(lambda k: str(k % 2))),
    "one constant": ("constant", all_values(lambda k: "0.5")),
}
"""Faults of the whole file: one of them at a time, with any of a row."""

UNFIT: dict[str, set[str]] = {
    # What cannot be said in such a file: the fault would be another one.
    "UTF-16": {"a byte that is no UTF-8"},
    "UTF-16 without a mark": {"a byte that is no UTF-8"},
    # Its comma would be the fault, and the delimiter would be seen in the header all the same.
    "columns swapped": {"a row too long"},
}


def counts(data: bytes, ids: tuple[str, ...] | None = IDS) -> dict[str, int]:
    """Of all that is told, but for the sum of a good file."""
    found = check_submission(data, COLUMNS, ids)
    return {one.check: one.count for one in found if one.check != "submission"}


def names(data: bytes, ids: tuple[str, ...] | None = IDS) -> set[str]:
    return set(counts(data, ids))


def test_a_good_file_has_no_fault_and_one_line_that_says_what_was_looked_at() -> None:
    for seed in range(20):
        (finding,) = check_submission(good(default_rng(seed)).data(), COLUMNS, IDS)
        assert (finding.check, finding.level) == ("submission", Level.PASS)
        assert finding.message.startswith("40 rows, the ids of the sample; probabilities from ")


@pytest.mark.parametrize("fault", [*ROW_FAULTS, *FILE_FAULTS])
def test_each_fault_is_found_under_its_name_and_no_other(fault: str) -> None:
    expected, inject = {**ROW_FAULTS, **FILE_FAULTS}[fault]
    random = default_rng(1)
    draft = good(random)
    inject(draft, random)
    assert names(draft.data()) == {expected}


def test_random_faults_together_are_all_found_and_counted() -> None:
    for seed in range(600):
        random = default_rng(seed)
        draft = good(random)
        of_file = list(FILE_FAULTS)[int(random.integers(len(FILE_FAULTS)))]
        with_file = bool(random.integers(2))
        fit = sorted(set(ROW_FAULTS) - (UNFIT.get(of_file, set()) if with_file else set()))
        chosen = [str(name) for name in random.choice(fit, int(random.integers(0, 6)))]
        expected: dict[str, int] = {}
        if with_file and FILE_FAULTS[of_file][0] in ("hard-labels", "constant"):
            # These set every value, so they come before the faults of single ones.
            FILE_FAULTS[of_file][1](draft, random)
            chosen = [name for name in chosen if ROW_FAULTS[name][0] not in OF_VALUES]
        for name in chosen:
            check, inject = ROW_FAULTS[name]
            inject(draft, random)
            expected[check] = expected.get(check, 0) + (2 if check == "reordered-ids" else 1)
        if with_file and FILE_FAULTS[of_file][0] not in ("hard-labels", "constant"):
            FILE_FAULTS[of_file][1](draft, random)
        found = counts(draft.data())
        if with_file:
            assert FILE_FAULTS[of_file][0] in found, (seed, of_file, chosen)
            found.pop(FILE_FAULTS[of_file][0])
            expected.pop(FILE_FAULTS[of_file][0], None)
        assert found == expected, (seed, of_file if with_file else None, chosen)


OF_VALUES = {
    "empty-values",
    "infinite-values",
    "out-of-range",
    "text-values",
    "spaces-in-values",
    "decimal-comma",
    "encoding",
    "extra-ids",
}


@pytest.mark.parametrize("fault", [*ROW_FAULTS, *FILE_FAULTS])
def test_what_is_no_fail_is_read_alike_by_pandas_and_by_pythons_csv(fault: str) -> None:
    """The line between FAIL and the rest, drawn by two readers that are not ours."""
    _, inject = {**ROW_FAULTS, **FILE_FAULTS}[fault]
    random = default_rng(2)
    draft = good(random)
    inject(draft, random)
    data = draft.data()
    if worst(check_submission(data, COLUMNS, IDS)) is Level.FAIL:
        assert not _readers_agree(data), f"{fault} is a FAIL, but every reader takes it"
    else:
        assert _readers_agree(data)


def _readers_agree(data: bytes) -> bool:
    """Whether two readers get the sample's ids once each, with a probability each."""
    try:
        table = pd.read_csv(io.BytesIO(data), dtype={"id": str})
        if not pd.api.types.is_numeric_dtype(table["label"]):
            return False
        by_pandas = dict(zip(table["id"], table["label"], strict=True))
        rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
        by_csv = {row["id"]: float(row["label"]) for row in rows}
    except (ValueError, KeyError, TypeError, csv.Error):
        return False
    fit = all(0 <= p <= 1 for p in by_csv.values())
    whole = set(by_csv) == set(IDS) and len(rows) == len(IDS) and set(rows[0]) == set(COLUMNS)
    return fit and whole and by_pandas == by_csv and [*rows[0]] == [*COLUMNS]


def test_lines_are_counted_from_1_and_the_first_five_are_named() -> None:
    draft = good(default_rng(0))
    for row in draft.rows[10:17]:
        row[1] = "2"
    (finding,) = check_submission(draft.data(), COLUMNS, IDS)
    assert (finding.check, finding.level, finding.count) == ("out-of-range", Level.FAIL, 7)
    assert finding.offenders == tuple(f"line {n}: 2" for n in range(12, 17))


def one(data: bytes, ids: tuple[str, ...] | None = IDS) -> Finding:
    (finding,) = check_submission(data, COLUMNS, ids)
    return finding


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", "  \n".encode("utf-16")])
def test_an_empty_file_is_called_one(data: bytes) -> None:
    assert "empty-file" in names(data)


def test_a_header_alone_and_no_header_are_told_apart() -> None:
    assert one(b"id,label\n").check == "no-rows"
    body = good(default_rng(0)).data().split(b"\n", 1)[1]
    assert one(body).check == "no-header"
    assert one(body).offenders == (f"line 1: {body.split(chr(10).encode())[0].decode()}",)


def test_a_blank_line_before_the_header_is_a_fail() -> None:
    finding = one(b"\n" + good(default_rng(0)).data())
    assert (finding.check, finding.level) == ("blank-lines", Level.FAIL)


def test_a_file_too_large_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_kaggle_file, "MOST_BYTES", 100)
    assert one(good(default_rng(0)).data()).check == "huge-file"


def test_without_a_sample_that_is_told_and_the_rest_is_checked() -> None:
    draft = good(default_rng(0))
    assert names(draft.data(), None) == {"no-sample"}
    draft.rows[3][0] += ".tif"
    draft.rows[4][0] = draft.rows[5][0]
    assert names(draft.data(), None) == {"no-sample", "suffix-in-ids", "repeated-ids"}


def test_ids_that_the_sample_has_with_a_suffix_keep_it() -> None:
    draft = good(default_rng(0))
    with_suffix = tuple(f"{name}.tif" for name in IDS)
    for row in draft.rows:
        row[0] += ".tif"
    assert names(draft.data(), with_suffix) == set()


def test_what_moves_a_cursor_is_not_printed() -> None:
    draft = good(default_rng(0))
    draft.rows[0][1] = "\x1b[2J" + "9" * 500
    (finding,) = check_submission(draft.data(), COLUMNS, IDS)
    assert finding.offenders[0].isprintable()
    assert len(finding.offenders[0]) < 80


def test_the_cells_of_one_row_keep_the_rest_of_a_broken_file_apart() -> None:
    """One line without a comma and one with ten: both named, the other ids unharmed."""
    draft = good(default_rng(0))
    draft.rows[2] = [draft.rows[2][0]]
    draft.rows[5] += list("abcdefgh")
    finding = one(draft.data())
    assert (finding.check, finding.count) == ("row-length", 2)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    path = tmp_path / "sample_submission.csv"
    path.write_text("id,label\n" + "".join(f"{name},0\n" for name in IDS))
    return read_sample(path)


def test_a_submission_has_the_ids_of_the_sample_and_every_digit(
    sample: Sample, tmp_path: Path
) -> None:
    random = default_rng(3)
    p = random.random(ROWS) ** 40
    p[:4] = 0.0, 1.0, 1e-300, np.nextafter(1.0, 0.0)
    (finding,) = write_submission(tmp_path / "submission.csv", sample, p)
    assert finding.level is Level.PASS
    data = (tmp_path / "submission.csv").read_bytes()
    assert data.isascii()
    assert b"\r" not in data
    assert all(re.fullmatch(rb"[0-9a-f]{40},[01]\.\d+", line) for line in data.splitlines()[1:])
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert rows[0] == ["id", "label"]
    assert tuple(row[0] for row in rows[1:]) == IDS
    assert [float(row[1]) for row in rows[1:]] == p.tolist()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5, -0.1])
def test_a_submission_that_fails_its_check_leaves_what_was_there(
    sample: Sample, tmp_path: Path, bad: float
) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("earlier")
    p = np.linspace(0, 1, ROWS)
    p[9] = bad
    with pytest.raises(DataError, match=r"is not written: 1 row with"):
        write_submission(path, sample, p)
    assert path.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sample_submission.csv",
        "submission.csv",
    ]


def test_a_constant_model_is_written_with_a_warning(sample: Sample, tmp_path: Path) -> None:
    findings = write_submission(tmp_path / "s.csv", sample, np.full(ROWS, 0.5))
    assert [(one.check, one.level) for one in findings] == [
        ("constant", Level.WARN),
        ("submission", Level.PASS),
    ]


def test_another_number_of_probabilities_is_refused(sample: Sample) -> None:
    with pytest.raises(DataError, match="Expected 40 probabilities"):
        submission_bytes(sample, np.zeros(39))


SAMPLES = {
    "id,label\na,0\na,0\n": "each id once",
    "id,label\n": "a header and nothing else",
    "id,label,x\na,0,0\n": "two columns",
    "id,label\na,0,1\n": "on line 2",
    "id,label\n,0\n": "on line 2",
    "": "holds no text",
    "id;label\na;0\n": "divided by ';'",
    "id,id\na,0\n": "two columns",
}


@pytest.mark.parametrize("text", list(SAMPLES))
def test_a_sample_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sample.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=SAMPLES[text]):
        read_sample(path)


def test_a_sample_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got nothing there"):
        read_sample(tmp_path / "none.csv")
    with pytest.raises(DataError, match="got a folder there"):
        read_sample(tmp_path)


def test_a_sample_saved_by_excel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_bytes(b"\xef\xbb\xbfid,label\r\n007,0\r\n8,0\r\n")
    found = read_sample(path)
    assert (found.columns, found.ids) == (("id", "label"), ("007", "8"))


def test_images_are_found_by_id_and_the_others_are_told(sample: Sample) -> None:
    few = replace(sample, ids=("a", "b.png", "c.d"))
    paths = ["test/b.png", "test/a.tif", "test/z.tif", "test/c.d.tif"]
    matched, others = match_images(few, paths, Path("test"))
    assert list(matched.items()) == [
        ("a", "test/a.tif"),
        ("b.png", "test/b.png"),
        ("c.d", "test/c.d.tif"),
    ]
    assert others == ["test/z.tif"]


def test_missing_images_are_counted_and_named(sample: Sample) -> None:
    with pytest.raises(DataError, match=rf"33 images of the 40 in .*{IDS[7]}.* and 28 more"):
        match_images(sample, [f"test/{name}.tif" for name in IDS[:7]], Path("test"))


def test_two_files_for_one_id_are_refused(sample: Sample) -> None:
    few = replace(sample, ids=("a",))
    with pytest.raises(DataError, match=r"several for 1 id: a \(t/a.tif and t/a.png\)"):
        match_images(few, ["t/a.tif", "t/a.png"], Path("t"))


@pytest.mark.parametrize(
    ("classes", "wanted", "expected"),
    [
        (("normal", "tumour"), None, 1),
        (("0", "1"), None, 1),
        (("a", "b"), None, 1),
        (("Malignant", "normal"), None, 0),
        (("cancer", "tumor"), None, 1),
        (("normal", "tumour"), "normal", 0),
        (("a", "b", "c"), "c", 2),
    ],
)
def test_the_probability_is_of_the_class_that_is_meant(
    classes: tuple[str, ...], wanted: str | None, expected: int
) -> None:
    assert positive_class(classes, wanted) == expected


def test_a_class_that_cannot_be_told_is_asked_for() -> None:
    with pytest.raises(DataError, match="has 3 classes"):
        positive_class(("a", "b", "c"), None)
    with pytest.raises(DataError, match=r"\(a, b\), got 'c'"):
        positive_class(("a", "b"), "c")


def test_the_real_list_of_57458_ids_is_read_and_checked_as_the_constant_it_is(
    realdata: Path,
) -> None:
    path = realdata / "pcam_kaggle_extra" / "sample_submission_full_57458.csv"
    found = read_sample(path)
    assert (found.columns, len(found.ids)) == (COLUMNS, 57_458)
    assert set(faults(check_submission(path.read_bytes(), found.columns, found.ids))) == {
        "constant"
    }
