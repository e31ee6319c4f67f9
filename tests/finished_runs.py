"""Folders of runs as a finished training leaves them, made in milliseconds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from histo_mlflow.data import splits as splitting
from histo_mlflow.data.splits import Splits
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder
from histo_mlflow.recipe import load

PLAN = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "threads": 1}
MACHINE = {"torch": "2.15.0", "device_name": "a CPU", "cpu_capability": "AVX2"}
CLASSES = ("bcc", "mel", "nv")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cases(
    n: int = 240,
    *,
    classes: tuple[str, ...] = CLASSES,
    skill: float = 1.0,
    seed: int = 0,
    per_group: int = 2,
    output: str = "softmax",
) -> pd.DataFrame:
    """Predictions of n images, half val and half test, whose images and labels never change.

    Args:
        n: images.
        classes: of the labels.
        skill: how far the true class's logit is raised.
        seed: of the model's noise.
        per_group: images a group.
        output: softmax or sigmoid.
    """
    k = len(classes)
    truth = np.random.default_rng(7).integers(0, k, n)
    noise = np.random.default_rng([seed, n]).normal(0, 1, (n, k if output == "softmax" else 1))
    if output == "softmax":
        noise[np.arange(n), truth] += skill
    else:
        noise[:, 0] += skill * (2 * truth - 1)
    index = np.arange(n)
    return predictions.predictions_table(
        [f"i{i:04d}" for i in index],
        [f"g{i // per_group:04d}" for i in index],
        ["val" if i < n // 2 else "test" for i in index],
        truth,
        noise,
        classes,
        output,
        {"sex": ["male" if i % 3 else "female" for i in index]},
    )


def write_run(
    path: Path,
    run_id: str,
    table: pd.DataFrame,
    *,
    store_uri: str = "sqlite:///nowhere.db",
    overrides: dict[str, str] | None = None,
    digest: str = "d1" * 32,
    commit: str = COMMIT,
    dirty: bool = False,
    packages: dict[str, str] | None = None,
    train: tuple[str, ...] = ("t0", "t1", "t2", "t3"),
    ending: str = "finished",
) -> RunFolder:
    """A run's folder, with all but model and checkpoints."""
    folder = RunFolder(path)
    for made in (folder.begin / "data", folder.begin / "provenance", folder.results):
        made.mkdir(parents=True)
    folder.write_facts(RunFacts("key", run_id, store_uri, "demo", PLAN, MACHINE))
    recipe = load("demo", overrides or {})
    folder.recipe.write_text(recipe.to_yaml())
    folder.note_dataset("demo", digest, "somewhere", {"train": len(train), "val": 1, "test": 1})
    classes = predictions.classes_of(table)
    labels = [classes[i % len(classes)] for i in range(len(train))]
    divided = pd.DataFrame(
        {
            "id": [*train, *table["id"]],
            "label": [*labels, *table["label"]],
            "group": [*(f"of-{name}" for name in train), *table["group"]],
            "split": [*(["train"] * len(train)), *table["split"]],
        }
    )
    splitting.save(Splits(divided, "row", 0), folder.begin / "data/splits.csv")
    for name, facts in {
        "data/manifest.json": {"label_source": "metadata", "group_kind": "lesion"},
        "data/leaks.json": {"images_crossing": 0},
        "weights.json": {"source": "none", "sha256": None, "skipped": []},
        "device.json": {"device": "cpu", "precision": "fp32", "reasons": ["no CUDA"]},
        "provenance/provenance.json": {
            "commit": commit,
            "dirty": dirty,
            "command": "histo-mlflow train",
            "python": "3.12.1",
            "packages": packages or {"torch": "2.10.0", "timm": "1.0.20"},
        },
    }.items():
        (folder.begin / name).write_text(json.dumps(facts))
    predictions.save(table, folder.results / "predictions.parquet")
    result = {"run_id": run_id, "best_epoch": 1, "epochs": 1, "seconds": 1.0, "test": {}}
    folder.write_outcome({"ending": ending, "cause": None, "result": result})
    return folder


def log_run(store_uri: str, folder: RunFolder) -> str:
    """Give a run to a store, as a training does; its id."""
    from histo_mlflow.tracking.entries import param_text
    from histo_mlflow.tracking.start import start_run
    from histo_mlflow.tracking.store import connect

    params = {key: param_text(value) for key, value in load(str(folder.recipe)).flatten().items()}
    tags = {
        "histo.data.digest": folder.dataset()["digest"],
        "histo.data.group_kind": "lesion",
        "histo.data.label_source": "metadata",
        "histo.split.kind": "row",
        "histo.split.leaking": "true",
        "histo.git.commit": COMMIT,
        "histo.git.dirty": "false",
        "histo.weights.source": "none",
    }
    run = start_run(connect(store_uri), "demo", "demo", params, tags, system_metrics=False)
    with run:
        run.log_artifacts(folder.begin)
        run.log_artifacts(folder.results)
        run.end("finished")
    return run.run_id
