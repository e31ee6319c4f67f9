"""Whether two runs' params say the same, though they were written by different hands.

`mlflow run` logs the raw text of its `-P` values before the project starts ("1e-3", "true"), the
project logs what it made of them ("0.001", "True"); both mean one value.
"""

from __future__ import annotations

from collections.abc import Mapping

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
_NOTHING = frozenset({"", "none", "null", "~", "{}", "[]", "()"})
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_SHOWN_CHARACTERS = 80


def same_param(a: str, b: str) -> bool:
    """Whether two texts of a param are one value.

    Equal are: the same number however written, true and false in any of the forms that a recipe
    takes, nothing ("", "null", "None"), and lists and `stage=rate` pairs whose parts are equal one
    by one, with or without brackets and quotes. Whole numbers are compared exactly.
    """
    a, b = _plain(a), _plain(b)
    if a == b:
        return True
    low_a, low_b = a.lower(), b.lower()
    if low_a in _NOTHING or low_b in _NOTHING:
        return low_a in _NOTHING and low_b in _NOTHING
    if {low_a, low_b} & {"true", "false"}:
        return {low_a, low_b} <= _TRUE or {low_a, low_b} <= _FALSE
    numbers = _number(a), _number(b)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    parts_a, parts_b = _parts(a), _parts(b)
    if len(parts_a) == len(parts_b) == 1 and parts_a == [a] and parts_b == [b]:
        return False
    return len(parts_a) == len(parts_b) and all(map(same_param, parts_a, parts_b))


def differences(has: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """One phrase for each param that both have with different values; long texts are cut."""
    return [
        f"{key}: the run has {_shown(has[key])}, this recipe says {_shown(value)}"
        for key, value in given.items()
        if key in has and not same_param(has[key], value)
    ]


def _plain(text: str) -> str:
    """Without the space and the quotes around it."""
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted and text.count(text[0]) == 2 else text


def _number(text: str) -> int | float | None:
    """Whole numbers stay whole: a seed above 2**53 must not be rounded into its neighbour."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _parts(text: str) -> list[str]:
    """What the commas separate, or the two sides of one `key=value`; no brackets around it."""
    if text and _BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    if "," in text:
        return [part for part in text.split(",") if part.strip()]
    for sign in ("=", ": "):
        key, found, value = text.partition(sign)
        if found and key and value:
            return [key, value]
    return [text]


def _shown(text: str) -> str:
    if not text:
        return "nothing"
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"
