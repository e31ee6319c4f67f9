"""What is left of a run on the disk and in its store, and where two runs differ in it.

Read with nothing of the project: safetensors, JSON and SQL.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from harness.job import Place

TIMED = {
    "images_per_second",
    "train_seconds",
    "data_wait_share",
    "epoch_seconds",
    "seconds",
    "waited",
}
"""Measured with a clock, so never equal."""

Facts = dict[str, dict[str, Any]]
"""Kind of thing -> name -> value. Two runs are the same where these are equal."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be."""

    kind: str
    text: str


def facts(place: Place, *, stored: bool) -> Facts:
    """All that must be equal; `stored` with what the MLflow store holds."""
    found: Facts = {
        **_state(place.run / "checkpoints"),
        **_trace(place.trace),
        "journal": _journal(place.run / "journal.jsonl"),
        "files": dict.fromkeys(_paths(place.run), "there"),
    }
    if stored:
        found |= _results(place.run) | _store(place)
    return found


def differences(reference: Facts, found: Facts) -> list[Difference]:
    """Everything in which a run differs from the reference."""
    return [
        Difference(kind, f"{name}: expected {_short(expected)}, got {_short(got)}")
        for kind in {**reference, **found}
        for name, expected, got in _unequal(reference.get(kind, {}), found.get(kind, {}))
    ]


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in {**a, **b}:
        if a.get(name) != b.get(name):
            yield name, a.get(name), b.get(name)


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) < 100 else f"{text[:97]}..."


def _state(folder: Path) -> Facts:
    """The newest checkpoint, tensor by tensor, and the weights of the best epochs."""
    newest = max(folder.glob("epoch-*-step-*"), key=lambda path: path.name)
    kinds: Facts = {"model": {}, "ema": {}, "optimiser": {}, "gradient": {}, "progress": {}}
    for name, tensor in load_file(newest / "state.safetensors").items():
        kinds[name.partition("/")[0]][name] = _digest(tensor.tobytes())
    state = json.loads((newest / "state.json").read_text())
    history = state.pop("history")
    best = {
        path.parent.name: _digest(path.read_bytes()) for path in folder.glob("best-*/*.safetensors")
    }
    return kinds | {
        "state": {key: value for key, value in state.items() if key not in TIMED},
        "history": _history(history),
        "best": best,
    }


def _history(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{number}: {key}": value
        for number, entry in enumerate(entries)
        for key, value in entry.items()
        if key not in TIMED
    }


def _trace(path: Path) -> Facts:
    """Of every step the images and the loss; a step that was done twice differently has two."""
    orders: dict[str, Any] = {}
    losses: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        epoch, step, images, loss = line.split()
        place = f"epoch {int(epoch):03d}, step {int(step):03d}"
        orders.setdefault(place, set()).add(images)
        losses.setdefault(place, set()).add(loss)
    return {"order": orders, "loss": losses}


def _journal(path: Path) -> dict[str, Any]:
    rows = [row for line in path.read_text().splitlines() for row in json.loads(line)["points"]]
    return _points([(key, step, value) for key, value, _, step in rows])


def _points(rows: list[tuple[str, int, float]]) -> dict[str, Any]:
    """Values by key and step; what a clock or a gauge says only by being there once."""
    times = Counter((key, step) for key, step, _ in rows)
    found: dict[str, Any] = {
        f"{key} at {step}": value
        for key, step, value in rows
        if not key.startswith("system/") and key not in TIMED
    }
    found |= {
        f"{key} at {step}": "there"
        for key, step, _ in rows
        if key in TIMED and not key.startswith("system/")
    }
    return found | {f"{key} at {step}, times": n for (key, step), n in times.items() if n > 1}


def _results(run: Path) -> Facts:
    outcome = json.loads((run / "outcome.json").read_text())
    result = {k: v for k, v in (outcome.pop("result") or {}).items() if k not in TIMED | {"run_id"}}
    delivered = json.loads((run / "delivery.json").read_text())
    history = json.loads((run / "results" / "history.json").read_text())
    return {
        "outcome": {**outcome, **result},
        "delivered": dict.fromkeys(delivered, "there"),
        "results": {
            "weights": _digest((run / "model" / "weights.safetensors").read_bytes()),
            "example": _digest((run / "example_image").read_bytes()),
            "parity": _digest((run / "parity.parquet").read_bytes()),
            "predictions": _digest((run / "results" / "predictions.parquet").read_bytes()),
            **_history(history),
        },
    }


def _store(place: Place) -> Facts:
    with sqlite3.connect(place.database) as connection:
        ask = connection.execute
        runs = ask("SELECT run_uuid, status, lifecycle_stage, name FROM runs").fetchall()
        metrics = ask("SELECT key, step, value FROM metrics").fetchall()
        params = ask("SELECT key, value FROM params").fetchall()
        tags = dict(ask("SELECT key, value FROM tags").fetchall())
        models = ask(
            "SELECT model_id, status, source_run_id FROM logged_models "
            "WHERE lifecycle_stage = 'active'"
        ).fetchall()
        inputs = ask("SELECT COUNT(*) FROM inputs WHERE destination_type = 'RUN'").fetchone()
    connection.close()
    noted = json.loads((place.run / "run.json").read_text())["run_id"]
    told = ("histo.ending", "histo.cause", "histo.undelivered")
    return {
        "runs": {
            "of the store": [(status, stage, name) for _, status, stage, name in runs],
            "is the one noted": [noted] == [run[0] for run in runs],
            **{name: tags.get(name) for name in told},
        },
        "metrics": _points([(key, step, value) for key, step, value in metrics]),
        "params": dict(params),
        "models": {
            "of the store": [(status, source == noted) for _, status, source in models],
            "is the one noted": [
                json.loads((place.run / "delivery.json").read_text()).get("model_id")
            ]
            == [model[0] for model in models],
        },
        "datasets": {"inputs of the run": inputs[0]},
        "artifacts": _artifacts(place, noted, [model[0] for model in models]),
    }


def _artifacts(place: Place, run_id: str, models: list[str]) -> dict[str, Any]:
    """What the store has of the run's files: by name, and whether they are the local ones."""
    experiment = place.root / "mlruns" / "crash"
    found: dict[str, Any] = {}
    stored = experiment / run_id / "artifacts"
    for name in _paths(stored):
        locals_ = [place.run / part / name for part in ("begin", "results")]
        same = any(
            path.is_file() and path.read_bytes() == (stored / name).read_bytes() for path in locals_
        )
        found[name] = "as here" if same else "not as here"
    for model in models:
        inside = experiment / "models" / model / "artifacts"
        for name in _paths(inside):
            if "__pycache__" not in name and not name.startswith("code/"):
                weights = name.endswith(".safetensors")
                found[f"model {name}"] = (
                    _digest((inside / name).read_bytes()) if weights else "there"
                )
    return found


def _paths(folder: Path) -> list[str]:
    """The files of a folder, without the patch: it is of the working tree, which others change."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in found if not name.endswith("provenance/changes.patch"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
