"""Cases of images that are none, and of tables of the wrong shape."""

from typing import Any

from hostility import images as bad
from hostility.case import (
    ECHO,
    GOOD,
    OTHER,
    Case,
    posted,
    rows,
    text,
)


def bytes_as_images() -> list[Case]:
    """A good image, then one that is none: the answer names the second."""
    jpeg, tiff = bad.picture(1, "JPEG"), bad.picture(2, "TIFF")
    broken = {
        "empty file": b"",
        "truncated JPEG": jpeg[: len(jpeg) // 2],
        "truncated PNG": GOOD[: len(GOOD) // 2],
        "truncated TIFF": tiff[: len(tiff) // 2],
        "only a signature": b"\x89PNG\r\n\x1a\n",
        "a PNG with a changed byte": GOOD[:60] + b"\xff" + GOOD[61:],
        "a PNG of 20,000 x 20,000 (above Pillow's limit)": bad.png(20_000, 20_000),
        "a PNG of 8,000 x 8,100 (under Pillow's limit, above ours)": bad.png(8_000, 8_100),
        "a PNG that claims 2^31-1 pixels a side": bad.png(2**31 - 1, 2**31 - 1, rows=1),
        "a PNG of no pixels": bad.png(0, 0),
        "a JPEG that claims 65,535 x 65,535": bad.jpeg_of_size(65_535, 65_535),
        "a TIFF that claims 4,000,000,000 pixels a side": bad.tiff(4_000_000_000, 4_000_000_000),
        "a TIFF that claims 7,999 x 7,999": bad.tiff(7_999, 7_999),
        "a TIFF of three pages": bad.frames("TIFF"),
        "an animated PNG": bad.frames("PNG"),
        "a PNG whose text unpacks to 100 MB": bad.png_with_text(b"zTXt", 100_000_000),
        "a CMYK JPEG": bad.picture(3, "JPEG", mode="CMYK"),
        "GIF": bad.saved("GIF"),
        "WEBP": bad.saved("WEBP"),
        "BMP": bad.saved("BMP"),
        "ICO": bad.saved("ICO"),
        "SVG with a file in it": bad.SVG,
        "EPS with a command in it": bad.EPS,
        "PDF with a launch in it": bad.PDF,
        "FITS": bad.FITS,
        "a pickle": bad.PICKLE,
        "a zip": b"PK\x03\x04" + bytes(60),
        "HTML": b"<html><script>alert(1)</script></html>",
    }
    return [posted(f"bytes: {name}", rows(text(GOOD), text(data))) for name, data in broken.items()]


def odd_images() -> list[Case]:
    """Odd, but pixels within the limits come out: answered as in training, or refused earlier."""
    claims = bad.jpeg_of_size(8_000, 8_000)
    loop = bad.tiff(8, 1, next_directory=16)
    profile = bad.png_with_text(b"iCCP", 100_000_000)
    largest = bad.png(8_000, 8_000)
    behind = GOOD + b"PK\x03\x04" + bytes(100_000)
    return [
        posted(
            "bytes: a PNG whose profile unpacks to 100 MB", rows(text(profile)), images=[profile]
        ),
        posted(
            "bytes: a PNG of 8,000 x 8,000, the most taken", rows(text(largest)), images=[largest]
        ),
        posted("bytes: a JPEG that claims 8,000 x 8,000", rows(text(claims)), images=[claims]),
        posted("bytes: a TIFF whose directory points to itself", rows(text(loop)), images=[loop]),
        posted("bytes: a PNG with a zip behind it", rows(text(behind)), images=[behind]),
    ]


def texts_as_images(canary: int) -> list[Case]:
    """Texts in place of base64: addresses, paths, other scripts."""
    shown = text(GOOD)
    lone = b'{"dataframe_records": [{"image": "\\ud800\\udc00\\ud800"}]}'
    values = {
        "base64 cut short": shown[:-3],
        "base64 with a foreign letter in it": text(OTHER)[:500] + "!" + text(OTHER)[501:],
        "base64 of base64": text(shown.encode()),
        "http address": f"http://127.0.0.1:{canary}/image.png",
        "ftp address": f"ftp://127.0.0.1:{canary}/image.png",
        "s3 address": "s3://bucket/image.png",
        "file address": "file:///etc/passwd",
        "path": "/etc/passwd",
        "path that is base64 too": "etc/passwd/aa",
        "path upwards": "../../../../../../etc/passwd",
        "UNC path": f"\\\\127.0.0.1@{canary}\\share\\image.png",
        "command": "|touch histo-hostile-canary",
        "command in a shell": "$(touch histo-hostile-canary)",
        "template": "{{7*7}} ${jndi:ldap://127.0.0.1/a} {0.__class__}",
        "emoji": "🔬" * 100,
        "right to left": "\u202eصورة",
        "NUL": "\0" * 100,
        "empty": "",
        "blanks": " \n\t ",
        "data address of a text": "data:text/plain;base64,aGFsbG8=",
        "data address with a remote file": f"data:http://127.0.0.1:{canary}/;base64,AAAA",
        "a text of 5 MB": "A" * 5_000_000,
    }
    cases = [posted(f"text: {name}", rows(shown, value)) for name, value in values.items()]
    cases += [
        posted(f"text in inputs: {name}", {"inputs": [shown, values[name]]})
        for name in ("http address", "path", "emoji", "NUL", "base64 cut short")
    ]
    cases.append(posted("text: half a surrogate pair", lone))
    return cases


def values_as_images() -> list[Case]:
    """JSON values in place of a text, in all four forms."""
    good = text(GOOD)
    odd: dict[str, Any] = {
        "a number": 5,
        "null": None,
        "true": True,
        "a list of bytes": list(GOOD[:50]),
        "a dictionary": {"b64": good},
        "a magic dictionary": {"__class__": "os.system", "__reduce__": ["os.system", ["id"]]},
    }
    cases = [posted(f"value: {name}", rows(good, value)) for name, value in odd.items()]
    cases += [
        posted(f"value in records: {name}", {"dataframe_records": [{"image": good}, {"image": v}]})
        for name, v in odd.items()
        if name in ("null", "a dictionary")
    ]
    for form in ("inputs", "instances"):
        cases += [
            posted(f"value in {form}: {name}", {form: [{"image": good}, {"image": value}]})
            for name, value in odd.items()
        ]
        cases += [
            posted(f"value in {form}: only a number", {form: 5}),
            posted(f"value in {form}: only null", {form: None}),
            posted(f"value in {form}: only a text", {form: good}),
            posted(f"value in {form}: a list of numbers", {form: [1, 2, 3]}),
            posted(f"value in {form}: nested lists", {form: [[[good, good]]]}),
            posted(
                f"value in {form}: a tensor with NaN",
                b'{"%s": [[[[NaN, Infinity, -1e999]]]]}' % form.encode(),
            ),
            posted(f"value in {form}: a tensor of pixels", {form: [[[[0.5] * 3] * 32] * 32]}),
            posted(f"value in {form}: ragged lists", {form: [[1, 2], [3]]}),
        ]
    return cases


def tables() -> list[Case]:
    """Tables of the wrong shape."""
    good = text(GOOD)
    wide = {"columns": ["image", "x"], "data": [[good, "y"]]}
    return [
        posted("table: another column", {"dataframe_records": [{"picture": good}]}),
        posted("table: the column in capitals", {"dataframe_records": [{"Image": good}]}),
        posted("table: one more column", {"dataframe_split": wide}, images=[GOOD]),
        posted("table: a row without the column", {
            "dataframe_records": [{"image": good}, {"x": 1}]}),
        posted(
            "table: the column twice",
            {"dataframe_split": {"columns": ["image", "image"], "data": [[good, good]]}},
        ),
        posted("table: no rows", rows(), images=[]),
        posted("table: no records", {"dataframe_records": []}, images=[]),
        posted("table: rows longer than the columns", {"dataframe_split": {
            "columns": ["image"], "data": [[good, good]]}}),
        posted("table: no column names", {"dataframe_split": {"data": [[good]]}}),
        posted("table: data is a text", {"dataframe_split": {"columns": ["image"], "data": good}}),
        posted("table: data is a number", {"dataframe_split": {"columns": ["image"], "data": 7}}),
        posted("table: columns is a dictionary", {"dataframe_split": {
            "columns": {"image": 1}, "data": [[good]]}}, images=[GOOD]),
        posted("table: another index", {"dataframe_split": {
            "columns": ["image"], "index": [9, 3], "data": [[good], [text(OTHER)]]}},
            images=[GOOD, OTHER]),
        posted("table: an index of another length", {"dataframe_split": {
            "columns": ["image"], "index": [1, 2, 3], "data": [[good]]}},
            images=[GOOD], known=["wrong answer"]),
        posted("table: split is a list", {"dataframe_split": [good]}),
        posted("table: records is a dictionary", {"dataframe_records": {"image": [good]}}),
        posted("table: instances where a row lacks the column",
               {"instances": [{"image": good}, {"x": 5}]}, known=["status 200"]),
        posted("table: instances of other lengths", {"instances": [
            {"image": good}, {"image": good, "x": 2}]}, images=[GOOD, GOOD]),
        posted("table: 10,000 images", rows(*[good] * 10_000),
               images=[GOOD] * 10_000, allowed=[400, 413, 503, 504], seconds=120),
        posted("table: 10,000 wrong images", rows(*["AAAA"] * 10_000)),
        posted("table: one long text among 100 short ones", {
            "inputs": ["A" * 1_000_000] + ["AAAA"] * 100}, known=[ECHO]),
    ]  # fmt: skip
