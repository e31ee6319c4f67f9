"""What a model and its run left behind, gathered for the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from histo_mlflow.errors import DataError, HistoMlflowError, PromotionError, TrackingError
from histo_mlflow.evaluation import metrics, predictions
from histo_mlflow.jobs._promotion_subject import Subject, or_none, run_of
from histo_mlflow.jobs.compare import CROSSVAL, Split
from histo_mlflow.jobs.find_model import find_model
from histo_mlflow.jobs.run_record import RunRecord, load_run
from histo_mlflow.promotion.checks import UNREAL
from histo_mlflow.promotion.evidence import ModelFacts
from histo_mlflow.promotion.versions import model_of
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.tracking.store import Store

if TYPE_CHECKING:
    pass

_SAME = 1e-4  # of a metric that is computed twice from the same predictions


@dataclass(frozen=True, eq=False)
class Side:
    """A model with all that the gate may ask of it.

    Attributes:
        facts: for the gate.
        record: of its run; None where that cannot be read.
        table: its predictions, calibrated as it is served; None where there are none.
    """

    facts: ModelFacts
    record: RunRecord | None
    table: pd.DataFrame | None

    @property
    def group_kind(self) -> str:
        """What a group is, such as "lesion"."""
        tags = {} if self.record is None else self.record.tags
        return tags.get("histo.data.group_kind", "group")


def gather(
    store: Store,
    subject: Subject,
    *,
    version: int | None = None,
    reference: str | None = None,
    split: Split,
    runs_dir: str | Path,
) -> Side:
    """Read everything that is known of a model; what cannot be read is a fact too.

    Args:
        store: where run and model are.
        subject: the model.
        version: of the registered model, if it has one.
        reference: of the model, for `find_model`; None: its id.
        split: whose images count.
        runs_dir: where folders of runs are.

    Raises:
        TrackingError: the store failed.
    """
    run = run_of(store, subject.run_id) if subject.run_id else None
    record, results_problem = _record(store, subject, runs_dir)
    about, problem = _model(store, subject, reference, runs_dir)
    origin = dict(about.facts) if about is not None else {}
    # A tag can be set by anyone; what the model folder says is covered by its digest.
    tags = {**(record.tags if record else {}), **(run.data.tags if run is not None else {})}
    table = None
    if record is not None:
        table, results_problem = _predictions(record, about, split)
    kept, note = _changes(store, subject.run_id, record)
    held_out = None if table is None else predictions.of_split(table, split)
    title = "run" if run is None else run.info.run_name or "run"
    facts = ModelFacts(
        name=record.name if record is not None else f"{title} {subject.run_id[:6]}",
        run_id=subject.run_id,
        model_id=subject.model_id or "",
        version=version,
        status="DELETED" if run is None else str(run.info.status),
        ending=tags.get("histo.ending"),
        model_problem=problem,
        model_run_id=origin.get("run_id"),
        calibrated=about is not None and about.calibrated,
        label_source=_worse(origin.get("label_source"), tags.get("histo.data.label_source")),
        split_kind=tags.get("histo.split.kind") or origin.get("split"),
        leaking=_either(origin.get("leaking"), _yes(tags.get("histo.split.leaking"))),
        crossing=_crossing(tags, record),
        promotable=_yes(tags.get("histo.promotable")),
        dirty=_yes(tags.get("histo.git.dirty")),
        patch=kept,
        patch_note=note,
        folds=int(tags[CROSSVAL]) if CROSSVAL in tags else None,
        test_groups=0 if held_out is None else int(held_out["group"].nunique()),
        test_rows=0 if held_out is None else len(held_out),
        results_problem=results_problem,
    )
    return Side(facts, record, table)


def champion_of(
    store: Store, name: str, version: int, *, split: Split, runs_dir: str | Path
) -> Side:
    """Gather what is known of a registered version.

    Raises:
        PromotionError: the version is not there any more.
        TrackingError: the store failed.
    """
    found = or_none(
        store,
        f"looking for version {version} of {name!r}",
        lambda: store.client.get_model_version(name, str(version)),
    )
    if found is None:
        raise PromotionError(
            f"version {version} of {name!r}, the champion, was deleted; give --expect none to go "
            "on without it"
        )
    run_id = str(found.run_id or "")
    subject = Subject(run_id, model_of(found) or f"version {version}", run_id)
    reference = f"models:/{name}/{version}"
    return gather(
        store, subject, version=version, reference=reference, split=split, runs_dir=runs_dir
    )


@dataclass(frozen=True)
class _About:
    facts: Mapping[str, Any]
    classes: tuple[str, ...]
    calibrated: bool
    temperature: float


def _model(
    store: Store, subject: Subject, reference: str | None, runs_dir: str | Path
) -> tuple[_About | None, str | None]:
    """What the model folder says once it was checked byte by byte, or why it cannot be trusted."""
    if subject.model_id is None:
        return None, subject.problem
    try:
        with find_model(
            reference or f"models:/{subject.model_id}",
            tracking_uri=store.tracking_uri,
            runs_dir=runs_dir,
        ) as found:
            model = read_model_folder(found.folder)
    except HistoMlflowError as error:  # also a model that was deleted, or whose files are gone
        return None, str(error)
    calibrated = model.calibration is not None
    return _About(model.facts, model.spec.classes, calibrated, model.temperature), None


def _record(
    store: Store, subject: Subject, runs_dir: str | Path
) -> tuple[RunRecord | None, str | None]:
    if not subject.run_id:
        return None, "it was registered without a run"
    try:
        return (
            load_run(subject.reference, tracking_uri=store.tracking_uri, runs_dir=runs_dir),
            None,
        )
    except TrackingError:
        raise
    except HistoMlflowError as error:
        return None, str(error)


def _predictions(
    record: RunRecord, about: _About | None, split: Split
) -> tuple[pd.DataFrame | None, str | None]:
    """The predictions as they are served, and what is wrong with them."""
    try:
        table = _calibrated(record.predictions, 1.0 if about is None else about.temperature)
        predictions.of_split(table, split)
    except DataError as error:
        return None, str(error)
    return table, None if about is None else _others(record, about)


def _others(record: RunRecord, about: _About) -> str | None:
    """Whether the predictions are of another model than the folder, by classes and test AUC."""
    classes = predictions.classes_of(record.predictions)
    if classes != about.classes:
        return (
            f"the predictions of {record.name} are of the classes {', '.join(classes)}, but the "
            f"model knows {', '.join(about.classes)}: they are another model's"
        )
    written = _written_auc(about.facts)  # an ensemble has none
    if written is None:
        return None
    rows = predictions.of_split(record.predictions, "test")
    found = metrics.summary(
        predictions.targets_of(rows),
        predictions.logits_of(rows),
        predictions.output_of(rows),
        predictions.classes_of(rows),
    ).get("auc")
    if found is None or abs(found - written) <= _SAME:
        return None
    return (
        f"the predictions of {record.name} give a test AUC of {found:.4f}, but the model was "
        f"written with {written:.4f}: they are another model's"
    )


def _written_auc(origin: Mapping[str, Any]) -> float | None:
    """The test AUC that a model folder of format 3, or of an earlier one, was written with."""
    test = origin.get("test") or {}
    value = (test.get("metrics") or {}).get("auc", {}).get("value")
    if value is None:
        value = (origin.get("test_metrics") or {}).get("auc")
    return float(value) if isinstance(value, int | float) else None


def _calibrated(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    if temperature == 1.0:
        return table
    return predictions.predictions_table(
        table["id"].tolist(),
        table["group"].tolist(),
        table["split"].tolist(),
        predictions.targets_of(table),
        predictions.logits_of(table) / temperature,
        predictions.classes_of(table),
        predictions.output_of(table),
    )


def _changes(store: Store, run_id: str, record: RunRecord | None) -> tuple[bool, str]:
    """Whether the uncommitted changes of a run are kept whole, and what is amiss with them."""
    facts = {} if record is None else record.provenance
    note = str(facts.get("patch_note") or "")
    n = int(facts.get("untracked_count") or 0)
    listed = (
        None
        if not run_id
        else or_none(
            store,
            f"listing the artifacts of run {run_id}",
            lambda: [entry.path for entry in store.client.list_artifacts(run_id, "provenance")],
        )
    )
    there = "provenance/changes.patch" in (listed or [])
    if record is not None and record.folder is not None:
        there = there or (record.folder.begin / "provenance/changes.patch").is_file()
    untracked = f"of {n:,} files that git does not track only the names are known" if n else ""
    told = "; ".join(part for part in (note, untracked) if part)
    return there and not note.startswith("cut to"), told


def _crossing(tags: Mapping[str, str], record: RunRecord | None) -> int | None:
    known = [tags.get("histo.leak_groups.crossing")]
    if record is not None:
        known.append(record.tags.get("histo.leak_groups.crossing"))
    counts = [int(text) for text in known if text is not None and text.isdigit()]
    return max(counts) if counts else None


def _worse(first: str | None, second: str | None) -> str | None:
    """The source of labels that says less for them, of two that should be the same."""
    known = [one for one in (first, second) if one is not None]
    made_up = [one for one in known if one in UNREAL]
    return next(iter(made_up or known), None)


def _either(first: Any, second: bool | None) -> bool | None:
    known = [bool(one) for one in (first, second) if one is not None]
    return any(known) if known else None


def _yes(text: str | None) -> bool | None:
    return None if text is None else text.lower() == "true"
