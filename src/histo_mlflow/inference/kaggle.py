"""Kaggle's files: the sample submission, a submission, and what is wrong with one.

A submission has the ids of the sample in its order and one column of probabilities. It gets its
name only after the written file has been read back and checked.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from histo_mlflow import files
from histo_mlflow.data.findings import SHOWN, Finding, Level, counted, passed, worst
from histo_mlflow.errors import DataError
from histo_mlflow.inference import _kaggle_file
from histo_mlflow.inference._kaggle_check import SUFFIX, check_table
from histo_mlflow.inference._kaggle_file import read_cells

SAMPLE = "sample_submission.csv"
COLUMNS = ("id", "label")
"""Of PCam's competition; a sample names its own."""

POSITIVE = frozenset(
    {"1", "positive", "pos", "tumor", "tumour", "malignant", "cancer", "metastasis", "metastatic"}
)
"""Names of a class that is meant when one asks for "the probability"."""


@dataclass(frozen=True)
class Sample:
    """What a sample submission asks for.

    Attributes:
        path: of the file.
        columns: names of the columns of ids and of values.
        ids: what is to be predicted, in order; each once.
    """

    path: Path
    columns: tuple[str, str]
    ids: tuple[str, ...]


def read_sample(path: Path) -> Sample:
    """Read a sample submission; of its values nothing is wanted.

    Raises:
        DataError: it is not there, or no table of two columns with each id once.
    """
    table = read_cells(read_submission(path))
    form = [finding for finding in table.findings if finding.level is Level.FAIL]
    # A mark does not keep the ids from being read, and people save samples with Excel.
    if serious := [finding for finding in form if finding.check != "byte-order-mark"]:
        raise DataError(f"{path} is no sample submission: {serious[0].message}")
    header, *rows = table.rows
    if len(header.cells) != 2 or len(set(header.cells)) != 2:
        raise DataError(
            f"Expected a sample submission of two columns (an id, a value) at {path}, got "
            f"{len(header.cells)}: {','.join(header.cells)}"
        )
    for row in rows:
        if len(row.cells) != 2 or not row.cells[0].strip():
            raise DataError(
                f"Expected an id and a value on line {row.line} of {path}, got "
                f"{','.join(row.cells)!r}"
            )
    ids = [row.cells[0] for row in rows]
    if not ids:
        raise DataError(f"Expected ids in {path}, got a header and nothing else")
    if repeated := [name for name, n in Counter(ids).items() if n > 1]:
        raise DataError(
            f"Expected each id once in {path}, got {counted(len(repeated), 'id')} several times: "
            f"{_first(repeated)}; fetch the sample anew"
        )
    name, value = header.cells
    return Sample(path, (name, value), tuple(ids))


