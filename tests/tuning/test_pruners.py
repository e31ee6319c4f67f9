"""Pruners: who is ended, and when."""

import warnings

import optuna
import pytest
from optuna.trial import TrialState

from histo_mlflow.tuning.study.pruners import (
    PRUNERS,
    Hyperband,
    Median,
    NoPruner,
    Patient,
    Wilcoxon,
    make_pruner,
)

EPOCHS = 9


def study_with(spec, direction="maximize", epochs=EPOCHS):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return optuna.create_study(
            study_name="s", direction=direction, pruner=make_pruner(spec, epochs=epochs)
        )


def run(study, values):
    """Report one value an epoch, from 1; the epoch after which the trial was ended, or None."""
    trial = study.ask()
    for epoch, value in enumerate(values, start=1):
        trial.report(value, step=epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, values[-1])
    return None


def test_median_ends_a_bad_trial_right_after_its_warmup():
    study = study_with(Median(startup_trials=3, warmup=2))
    for quality in (0.6, 0.7, 0.8):
        assert run(study, [quality] * EPOCHS) is None

    assert run(study, [0.5] * EPOCHS) == 3
    assert run(study, [0.9] * EPOCHS) is None


def test_median_waits_for_its_first_trials():
    study = study_with(Median(startup_trials=3, warmup=0))
    for quality in (0.8, 0.7, 0.1):
        assert run(study, [quality] * EPOCHS) is None

    assert run(study, [0.1] * EPOCHS) == 1


def test_median_knows_that_a_loss_should_be_small():
    study = study_with(Median(startup_trials=2, warmup=0), "minimize")
    for loss in (0.6, 0.7):
        run(study, [loss] * EPOCHS)

    assert run(study, [0.5] * EPOCHS) is None
    assert run(study, [0.9] * EPOCHS) == 1


def test_hyperband_ends_trials_at_its_rungs_alone():
    """With 9 epochs and a reduction of 3 the rungs are the epochs 1, 3 and 9."""
    study = study_with(Hyperband(reduction=3))
    ended = [run(study, [quality / 100] * EPOCHS) for quality in range(60, 0, -1)]

    assert set(ended) <= {1, 3, 9, None}
    assert {1, 3} <= set(ended)
    assert ended[0] is None


def test_patience_ends_what_has_become_worse_for_some_epochs():
    study = study_with(Patient(patience=2, wraps=NoPruner()))

    assert run(study, [0.1, 0.2, 0.1, 0.1, 0.1, 0.1]) == 5
    assert run(study, [0.1, 0.2, 0.2, 0.2, 0.2, 0.2]) is None
    assert run(study, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) is None


def test_patience_leaves_the_judgement_to_whom_it_wraps():
    study = study_with(Patient(patience=1, wraps=Median(startup_trials=1, warmup=0)))
    run(study, [0.5] * 4)

    assert run(study, [0.7, 0.6, 0.6, 0.6]) is None
    assert run(study, [0.4, 0.3, 0.3, 0.3]) == 3


def test_wilcoxon_ends_what_is_worse_on_every_fold():
    study = study_with(Wilcoxon())
    trial = study.ask()
    for fold in range(5):
        trial.report(0.8 + fold / 100, step=fold)
    study.tell(trial, 0.82)
    worse = study.ask()
    ended = []
    for fold in range(5):
        worse.report(0.7 - fold / 50, step=fold)
        ended.append(worse.should_prune())

    assert ended == [False, False, False, True, True]


def test_none_ends_nothing():
    study = study_with(NoPruner())
    run(study, [0.9] * EPOCHS)

    assert run(study, [0.0] * EPOCHS) is None


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_is_made_without_a_warning(name):
    specs = {s.name: s for s in (NoPruner(), Median(), Hyperband(), Patient(), Wilcoxon())}

    assert isinstance(study_with(specs[name]).pruner, optuna.pruners.BasePruner)


@pytest.mark.filterwarnings("ignore:All-NaN")
def test_a_nan_ends_a_trial():
    study = study_with(Median(startup_trials=1, warmup=0))
    run(study, [0.5] * 3)

    assert run(study, [float("nan")] * 3) == 1
