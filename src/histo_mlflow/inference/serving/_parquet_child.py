"""Run by itself: reads a Parquet file from stdin and writes its images to stdout.

A Parquet file can say anything of itself: pages that inflate a thousandfold, a row that is repeated
a billion times; and Arrow's reader is native code. So it runs in a process that may take limited
memory and time, also where the server is gone that would end it. It needs pyarrow and nothing of
this package.

Arguments: the most rows, bytes of all images, bytes of memory, and seconds at work.
Output: a line of JSON, {"sizes": [...]} with null for a row without an image, then the images one
after the other; or {"refused": sentence}.
"""

import json
import sys


def main() -> None:
    """Read, judge, write."""
    most_rows, most_bytes, memory, seconds = (int(text) for text in sys.argv[1:5])
    body = sys.stdin.buffer.read()
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

    _limit(memory, seconds)
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        facts, schema = file.metadata, file.schema_arrow
        if facts.num_rows > most_rows:
            return _refuse(
                413,
                f"Too many images: {facts.num_rows:,} rows in one request, at "
                f"most {most_rows:,} are taken.",
            )
        if schema.names.count("image") != 1 or facts.num_row_groups > most_rows:
            return _refuse(400, "There is no column 'image' in the Parquet file.")
        kind = schema.field("image").type
        if not (
            pa.types.is_binary(kind)
            or pa.types.is_large_binary(kind)
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
        ):
            return _refuse(400, "Expected bytes or base64 text in the column 'image' of Parquet.")
        images: list[bytes | None] = []
        total = 0
        for batch in file.iter_batches(batch_size=4, columns=["image"], use_threads=False):
            for value in batch.column(0):
                held = value.as_buffer()
                data = None if held is None else held.to_pybytes()
                total += len(data or b"")
                if len(images) == most_rows or total > most_bytes:
                    return _refuse(413, "The Parquet file holds more than a request may have.")
                images.append(data)
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError):
        return _refuse(400, "The Parquet file is damaged or takes too much memory.")
    sizes = [None if data is None else len(data) for data in images]
    sys.stdout.buffer.write(json.dumps({"sizes": sizes}).encode() + b"\n")
    sys.stdout.buffer.write(b"".join(data for data in images if data is not None))


def _refuse(status: int, sentence: str) -> None:
    sys.stdout.buffer.write(json.dumps({"status": status, "refused": sentence}).encode() + b"\n")


def _limit(more: int, seconds: int) -> None:
    """Let the process take no more than it has and `more` bytes, and end after seconds at work.

    Where the system can.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits; the sizes above still hold
        return
    from pathlib import Path

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    taken = 0
    statm = Path("/proc/self/statm")
    if statm.is_file():
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + more, taken + more))


if __name__ == "__main__":
    main()
