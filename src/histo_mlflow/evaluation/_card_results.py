"""The parts of a model card about how good it is: metrics, calibration, thresholds, slices."""

from collections.abc import Mapping, Sequence
from typing import Any

from histo_mlflow.evaluation._card_facts import CardFacts
from histo_mlflow.evaluation._card_text import (
    MOST_NAMED,
    NOT_RECORDED,
    UNDEFINED,
    count,
    ends,
    fact,
    known,
    listed,
    metric_name,
    number,
    signed,
    with_interval,
)
from histo_mlflow.evaluation.page import Block, Items, Section, Table, Text

WORST_SLICES = 15
ABREAST = 4
"""Columns of metrics that a page has room for."""
_NOT_EVALUATED = f"The evaluation of this model is {NOT_RECORDED}."
_RULES = {
    "youden": "largest sensitivity + specificity (Youden)",
    "sensitivity": "best specificity with at least 95 % sensitivity",
    "cost": "least cost of misses and false alarms",
}


def headline(facts: CardFacts) -> list[tuple[str, str]]:
    """What is told at the top."""
    found = facts.evaluation
    labels = ("labels", fact(facts.tags, "histo.data.label_source"))
    if found is None:
        return [("metrics", NOT_RECORDED), labels]
    split, told = known(found.get("split")), []
    for one in found.get("metrics", ()):
        if one["metric"] in ("auc", "balanced_accuracy") and one.get("class") is None:
            told.append((f"{metric_name(one['metric'])} ({split})", _value(one)))
    told.append((f"{split} images", count(found.get("rows"))))
    told.append((f"{facts.group_kind} groups ({split})", count(found.get("groups"))))
    return [*told, labels]


def results(facts: CardFacts) -> Section:
    """Metrics with the interval by group beside the naive one."""
    found = facts.evaluation
    if found is None:
        return Section("Evaluation", [Text(_NOT_EVALUATED)])
    kind, split = facts.group_kind, known(found.get("split"))
    level = found.get("level")
    percent = NOT_RECORDED if level is None else f"{100 * level:g} %"
    blocks: list[Block] = [
        Text(
            f"Of the {split} split: {count(found.get('rows'))} images in "
            f"{count(found.get('groups'))} groups ({kind}). Intervals ({percent}) are from "
            f"{count(found.get('replicates'))} bootstrap draws of whole groups, seed "
            f"{fact(found, 'seed')}. The naive interval draws single images, as if those of one "
            "group told nothing of each other, and promises too much where they do."
        )
    ]
    measured = list(found.get("metrics", ()))
    whole = [one for one in measured if one.get("class") is None]
    if whole:
        rows = [
            (
                metric_name(one["metric"]),
                _value(one),
                ends(one.get("naive_low"), one.get("naive_high")),
            )
            for one in whole
        ]
        blocks.append(Table(("metric", f"value (interval by {kind})", "naive interval"), rows))
    else:
        blocks.append(Text(f"Metrics: {NOT_RECORDED}."))
    blocks += _by_class([one for one in measured if one.get("class") is not None], facts)
    if notes := list(found.get("notes") or ()):
        blocks.append(Text("What could not be computed, or only roughly:"))
        blocks.append(Items([str(note) for note in _first(notes, "notes")]))
    return Section("Evaluation", blocks)


