"""Cases of JSON, CSV and Parquet that are none, or no request."""

import json

from hostility import images as bad
from hostility.case import (
    CRASH,
    CSV,
    GOOD,
    PARQUET,
    TRACE,
    Case,
    parquet,
    posted,
    rows,
    text,
)


def documents() -> list[Case]:
    """JSON that is none, or no request."""
    good = text(GOOD)
    sound = json.dumps(rows(good)).encode()
    return [
        posted("JSON: nothing", b""),
        posted("JSON: cut short", b'{"inputs": ["'),
        posted("JSON: 100,000 brackets", b"[" * 100_000, known=[CRASH]),
        posted("JSON: 100,000 brackets, closed, in a request",
               b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", known=[CRASH]),
        posted("JSON: 100,000 dictionaries", b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
               known=[CRASH]),
        posted("JSON: a number of 10,000 digits", b'{"inputs": [' + b"1" * 10_000 + b"]}",
               known=[CRASH]),
        posted("JSON: a list", [good]),
        posted("JSON: a text", "hello"),
        posted("JSON: null", None),
        posted("JSON: no known key", {"images": [good]}),
        posted("JSON: two known keys", {"inputs": [good], "instances": [good]}),
        posted("JSON: the key twice",
               json.dumps({"inputs": ["AAAA"]})[:-1].encode() + b', "inputs": ["BBBB"]}'),
        posted("JSON: UTF-16", sound.decode().encode("utf-16"), images=[GOOD]),
        posted("JSON: not UTF-8", b'{"inputs": ["\xff\xfe"]}'),
        posted("JSON: with a BOM", b"\xef\xbb\xbf" + sound, images=[GOOD]),
        posted("JSON: NaN as a document", b"NaN"),
        posted("JSON: a request of a language model", {"messages": [{"role": "user"}]}),
        posted("JSON: a prompt", {"prompt": "x"}),
        posted("params: unknown", {**rows(good), "params": {"temperature": 5}}, images=[GOOD]),
        posted("params: a path", {**rows(good), "params": {"model": "/etc/passwd"}}, images=[GOOD]),
        posted("params: a list", {**rows(good), "params": [1]}, images=[GOOD]),
        posted("params: nested 500 deep", b'{"inputs": ["AAAA"], "params": '
               + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}"),
    ]  # fmt: skip


def other_types() -> list[Case]:
    """CSV, Parquet, and what is neither."""
    good = text(GOOD)
    sound = json.dumps(rows(good)).encode()
    nested = parquet([{"a": {"b": 1}}])
    numbers = parquet([1, 2])
    return [
        posted("CSV: nothing", b"", content_type=CSV, known=[TRACE]),
        posted("CSV: no base64", b"image\nhello\n", content_type=CSV),
        posted("CSV: an empty cell", f"image,x\n{good},1\n,2\n".encode(), content_type=CSV),
        posted("CSV: ragged", b"image\n1,2,3\n4\n5,6,7,8,9\n", content_type=CSV, known=[TRACE]),
        posted("CSV: NULs", b"image\n\0\0\0\n", content_type=CSV),
        posted("CSV: not UTF-8", b"image\n\xff\xfe\n", content_type=CSV),
        posted("CSV: a formula", b'image\n"=cmd|\' /C id\'!A0"\n', content_type=CSV),
        posted("Parquet: no Parquet", b"PAR1" + bytes(100) + b"PAR1", content_type=PARQUET,
               known=[TRACE]),
        posted("Parquet: nothing", b"", content_type=PARQUET, known=[TRACE]),
        posted("Parquet: cut short", parquet([GOOD])[:-9], content_type=PARQUET, known=[TRACE]),
        posted("Parquet: a path", b"/etc/passwd", content_type=PARQUET, known=[TRACE]),
        posted("Parquet: numbers", numbers, content_type=PARQUET),
        posted("Parquet: nested", nested, content_type=PARQUET),
        posted("Parquet: lists", parquet([[1, 2], [3]]), content_type=PARQUET),
        posted("Parquet: null", parquet([GOOD, None]), content_type=PARQUET),
        posted("Parquet: another column", parquet([GOOD], "x"), content_type=PARQUET),
        posted("Parquet: pickle in a cell", parquet([bad.PICKLE]), content_type=PARQUET),
        posted("type: a pickle", bad.PICKLE, content_type="application/octet-stream"),
        posted("type: image/png", GOOD, content_type="image/png", images=[GOOD]),
        posted("type: a form", b"image=x", content_type="application/x-www-form-urlencoded"),
        posted("type: a broken form", b"--x\r\n", content_type="multipart/form-data; boundary=x"),
        posted("type: none", sound, content_type=None, known=[CRASH]),
        posted("type: nonsense", sound, content_type=";;;===\x01"),
        posted("type: another charset", sound, content_type="application/json; charset=utf-16"),
        posted("type: a parameter", sound, content_type="application/json; x=1"),
        posted("type: 8,000 letters", sound, content_type="a" * 8_000),
    ]  # fmt: skip
