"""A body is understood: what it can hold is counted before it is parsed, cells are judged by row.

JSON and CSV are parsed by MLflow's own functions, so that both servers understand the same. Before
that, in this order: the number of values a text can hold is bounded by its separators, which costs
no memory; it is parsed; nothing is nested deeper than a table is; the images are counted; a cell of
the column `image` that is no text, or not base64, is named by its row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from histo_mlflow.errors import ImageError
from histo_mlflow.inference.serving.answers import RefusedError
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.registry.predictor import BadImagesError
from histo_mlflow.registry.serving_model import image_bytes

JSON = "application/json"
CSV = "text/csv"
PARQUET = ("application/vnd.apache.parquet", "application/x-parquet")
IMAGES = ("image/jpeg", "image/png", "image/tiff", "application/octet-stream")

COLUMN = "image"
FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_CSV_EXTRA = 2

EXPECTED = (
    "expected a JSON object with one of dataframe_split, dataframe_records, inputs and instances, "
    "and in it a column 'image' of base64 text"
)


@dataclass(frozen=True)
class MediaType:
    """What a body says it is."""

    name: str
    charset: str


def media_type(value: str | None) -> MediaType:
    """Read a `Content-Type`.

    Raises:
        RefusedError: 415, none, one that is not taken, or parameters that are not.
    """
    name, *parameters = [part.strip() for part in (value or "").split(";")]
    name = name.lower()
    if name not in (JSON, CSV, *PARQUET, *IMAGES):
        raise RefusedError(
            415,
            "content_type",
            f"Expected a Content-Type of {', '.join((JSON, CSV, PARQUET[0], *IMAGES))}.",
        )
    found = dict(part.partition("=")[::2] for part in parameters if part)
    charset = found.pop("charset", "utf-8").strip('"').lower()
    if charset not in ("utf-8", "utf8") or found:
        raise RefusedError(
            415, "content_type", "Expected UTF-8 and no other parameters in Content-Type."
        )
    return MediaType(name, "utf-8")


def json_table(body: bytes | bytearray, limits: Limits) -> dict[str, Any]:
    """Parse a JSON body and judge what MLflow is about to read.

    Args:
        body: JSON text in UTF-8, as MLflow takes it.
        limits: how much it may hold.

    Returns:
        The column `image` alone, as `{"dataframe_split": ...}`, whatever form it came in: numpy
        would pad the texts of `inputs` and `instances` to the longest of them, which makes
        gigabytes of a thousand short ones and a long one.

    Raises:
        RefusedError: 400 no JSON, nested too deeply or another form; 413 too many values or images.
        BadImagesError: cells of the column that are no base64 text.
    """
    _count_values(body, limits, b"[{,")
    try:
        parsed = json.loads(body)
    except RecursionError as error:
        raise _bad("json", "The JSON is nested too deeply for a table of images.") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, a number of 5,000 digits
        raise _bad("json", f"The body is not JSON: {EXPECTED}.") from error
    found = [form for form in FORMS if isinstance(parsed, dict) and form in parsed]
    if len(found) != 1:
        raise _bad("json", f"The body is not understood: {EXPECTED}.")
    if not isinstance(parsed.get("params"), dict | None):
        raise _bad("json", "Expected 'params' to be an object; this model has none.")
    cells = image_cells(found[0], parsed[found[0]])
    check_count(len(cells), limits)
    _check_cells(cells)
    return {"dataframe_split": {"columns": [COLUMN], "data": [[cell] for cell in cells]}}


def check_csv(body: bytes | bytearray, limits: Limits) -> None:
    """Bound what a CSV body can hold.

    Raises:
        RefusedError: 413 too many values or lines.
    """
    _count_values(body, limits, b",")
    lines = max(body.count(b"\n"), body.count(b"\r"))
    if lines > limits.images + _CSV_EXTRA:
        check_count(lines, limits)


def check_count(images: int, limits: Limits) -> None:
    """Refuse more images than a request may have.

    Raises:
        RefusedError: 413.
    """
    if images > limits.images:
        raise RefusedError(
            413,
            "too_many_images",
            f"Too many images: {images:,} in one request, at most {limits.images:,} are taken.",
        )


def image_cells(form: str, value: Any) -> Sequence[Any]:
    """The values of the column `image` in a form, one a row.

    Raises:
        RefusedError: 400, there is no such column, or a row that is no row of the table.
    """
    match form, value:
        case "dataframe_split", {"columns": [*columns], "data": [*rows]}:
            if columns.count(COLUMN) != 1:
                raise _no_column()
            width = len(columns)
            for index, row in enumerate(rows):
                if not isinstance(row, list) or len(row) != width:
                    raise _bad("column", f"Row {index}: expected a list of {width} values.")
            return [row[columns.index(COLUMN)] for row in rows]
        case "inputs" | "instances", {"image": [*cells]}:
            return cells
        case "inputs" | "instances", {"image": cell}:
            return [cell]
        case "dataframe_records" | "inputs" | "instances", [*rows]:
            named = [row for row in rows if isinstance(row, dict)]
            if form != "dataframe_records" and not named:
                return rows
            if len(named) < len(rows) or not any(COLUMN in row for row in named):
                raise _no_column()
            return [row.get(COLUMN) for row in named]
    raise _no_column()


def _check_cells(cells: Sequence[Any]) -> None:
    problems = []
    for index, cell in enumerate(cells):
        try:
            image_bytes(cell)
        except ImageError as error:
            problems.append((index, str(error)))
    if problems:
        raise BadImagesError(problems, len(cells))


def _count_values(body: bytes | bytearray, limits: Limits, separators: bytes) -> None:
    """Base64 text has none of these characters, so a table of images has few of them."""
    if sum(body.count(separators[i : i + 1]) for i in range(len(separators))) > limits.values:
        raise RefusedError(
            413,
            "too_many_values",
            f"The body holds more values than a table of {limits.images:,} images needs.",
        )


def _bad(reason: str, message: str) -> RefusedError:
    return RefusedError(400, reason, message)


def _no_column() -> RefusedError:
    return _bad("column", f"There is no table with a column 'image': {EXPECTED}.")
