"""What comes of a trained model: predictions, metrics, pictures, and the model folder."""

from __future__ import annotations

import io
import shutil
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
from PIL import Image

from histo_mlflow import files
from histo_mlflow.data.fingerprint import split_digest
from histo_mlflow.data.pack import read_row
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.bootstrap import LEVEL
from histo_mlflow.evaluation.calibration import at_temperature
from histo_mlflow.evaluation.card import CardFacts, card
from histo_mlflow.evaluation.evaluate import Evaluation, evaluate
from histo_mlflow.evaluation.probabilities import probabilities
from histo_mlflow.jobs.card import card_facts
from histo_mlflow.jobs.development import rows_of
from histo_mlflow.jobs.epochs import Epochs, best_epoch
from histo_mlflow.jobs.final_predictions import final_predictions
from histo_mlflow.jobs.judge import (
    EVALUATION,
    abstain_of,
    metrics_of,
    noted,
    run_metrics,
    told,
    write_card,
    write_numbers,
)
from histo_mlflow.jobs.metrics import measure
from histo_mlflow.jobs.pictures import draw_results
from histo_mlflow.jobs.prepare import decode_rule
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.jobs.run_folder import PREDICTIONS, RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.weights import load_weights
from histo_mlflow.registry import parity
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.tracking.run import TrackedRun


def predict(ready: Ready, best_path: Path) -> pd.DataFrame:
    """Predictions of the best epoch's weights for validation and test.

    They are made in float32 whatever the training precision was, since that is what is served.
    """
    manifest, splits = ready.prepared.manifest, ready.prepared.splits
    model = ready.state.judged_model
    load_weights(model, best_path)
    parts = [
        final_predictions(
            model,
            ready.prepared.dataset(split),
            rows_of(manifest.table, splits.rows(split)),
            split,
            classes=manifest.classes,
            output=ready.recipe.model.output,
            batch_size=ready.state.eval_batch(ready.settings),
            plan=ready.plan,
        )
        for split in ("val", "test")
    ]
    return pd.concat(parts, ignore_index=True)


def conclude(
    run: TrackedRun,
    ready: Ready,
    folder: RunFolder,
    epochs: Epochs,
    started: float,
    *,
    talk: Talk,
) -> dict[str, Any]:
    """Judge the best epoch's weights on the test split and write all that came of the training.

    The outcome is written last: where it is there, results and model are whole.

    Args:
        run: gets the test metrics.
        ready: its model holds the best epoch's weights afterwards.
        folder: of the run.
        epochs: done.
        started: `perf_counter` when the process began to train.
        talk: says what happens.
    """
    best = best_epoch(ready.state)
    best_path = epochs.checkpoints.best_path(ready.state)
    table = predict(ready, best_path)
    test_rows = predictions.of_split(table, "test")
    test = measure(
        predictions.targets_of(test_rows),
        predictions.logits_of(test_rows),
        ready.recipe.model.output,
        ready.prepared.manifest.classes,
    )
    at_best = {f"test/{name}": value for name, value in test.items()}
    evaluation = evaluate(table, group_kind=ready.prepared.manifest.group_kind)
    run.log_metrics({"best_epoch": best, **run_metrics(evaluation), **at_best}, step=best)
    for line in (*told(evaluation), *noted(evaluation)):
        talk.say(*line)
    for old in (folder.results, folder.model):
        shutil.rmtree(old, ignore_errors=True)
    reached = {"best_epoch": best, "epochs": ready.state.epoch}
    facts = card_facts(ready, folder, evaluation, run_id=run.run_id, outcome=reached)
    files.make_folder(folder.results)
    files.write_json(folder.results / "history.json", ready.state.history)
    with files.told(folder.path, best_path.stat().st_size):
        predictions.save(table, folder.results / PREDICTIONS)
        write_numbers(folder.results / EVALUATION, evaluation)
        write_card(folder.results / EVALUATION, facts)
        draw_results(folder.results / "figures", ready.state.history, best)
        _write_model(run, ready, best_path, folder.model, evaluation, facts)
    for written in (folder.results, folder.model):
        files.sync_tree(written)
    _note_sample(ready, folder, table, evaluation)
    files.write_bytes(folder.example, _example_image(ready))
    outcome = {
        "ending": epochs.ending,
        "cause": None,
        "result": {
            "run_id": run.run_id,
            **reached,
            "seconds": perf_counter() - started,
            "test": test,
        },
    }
    folder.write_outcome(outcome)
    return outcome


def _write_model(
    run: TrackedRun,
    ready: Ready,
    best_path: Path,
    folder: Path,
    evaluation: Evaluation,
    facts: CardFacts,
) -> None:
    prepared = ready.prepared
    write_model_folder(
        folder,
        spec=ready.state.model.spec,
        rule=decode_rule(ready.recipe),
        weights_paths=[best_path],
        calibration=facts.calibration,
        abstain=abstain_of(evaluation),
        card=card(facts),
        provenance={
            "run_id": run.run_id,
            "recipe": ready.recipe.name,
            "data_digest": prepared.digest,
            "label_source": prepared.manifest.label_source,
            "split": prepared.splits.kind,
            "split_digest": split_digest(prepared.splits),
            "leaking": prepared.splits.leaking,
            "git_commit": ready.provenance.commit,
            "test": {
                "rows": evaluation.rows,
                "groups": evaluation.groups,
                "group_kind": evaluation.group_kind,
                "level": LEVEL,
                "metrics": metrics_of(evaluation),
            },
        },
    )


def _note_sample(
    ready: Ready, folder: RunFolder, table: pd.DataFrame, evaluation: Evaluation
) -> None:
    """Keep some images with what the trained model says of them, for the served one to agree."""
    picked = parity.evenly(len(table))
    rows = table.iloc[picked].reset_index(drop=True)
    temperature = 1.0 if evaluation.temperature is None else evaluation.temperature.value
    logits = at_temperature(predictions.logits_of(rows), temperature)
    by_id = ready.prepared.manifest.table.set_index("id")
    sample = parity.Sample(
        ids=tuple(rows["id"]),
        images=tuple(_encoded(ready, by_id.loc[name]) for name in rows["id"]),
        probabilities=probabilities(logits, predictions.output_of(rows)),
    )
    files.write_bytes(folder.parity, parity.to_bytes(sample))


def _example_image(ready: Ready) -> bytes:
    """A training image: what the logged model shows as its input."""
    first = int(ready.prepared.splits.rows("train")[0])
    return _encoded(ready, ready.prepared.manifest.table.iloc[first])


def _encoded(ready: Ready, row: pd.Series[Any]) -> bytes:
    """The bytes of an image's file; where files hold many images, its pixels as PNG."""
    path = ready.prepared.manifest.root / str(row["path"])
    if pd.isna(row["row"]):
        return path.read_bytes()
    encoded = io.BytesIO()
    with ExitStack() as stack:
        Image.fromarray(read_row(path, int(row["row"]), {}, stack)).save(encoded, format="PNG")
    return encoded.getvalue()
