"""Trials that were ended early teach the samplers that read complete ones alone."""

import copy
import math

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.study.ended_early import with_values
from histo_mlflow.tuning.study.pruners import Hyperband, Median, make_pruner
from histo_mlflow.tuning.study.samplers import CmaEs, Gp, make_sampler
from histo_mlflow.tuning.study.space import suggest
from study_spaces import space_of

RATE = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE = space_of(lr=RATE, weight_decay=RATE)
HIGHER, LOWER = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
SPECS = {"gp": Gp(startup_trials=5), "cmaes": CmaEs(population=4)}


def exponents(values):
    return math.log10(values["lr"]), math.log10(values["weight_decay"])


def searched(spec, direction, trials, end, *, pruner=None):
    """Every trial's exponents, each told to the study by `end`."""
    study = optuna.create_study(direction=direction, study_name="s", pruner=pruner)
    found = []
    for number in range(trials):
        study.sampler = make_sampler(spec, SPACE, seed=0, number=number)
        trial = study.ask()
        found.append(exponents(suggest(SPACE, trial)))
        end(study, trial, *found[-1])
    return found


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_gaussian_process_keeps_away_from_where_memory_runs_out(direction):
    """The best values lie just below a cliff, of which nothing but PRUNED is known."""
    sign = 1 if direction == "maximize" else -1

    def end(study, trial, lr, _):
        if lr > -1.5:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, sign * lr)

    late = searched(SPECS["gp"], direction, 25, end)[10:]

    assert sum(lr > -1.5 for lr, _ in late) <= 5
    assert max(lr for lr, _ in late if lr <= -1.5) > -1.8


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("name", SPECS)
def test_a_study_of_pruned_trials_alone_finds_the_good_ones(name, direction):
    sign = -1 if direction == "maximize" else 1

    def miss(lr, decay):
        return (lr + 2) ** 2 + (decay + 3) ** 2

    def end(study, trial, lr, decay):
        trial.report(sign * miss(lr, decay), 1)
        study.tell(trial, state=TrialState.PRUNED)

    late = searched(SPECS[name], direction, 25, end)[15:]

    assert sum(miss(*one) for one in late) / len(late) < 1.0


@pytest.mark.parametrize("pruner", [Hyperband(), Median()])
@pytest.mark.parametrize("name", SPECS)
def test_what_was_ended_early_is_learnt_from_under_every_pruner(name, pruner):
    """Hyperband shows a sampler a study that has hardly any attributes."""

    def end(study, trial, lr, decay):
        trial.report(lr, 1)
        study.tell(trial, state=TrialState.PRUNED)

    found = searched(SPECS[name], "maximize", 8, end, pruner=make_pruner(pruner, epochs=9))

    assert len(set(found)) == 8


def ended(state=TrialState.PRUNED, value=None, reports=(), named=None, x=0.5):
    return create_trial(
        state=state,
        value=value,
        params={} if x is None else {"x": x},
        distributions={} if x is None else {"x": FloatDistribution(0, 1)},
        intermediate_values=dict(enumerate(reports, start=1)),
        user_attrs={} if named is None else {attributes.STATE: named},
    )


def complete(value, *reports):
    return ended(TrialState.COMPLETE, value, reports)


def shown(*trials, direction=HIGHER, reports="epoch"):
    seen = with_values(trials, direction=direction, reports=reports)
    return [one.value if one.state == TrialState.COMPLETE else one.state for one in seen]


def test_a_pruned_trial_is_worth_its_last_report_and_over_folds_their_mean():
    trials = complete(0.9), ended(reports=(0.2, 0.6, 0.4), named="pruned")

    assert shown(*trials) == [0.9, 0.4]
    assert shown(*trials, reports="fold") == [0.9, pytest.approx(0.4)]
    assert shown(complete(0.9), ended(reports=(0.2, 0.6)), reports="fold") == [0.9, 0.4]


@pytest.mark.parametrize(("direction", "worst"), [(HIGHER, 0.3), (LOWER, 0.9)])
@pytest.mark.parametrize("named", ["out_of_memory", "diverged", None])
def test_what_has_no_value_is_as_bad_as_the_worst_that_has_one(named, direction, worst):
    trials = complete(0.9, 0.1), complete(0.5), ended(reports=(0.3,)), ended(named=named)

    assert shown(*trials, direction=direction) == [0.9, 0.5, 0.3, worst]


@pytest.mark.parametrize("named", ["out_of_memory", "diverged"])
def test_what_could_not_be_trained_is_bad_whatever_it_had_reported(named):
    assert shown(complete(0.5), complete(0.4), ended(reports=(0.9,), named=named)) == [
        0.5, 0.4, 0.4
    ]  # fmt: skip


def test_reports_that_are_no_numbers_are_no_worth():
    trials = complete(0.5), ended(reports=(0.4, math.nan)), ended(reports=(-math.inf,))

    assert shown(*trials) == [0.5, 0.4, 0.4]


@pytest.mark.parametrize(
    ("direction", "reported", "bound"), [(HIGHER, -5000.0, 0.1), (LOWER, 5000.0, 1.3)]
)
def test_an_outlier_lies_no_further_off_than_complete_trials_lie_apart(direction, reported, bound):
    outlier, lost = ended(reports=(reported,)), ended(named="diverged")
    trials = complete(0.9), complete(0.5), outlier, lost

    assert shown(*trials, direction=direction) == [0.9, 0.5, *[pytest.approx(bound)] * 2]
    assert shown(complete(0.9), outlier, lost, direction=direction) == [0.9, reported, reported]


def test_the_gaussian_process_tells_good_losses_apart_beside_those_of_thousands():
    def end(study, trial, lr, decay):
        if lr > -1.5:
            trial.report(5000.0, 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, 0.3 + 0.1 * (lr + 2.5) ** 2 + 0.1 * (decay + 3) ** 2)

    late = searched(SPECS["gp"], "minimize", 30, end)[20:]

    assert sum((lr + 2.5) ** 2 + (decay + 3) ** 2 for lr, decay in late) / len(late) < 0.1


def test_while_nothing_is_known_trials_stay_as_they_are():
    pruned, failed = TrialState.PRUNED, TrialState.FAIL

    assert shown(ended(), ended(reports=(0.9,), named="out_of_memory"), ended(failed)) == [
        pruned, pruned, failed
    ]  # fmt: skip


def test_what_teaches_nothing_stays_as_it_is():
    """A trial that failed, one that runs, and one that was ended by hand before it was sampled."""
    others = ended(TrialState.FAIL), ended(TrialState.RUNNING, reports=(0.1,)), ended(x=None)

    assert shown(complete(0.5), *others) == [0.5, *(one.state for one in others)]


def test_the_trials_of_the_storage_are_not_changed():
    trials = [complete(0.5), ended(reports=(0.4,)), ended()]
    before = copy.deepcopy(trials)
    with_values(trials, direction=HIGHER, reports="epoch")

    assert trials == before
