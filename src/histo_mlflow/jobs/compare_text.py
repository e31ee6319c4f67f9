"""A comparison of runs as text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from histo_mlflow.evaluation.compare import Difference
from histo_mlflow.evaluation.forest import NAMES, groups_named
from histo_mlflow.evaluation.paired_auc import PairedAuc
from histo_mlflow.evaluation.style import count, shorten
from histo_mlflow.jobs.compare import Differing, RunsCompared

_VALUE, _NAME, _FACTS = 30, 28, 40
_HASH = re.compile(r"[0-9a-f]{32,}")


def render(found: RunsCompared, *, by_class: bool = False) -> str:
    """Notes first, then what differs in how the runs were made, then the metrics.

    Args:
        found: to be told.
        by_class: also the metrics of each class.
    """
    blocks = ["\n".join(f"NOTE {note}" for note in found.notes)]
    for title in ("recipe", "code", "data", "machine"):
        blocks.append(_section(title, getattr(found, title), found))
    compared = found.comparison
    blocks.append(
        f"{compared.split}: {count(compared.rows, 'image')} in "
        f"{count(compared.groups, groups_named(found.group_kind))}; "
        f"{compared.replicates:,} draws; baseline {compared.names[0]}\n"
        + _metrics(found, by_class=by_class)
    )
    if compared.delong:
        blocks.append("\n".join(_delong(one, found.group_kind) for one in compared.delong))
    return "\n\n".join(block for block in blocks if block)


def _section(title: str, facts: Differing, found: RunsCompared) -> str:
    known = sum(bool(one.params) for one in found.records)
    if not facts:
        return f"{title}: no difference" if known > 1 else ""
    shown = list(facts.items())[:_FACTS]
    rows = [[fact, *map(_shown, values)] for fact, values in shown]
    left = len(facts) - len(shown)
    more = f"\n... and {left:,} more differences (--json tells all)" if left else ""
    return _table([title, *(shorten(name, _VALUE) for name in found.names)], rows) + more


def _shown(value: str | None) -> str:
    if value is None:
        return "unknown"
    return value[:12] if _HASH.fullmatch(value) else shorten(value, _VALUE)


def _metrics(found: RunsCompared, *, by_class: bool) -> str:
    compared = found.comparison
    several = len(compared.names) > 2
    head = [
        "metric",
        *(["run"] if several else []),
        "baseline",
        "value",
        "difference",
        f"95 % by {found.group_kind}",
        "by image (naive)",
        "",
    ]
    rows = []
    for one in compared.differences:
        if one.difference is None and one.verdict is None:
            base = one  # the baseline's line stands before those of the others
            continue
        if one.label is not None and not by_class:
            continue
        rows.append(
            [
                NAMES.get(one.metric, one.metric.replace("_", " "))
                + (f", {shorten(one.label, 20)}" if one.label else ""),
                *([shorten(one.name, _NAME)] if several else []),
                _number(base.value),
                _number(one.value),
                _number(one.difference, signed=True),
                _interval(one.difference_low, one.difference_high),
                _interval(one.naive_low, one.naive_high),
                _verdict(one),
            ]
        )
    return _table(head, rows)


def _verdict(one: Difference) -> str:
    if one.verdict == "undefined":
        return f"undefined: {one.why}" if one.why else "undefined"
    return str(one.verdict)


def _delong(one: PairedAuc, group_kind: str) -> str:
    if one.low is None:
        return f"DeLong, {one.name}: no interval ({one.why})"
    return (
        f"DeLong, AUC of {one.name}: {_number(one.difference, signed=True)} "
        f"{_interval(one.low, one.high)} by {group_kind}, p {one.p:.2g}; "
        f"{_interval(one.naive_low, one.naive_high)} by image"
    )


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "undefined"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def _interval(low: float | None, high: float | None) -> str:
    return "none" if low is None or high is None else f"[{low:+.4f}, {high:+.4f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two spaces apart."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
