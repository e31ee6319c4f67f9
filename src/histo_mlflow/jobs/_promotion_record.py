"""Every decision is written where people look: the ledger's run, the version, the model's run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from histo_mlflow import files
from histo_mlflow.evaluation.compare import Comparison
from histo_mlflow.evaluation.forest import comparison as forest
from histo_mlflow.evaluation.style import save
from histo_mlflow.promotion.entry import Entry, Ledger
from histo_mlflow.promotion.ledger import retried
from histo_mlflow.promotion.versions import tag_version
from histo_mlflow.tracking.entries import TAG_CHARACTERS
from histo_mlflow.tracking.store import Store

FOLDER = "promotions"
PREFIX = "histo.promotion"
_SECONDS = 300.0


def write_record(
    store: Store,
    ledger: Ledger | None,
    entry: Entry | None,
    run_id: str,
    found: Mapping[str, Any],
    comparison: Comparison | None,
    group_kind: str,
) -> None:
    """Write a decision as tags and as files; without a ledger, to the model's run alone.

    Args:
        store: of all of them.
        ledger: of the registered model; None where there is none yet.
        entry: the decision in the ledger.
        run_id: of the run that made the model.
        found: the decision as JSON values.
        comparison: with the champion; drawn, where there is one.
        group_kind: what a group is.

    Raises:
        TrackingError: the store failed.
    """
    at = entry.at if entry is not None else datetime.now(UTC).isoformat(timespec="seconds")
    tags = _tags(found, entry, at)
    if entry is not None and entry.version is not None and ledger is not None:
        tag_version(store, ledger.name, entry.version, tags)
    if run_id:
        tag_run(store, run_id, {**tags, f"{PREFIX}.name": str(found["name"])})
    number = re.sub(r"\D", "", at) if entry is None else f"{entry.generation:06d}"
    stem = f"{number}-{found['decision'].replace(' ', '-')}"
    where = run_id if ledger is None else ledger.run_id
    with tempfile.TemporaryDirectory(prefix="histo-mlflow-") as temporary:
        folder = Path(temporary)
        files.write_json(folder / f"{stem}.json", dict(found))
        if comparison is not None:
            save(forest(comparison, group_kind=group_kind), folder / f"{stem}.png")
        store.ask(
            "keeping the decision",
            lambda: store.client.log_artifacts(where, str(folder), FOLDER),
            _SECONDS,
        )


def tag_run(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Write tags of a run, also of one that has ended.

    Raises:
        TrackingError: the store failed.
    """
    from mlflow.entities import RunTag

    entries = [RunTag(tag, text[:TAG_CHARACTERS]) for tag, text in tags.items()]
    retried(
        store,
        f"noting the decision on run {run_id}",
        lambda: store.client.log_batch(run_id, tags=entries),
    )


def _tags(found: Mapping[str, Any], entry: Entry | None, at: str) -> dict[str, str]:
    values = {
        "decision": found["decision"],
        "at": at,
        "reasons": "; ".join(found.get("reasons", ())) or "none",
        "forced": ", ".join(found.get("forced", ())) or "none",
        "champion_before": str(found.get("was") or "none"),
    }
    if entry is not None:
        values |= {
            "by": entry.by,
            "entry": str(entry.generation),
            "version": str(entry.version or "none"),
        }
    return {f"{PREFIX}.{name}": str(value) for name, value in values.items()}
