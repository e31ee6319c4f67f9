"""What a cross-validation writes: its folds before the first one, and what came of all after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd

from histo_mlflow import files
from histo_mlflow.data import manifest as manifests
from histo_mlflow.errors import DataError, ModelFolderError, TrackingError
from histo_mlflow.evaluation import bootstrap, folds, predictions
from histo_mlflow.jobs import _crossval_report as reporting
from histo_mlflow.jobs._crossval_folds import Parent
from histo_mlflow.jobs._crossval_plan import How, Notes
from histo_mlflow.jobs.deliver import deliver_beginning
from histo_mlflow.jobs.prepare import divide
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.jobs.run_folder import OUT_OF_FOLD, PREDICTIONS, RunFolder
from histo_mlflow.models.build import ModelSpec
from histo_mlflow.registry.model_folder import WEIGHTS, read_model_folder, write_model_folder
from histo_mlflow.vision.decode import DecodeRule

REPORT = "crossval.json"


def log_beginning(parent: Parent, notes: Notes) -> None:
    """Log recipe, manifest and folds, so that a cross-validation that dies tells what it was."""
    if parent.folder.dataset() is None:
        _write_beginning(parent.ready, parent.folder, notes)
    try:
        deliver_beginning(parent.run, parent.folder)
    except TrackingError as error:
        parent.talk.say("WARN", f"{error}; going on, it is sent at the end")


def _write_beginning(ready: Ready, folder: RunFolder, notes: Notes) -> None:
    begin, prepared = folder.begin, ready.prepared
    if begin.exists():
        shutil.rmtree(begin)
    files.make_folder(begin / "data")
    dealt = prepared.manifest.table[["id", "label", "group"]].copy()
    for fold in notes.all_folds():
        splits = divide(prepared.manifest, fold.recipe(ready.recipe), prepared.leaks)
        dealt.loc[dealt.index[splits.rows("test")], f"fold_by_{fold.how}"] = str(fold.number)
    with files.told(begin, 300 * len(dealt)):
        (begin / "recipe.yaml").write_text(ready.recipe.to_yaml(), encoding="utf-8")
        manifests.save(prepared.manifest, begin / "data" / "manifest.csv")
        dealt.to_csv(begin / "data" / "folds.csv", index=False)
        ready.provenance.write(begin / "provenance")
    files.sync_tree(begin)
    counts = dealt["fold_by_group"].value_counts().sort_index()
    folder.note_dataset(
        ready.recipe.name,
        prepared.digest,
        str(prepared.manifest.root),
        {f"fold_{name}": int(n) for name, n in counts.items()},
    )


def conclude(parent: Parent, notes: Notes, started: float) -> dict[str, Any]:
    """Join the folds' predictions, judge them, and write the ensemble; the outcome is last.

    Args:
        parent: gets the metrics.
        notes: with the run of every fold, all of them finished.
        started: `perf_counter` when the first fold began.

    Raises:
        DataError: an image is in no fold's predictions, or in several.
    """
    folder, run = parent.folder, parent.run
    tables = {how: _joined(parent, notes, how) for how in _hows(notes)}
    report = _report(parent, notes, tables)
    run.log_metrics(reporting.mlflow_metrics(report), step=notes.folds)
    for old in (folder.results, folder.model):
        shutil.rmtree(old, ignore_errors=True)
    files.make_folder(folder.results)
    with files.told(folder.path, 1000 * sum(map(len, tables.values()))):
        for how, table in tables.items():
            name = OUT_OF_FOLD if how == "group" else "oof_row_wise.parquet"
            predictions.save(table, folder.results / name)
        reporting.as_table(report).to_csv(folder.results / "metrics.csv", index=False)
        (folder.results / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        _write_ensemble(parent, notes, report)
    for written in (folder.results, folder.model):
        files.sync_tree(written)
    first = parent.folder_of(_runs(notes, "group")[0])
    files.write_bytes(folder.example, first.example.read_bytes())
    outcome = {
        "ending": "finished",
        "cause": None,
        # As of a training: MLflow copies the run's metrics of this step to the model. No fold has
        # it as its number: what a single fold scored is not of the ensemble.
        "result": {
            "run_id": run.run_id,
            "best_epoch": notes.folds,
            "seconds": perf_counter() - started,
        },
    }
    folder.write_outcome(outcome)
    parent.talk.say("ensemble", reporting.ENSEMBLE)
    return outcome


def read_report(folder: RunFolder) -> dict[str, Any]:
    """What `conclude` reported.

    Raises:
        DataError: it is missing.
    """
    path = folder.results / REPORT
    if not path.is_file():
        raise DataError(f"Expected the report of the cross-validation at {path}, got none.")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def _hows(notes: Notes) -> tuple[How, ...]:
    return ("group", "row") if notes.leak_gap else ("group",)


def _runs(notes: Notes, how: How) -> list[str]:
    return [notes.runs[fold.name] for fold in notes.all_folds() if fold.how == how]


def _joined(parent: Parent, notes: Notes, how: How) -> pd.DataFrame:
    paths = [parent.folder_of(run_id).results / PREDICTIONS for run_id in _runs(notes, how)]
    tables = [predictions.of_split(predictions.load(path), "test") for path in paths]
    return folds.joined(tables, parent.ready.prepared.manifest.table["id"].tolist())


def _report(parent: Parent, notes: Notes, tables: Mapping[How, pd.DataFrame]) -> dict[str, Any]:
    ready, manifest = parent.ready, parent.ready.prepared.manifest
    measured = {how: folds.measure(table) for how, table in tables.items()}
    sides: dict[str, Any] = {
        how: {
            "runs": _runs(notes, how),
            "metrics": [reporting.metric_entry(one) for one in folds.metrics_of(found)],
        }
        for how, found in measured.items()
    }
    gap, told = None, [reporting.POOLED, reporting.CONDITIONAL]
    if notes.leak_gap:
        gap = [reporting.gap_entry(one) for one in folds.gaps(measured["row"], measured["group"])]
        told.append(reporting.GAP)
    return {
        "format": 1,
        "run_id": parent.run.run_id,
        "recipe": ready.recipe.name,
        "data_digest": ready.prepared.digest,
        "folds": notes.folds,
        "split_seed": ready.recipe.split.split_seed,
        "rows": len(manifest.table),
        "groups": measured["group"].n_groups,
        "group_kind": manifest.group_kind,
        "level": bootstrap.LEVEL,
        "replicates": bootstrap.REPLICATES,
        "seed": 0,
        "group": sides["group"],
        "row": sides.get("row"),
        "leak_gap": gap,
        "notes": [note.format(kind=manifest.group_kind) for note in (*told, reporting.ENSEMBLE)],
    }


def _write_ensemble(parent: Parent, notes: Notes, report: Mapping[str, Any]) -> None:
    """The members are the folds by group; no row-wise model is ever one."""
    ready, members = parent.ready, _runs(notes, "group")
    prepared = ready.prepared
    folders = [parent.folder_of(run_id).model for run_id in members]
    # One after another, since the weights of all of them may be too much at once.
    spec, rule = _spec_and_rule(folders[0])
    for path in folders[1:]:
        if _spec_and_rule(path) != (spec, rule):
            raise ModelFolderError(
                f"Expected folds of one architecture and one decode rule, got others in {path} "
                f"than in {folders[0]}"
            )
    metrics = report["group"]["metrics"]
    write_model_folder(
        parent.folder.model,
        spec=spec,
        rule=rule,
        weights_paths=[path / WEIGHTS for path in folders],
        calibration=None,
        provenance={
            "run_id": parent.run.run_id,
            "recipe": ready.recipe.name,
            "data_digest": prepared.digest,
            "label_source": prepared.manifest.label_source,
            "split": "group",
            "leaking": False,
            "git_commit": ready.provenance.commit,
            "folds": notes.folds,
            "members": members,
            "score": reporting.ENSEMBLE,
            "out_of_fold_metrics": {
                what: {reporting.mlflow_name(one["metric"]): one[what]["value"] for one in metrics}
                for what in ("mean", "pooled")
            },
        },
    )


def _spec_and_rule(folder: Path) -> tuple[ModelSpec, DecodeRule]:
    """Architecture and decode rule of a model folder, which is checked byte by byte."""
    model = read_model_folder(folder)
    return model.spec, model.rule
