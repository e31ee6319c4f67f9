"""A Parquet body is read in a process of its own, so that nothing in it can take the server along.

It costs some tenths of a second a request. JSON with base64 is faster for a few images.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from histo_mlflow.inference.serving.answers import RefusedError
from histo_mlflow.inference.serving.limits import MIB, Limits

_CHILD = Path(__file__).with_name("_parquet_child.py")
_SPARE_BYTES = 512 * MIB


def images_of(body: bytes | bytearray, limits: Limits, seconds: float) -> list[bytes | None]:
    """Read the column `image` of a Parquet file.

    Args:
        body: the file.
        limits: how many rows and bytes it may hold.
        seconds: how long it may take.

    Returns:
        The bytes of each row, None for a row without.

    Raises:
        RefusedError: 400 no Parquet, or without the column; 413 too much in it; 504 too slow.
    """
    most_bytes = 2 * limits.body_bytes
    memory = 2 * most_bytes + len(body) + _SPARE_BYTES
    # It is ended here in time; of its own accord, a little later, where nobody is left to do it.
    numbers = (limits.images, most_bytes, memory, math.ceil(max(seconds, 0)) + 2)
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_CHILD), *map(str, numbers)],
            input=body,
            capture_output=True,
            timeout=max(seconds, 0.01),
            start_new_session=True,  # what a terminal sends is the server's, which finishes this
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RefusedError(504, "timeout", "The Parquet file took too long to read.") from error
    line, _, content = done.stdout.partition(b"\n")
    if done.returncode != 0 or not line:
        raise RefusedError(400, "parquet", "The Parquet file is damaged or takes too much memory.")
    answer = json.loads(line)
    if "refused" in answer:
        raise RefusedError(answer["status"], "parquet", answer["refused"])
    images: list[bytes | None] = []
    start = 0
    for size in answer["sizes"]:
        images.append(None if size is None else content[start : start + size])
        start += size or 0
    return images
