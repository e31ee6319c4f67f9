"""Whoever gives the same command works on the same study; another one is refused."""

import threading
from dataclasses import replace

import optuna
import pytest

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning import joining
from histo_mlflow.tuning.joining import find, make_or_join
from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.study_file import load_study


@pytest.fixture
def definition():
    return Definition.of(load_study("demo"), data="d1")


@pytest.fixture
def join(open_kind, request):
    storage = open_kind("sqlite").storage

    def joined(definition, experiment="e"):
        return make_or_join(
            storage, request.node.name, definition, kind="search", experiment=experiment
        )

    return joined


@pytest.fixture
def made(open_kind, request):
    """The study as its maker leaves it that is killed at once."""
    return optuna.create_study(
        study_name=request.node.name,
        storage=open_kind("sqlite").storage,
        direction="maximize",
    )


def test_the_first_makes_the_study_and_the_second_joins_it(join, definition):
    first, second = join(definition), join(definition, experiment="another")

    assert (first.new, second.new) == (True, False)
    assert first.key == second.key
    assert second.study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert second.study.user_attrs[attributes.EXPERIMENT] == "e"
    assert second.study.user_attrs[attributes.KIND] == "search"
    assert Definition.from_json(second.study.user_attrs[attributes.DEFINITION]) == definition
    assert second.told == ()


def narrower(definition):
    lr = {**definition.space["lr"], "high": 1e-3}
    return {"space": {**definition.space, "lr": lr}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (narrower, "space.lr: high was 0.03, 0.001 is given"),
        (lambda d: {"metric": "val/accuracy"}, "metric was val/auc, val/accuracy is given"),
        (lambda d: {"direction": "minimize"}, "direction was maximize, minimize is given"),
        (lambda d: {"folds": 5}, "folds was unset, 5 is given"),
        (lambda d: {"data": "d2"}, "the images or their division"),
        (lambda d: {"recipe": {**d.recipe, "epochs": 9}}, "epochs was 6, 9 is given"),
    ],
    ids=["space", "metric", "direction", "folds", "data", "recipe"],
)
def test_another_study_of_the_same_name_is_refused_naming_the_difference(
    change, said, join, definition
):
    joined = join(definition)
    with pytest.raises(StudyError, match="was begun otherwise") as caught:
        join(replace(definition, **change(definition)))

    assert said in str(caught.value)
    assert "--name" in str(caught.value)
    assert joined.study.user_attrs[attributes.DEFINITION] == definition.to_json()


def test_what_may_differ_is_told_and_does_not_keep_anybody_from_joining(join, definition):
    join(definition)
    joined = join(replace(definition, retries=7))

    assert joined.told == ("retries was 2, 7 is given",)


def test_a_study_of_another_program_is_refused(join, made, definition):
    made.add_trial(optuna.trial.create_trial(value=1.0))

    with pytest.raises(StudyError, match="another program made it"):
        join(definition)


def test_a_study_whose_maker_was_killed_before_it_said_what_it_is_is_made_again(
    join, made, definition, monkeypatch
):
    monkeypatch.setattr(joining, "MAKING_SECONDS", 0.1)
    joined, again = join(definition), join(definition)

    assert (joined.new, again.new) == (True, False)
    assert joined.key == again.key


def test_a_maker_that_is_just_writing_is_waited_for(join, made, definition):
    def write():
        joining._write(made, definition, "the key", kind="search", experiment="e")

    later = threading.Timer(0.3, write)
    later.start()
    joined = join(definition)
    later.join()

    assert (joined.key, joined.new) == ("the key", False)


def test_a_study_that_is_not_there_is_not_found_and_not_made(open_kind, definition, join):
    storage = open_kind("sqlite").storage
    missing = find(storage, "none of that name")
    joined = join(definition)
    found = find(storage, joined.study.study_name)

    assert missing is None
    assert found.user_attrs[attributes.KEY] == joined.key
    assert "none of that name" not in optuna.get_all_study_names(storage)


def test_a_maker_that_went_on_to_its_first_trial_between_two_looks_is_joined(
    join, made, definition, monkeypatch
):
    whole = optuna.Study.get_trials

    def late(study, *arguments, **options):
        if attributes.DEFINITION not in made.user_attrs:
            joining._write(made, definition, "the key", kind="search", experiment="e")
            made.enqueue_trial({})
        return whole(study, *arguments, **options)

    monkeypatch.setattr(optuna.Study, "get_trials", late)
    joined = join(definition)

    assert (joined.key, joined.new) == ("the key", False)


def test_of_two_that_inherit_a_study_at_once_one_has_made_it(join, made, definition, monkeypatch):
    monkeypatch.setattr(joining, "MAKING_SECONDS", 0.0)
    monkeypatch.setattr(joining, "HEIRS_SECONDS", 5.0)
    both, found = threading.Barrier(2), []
    write = joining._write

    def at_once(*arguments, **options):
        both.wait(20)  # both have given up the wait
        write(*arguments, **options)

    monkeypatch.setattr(joining, "_write", at_once)
    heirs = [threading.Thread(target=lambda: found.append(join(definition))) for _ in range(2)]
    for heir in heirs:
        heir.start()
    for heir in heirs:
        heir.join()

    assert sorted(one.new for one in found) == [False, True]
    assert {one.key for one in found} == {made.user_attrs[attributes.KEY]}
