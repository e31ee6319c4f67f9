"""A page stands alone, is valid, and takes every text for text."""

import base64
import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.page import (
    Code,
    Items,
    Mark,
    Note,
    Picture,
    Section,
    Table,
    Text,
    page,
)

EVIL = "<script>alert('x')</script>"
QUOTED = '" onerror="alert(1)'


def png(width=130, height=65) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 90)).save(stream, "PNG")
    return stream.getvalue()


class Reader(HTMLParser):
    """The tags with their attributes and the visible text; fails on what is left open."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def everything(text: str) -> str:
    return page(
        text,
        [(text, text)],
        [
            Section(
                text,
                [
                    Text(text),
                    Note(text),
                    Items([text]),
                    Code(text),
                    Table([text], [[text], [Mark(text, "bad")]], caption=text),
                    Picture(png(), alt=text, caption=text),
                ],
            )
        ]
        * 3,
    )


@pytest.mark.parametrize("text", [EVIL, QUOTED, "</style>&amp;", "Naevus & <b>"], ids=range(4))
def test_whatever_is_given_stays_text(text):
    read, plain = Reader(everything(text)), Reader(everything("plain"))

    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain.tags]
    assert [set(of) for _, of in read.tags] == [set(of) for _, of in plain.tags]
    assert read.words.count(text) == plain.words.count("plain") > 20
    assert {image["alt"] for image in read.named("img")} == {text}


def test_nothing_is_fetched_and_no_script_may_run():
    text = everything("plain")
    read = Reader(text)

    assert not {"script", "link", "iframe"} & {tag for tag, _ in read.tags}
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    (policy,) = [m["content"] for m in read.named("meta") if "http-equiv" in m]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert all(a["href"].startswith("#part-") for a in read.named("a"))


def test_the_contents_lead_to_the_sections():
    sections = [Section(name, []) for name in ("one", "two", "three")]
    read = Reader(page("title", [], sections))

    targets = {section["id"] for section in read.named("section")}
    assert {a["href"].lstrip("#") for a in read.named("a")} == targets
    assert not Reader(page("title", [], sections[:2])).named("a")


def test_a_picture_is_inside_as_it_is_and_as_large_as_drawn(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    read = Reader(page("t", [], [Section("s", [Picture(tmp_path / "a.png", "one colour")])]))
    (image,) = read.named("img")

    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == png()
    assert (image["width"], image["height"]) == ("96", "48")


def test_cells_are_told_as_their_kind():
    rows = [[1234, 0.5, None, "12.3 %", "a", Mark("WARN", "warn")], [5, None, None, "7 %", "b", ""]]
    text = page("t", [], [Section("s", [Table(list("abcdef"), rows)])])
    read = Reader(text)

    for told in ("1,234", "0.5000", "undefined", "12.3 %", "WARN"):
        assert told in read.words
    numeric = [cell.get("class") == "number" for cell in read.named("th")]
    assert numeric == [True, True, False, True, False, False]
    assert 'class="mark warn"' in text


def test_an_empty_table_has_its_head_alone():
    read = Reader(page("t", [], [Section("s", [Table(["a", "b"], [])])]))

    assert len(read.named("th")) == 2
    assert not read.named("td")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (Picture(b"GIF89a" + b"0" * 30, "what"), "Expected a PNG for the picture 'what'"),
        (Picture(png(), " "), "Expected a text that says what a picture shows"),
        (Table(["a", "b"], [[1, 2], [3]]), "Expected 2 cells in each row of a table, got 1"),
    ],
    ids=["no PNG", "no alternative text", "ragged rows"],
)
def test_what_cannot_be_shown_is_refused(block, said):
    with pytest.raises(DataError, match=said):
        page("t", [], [Section("s", [block])])
