"""Entries of the ledger: what a param holds, and the state that follows from all of them."""

import json

import pytest

from histo_mlflow.errors import PromotionError
from histo_mlflow.promotion.entry import Entry, Ledger


def ledger(*steps):
    """A ledger of (decision, champion) steps."""
    entries, was = [], None
    for n, (decision, champion) in enumerate(steps, 1):
        entries.append(Entry(n, decision, champion, was=was, version=champion))
        was = champion
    return Ledger("m", "r", tuple(entries))


def test_an_entry_survives_its_text_and_no_two_are_the_same():
    one = Entry(1, "promoted", 2, challenger=3, was=1, why="x < y", forced=("margin",))

    assert Entry.from_text(one.to_text()) == one
    assert Entry(1, "promoted", 2).nonce != Entry(1, "promoted", 2).nonce
    assert one.at.endswith("+00:00")


@pytest.mark.parametrize("why", ['"' * 9000, "\n" * 9000, "é" * 9000, "a. b." * 3000])
def test_long_reasons_are_cut_to_what_a_param_holds(why):
    text = Entry(1, "refused", None, why=why, by="u" * 1000).to_text()

    assert len(text) < 6000
    assert Entry.from_text(text).why.endswith("...")


@pytest.mark.parametrize(
    "text", ["", "3", "[]", "null", "{}", '{"format": 2}', "a b", '{"format":1,"forced":[]}']
)
def test_what_is_no_entry_is_told(text):
    with pytest.raises(PromotionError, match="Expected an entry of the ledger"):
        Entry.from_text(text)


def test_an_unknown_decision_or_field_is_told():
    values = json.loads(Entry(1, "promoted", 2).to_text())
    for wrong in ({"decision": "crowned"}, {"format": 2}, {"more": 1}):
        with pytest.raises(PromotionError):
            Entry.from_text(json.dumps(values | wrong))


def test_the_way_back_is_the_line_of_champions():
    p, b = "promoted", "rolled back"
    assert ledger().earlier() == ()
    assert ledger((p, 1)).earlier() == ()
    assert ledger((p, 1), (p, 2), (p, 3)).earlier() == (2, 1)
    assert ledger((p, 1), (p, 2), (p, 3), (b, 2)).earlier() == (1,)
    assert ledger((p, 1), (p, 2), (p, 3), (b, 1)).earlier() == ()
    assert ledger((p, 1), (p, 2), (b, 1), (p, 4)).earlier() == (1,)
    assert ledger((p, 1), (p, 2), ("refused", 2)).earlier() == (1,)
    # an alias moved by hand is a champion like any other, and one taken away leaves a way back
    assert ledger((p, 1), ("adopted", 5)).earlier() == (1,)
    assert ledger((p, 1), (p, 2), ("adopted", None)).earlier() == (2, 1)
    # a model that was champion twice
    assert ledger((p, 1), (p, 2), (p, 1)).earlier() == (2, 1)
    assert ledger((p, 1), (p, 2), (p, 1), (b, 2)).earlier() == (1,)


def test_a_rollback_is_remembered_until_the_model_is_champion_again():
    p, b = "promoted", "rolled back"
    assert ledger((p, 1), (p, 2)).rolled_back(2) is None
    assert ledger((p, 1), (p, 2), (b, 1)).rolled_back(2).generation == 3
    assert ledger((p, 1), (p, 2), (b, 1)).rolled_back(1) is None
    assert ledger((p, 1), (p, 2), (b, 1), (p, 2)).rolled_back(2) is None
