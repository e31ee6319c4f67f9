"""Which recipes are confirmed, on which replicates, and that a plan stays the same."""

import math
from dataclasses import replace

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from histo_mlflow.errors import StudyError
from histo_mlflow.recipe import load
from histo_mlflow.tuning.confirm.confirm_plan import Candidate, Plan, confirm_key, plan_of
from histo_mlflow.tuning.confirm.confirmation import (
    Slot,
    candidates,
    laid_over,
    recipe_of,
    replicates,
    slots,
)
from histo_mlflow.tuning.shared import attributes

BASE = load("demo", {"lr": 1e-3, "seed": 5})


def trial(number: int, value: float | None, *, state=TrialState.COMPLETE, **fields) -> FrozenTrial:
    made = create_trial(
        state=state,
        value=value,
        user_attrs={attributes.RUN_ID: f"run{number}", "fields": fields},
    )
    made.number = number
    return made


def chosen(trials, k=2, direction="maximize"):
    return candidates(trials, k, direction, lambda one: one.user_attrs["fields"], base=BASE)


def numbers(found) -> list[int | None]:
    return [one.number for one in found]


def test_the_best_complete_trials_come_first_and_the_default_last():
    found = chosen([trial(0, 0.7, lr=1.0), trial(1, 0.9, lr=0.1), trial(2, 0.8, lr=0.2)])

    assert found == (
        Candidate(1, {"lr": 0.1}, 0.9, "run1"),
        Candidate(2, {"lr": 0.2}, 0.8, "run2"),
        Candidate(None, {}, None, None, default=True),
    )
    assert [one.name for one in found] == ["trial 1", "trial 2", "default"]


def test_a_loss_is_best_where_it_is_least():
    found = chosen([trial(0, 0.7, lr=1.0), trial(1, 0.9, lr=0.1)], 1, "minimize")

    assert numbers(found) == [0, None]


def test_equal_values_go_by_the_lowest_number():
    found = chosen([trial(5, 0.9, lr=0.5), trial(2, 0.9, lr=0.2), trial(3, 0.9, lr=0.3)])

    assert numbers(found) == [2, 3, None]


def test_a_recipe_counts_once_however_it_is_written():
    found = chosen([trial(0, 0.9, lr=0.5), trial(1, 0.8, lr="0.5"), trial(2, 0.7, lr=0.1)])

    assert numbers(found) == [0, 2, None]


def test_a_trial_with_the_recipe_of_the_study_stands_for_the_default():
    found = chosen([trial(0, 0.9, lr=0.5), trial(1, 0.8, lr=1e-3)])

    assert [(one.number, one.default) for one in found] == [(0, False), (1, True)]


def test_trials_that_are_not_complete_or_have_no_number_never_count():
    infinite = trial(3, math.inf, lr=0.3)
    others = [
        trial(0, None, state=TrialState.PRUNED, lr=0.9),
        trial(1, None, state=TrialState.FAIL, lr=0.8),
        trial(2, None, state=TrialState.WAITING, lr=0.7),
        infinite,
    ]

    assert numbers(chosen([*others, trial(4, 0.1, lr=0.4)])) == [4, None]
    with pytest.raises(StudyError, match="none of 4 trials is complete"):
        chosen(others)


def test_at_least_one_trial_is_asked_for():
    with pytest.raises(StudyError, match="at least 1 trial to confirm, got 0"):
        chosen([trial(0, 0.5)], 0)


def test_every_replicate_has_a_seed_and_a_fold_of_its_own():
    found = replicates(7, 5, used=())

    assert [one.division.fold for one in found] == [one.index for one in found] == list(range(5))
    assert {(one.division.folds, one.division.seed) for one in found} == {
        (5, found[0].division.seed)
    }
    assert len({one.seed for one in found} | {found[0].division.seed}) == 6
    assert all(0 <= one.seed < 2**31 for one in found)


def test_replicates_are_a_function_of_the_study_seed():
    assert replicates(7, 3, used={0}) == replicates(7, 3, used={0})
    assert replicates(7, 3, used=()) != replicates(8, 3, used=())


def test_no_seed_of_the_search_comes_again():
    first = replicates(7, 4, used=())
    used = {one.seed for one in first} | {first[0].division.seed}
    second = replicates(7, 4, used=used)

    assert not used & {one.seed for one in second}
    assert second[0].division.seed not in used


def test_seeds_that_would_be_equal_are_drawn_again(monkeypatch):
    monkeypatch.setattr(
        "histo_mlflow.tuning.confirm.confirmation.derive", lambda seed, *purpose: purpose[-1]
    )
    found = replicates(7, 3, used={1})

    assert [found[0].division.seed, *(one.seed for one in found)] == [0, 2, 3, 4]


@pytest.mark.parametrize("n", [1, 0, -3])
def test_one_replicate_is_refused(n):
    with pytest.raises(StudyError, match=f"at least 2 replicates, got {n}"):
        replicates(7, n, used=())


def plan(k: int = 2, rounds: int = 3, seed: int = 7, **fields) -> Plan:
    trials = [trial(0, 0.9, lr=0.5, **fields), trial(1, 0.8, lr=0.1, scale=(0.8, 1.2))]
    return Plan(chosen(trials, k), replicates(seed, rounds, used=()))


def test_a_study_that_is_stopped_half_way_has_whole_replicates():
    found = slots(plan(rounds=2))

    assert found == (Slot(0, 0), Slot(1, 0), Slot(2, 0), Slot(0, 1), Slot(1, 1), Slot(2, 1))


def test_a_slot_trains_the_recipe_of_its_candidate_with_the_seed_of_its_replicate():
    made = plan()
    recipe = recipe_of(BASE, made.candidates[1], made.replicates[2])
    changed = {key for key, value in recipe.flatten().items() if value != BASE.flatten()[key]}

    assert changed == {"lr", "scale", "seed"}
    assert recipe.training.seed == made.replicates[2].seed
    assert recipe_of(BASE, made.candidates[2], made.replicates[0]) == laid_over(
        BASE, {"seed": made.replicates[0].seed}
    )


def test_a_plan_is_read_back_as_it_was_written():
    made = plan()

    assert plan_of(made.to_json()) == made
    assert confirm_key(plan_of(made.to_json())) == confirm_key(made)
    assert made.reference() == 2


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 2}', '{"format": 1}'])
def test_a_plan_that_cannot_be_read_is_told(text):
    with pytest.raises(StudyError, match="not as it was written"):
        plan_of(text)


@pytest.mark.parametrize(
    "other",
    [
        lambda: plan(k=1),
        lambda: plan(rounds=5),
        lambda: plan(seed=8),
        lambda: replace(plan(), candidates=chosen([trial(9, 1.0, lr=0.3), trial(0, 0.9, lr=0.5)])),
        lambda: plan(dropout=0.3),
    ],
    ids=["K", "R", "seed", "trials", "fields"],
)
def test_another_plan_is_another_study(other):
    assert confirm_key(other())[:8] != confirm_key(plan())[:8]
