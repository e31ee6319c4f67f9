"""The ledger in a real SQLite store: one writer an entry, and aliases that follow it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from histo_mlflow.errors import OvertakenError, PromotionError
from histo_mlflow.promotion import aliases, ledger
from histo_mlflow.promotion.entry import Entry
from histo_mlflow.promotion.transition import Subject, crown, opened, refuse, roll_back
from histo_mlflow.tracking.store import connect

NAME = "histo-x"


@pytest.fixture
def store(store_uri):
    return connect(store_uri)


@pytest.fixture
def made(store):
    """A registered model with four versions."""
    found = ledger.find_or_make(store, NAME)
    for _ in range(4):
        store.client.create_model_version(NAME, "/nowhere", await_creation_for=0)
    return found


def subject(version):
    return Subject(version, f"m-{version}", f"run-{version}")


def now(store):
    found = aliases.aliases(store, NAME)
    return found.champion, found.challenger


def test_the_champion_moves_only_from_where_it_was_expected(store, made):
    first, _ = crown(store, made, subject(1), expected=None)
    assert now(store) == (1, None)

    crown(store, first, subject(2), expected=1)
    with pytest.raises(OvertakenError, match="to be version 1, but meanwhile it is version 2"):
        crown(store, first, subject(3), expected=1)  # has read the ledger before
    assert now(store) == (2, None)
    assert [entry.champion for entry in ledger.find(store, NAME).entries] == [1, 2]


def test_a_refusal_in_between_costs_nobody_a_promotion(store, made):
    first, _ = crown(store, made, subject(1), expected=None)
    refuse(store, first, subject(2), why="worse")
    assert now(store) == (1, 2)

    _, entry = crown(store, first, subject(3), expected=1)

    assert entry.generation == 3
    assert now(store) == (3, 2)
    crown(store, ledger.find(store, NAME), subject(2), expected=3)
    assert now(store) == (2, None), "the champion is no challenger any more"


def test_a_refused_model_that_was_not_registered_moves_nothing(store, made):
    first, _ = crown(store, made, subject(1), expected=None)
    refuse(store, first, Subject(None, "m-x", "run-x"), why="leaks")
    refuse(store, first, subject(1), why="champion already")
    assert now(store) == (1, None)
    assert [entry.decision for entry in ledger.find(store, NAME).entries[1:]] == ["refused"] * 2


def test_back_and_forth(store, made):
    found = made
    for version in (1, 2, 3):
        found, _ = crown(store, found, subject(version), expected=found.champion)
    found, _ = roll_back(store, found, subject(2))
    assert now(store) == (2, None)
    stale = found
    found, _ = roll_back(store, found, subject(1))
    assert now(store) == (1, None)
    with pytest.raises(OvertakenError):
        roll_back(store, stale, subject(1))


def test_whoever_was_killed_before_the_alias_is_finished_by_the_next(store, made):
    first, _ = crown(store, made, subject(1), expected=None)
    ledger.extend(store, first, lambda at: Entry(at.next_generation, "promoted", 2, was=1))
    assert now(store) == (1, None)
    assert aliases.standing(store, ledger.find(store, NAME)).state == "unsettled"
    assert opened(store, NAME, expect=None, writing=False).champion == 2
    assert now(store) == (1, None), "a look changes nothing"

    assert opened(store, NAME, expect="2").champion == 2
    assert now(store) == (2, None)
    assert aliases.standing(store, ledger.find(store, NAME)).state == "settled"


def test_an_alias_that_somebody_slow_set_too_late_is_set_right(store, made):
    first, _ = crown(store, made, subject(1), expected=None)
    slow, entry = ledger.extend(
        store, first, lambda at: Entry(at.next_generation, "promoted", 2, was=1)
    )
    crown(store, slow, subject(3), expected=2)
    store.client.set_registered_model_alias(NAME, "champion", "2")  # and it was killed here
    assert aliases.standing(store, ledger.find(store, NAME)).state == "unsettled"
    opened(store, NAME, expect=None)
    assert now(store) == (3, None)

    store.client.set_registered_model_alias(NAME, "champion", "2")  # or it lives on
    aliases.settle(store, slow, generation=entry.generation)
    assert now(store) == (3, None)


def test_an_alias_moved_by_hand_is_told_and_taken_over_when_it_is_named(store, made):
    first, _ = crown(store, made, subject(1), expected=None)
    crown(store, first, subject(2), expected=1)
    store.client.set_registered_model_alias(NAME, "champion", "4")

    for expect in (None, "2", "none"):
        with pytest.raises(PromotionError, match=r"moved by hand; give --expect 4"):
            opened(store, NAME, expect=expect)
    assert opened(store, NAME, expect="4", writing=False).champion == 4
    assert len(ledger.find(store, NAME).entries) == 2

    taken = opened(store, NAME, expect="v4")
    assert (taken.champion, taken.newest.decision, taken.newest.was) == (4, "adopted", 2)
    assert now(store) == (4, None)
    assert taken.earlier() == (2, 1)


def test_a_champion_taken_away_by_hand_is_told_too(store, made):
    crown(store, made, subject(1), expected=None)
    store.client.delete_model_version(NAME, "1")
    with pytest.raises(PromotionError, match=r"is absent, but the ledger .* says version 1"):
        opened(store, NAME, expect=None)
    assert opened(store, NAME, expect="none").champion is None


def test_expecting_another_champion_refuses(store, made):
    assert opened(store, NAME, expect="none").champion is None
    crown(store, made, subject(1), expected=None)
    for expect, told in (("2", "to be version 2, but it is version 1"), ("none", "to be absent")):
        with pytest.raises(OvertakenError, match=told):
            opened(store, NAME, expect=expect)
    for expect in ("", "one", "-1", "1.0", "²"):
        with pytest.raises(PromotionError, match="Expected the number of a version"):
            opened(store, NAME, expect=expect)
    with pytest.raises(PromotionError, match="no such registered model"):
        opened(store, "other", expect="1")
    assert opened(store, "other", expect="none") is None


def test_a_model_made_by_hand_is_adopted_with_its_aliases(store):
    store.client.create_registered_model(NAME)
    for _ in range(3):
        store.client.create_model_version(NAME, "/nowhere", await_creation_for=0)
    store.client.set_registered_model_alias(NAME, "champion", "2")
    store.client.set_registered_model_alias(NAME, "challenger", "3")
    with pytest.raises(PromotionError, match="give --adopt"):
        opened(store, NAME, expect=None)

    found = opened(store, NAME, expect=None, adopting=True)

    assert (found.champion, found.challenger) == (2, 3)
    assert now(store) == (2, 3)
    for name in (NAME, "none"):
        with pytest.raises(PromotionError, match="leave out --adopt"):
            opened(store, name, expect=None, adopting=True)


def test_an_empty_model_made_by_hand_is_adopted_too(store):
    store.client.create_registered_model(NAME)
    assert opened(store, NAME, expect=None, adopting=True).champion is None


def test_several_who_make_one_at_once_share_one_ledger(store_uri):
    def make(_):
        return ledger.find_or_make(connect(store_uri), NAME).run_id

    with ThreadPoolExecutor(4) as pool:
        runs = set(pool.map(make, range(4)))

    assert len(runs) == 1
    store = connect(store_uri)
    (experiment,) = store.client.search_experiments(filter_string=f"name = '{ledger.EXPERIMENT}'")
    (left,) = store.client.search_runs([experiment.experiment_id])
    assert {left.info.run_id} == runs
    assert left.info.status == "FINISHED"


def test_a_ledger_that_was_deleted_says_how_it_comes_back(store, made):
    crown(store, made, subject(1), expected=None)
    store.client.delete_run(made.run_id)
    with pytest.raises(PromotionError, match=rf"mlflow runs restore --run-id {made.run_id}"):
        ledger.find(store, NAME)
    store.client.restore_run(made.run_id)
    assert ledger.find(store, NAME).champion == 1


def test_what_somebody_else_wrote_into_the_ledger_is_told(store, made):
    store.client.log_param(made.run_id, "000001", "hello")
    with pytest.raises(PromotionError, match="Expected an entry"):
        ledger.find(store, NAME)
