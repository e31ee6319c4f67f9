"""A promotion, a rollback and a history as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from histo_mlflow.evaluation.compare import Comparison, Difference
from histo_mlflow.evaluation.forest import NAMES, groups_named
from histo_mlflow.evaluation.style import count, shorten
from histo_mlflow.jobs.promote import Promotion
from histo_mlflow.jobs.roll_back import RolledBack, Status
from histo_mlflow.promotion.checks import Check
from histo_mlflow.promotion.entry import Entry

_WIDTH = 100
_NAME = 34


def render(found: Promotion) -> str:
    """What was compared, all checks, and who is champion now, in this order."""
    return "\n\n".join(
        block for block in (_heading(found), _metrics(found), _checks(found), _last(found)) if block
    )


def render_rollback(done: RolledBack) -> str:
    """One line: who is champion now."""
    trial = "would be " if done.entry is None else ""
    was = "none" if done.was is None else f"v{done.was}"
    return f"champion {trial}{done.name} v{done.champion} (was {was})"


def render_status(found: Status) -> str:
    """The aliases, then every decision, the newest first."""
    name = found.ledger.name
    head = [
        f"{name}  @champion {_version(found.champion)}  @challenger {_version(found.challenger)}"
    ]
    if found.warning:
        head.append(f"WARN {found.warning}")
    if earlier := found.ledger.earlier():
        head.append(
            "earlier champions "
            f"{', '.join(map(_version, earlier))} (`promote --rollback --name {name}` goes back)"
        )
    rows = [
        ["", "when (UTC)", "decision", "version", "champion", "by", "why"],
        *(_row(entry) for entry in reversed(found.ledger.entries)),
    ]
    return "\n".join(head) + ("\n\n" + _table(rows) if len(rows) > 1 else "")


def _row(entry: Entry) -> list[str]:
    forced = f"forced: {', '.join(entry.forced)}; " if entry.forced else ""
    moved = entry.champion != entry.was
    return [
        str(entry.generation),
        entry.at[:19].replace("T", " "),
        entry.decision,
        _version(entry.version),
        f"{_version(entry.was)} -> {_version(entry.champion)}" if moved else _version(entry.was),
        shorten(entry.by, 16),
        shorten(forced + entry.why, 90),
    ]


def _heading(found: Promotion) -> str:
    one = found.challenger.facts
    model = f" ({one.model_id})" if one.model_id else ""
    lines = [f"{found.name}: {one.name}{model}"]
    if found.champion is None:
        lines.append("against nobody: there is no champion yet")
    else:
        other = found.champion.facts
        lines.append(f"against the champion v{other.version}, {other.name}")
    return "\n".join(lines)


def _metrics(found: Promotion) -> str:
    compared = found.comparison
    if compared is None:
        return ""
    kind = found.challenger.group_kind
    head = (
        f"{compared.split}: {count(compared.rows, 'image')} in "
        f"{count(compared.groups, groups_named(kind))}, probabilities as they are served"
    )
    rows = [["", "champion", "challenger", f"gain, 95 % by {kind}", ""]]
    decisive = None if found.gain is None else found.gain.metric
    rows += _rows(compared, decisive)
    return head + "\n" + _table(rows)


def _rows(compared: Comparison, decisive: str | None) -> list[list[str]]:
    base: dict[str, Difference] = {}
    rows = []
    for one in compared.differences:
        if one.label is not None:
            continue
        if one.name == compared.names[0]:
            base[one.metric] = one
            continue
        sign = -1 if one.better == "lower" else 1
        ends = [one.difference_low, one.difference_high]
        known = sorted(sign * end for end in ends if end is not None)
        interval = f" ({known[0]:+.4f} to {known[1]:+.4f})" if len(known) == 2 else ""
        gain = "undefined" if one.difference is None else f"{sign * one.difference:+.4f}{interval}"
        mark = "  <- decides" if one.metric == decisive else ""
        rows.append(
            [
                NAMES.get(one.metric, one.metric.replace("_", " ")),
                _number(base[one.metric].value),
                _number(one.value),
                gain,
                f"{one.verdict}{mark}",
            ]
        )
    return rows


def _checks(found: Promotion) -> str:
    lines = [_line(_word(check), check.name, check.told) for check in found.decision.checks]
    if found.overtaken:
        lines.append(_line("REFUSED", "first", found.overtaken))
    lines += [_line("NOTE", "", note) for note in found.decision.notes]
    return "\n".join(lines)


def _word(check: Check) -> str:
    return "ok" if check.passed else "forced" if check.overridden else "REFUSED"


def _line(word: str, name: str, told: str) -> str:
    head = f"{word:<9}{name:<13}" if name else f"{word:<9}"
    return textwrap.fill(
        told, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _last(found: Promotion) -> str:
    was = "none" if found.was is None else f"v{found.was}"
    if found.dry_run:
        would = "would be promoted" if found.promoted else "would be refused"
        return f"trial: {found.challenger.facts.name} {would}; the champion is {was}"
    if found.promoted:
        forced = ", forced" if found.decision.forced else ""
        return f"champion {found.name} v{found.version} (was {was}{forced})"
    kept = "nothing was registered"
    if found.decision.registered:
        kept = f"v{found.version} is the challenger"
    elif found.version is not None:
        kept = f"{found.challenger.facts.name} is v{found.version} as before"
    now = found.is_champion
    if now is None:
        return f"{found.name} has no champion; {kept}"
    return f"champion {found.name} v{now} stays; {kept}"


def _version(version: int | None) -> str:
    return "none" if version is None else f"v{version}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
