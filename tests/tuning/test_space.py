"""The space: what a trial is asked, and what its answers mean for the recipe."""

import itertools

import optuna
import pytest
from optuna.trial import FixedTrial, TrialState, create_trial

from histo_mlflow import recipe
from histo_mlflow.errors import RecipeError
from histo_mlflow.tuning.study.design import grid, grid_size, quasi_random_point
from histo_mlflow.tuning.study.space import (
    conditions,
    count,
    distribution,
    fixed_params,
    from_param,
    holds,
    suggest,
    trial_recipe,
    value_at,
)
from study_spaces import space_of


def study(**axes):
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = space_of(**axes) if axes else space_of()
    for _ in range(60):
        trial = made.ask()
        trial.set_user_attr("values", suggest(space, trial))
        made.tell(trial, 0.0)
    return space, made


def test_a_trial_is_asked_for_active_axes_alone_in_the_order_of_the_file():
    space, made = study()
    seen = set()
    for trial in made.trials:
        values = trial.user_attrs["values"]
        sgd = values["optimiser"] == "sgd"
        expected = [
            name
            for name in space
            if name not in ("momentum", "clip_norm")
            or (name == "momentum" and sgd)
            or (name == "clip_norm" and sgd and values["batch_size"] != 128)
        ]
        assert list(values) == expected
        assert all(holds(space[name], value) for name, value in values.items())
        seen.add(len(expected))

    assert seen == {7, 8, 9}


def test_what_a_trial_was_given_is_read_back_from_its_params():
    space, made = study()

    for trial in made.trials:
        assert suggest(space, trial) == trial.user_attrs["values"]
    assert {type(trial.params["scale"]) for trial in made.trials} == {str}


def test_a_trial_that_is_taken_up_again_has_the_values_it_had():
    space, made = study()
    again = optuna.trial.Trial(made, made.trials[7]._trial_id)

    assert suggest(space, again) == made.trials[7].user_attrs["values"]


def test_params_of_another_space_are_refused():
    with pytest.raises(ValueError, match="none of the choices"):
        from_param(space_of("batch_size")["batch_size"], 16)


def test_a_guess_is_what_its_trial_is_given():
    space = space_of()
    made = optuna.create_study()
    guess = {"scale": [0.9, 1.1], "optimiser": "sgd", "momentum": 0.9, "lr": 0.001}
    made.enqueue_trial(fixed_params(space, guess))
    values = suggest(space, made.ask())

    assert {name: values[name] for name in guess} == guess


@pytest.mark.parametrize("choices", [[None, 3], [True, False], ["none", "sqrt"], [0, 1.5]])
def test_choices_keep_their_types(choices):
    space = space_of(x={"type": "categorical", "choices": choices})
    for choice in choices:
        value = suggest(space, FixedTrial({"x": choice}))["x"]
        assert (value, type(value)) == (choice, type(choice))


def test_one_and_true_are_two_choices():
    axis = space_of(x={"type": "categorical", "choices": [1, 2]})["x"]

    assert (holds(axis, 1), holds(axis, 1.0), holds(axis, True)) == (True, True, False)


def test_a_mapping_as_a_choice_is_found_whatever_the_order_of_its_keys():
    space = space_of(x={"type": "categorical", "choices": [{"a": 1, "b": 2}, {"a": 3}]})

    guess = FixedTrial(fixed_params(space, {"x": {"b": 2, "a": 1}}))
    assert suggest(space, guess) == {"x": {"a": 1, "b": 2}}


def test_a_study_of_any_name_has_recipes_that_can_be_made():
    made = trial_recipe(recipe.load("demo"), {"lr": 0.5}, name="my study/2-3")

    assert (made.name, made.optimisation.lr) == ("my_study_2-3", 0.5)


def test_the_recipe_of_a_trial_has_its_values_and_its_name():
    base = recipe.load("demo")
    made = trial_recipe(base, {"lr": 0.5, "scale": [0.8, 1.2]}, name="s-3")

    assert (made.name, made.optimisation.lr, made.augment.scale) == ("s-3", 0.5, (0.8, 1.2))
    assert made.data == base.data


def test_the_recipe_of_a_trial_finds_the_data_of_its_base():
    """auto is a folder called like the recipe, which has another name now."""
    made = trial_recipe(recipe.load("ham10000"), {}, name="s-3")

    assert made.data.data_dir == "data/ham10000"


def test_values_that_do_not_go_together_are_refused_by_the_recipe():
    with pytest.raises(RecipeError, match="momentum belongs to optimiser=sgd"):
        trial_recipe(recipe.load("demo"), {"momentum": 0.9}, name="s-3")


def test_stepped_values_are_exact_and_what_optuna_has():
    axis = space_of("dropout")["dropout"]
    values = [value_at(axis, k) for k in range(count(axis))]

    assert values == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert all(distribution(axis)._contains(value) for value in values)
    assert [holds(axis, value) for value in (0.3, 0.30001, -0.1, float("nan"))] == [
        True, False, False, False
    ]  # fmt: skip


def test_a_grid_is_the_product_without_what_is_not_active():
    space = space_of("batch_size", "frozen_epochs", "optimiser", "clip_norm")
    expected = []
    for batch, frozen, optimiser in itertools.product([32, 64, 128], [0, 1, 2], ["adamw", "sgd"]):
        row = {"batch_size": batch, "frozen_epochs": frozen, "optimiser": optimiser}
        active = optimiser == "sgd" and batch != 128
        expected += [row | {"clip_norm": c} for c in (None, 1.0)] if active else [row]

    key = str
    assert sorted(grid(space), key=key) == sorted(
        [{n: row[n] for n in space if n in row} for row in expected], key=key
    )
    assert grid_size(space) == len(expected)


def test_a_quasi_random_sequence_is_spread_evenly():
    """In 64 points every quarter of a decade, every step and every choice has its share."""
    space = space_of("lr", "dropout", "batch_size", "hidden")
    points = [quasi_random_point(space, seed=3, number=n) for n in range(64)]

    assert all(holds(space[name], point[name]) for point in points for name in space)
    halves = sum(point["lr"] < 1e-3 for point in points)
    steps = [sum(point["dropout"] == k / 10 for point in points) for k in range(6)]
    batches = [sum(point["batch_size"] == b for point in points) for b in (32, 64, 128)]
    assert halves == 32
    assert max(steps) - min(steps) <= 2
    assert max(batches) - min(batches) <= 1


def test_conditions_hold_through_conditions():
    space = space_of(
        a={"type": "categorical", "choices": [1, 2, 3]},
        b={"type": "categorical", "choices": [1, 2], "when": {"a": [1, 2]}},
        c={"type": "float", "low": 0, "high": 1, "when": {"b": 2, "a": [2, 3]}},
    )

    assert conditions(space, "c") == {"b": (2,), "a": (2,)}
    assert {len(row) for row in grid(space_of(**{n: space[n].model_dump() for n in "ab"}))} == {
        1, 2
    }  # fmt: skip


def test_optuna_takes_every_axis_for_one_distribution_from_trial_to_trial():
    """A changing distribution would be refused by its storage."""
    space, made = study()
    frozen = create_trial(
        state=TrialState.COMPLETE,
        value=1.0,
        params=made.trials[0].params,
        distributions={name: distribution(space[name]) for name in made.trials[0].params},
    )
    made.add_trial(frozen)

    assert made.trials[-1].distributions == made.trials[0].distributions
