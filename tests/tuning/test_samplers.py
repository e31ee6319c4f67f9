"""Samplers: all sample the space, and none depends on which process asks."""

import sys
import warnings

import optuna
import pytest

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.study.design import grid
from histo_mlflow.tuning.study.samplers import (
    SAMPLERS,
    CmaEs,
    Gp,
    Grid,
    Qmc,
    Random,
    Tpe,
    make_sampler,
)
from histo_mlflow.tuning.study.space import holds, suggest
from study_spaces import space_of

SPECS = {
    "tpe": Tpe(startup_trials=3),
    "gp": Gp(startup_trials=3),
    "cmaes": CmaEs(population=4),
    "random": Random(),
    "grid": Grid(),
    "qmc": Qmc(),
}
assert set(SPECS) == set(SAMPLERS)


def space_for(name):
    counted = ("dropout", "batch_size", "scale", "optimiser", "clip_norm")
    few = {
        "grid": counted,
        "gp": ("lr", *counted),
        "cmaes": ("lr", "hidden", *counted),  # no condition on a number
    }
    return space_of(*few.get(name, ()))


def asked(study, spec, space, number, *, seed=5):
    """What the sampler of a trial proposes, in a trial that stays running."""
    study.sampler = make_sampler(spec, space, seed=seed, number=number)
    trial = study.ask()
    assert trial.number == number
    return trial, suggest(space, trial)


def value(values):
    return values.get("lr", 0.0) * 100 + values["dropout"] + values.get("momentum", 0.0)


def searched(spec, space, trials, **more):
    study = optuna.create_study(direction="maximize")
    found = []
    for number in range(trials):
        trial, values = asked(study, spec, space, number, **more)
        study.tell(trial, value(values))
        found.append(values)
    return found


@pytest.mark.parametrize("name", SPECS)
def test_every_sampler_stays_in_the_space_and_within_its_conditions(name):
    space = space_for(name)
    for values in searched(SPECS[name], space, 10):
        assert all(holds(space[axis], chosen) for axis, chosen in values.items())
        assert ("clip_norm" in values) == (
            values["optimiser"] == "sgd" and values["batch_size"] != 128
        )


@pytest.mark.parametrize("name", SPECS)
def test_a_proposal_depends_on_seed_number_and_past_trials_alone(name):
    """Two processes that have seen the same trials propose the same, whatever they did before."""
    space = space_for(name)
    one, two = searched(SPECS[name], space, 6), searched(SPECS[name], space, 6)
    other = searched(SPECS[name], space, 4, seed=6)

    assert one == two
    assert one[:4] != other


@pytest.mark.parametrize("name", SPECS)
def test_workers_at_once_do_not_get_the_same_proposal(name):
    """Four trials are running and nothing has ended."""
    space = space_for(name)
    study = optuna.create_study()
    found = [str(asked(study, SPECS[name], space, number)[1]) for number in range(4)]

    assert len(set(found)) == 4


def test_a_grid_visits_every_point_once_in_an_order_of_its_seed():
    space = space_for("grid")
    found = searched(Grid(), space, len(grid(space)))

    assert sorted(map(str, found)) == sorted(map(str, grid(space)))
    assert found != grid(space)
    assert found != searched(Grid(), space, len(found), seed=6)


def test_tpe_learns_where_the_good_trials_are():
    space = space_of("lr", "dropout")
    late = searched(Tpe(startup_trials=10), space, 40)[25:]
    blind = searched(Random(), space, 40)[25:]

    assert sum(map(value, late)) > 1.3 * sum(map(value, blind))


def test_cmaes_that_is_not_installed_is_said_to_be(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)

    with pytest.raises(StudyError, match=r"pip install 'histo-mlflow\[cmaes\]'"):
        make_sampler(CmaEs(), space_of(), seed=0, number=0)


@pytest.mark.parametrize("name", SPECS)
def test_no_sampler_warns(name):
    space = space_for(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        searched(SPECS[name], space, 5)
