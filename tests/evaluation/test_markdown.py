"""Markdown of a page: the words are those of the HTML, and none of them is markup."""

import re

import pytest

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.markdown import escaped, markdown
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


def of(*blocks: object) -> str:
    text = markdown("T", [], [Section("S", list(blocks))])  # type: ignore[arg-type]
    return text.removeprefix("# T\n\n## S\n\n").removesuffix("\n")


def test_every_block_has_its_form() -> None:
    assert of(Text("one  two\nthree")) == "one two three"
    assert of(Note("careful")) == "> careful"
    assert of(Items(["a", "b"])) == "- a\n- b"
    assert of(Code("x = 1\n# y_z | *")) == "```\nx = 1\n# y_z | *\n```"
    assert of(Picture(b"", "a curve")) == "*Picture: a curve*"
    assert (
        of(Table(("a", "b"), [("1", "2")], "of n")) == "of n\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    )
    assert markdown("T", [("n", "3")], []) == "# T\n\n- **n**: 3\n"


def test_a_cell_says_what_it_says_in_html() -> None:
    cells = ("text", 12345, 0.5, None, True, False, Mark("PASS", "good"))
    table = Table([str(i) for i in range(len(cells))], [cells])
    html = re.findall(r"<td[^>]*>(.*?)</td>", page("T", [], [Section("S", [table])]))
    told = [re.sub("<[^>]*>", "", cell) for cell in html]
    assert of(table).splitlines()[-1].replace("**", "") == f"| {' | '.join(told)} |"


def test_a_pipe_or_a_new_line_stays_in_its_cell() -> None:
    lines = of(Table(("class",), [("a|b\nc",), ("| --- |",)])).splitlines()
    assert lines[2:] == ["| a\\|b c |", "| \\| --- \\| |"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<b>x</b>", "\\<b\\>x\\</b\\>"),
        ("*x* _x_ `x` ~x~ $x$", "\\*x\\* \\_x\\_ \\`x\\` \\~x\\~ \\$x\\$"),
        ("[a](b)", "\\[a\\](b)"),
        ("&lt; & c", "\\&lt; & c"),
        ("a\\b", "a\\\\b"),
        ("# no heading", "\\# no heading"),
        ("- no item", "\\- no item"),
        ("1. no item", "1\\. no item"),
        ("2) no item", "2\\) no item"),
        ("---", "\\---"),
    ],
    ids=str,
)
def test_what_has_a_meaning_in_markdown_is_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected


@pytest.mark.parametrize("text", ["0.954 (0.941 to 0.965)", "-0.05", "batch_size", "x - y"])
def test_numbers_and_names_stay_legible(text: str) -> None:
    assert escaped(text) == text


def test_a_fence_is_longer_than_any_in_the_code() -> None:
    assert of(Code("```\nx\n```")) == "````\n```\nx\n```\n````"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="Expected 2 cells in each row of a table, got 1"):
        of(Table(("a", "b"), [("1",)]))
