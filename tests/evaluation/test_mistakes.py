"""Which images are picked to be looked at, in which order, and what is written above them."""

import numpy as np
import pytest

from figures import HAM, LONG, TWO, drawn_table
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.grids import sample_grid
from histo_mlflow.evaluation.mistakes import COLUMNS, confident_mistakes, least_certain, surest_hits
from histo_mlflow.evaluation.predictions import predictions_table


def table_of(probs, targets, groups=None, classes=("mel", "nv", "bcc")):
    n = len(targets)
    return predictions_table(
        [f"i{i}" for i in range(n)], groups or [f"g{i}" for i in range(n)], ["test"] * n,
        targets, np.log(probs), classes, "softmax",
    )  # fmt: skip


SAID = [[0.02, 0.98, 0.0001], [0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.41, 0.4, 0.19]]


def test_the_surest_mistakes_come_first_and_right_rows_never() -> None:
    found = confident_mistakes(table_of(SAID, [0, 1, 1, 2]))

    assert tuple(found.columns) == COLUMNS
    assert list(found["id"]) == ["i0", "i1", "i3"]
    assert list(found["title"]) == [
        "true mel · said nv 0.98", "true nv · said mel 0.70", "true bcc · said mel 0.41"
    ]  # fmt: skip
    np.testing.assert_allclose(found["probability"], [0.98 / 1.0001, 0.7, 0.41], atol=1e-9)
    assert list(found["group"]) == ["g0", "g1", "g3"]


def test_the_least_certain_are_those_of_smallest_margin_right_or_wrong() -> None:
    found = least_certain(table_of(SAID, [0, 1, 1, 2]), n=3)

    assert list(found["id"]) == ["i3", "i2", "i1"]
    np.testing.assert_allclose(found["margin"], [0.01, 0.3, 0.5], atol=1e-9)
    assert list(found["second"]) == ["nv", "mel", "nv"]
    assert (
        list(found["title"])[:2]
        == ["true bcc · mel 0.41, nv 0.40", "true nv · nv 0.60, mel 0.30"][:2]
    )


@pytest.mark.parametrize("pick", [confident_mistakes, least_certain])
def test_one_group_does_not_fill_the_grid_unless_asked_for(pick) -> None:
    table = table_of(SAID, [2, 2, 2, 2], groups=["a", "b", "b", "a"])

    once, all_rows = pick(table), pick(table, one_per_group=False)

    assert len(once) == 2
    assert sorted(once["group"]) == ["a", "b"]
    assert once["id"].iloc[0] == all_rows["id"].iloc[0]
    assert len(all_rows) == 4


def test_the_order_agrees_with_a_plain_sort_on_many_rows() -> None:
    rows = predictions.of_split(drawn_table(HAM, 400), "test")
    probs = np.sort(predictions.probabilities_of(rows), axis=1)
    sure = rows.assign(p=probs[:, -1], m=probs[:, -1] - probs[:, -2])
    wrong = sure[sure["label"] != sure["predicted"]].sort_values("p", ascending=False)

    assert list(confident_mistakes(rows)["id"]) == list(wrong.drop_duplicates("group")["id"])[:24]
    unsure = sure.sort_values("m").drop_duplicates("group")
    assert list(least_certain(rows)["id"]) == list(unsure["id"])[:24]


def test_probabilities_that_round_to_one_are_still_ranked_and_do_not_read_as_certain() -> None:
    table = predictions_table(
        ["a", "b", "c"], ["a", "b", "c"], ["test"] * 3, [0, 0, 0],
        [[50.0], [90.0], [70.0]], TWO, "sigmoid",
    )  # fmt: skip
    assert set(table["p_tumour"]) == {1.0}

    found = confident_mistakes(table)

    assert list(found["id"]) == ["b", "c", "a"]
    assert found["title"].iloc[0] == "true normal\nsaid tumour >0.99"
    assert least_certain(table)["title"].iloc[0] == "true normal\ntumour >0.99, normal <0.01"


def test_equal_rows_come_in_the_order_of_their_ids_whatever_their_place() -> None:
    table = table_of([[0.2, 0.7, 0.1]] * 4, [0, 0, 0, 0])

    assert list(confident_mistakes(table.iloc[[2, 0, 3, 1]])["id"]) == ["i0", "i1", "i2", "i3"]
    assert list(least_certain(table.iloc[[2, 0, 3, 1]])["id"]) == ["i0", "i1", "i2", "i3"]


def test_without_a_mistake_or_a_row_the_table_is_empty_but_whole() -> None:
    right = table_of(SAID, [1, 0, 1, 0])

    for found in (
        confident_mistakes(right),
        confident_mistakes(right.head(0)),
        least_certain(right.head(0)),
        least_certain(right, n=0),
    ):
        assert found.empty
        assert tuple(found.columns) == COLUMNS


def test_long_names_take_two_lines_in_every_title_and_keep_the_numbers_in_a_grid() -> None:
    rows = predictions.of_split(drawn_table(LONG), "test")
    found = confident_mistakes(rows, n=6)

    assert all(len(title.splitlines()) == 2 for title in found["title"])
    images = np.zeros((len(found), 32, 32, 3), dtype=np.uint8)
    drawn = [text.get_text() for text in sample_grid(images, list(found["title"])).axes[0].texts]
    for title in found["title"]:
        assert any("…" in text and text.endswith(title.split()[-1]) for text in drawn)


def test_sure_hits_take_the_classes_in_turn_and_never_a_wrong_row() -> None:
    said = [[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.1, 0.8, 0.1]]
    found = surest_hits(table_of(said, [0, 0, 0, 1, 2]), 3)

    assert list(found["id"]) == ["i0", "i3", "i1"]
    assert next(iter(found["title"])) == "true mel · said so 0.90"
    assert surest_hits(table_of(said[:1], [1])).empty
