"""The plan of a confirmation, as it is kept in its study; one that goes on must have the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from histo_mlflow.errors import StudyError
from histo_mlflow.jobs.development import Division

FORMAT = 1
DEFAULT = "default"


@dataclass(frozen=True)
class Candidate:
    """A recipe that is confirmed.

    Attributes:
        number: of its trial in the search; None: the base recipe, which the search did not try.
        overrides: recipe fields laid over the base recipe.
        value: that the search reported; None for the base recipe.
        run_id: of the trial's child run.
        default: whether it is the base recipe, with or without a trial.
    """

    number: int | None
    overrides: Mapping[str, Any]
    value: float | None
    run_id: str | None
    default: bool = False

    @property
    def name(self) -> str:
        """Such as "trial 7"; "default" for the base recipe."""
        return DEFAULT if self.number is None else f"trial {self.number}"


@dataclass(frozen=True)
class Replicate:
    """What is the same for all recipes in one round of trainings.

    Attributes:
        index: from 0.
        seed: of the training.
        division: says who judges.
    """

    index: int
    seed: int
    division: Division


@dataclass(frozen=True)
class Plan:
    """All trainings of a confirmation."""

    candidates: tuple[Candidate, ...]
    replicates: tuple[Replicate, ...]

    def reference(self) -> int:
        """The place of the base recipe, which the others are held against."""
        return next(place for place, one in enumerate(self.candidates) if one.default)

    def to_json(self) -> str:
        """One line that `plan_of` reads back to an equal plan."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, allow_nan=False)


def confirm_key(plan: Plan) -> str:
    """A digest of the plan, 64 hexadecimal digits; equal plans have equal ones."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()


def plan_of(text: str) -> Plan:
    """Read what `Plan.to_json` wrote.

    Raises:
        StudyError: it is not that.
    """
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ValueError(f"format {FORMAT} was expected, got {found['format']}")
        return Plan(
            tuple(Candidate(**one) for one in found["candidates"]),
            tuple(
                Replicate(one["index"], one["seed"], Division(**one["division"]))
                for one in found["replicates"]
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"the plan of the confirmation is not as it was written ({error}): take the version of "
            "histo-mlflow that began it, or confirm in a study of another name"
        ) from error


def refuse_other(begun: Plan, now: Plan) -> None:
    """See that a confirmation goes on as it was begun.

    Raises:
        StudyError: it would not; the message names every difference.
    """
    if begun == now:
        return
    told = []
    if (was := _count(begun)) != (given := _count(now)):
        told.append(f"{was} best trials were confirmed, {given} are given")
    if (rounds := len(begun.replicates)) != len(now.replicates):
        told.append(f"there were {rounds} replicates, {len(now.replicates)} are given")
    elif begun.replicates != now.replicates:
        told.append("the seeds or folds of the replicates are others (the study's seed is another)")
    shared = min(was, given)
    if (first := _numbers(begun)[:shared]) != (second := _numbers(now)[:shared]):
        told.append(f"the best trials were {_listed(first)} and are {_listed(second)} now")
    elif _recipes(begun, shared) != _recipes(now, shared):
        told.append("trials of the same numbers have other fields or values")
    raise StudyError(
        f"the confirmation was begun otherwise: {'; '.join(told) or 'the default is another'}. Go "
        "on with what it was begun with, or confirm in a study of another name"
    )


def _count(plan: Plan) -> int:
    return len(_numbers(plan))


def _numbers(plan: Plan) -> list[int]:
    return [one.number for one in plan.candidates if one.number is not None]


def _recipes(plan: Plan, first: int) -> list[Candidate]:
    return [one for one in plan.candidates if one.number is not None][:first]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
