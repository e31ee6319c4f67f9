"""What is known of a run before its first step, as artifacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from histo_mlflow import files
from histo_mlflow.data import manifest as manifests
from histo_mlflow.data import splits as splitting
from histo_mlflow.data.findings import Finding, to_json
from histo_mlflow.device import device_facts
from histo_mlflow.errors import TrackingError
from histo_mlflow.jobs import leaks
from histo_mlflow.jobs.deliver import deliver_beginning
from histo_mlflow.jobs.pictures import draw_data
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.run import TrackedRun

_PICTURE_BYTES, _ROW_BYTES = 2_000_000, 300
"""About what these artifacts need: in all, and for each image."""


def log_beginning(
    run: TrackedRun, ready: Ready, folder: RunFolder, findings: Sequence[Finding], *, talk: Talk
) -> None:
    """Log what is known before the first step, so that a run that dies still tells what it was."""
    if folder.dataset() is None:
        _write(ready, folder, findings)
    try:
        deliver_beginning(run, folder)
    except TrackingError as error:
        # An outage is no reason not to train; what is missing is sent at the end.
        talk.say("WARN", f"{error}; going on, it is sent at the end")


def _write(ready: Ready, folder: RunFolder, findings: Sequence[Finding]) -> None:
    """Write it into the run's folder; that it is whole is noted last."""
    begin, prepared = folder.begin, ready.prepared
    # A process that was killed here may have left half-written pictures.
    if begin.exists():
        shutil.rmtree(begin)
    files.make_folder(begin / "data")
    about = _PICTURE_BYTES + _ROW_BYTES * len(prepared.manifest.table)
    with files.told(begin, about):
        (begin / "recipe.yaml").write_text(ready.recipe.to_yaml(), encoding="utf-8")
        manifests.save(prepared.manifest, begin / "data" / "manifest.csv")
        splitting.save(prepared.splits, begin / "data" / "splits.csv")
        _write_json(begin / "data" / "checks.json", to_json(prepared.findings))
        _write_json(begin / "doctor.json", to_json(findings))
        facts = device_facts(ready.plan)
        _write_json(begin / "device.json", {**facts, "reasons": list(ready.plan.reasons)})
        _write_json(begin / "weights.json", asdict(ready.weights))
        ready.provenance.write(begin / "provenance")
        draw_data(begin / "figures", prepared, ready.settings.policy, ready.settings.seed)
        leaks.write_report(prepared, begin / "data", begin / "figures")
    files.sync_tree(begin)
    counts = prepared.splits.counts()["images"]
    folder.note_dataset(
        ready.recipe.name,
        prepared.digest,
        str(prepared.manifest.root),
        {str(name): int(n) for name, n in counts.items()},
    )


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