def _value(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return NOT_RECORDED
    ends_ = one.get("low"), one.get("high")
    return with_interval(one.get("value"), *ends_, str(one.get("why") or ""))


def _by_class(measured: Sequence[Mapping[str, Any]], facts: CardFacts) -> list[Block]:
    """Tables with a row a class and a column a metric, the lowest of the first metric on top."""
    if not measured:
        return []
    metrics = list(dict.fromkeys(one["metric"] for one in measured))
    cells = {(one["class"], one["metric"]): one for one in measured}
    names = list(dict.fromkeys(one["class"] for one in measured))

    def lowest(name: str) -> float:
        value: Any = cells.get((name, metrics[0]), {}).get("value")
        return float("inf") if number(value) == UNDEFINED else float(value)

    names.sort(key=lowest)
    more = len(names) - MOST_NAMED
    caption = (
        f"Each class against the rest, with intervals by {facts.group_kind}, the lowest "
        f"{metric_name(metrics[0])} first"
        f"{f'; {more:,} more classes are not listed' if more > 0 else ''}. Naive intervals are in "
        "evaluation.json"
    )
    return [
        Table(
            ["class", *map(metric_name, part)],
            [
                [name, *(_value(cells.get((name, metric))) for metric in part)]
                for name in names[:MOST_NAMED]
            ],
            caption,
        )
        for part in (metrics[i : i + ABREAST] for i in range(0, len(metrics), ABREAST))
    ]


def calibration(facts: CardFacts) -> Section:
    """Do the probabilities mean what they say, before and after the temperature."""
    if facts.evaluation is None:
        return Section("Calibration", [Text(_NOT_EVALUATED)])
    found = facts.evaluation.get("calibration") or {}
    fitted, before, after = (found.get(name) or {} for name in ("temperature", "before", "after"))
    blocks: list[Block] = [Text(_temperature(fitted))]
    if before:
        rows = [
            (metric_name(name), number(before.get(name)), number(after.get(name)))
            for name in ("log_loss", "brier", "ece")
        ]
        split = known(facts.evaluation.get("split"))
        blocks.append(Table(("metric", "before", "after"), rows, f"On the {split} split"))
        if _is_before(facts.evaluation.get("metrics", ()), before):
            blocks.append(Text('The metrics under "Evaluation" are those before the temperature.'))
    else:
        blocks.append(Text(f"Log loss, Brier score and ECE: {NOT_RECORDED}."))
    return Section("Calibration", blocks)


def _temperature(fitted: Mapping[str, Any]) -> str:
    value = fitted.get("value")
    if value is None:
        return "No temperature was fitted."
    if fitted.get("at_limit"):
        return (
            f"The {count(fitted.get('rows'))} validation images ask for no finite temperature, as "
            f"when all of them are right: it stays at {number(value)}."
        )
    sure = "too sure" if value > 1 else "not sure enough" if value < 1 else "as sure as it should"
    return (
        f"The temperature is {number(value)} (the model was {sure}), fitted on "
        f"{count(fitted.get('rows'))} validation images, where the log loss went from "
        f"{number(fitted.get('loss_before'))} to {number(fitted.get('loss_after'))} nats."
    )


def _is_before(measured: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> bool:
    same = [
        one.get("value") == before.get(one["metric"])
        for one in measured
        if one.get("class") is None and one["metric"] in before
    ]
    return bool(same) and all(same)


def thresholds(facts: CardFacts) -> Section:
    """Where to cut, chosen on validation, told on test."""
    if facts.evaluation is None:
        return Section("Thresholds", [Text(_NOT_EVALUATED)])
    chosen = list(facts.evaluation.get("thresholds") or ())
    if not chosen:
        return Section("Thresholds", [Text("No thresholds were chosen.")])
    split = known(facts.evaluation.get("split"))
    second = facts.classes[1] if len(facts.classes) == 2 else NOT_RECORDED
    fitted = (facts.evaluation.get("calibration") or {}).get("temperature")
    rows = [
        (
            known(one.get("class") or second),
            _RULES.get(str(one.get("rule")), known(one.get("rule"))),
            number(one.get("value")),
            _rates(one.get("validation")),
            _rates(one.get("test")),
        )
        for one in chosen[: 2 * MOST_NAMED]
    ]
    more = f"; {len(chosen) - len(rows):,} more are not listed" if len(chosen) > len(rows) else ""
    text = (
        "Chosen on validation; the other split only tells how they do. A class is said from this "
        f"{'calibrated ' if fitted else ''}probability on{more}. The class column of a served "
        "model does not use them: it is the likeliest class."
    )
    both = "sensitivity, specificity"
    columns = ("class", "rule", "threshold", f"{both} on validation", f"{both} on {split}")
    blocks: list[Block] = [Text(text), Table(columns, rows)]
    if rule := facts.evaluation.get("abstain"):
        blocks.append(Text(_abstaining(rule, split)))
    return Section("Thresholds", blocks)


def _abstaining(rule: Mapping[str, Any], split: str) -> str:
    judged = rule.get("judged") or {}
    return (
        f"The model abstains (column abstain) where its greatest calibrated probability is below "
        f"{number(rule.get('below'))}, chosen on validation as the least sure tenth at most. On "
        f"the {split} split that is a share of {number(judged.get('abstained'))}: accuracy "
        f"{number(judged.get('accuracy_kept'))} of the rest, "
        f"{number(judged.get('accuracy_abstained'))} of those."
    )


def _rates(found: Mapping[str, Any] | None) -> str:
    if not found:
        return NOT_RECORDED
    return ", ".join(number(found.get(name)) for name in ("sensitivity", "specificity"))


def slices(facts: CardFacts) -> Section:
    """For whom it is worse, the worst first."""
    if facts.evaluation is None:
        return Section("Factors: Slices of the Data", [Text(_NOT_EVALUATED)])
    found = list(facts.evaluation.get("slices") or ())
    if not found:
        text = "No slice was compared: nothing else is recorded of the images, or too few share it."
        return Section("Factors: Slices of the Data", [Text(text)])
    metric = metric_name(known(facts.evaluation.get("slice_metric")))
    columns = list(dict.fromkeys(str(one["column"]) for one in found))
    surely = sum(bool(one.get("worse")) for one in found)
    shown = found[:WORST_SLICES]
    told = f"{count(surely) if surely else 'None'} of them {'are' if surely > 1 else 'is'}"
    text = (
        f"{count(len(found))} slices by {listed(columns)} were looked at, the most surely "
        f"worst first; {count(len(shown))} are shown. Each is compared with all other images in "
        f"{metric}. The intervals are simultaneous: they allow for all {count(len(found))} looks "
        f"at once. {told} surely worse."
    )
    rows = [
        (
            f"{one['column']}: {one['slice']}",
            count(one["rows"]),
            count(one["groups"]),
            number(one.get("value")),
            number(one.get("rest")),
            f"{signed(one.get('difference'))} ({_ends(one)})",
            number(one.get("p")),
            "yes" if one.get("worse") else "no",
        )
        for one in shown
    ]
    heads = ("slice", "images", "groups", metric, "others", "difference", "p", "surely worse")
    return Section("Factors: Slices of the Data", [Text(text), Table(heads, rows)])


def _ends(one: Mapping[str, Any]) -> str:
    told = [signed(one.get("low")), signed(one.get("high"))]
    return "no interval" if UNDEFINED in told else " to ".join(told)


def _first(notes: Sequence[Any], what: str) -> list[Any]:
    more = [f"and {len(notes) - MOST_NAMED:,} more {what}"] if len(notes) > MOST_NAMED else []
    return [*notes[:MOST_NAMED], *more]
