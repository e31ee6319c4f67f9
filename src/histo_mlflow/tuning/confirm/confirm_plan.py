"""The plan of a confirmation, as it is kept in its study.

The study's name holds a digest of it: another plan is another study, and the same one goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
