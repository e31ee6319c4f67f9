"""The first guesses of a study: kept by trial number, fixed when a slot is taken."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optuna.storages import BaseStorage

from histo_mlflow.tuning.shared import attributes


def guesses_of(storage: BaseStorage, study_id: int) -> dict[int, dict[str, Any]]:
    """Trial number -> the params that are to be tried in it."""
    found = storage.get_study_user_attrs(study_id).get(attributes.GUESSES, "{}")
    return {int(number): guess for number, guess in json.loads(found).items()}


def record(
    storage: BaseStorage,
    study_id: int,
    guesses: Sequence[Mapping[str, Any]],
    taken: Collection[int],
) -> None:
    """Keep the guesses that are given, each once; those of trials that were taken stay.

    Args:
        storage: of the study.
        study_id: in it.
        guesses: all that are to be tried. Those that the study does not know go to the lowest
            numbers that nobody took; what it knows and is not given any more is dropped.
        taken: numbers of the trials that somebody has taken.
    """
    given = [dict(guess) for guess in guesses]
    known = {
        number: guess
        for number, guess in guesses_of(storage, study_id).items()
        if number in taken or guess in given
    }
    number = 0
    for guess in given:
        if guess in known.values():
            continue
        while number in known or number in taken:
            number += 1
        known[number] = guess
    storage.set_study_user_attr(study_id, attributes.GUESSES, json.dumps(known))
