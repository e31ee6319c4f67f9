"""Trials that something here still has its hands on."""

import pytest

from histo_mlflow.errors import BusyError, StudyError
from histo_mlflow.tuning.shared._put_off import PATIENCE_SECONDS, PAUSE_SECONDS, PutOff


def test_a_trial_is_left_for_a_while_and_then_due_again():
    now = [0.0]
    put_off = PutOff(lambda: now[0])
    put_off.note(3, BusyError("busy"))
    before = put_off.is_due(3), put_off.is_due(4)
    now[0] += PAUSE_SECONDS

    assert before == (False, True)
    assert put_off.is_due(3)


def test_one_that_never_comes_free_is_told_with_its_reason():
    now = [0.0]
    put_off = PutOff(lambda: now[0])
    while now[0] < PATIENCE_SECONDS:
        put_off.note(3, BusyError("process 7 is at it"))
        now[0] += PAUSE_SECONDS

    with pytest.raises(StudyError, match="process 7 is at it; it has been so for 10 minutes"):
        put_off.note(3, BusyError("process 7 is at it"))
