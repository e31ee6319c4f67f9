"""When somebody was at work: spans of time, in seconds since 1970, of trials that overlap."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from histo_mlflow.tuning.shared import attributes

Span = tuple[float, float]
"""From and to, in seconds since 1970."""


def spans_of(user_attrs: Mapping[str, Any]) -> list[Span]:
    """The spans among a trial's user attributes, oldest first; none if it was never taken."""
    return [(begin, end) for begin, end in json.loads(user_attrs.get(attributes.SPANS, "[]"))]


def text(spans: Iterable[Span]) -> str:
    """JSON, as it is stored; milliseconds are enough."""
    return json.dumps([[round(begin, 3), round(end, 3)] for begin, end in spans])


def union_seconds(spans: Iterable[Span]) -> float:
    """The length of the union of spans; 0 for none. A span that ends before it begins is empty."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
