"""What a check has to say: a level, one plain sentence with counts, the first offenders."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

SHOWN: Final = 5  # offenders that a finding names; the rest are counted


class Level(StrEnum):
    """How a check ended: nothing to say, worth knowing, or training must not start."""

    PASS = "PASS"  # noqa: S105 -- no password
    WARN = "WARN"
    FAIL = "FAIL"


_ORDER: Final = tuple(Level)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: name of the check, such as "missing-images".
        level: how it ended.
        message: one sentence with counts.
        offenders: the first ids, paths or names concerned, at most `SHOWN`.
        count: how many are concerned in all.
    """

    check: str
    level: Level
    message: str
    offenders: tuple[str, ...] = ()
    count: int = 0


def passed(check: str, message: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(check, Level.PASS, message)


def warned(check: str, message: str, offenders: Iterable[object] = ()) -> Finding:
    """Return a finding that does not stop a training."""
    return _found(check, Level.WARN, message, offenders)


def failed(check: str, message: str, offenders: Iterable[object] = ()) -> Finding:
    """Return a finding that stops a training."""
    return _found(check, Level.FAIL, message, offenders)


def _found(check: str, level: Level, message: str, offenders: Iterable[object]) -> Finding:
    listed = [str(name) for name in offenders]
    return Finding(check, level, message, tuple(listed[:SHOWN]), len(listed))


def counted(n: int, noun: str, nouns: str | None = None) -> str:
    """Return a number with its noun: "1 image", "1,204 images"."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def have(n: int) -> str:
    """Return the verb that goes with a number of things."""
    return "has" if n == 1 else "have"


def are(n: int) -> str:
    """Return the verb that goes with a number of things."""
    return "is" if n == 1 else "are"


def worst(findings: Iterable[Finding]) -> Level:
    """Return the most severe level; PASS if there are no findings."""
    return max((finding.level for finding in findings), key=_ORDER.index, default=Level.PASS)


def render(findings: Sequence[Finding]) -> str:
    """Return the list for a terminal: a line a check, offenders below it, a sum at the end."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level}  {finding.check:<{width}}  {finding.message}")
        if finding.offenders:
            more = finding.count - len(finding.offenders)
            rest = f" and {more:,} more" if more else ""
            lines.append(f"{'':6}{'':{width}}  - {', '.join(finding.offenders)}{rest}")
    sums = Counter(finding.level for finding in findings)
    summary = ", ".join(f"{sums[level]} {level}" for level in Level)
    return "\n".join([*lines, f"{counted(len(findings), 'check')}: {summary}"])


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON values."""
    sums = Counter(finding.level for finding in findings)
    return {
        "worst": worst(findings).value,
        "counts": {level.value: sums[level] for level in Level},
        "findings": [
            {
                "check": finding.check,
                "level": finding.level.value,
                "message": finding.message,
                "count": finding.count,
                "offenders": list(finding.offenders),
            }
            for finding in findings
        ],
    }
