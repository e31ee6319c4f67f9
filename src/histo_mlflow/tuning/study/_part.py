"""What all parts of a study file have in common: no unknown key, no change, nothing infinite."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?"
    r"(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"
)
_LONGEST_SECONDS = 366 * 86_400.0


class Part(BaseModel):
    """A piece of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def seconds_of(value: Any) -> float:
    """A duration in seconds: a number of them, or text such as 90s, 45m, 6h, 1h30m, 2d.

    Raises:
        ValueError: it is none, not above 0, or more than 366 days.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("should be a duration such as 90s, 45m, 6h or 1h30m")
    if isinstance(value, str):
        value = _from_text(value.strip().lower())
    if not 0 < value <= _LONGEST_SECONDS:
        raise ValueError("should be a duration above 0 and of at most 366 days")
    return float(value)


def _from_text(text: str) -> float:
    if re.fullmatch(r"\d{1,9}(?:\.\d+)?", text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError("should be a duration such as 90s, 45m, 6h or 1h30m")
    amounts = zip(found.groups(), _UNITS.values(), strict=True)
    return sum(float(amount) * unit for amount, unit in amounts if amount)


def _no_switch(value: Any) -> Any:
    """YAML reads `yes` and `on` as true, which would count as 1."""
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


Number = Annotated[float, BeforeValidator(_no_switch)]
Count = Annotated[int, BeforeValidator(_no_switch)]
Seconds = Annotated[float, BeforeValidator(seconds_of)]
