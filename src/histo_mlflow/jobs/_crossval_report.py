"""What came of a cross-validation, as JSON values, as MLflow metrics and as a table to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from histo_mlflow.evaluation.bootstrap import LEVEL
from histo_mlflow.evaluation.folds import FoldMetric, Gap
from histo_mlflow.jobs.metrics import EPOCH_METRICS

POOLED = (
    "pooled: all out-of-fold predictions at once; its AUC and average precision mix the scales of "
    "the folds' models, so the mean over folds is the fairer ranking metric"
)
CONDITIONAL = (
    "intervals: other {kind}s and the same models; how much training itself varies is in the SD"
)
ENSEMBLE = (
    "the ensemble's honest score is the out-of-fold one: every image was trained on by some of its "
    "members, so no image of this data set can test it"
)
GAP = (
    "leaderboard gap: how much higher the same recipe scores where images of one {kind} lie on "
    "both sides; its interval leaves out the luck of training, so hold it against the SDs too; "
    "row-wise models are never promotable"
)


def metric_entry(found: FoldMetric) -> dict[str, Any]:
    """One metric as JSON values."""
    return {
        "metric": found.metric,
        "folds": list(found.folds),
        "sd": found.sd,
        "mean": asdict(found.mean),
        "pooled": asdict(found.pooled),
    }


def gap_entry(found: Gap) -> dict[str, Any]:
    """One gap as JSON values."""
    return {
        "metric": found.metric,
        "mean": asdict(found.mean),
        "pooled": asdict(found.pooled),
    }


def mlflow_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of the parent run: `cv_mean/auc`, `cv_sd/auc`, `pooled/auc`, `leak_gap/auc` ...

    What is undefined has no metric. The row-wise ones begin with `row_`.
    """
    found: dict[str, float | None] = {}
    for how, prefix in (("group", ""), ("row", "row_")):
        for entry in report[how]["metrics"] if report[how] else ():
            name = mlflow_name(entry["metric"])
            found[f"{prefix}cv_sd/{name}"] = entry["sd"]
            found |= _with_ends(f"{prefix}cv_mean", name, entry["mean"])
            found |= _with_ends(f"{prefix}pooled", name, entry["pooled"])
    for entry in report["leak_gap"] or ():
        name = mlflow_name(entry["metric"])
        found |= _with_ends("leak_gap", name, entry["pooled"])
        found |= _with_ends("leak_gap_cv_mean", name, entry["mean"])
    return {name: value for name, value in found.items() if value is not None}


def mlflow_name(metric: str) -> str:
    """`log_loss` is called `loss` there, as in every run."""
    return "loss" if metric == "log_loss" else metric


def as_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """metrics.csv: a row a metric of each way to split, then a row a gap."""
    rows: list[dict[str, Any]] = []
    for how in ("group", "row"):
        for entry in report[how]["metrics"] if report[how] else ():
            folds = {f"fold_{k}": value for k, value in enumerate(entry["folds"])}
            rows.append({"split": how, "metric": entry["metric"], **folds, **_columns(entry)})
    for entry in report["leak_gap"] or ():
        rows.append({"split": "row minus group", "metric": entry["metric"], **_columns(entry)})
    return pd.DataFrame(rows)


def render(report: Mapping[str, Any]) -> str:
    """The table for a terminal: folds, mean and SD, pooled, and the gap."""
    blocks = [_block(report, "group")]
    if report["row"]:
        blocks += [_block(report, "row"), _gap_block(report)]
    return "\n\n".join([*blocks, "\n".join(report["notes"])])


def _block(report: Mapping[str, Any], how: str) -> str:
    part = report[how]
    shown = [entry for entry in part["metrics"] if mlflow_name(entry["metric"]) in EPOCH_METRICS]
    kind = report["group_kind"]
    title = f"{report['folds']} folds by {kind}" if how == "group" else "the same, row by row"
    lines = [[title, *(mlflow_name(entry["metric"]) for entry in shown), ""]]
    for number, run in enumerate(part["runs"]):
        values = [_number(entry["folds"][number]) for entry in shown]
        lines.append([f"fold {number}", *values, f"run {run}"])
    lines.append(["mean", *(_number(entry["mean"]["value"]) for entry in shown), ""])
    lines.append(["SD", *(_number(entry["sd"]) for entry in shown), ""])
    lines.append([_level(), *(_ends(entry["mean"]) for entry in shown), "of the mean"])
    lines.append(["pooled", *(_number(entry["pooled"]["value"]) for entry in shown), ""])
    lines.append([_level(), *(_ends(entry["pooled"]) for entry in shown), "of the pooled"])
    return _aligned(lines)


def _gap_block(report: Mapping[str, Any]) -> str:
    shown = [entry for entry in report["leak_gap"] if mlflow_name(entry["metric"]) in EPOCH_METRICS]
    lines = [["row-wise minus by group", *(mlflow_name(entry["metric"]) for entry in shown), ""]]
    for what, said in (("pooled", "of the pooled"), ("mean", "of the mean")):
        lines.append([what, *(_number(entry[what]["value"], "+") for entry in shown), ""])
        lines.append([_level(), *(_ends(entry[what], "+") for entry in shown), said])
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True)),
                line[-1],
            ]
        ).rstrip()
        for line in lines
    )


def _number(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.4f}"


def _ends(found: Mapping[str, Any], sign: str = "") -> str:
    if found["low"] is None:
        return "undefined"
    return f"{found['low']:{sign}.4f} to {found['high']:{sign}.4f}"


def _level() -> str:
    return f"{100 * LEVEL:.0f} % interval"


def _with_ends(prefix: str, name: str, found: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        f"{prefix}/{name}": found["value"],
        f"{prefix}_low/{name}": found["low"],
        f"{prefix}_high/{name}": found["high"],
    }


def _columns(entry: Mapping[str, Any]) -> dict[str, Any]:
    columns = {"sd": entry.get("sd")}
    for what in ("mean", "pooled"):
        found: Mapping[str, Any] = entry[what]
        columns |= {
            what: found["value"],
            f"{what}_low": found["low"],
            f"{what}_high": found["high"],
            f"{what}_why": found["why"],
        }
    return columns
