"""Best epoch and patience."""

import math

import pytest

from histo_mlflow.training.stopping import Stopping


def follow(stopping, values):
    return [stopping.update(epoch, value) for epoch, value in enumerate(values, start=1)]


def test_an_auc_is_better_when_larger_and_a_loss_when_smaller():
    auc, loss = Stopping("val/auc", None), Stopping("val/loss", None)

    assert follow(auc, [0.7, 0.8, 0.75]) == [True, True, False]
    assert follow(loss, [0.7, 0.8, 0.65]) == [True, False, True]
    assert (auc.best_epoch, auc.best_value) == (2, 0.8)
    assert (loss.best_epoch, loss.best_value) == (3, 0.65)


def test_an_equal_value_is_not_better():
    """The earliest of equal epochs wins: it trained less."""
    stopping = Stopping("val/auc", None)

    assert follow(stopping, [0.8, 0.8]) == [True, False]


def test_patience_counts_epochs_in_a_row():
    stopping = Stopping("val/auc", patience=2)
    exhausted = []
    for epoch, value in enumerate([0.5, 0.4, 0.6, 0.5, 0.5], start=1):
        stopping.update(epoch, value)
        exhausted.append(stopping.exhausted)

    assert exhausted == [False, False, False, False, True]


@pytest.mark.parametrize("undefined", [None, math.nan])
def test_an_undefined_value_is_never_best_but_is_waited_for(undefined):
    stopping = Stopping("val/auc", patience=2)

    assert follow(stopping, [undefined, 0.5, undefined, undefined]) == [False, True, False, False]
    assert stopping.exhausted
    assert stopping.best_epoch == 2


def test_without_patience_nothing_ever_stops():
    stopping = Stopping("val/loss", patience=None)
    follow(stopping, [1.0] + [2.0] * 100)

    assert not stopping.exhausted
