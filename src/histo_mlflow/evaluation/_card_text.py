"""How a model card says a number, and what it says where there is none."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

NOT_RECORDED = "not recorded"
UNDEFINED = "undefined"
MOST_NAMED = 30

METRICS = {
    "auc": "ROC-AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "ece": "ECE",
    "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "specificity_at_95_sensitivity": "specificity at 95 % sensitivity",
}
"""Those whose name is not their own; of the others an underscore becomes a blank."""


def metric_name(metric: str) -> str:
    """What a metric is called in a sentence."""
    return METRICS.get(metric, metric.replace("_", " "))


def number(value: Any) -> str:
    """Three significant digits; "undefined" for None and NaN.

    What is nearly 1 gets the digits it takes not to be told as 1.
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if 0.9995 <= value < 1:
        digits = min(9, math.ceil(-math.log10(1 - value)))
        return f"{value:.{digits}f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return "0.000" if value == 0 else f"{value:#.3g}".removesuffix(".")


def ends(low: Any, high: Any) -> str:
    """Such as "0.941 to 0.965"; "none" where there is no interval."""
    told = [number(low), number(high)]
    return "none" if UNDEFINED in told else " to ".join(told)


def with_interval(value: Any, low: Any, high: Any, why: str = "") -> str:
    """Such as "0.954 (0.941 to 0.965)", or why there is no interval or no value."""
    told, interval = number(value), ends(low, high)
    reason = f": {why}" if why else ""
    if told == UNDEFINED:
        return UNDEFINED + ("" if why.startswith(UNDEFINED) else reason)
    return f"{told} (no interval{reason})" if interval == "none" else f"{told} ({interval})"


def signed(value: Any) -> str:
    """A difference with its sign."""
    told = number(value)
    return told if told == UNDEFINED or value <= 0 else f"+{told}"


def count(value: Any) -> str:
    """A whole number with thousands separators; it may come as text."""
    text = known(value)
    return f"{int(text):,}" if text.lstrip("-").isdigit() else text


def known(value: Any) -> str:
    """A fact as text, "not recorded" where it is none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not math.isfinite(value):
        return NOT_RECORDED
    text = "" if value is None else str(value).strip()
    return NOT_RECORDED if text in ("", "None", "null") else text


def fact(facts: Mapping[str, Any], key: str) -> str:
    """One of the facts as text, "not recorded" where it is missing."""
    return known(facts.get(key))


def is_known(facts: Mapping[str, Any], key: str) -> bool:
    """Whether a fact is there."""
    return fact(facts, key) != NOT_RECORDED


def yes_no(text: str) -> bool | None:
    """A tag that is true or false; None where it is neither."""
    return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower())


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Names with commas, the first of them where they are many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