def read_submission(path: Path) -> bytes:
    """The bytes of a submission, no more of them than are needed to tell that it is too large.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no plain file" if path.exists() else "nothing"
        raise DataError(f"Expected a CSV file at {path}, got {kind} there")
    try:
        with path.open("rb") as stream:
            return stream.read(_kaggle_file.MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def check_submission(
    data: bytes, columns: tuple[str, str], ids: Sequence[str] | None
) -> list[Finding]:
    """All that is wrong with a submission, at once.

    FAIL is what Kaggle, or a CSV reader on the way, refuses or takes for something else. WARN is
    taken as it is and yet hardly meant: hard labels, one constant, another order, a last line
    without an end. PASS is harmless and told (CRLF, quotation marks).

    Args:
        data: the file as it is.
        columns: names of the columns of ids and of values.
        ids: those of the sample in its order; None: what needs them is not checked, which is told.

    Returns:
        A finding a fault, with line numbers and counts; a file without a FAIL has the PASS
        "submission" as well.
    """
    if len(data) > _kaggle_file.MOST_BYTES:
        most = _kaggle_file.MOST_BYTES
        return [
            Finding("huge-file", Level.FAIL, f"the file has more than {most:,} bytes; not read")
        ]
    table = read_cells(data)
    more, values = check_table(table, columns, ids)
    findings = [*table.findings, *more]
    if ids is None:
        findings.append(
            Finding(
                "no-sample",
                Level.WARN,
                "without a sample submission it is not known which ids should be there; give "
                "--sample",
            )
        )
    if worst(findings) is not Level.FAIL:
        as_sample = "" if ids is None else ", the ids of the sample"
        findings.append(
            passed(
                "submission",
                f"{counted(len(values), 'row')}{as_sample}; probabilities from {min(values):.4g} "
                f"to {max(values):.4g}, mean {sum(values) / len(values):.4g}",
            )
        )
    return findings


def write_submission(
    path: Path, sample: Sample, probabilities: npt.NDArray[np.float64]
) -> list[Finding]:
    """Write a submission durably; it gets its name once the written bytes have passed the check.

    Args:
        path: replaced if it is there.
        sample: whose ids and columns are written.
        probabilities: float64 (n,), one an id, in the order of the sample.

    Returns:
        What the check said, no FAIL among it.

    Raises:
        DataError: the check found a fault, such as NaN; what was at `path` is intact.
        DiskError: the file cannot be written.
    """
    data = submission_bytes(sample, probabilities)
    partial = path.with_name(f".{path.name}{files.PARTIAL}")
    files.make_folder(path.parent)
    if path.is_dir():
        raise DataError(f"Expected the name of a file to write, got the folder {path}")
    with files.told(path.parent, len(data)):
        try:
            files.write_new(partial, data)
            findings = check_submission(partial.read_bytes(), sample.columns, sample.ids)
            if bad := [finding for finding in findings if finding.level is Level.FAIL]:
                raise DataError(
                    f"{path} is not written: {'; '.join(finding.message for finding in bad)}"
                )
            os.replace(partial, path)  # noqa: PTH105 -- as in `files`, one call of `os`
        finally:
            partial.unlink(missing_ok=True)
        files.sync_folder(path.parent)
    return findings


def submission_bytes(sample: Sample, probabilities: npt.NDArray[np.float64]) -> bytes:
    """A submission as bytes: UTF-8, LF, each value in the fewest digits that give it back exactly.

    Without exponents, which not every spreadsheet takes; NaN stays `nan`, for the check to refuse.

    Raises:
        DataError: another number of probabilities than of ids.
    """
    if probabilities.shape != (len(sample.ids),):
        raise DataError(
            f"Expected {len(sample.ids):,} probabilities for the ids of {sample.path}, got an "
            f"array of shape {probabilities.shape}"
        )
    lines = [",".join(sample.columns)]
    for name, value in zip(sample.ids, probabilities.tolist(), strict=True):
        lines.append(f"{name},{np.format_float_positional(value, unique=True, trim='0')}")
    return ("\n".join(lines) + "\n").encode()


def positive_class(classes: Sequence[str], wanted: str | None) -> int:
    """Which class the probability is of.

    Args:
        classes: of the model, in its order.
        wanted: a class; None: of two classes the one that is called positive, tumour or the like
            (`POSITIVE`), else the second.

    Returns:
        Position in `classes`.

    Raises:
        DataError: no such class, or more than two classes and none is wanted.
    """
    if wanted is not None:
        if wanted not in classes:
            raise DataError(
                f"Expected --positive to be a class of the model ({', '.join(classes)}), got "
                f"{wanted!r}"
            )
        return classes.index(wanted)
    if len(classes) != 2:
        raise DataError(
            f"Expected --positive, the class whose probability is asked for, as the model has "
            f"{len(classes)} classes: {_first(classes)}"
        )
    named = [k for k, name in enumerate(classes) if name.strip().casefold() in POSITIVE]
    return named[0] if len(named) == 1 else 1


def match_images(
    sample: Sample, paths: Sequence[str], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """Find the image of each id: the file of that name, with or without its suffix.

    Args:
        sample: its ids are looked for.
        paths: of the image files, with forward slashes.
        folder: where they were looked for, for the messages.

    Returns:
        Path by id, in the order of the sample; and the paths that no id names.

    Raises:
        DataError: images are missing, all of them counted; or two files could be meant.
    """
    by_name: dict[str, list[str]] = {}
    for path in paths:
        last = path.rsplit("/", 1)[-1]
        for name in {last, SUFFIX.sub("", last)}:
            by_name.setdefault(name, []).append(path)
    found = {name: by_name[name] for name in sample.ids if name in by_name}
    if missing := [name for name in sample.ids if name not in found]:
        raise DataError(
            f"{counted(len(missing), 'image')} of the {len(sample.ids):,} in {sample.path} "
            f"{'is' if len(missing) == 1 else 'are'} missing in {folder}: {_first(missing)}; fetch "
            "the data again, or give the sample that belongs to it"
        )
    if twice := {name: there for name, there in found.items() if len(there) > 1}:
        both = [f"{name} ({' and '.join(there)})" for name, there in twice.items()]
        raise DataError(
            f"Expected one image an id in {folder}, got several for {counted(len(twice), 'id')}: "
            f"{_first(both)}; take one of each away"
        )
    matched = {name: there[0] for name, there in found.items()}
    return matched, sorted(set(paths) - set(matched.values()))


def faults(findings: Sequence[Finding]) -> Mapping[str, int]:
    """Name and count of what was found wrong; empty for a good file."""
    return {one.check: one.count for one in findings if one.level is not Level.PASS}


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
