"""What the numbers of an evaluation become: files, metrics of the run, facts of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from histo_mlflow.evaluation import style
from histo_mlflow.evaluation._files import replacing
from histo_mlflow.evaluation.abstain import AbstainRule
from histo_mlflow.evaluation.card import CardFacts, card, card_html
from histo_mlflow.evaluation.evaluate import Evaluation
from histo_mlflow.evaluation.measured import Measured

EVALUATION = "evaluation"
"""Name of the folder, of a run and of its artifacts."""
MOST_NOTES = 8
HEADLINE = ("auc", "average_precision", "balanced_accuracy", "accuracy")
FACTS, METRICS, SLICES = "evaluation.json", "metrics.csv", "slices.csv"


def write_numbers(folder: Path, evaluation: Evaluation) -> None:
    """Write `evaluation.json`, and its metrics and slices as tables that a spreadsheet opens."""
    told = evaluation.to_dict()
    text = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(folder / FACTS) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    for name, table in ((METRICS, pd.DataFrame(told["metrics"])), (SLICES, evaluation.slices)):
        with replacing(folder / name) as temporary:
            table.to_csv(temporary, index=False)


def write_card(folder: Path, facts: CardFacts) -> None:
    """Write the model card as Markdown and as a page."""
    for name, text in (("MODEL_CARD.md", card(facts)), ("model_card.html", card_html(facts))):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def run_metrics(evaluation: Evaluation) -> dict[str, float]:
    """The overall metrics under the names that MLflow shows; what is undefined is left out.

    `test/auc` is the value; `test_low/auc` and `test_high/auc` are the ends of its interval by
    group. `test/calibrated_ece` and the like are taken at the temperature.
    """
    found: dict[str, float | None] = {}
    split = evaluation.split
    for one in evaluation.metrics:
        if one.label is None:
            name = "loss" if one.metric == "log_loss" else one.metric
            found[f"{split}/{name}"] = one.value
            found[f"{split}_low/{name}"], found[f"{split}_high/{name}"] = one.low, one.high
    chosen_elsewhere = evaluation.split != evaluation.chosen_on
    if chosen_elsewhere and evaluation.temperature is not None and evaluation.after is not None:
        found["temperature"] = evaluation.temperature.value
        for name, value in evaluation.after.items():
            found[f"{split}/calibrated_{'loss' if name == 'log_loss' else name}"] = value
    return {name: value for name, value in found.items() if value is not None}


def calibration_of(evaluation: Evaluation) -> dict[str, Any] | None:
    """What `write_model_folder` takes as calibration; None where nothing could be fitted."""
    if evaluation.temperature is None:
        return None
    rules: dict[str, Any] = {}
    for one in evaluation.thresholds:
        cut = {"value": one["value"], **_on_validation(one)}
        if len(evaluation.classes) == 2:
            rules[one["rule"]] = cut
        else:
            rules.setdefault(one["rule"], {})[one["class"]] = cut
    return {"temperature": evaluation.temperature.value, "thresholds": rules}


def abstain_of(evaluation: Evaluation) -> dict[str, Any] | None:
    """What `write_model_folder` takes as the rule to abstain; None where there is none."""
    if (rule := evaluation.abstain) is None:
        return None
    return {
        "below": rule.below,
        "share": rule.validation.abstained,
        "rows": rule.validation.rows,
    }


def metrics_of(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """The overall metrics with the ends of their intervals by group, for the model's facts."""
    return {
        one.metric: {"value": one.value, "low": one.low, "high": one.high}
        for one in evaluation.metrics
        if one.label is None
    }


def told(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What is said on the screen: (word, text) a line."""
    kind = evaluation.group_kind
    headline, *rest = HEADLINE
    lines = [
        (
            evaluation.split,
            f"{headline:<18}{shown(evaluation.named(headline))}, 95 % intervals by {kind}: "
            f"{style.count(evaluation.rows, 'image')} of {style.count(evaluation.groups, kind)}",
        ),
        *(("", f"{name:<18}{shown(evaluation.named(name))}") for name in rest),
    ]
    if (fitted := evaluation.temperature) is not None and evaluation.after is not None:
        before, after = evaluation.before["ece"], evaluation.after["ece"]
        lines.append(
            (
                "calib",
                f"temperature {fitted.value:.3f} (of {fitted.rows:,} validation images): "
                f"ECE {before:.4f} -> {after:.4f}",
            )
        )
    if (rule := evaluation.abstain) is not None:
        lines.append(("abstain", _abstaining(rule)))
    if not (bad := evaluation.slices[evaluation.slices["worse"].astype(bool)]).empty:
        first = bad.iloc[0]
        lines.append(
            (
                "WARN",
                f"{style.count(len(bad), 'slice')} surely worse than the rest, first "
                f"{first['column']} = {first['slice']}: {evaluation.slice_metric} "
                f"{first['value']:.3f} against {first['rest']:.3f} "
                f"({first['rows']:,} images; {len(evaluation.slices)} looked at)",
            )
        )
    return lines


def noted(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What could not be computed: (word, text) a line, at most a screenful."""
    notes = evaluation.notes
    lines = [("NOTE", note) for note in notes[:MOST_NOTES]]
    left = len(notes) - len(lines)
    return [*lines, ("", f"and {left:,} more, in {FACTS}")] if left else lines


def _abstaining(rule: AbstainRule) -> str:
    judged = rule.judged
    kept, left = (
        "undefined" if value is None else f"{value:.3f}"
        for value in (judged.accuracy_kept, judged.accuracy_abstained)
    )
    return (
        f"below {rule.below:.3f} ({rule.validation.abstained:.1%} of validation): "
        f"{judged.abstained:.1%} of {judged.rows:,} images; accuracy {kept} of the rest, "
        f"{left} of those"
    )


def shown(one: Measured) -> str:
    """A metric with its interval, such as "0.9541 (0.9402 to 0.9655)"."""
    if one.value is None:
        return "undefined"
    if one.low is None or one.high is None:
        return f"{one.value:.4f} (no interval: {one.why})"
    return f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})"


def _on_validation(threshold: Mapping[str, Any]) -> dict[str, float]:
    return {f"validation_{name}": value for name, value in threshold["validation"].items()}
