"""The facts of a model card, of a training that is just done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from histo_mlflow.evaluation.card import CardFacts, counted
from histo_mlflow.evaluation.evaluate import Evaluation
from histo_mlflow.jobs.judge import calibration_of
from histo_mlflow.jobs.prepare import decode_rule
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.jobs.run_folder import RunFolder


def card_facts(
    ready: Ready,
    folder: RunFolder,
    evaluation: Evaluation,
    *,
    run_id: str,
    outcome: Mapping[str, Any],
) -> CardFacts:
    """Gather what the card of a trained model says.

    Args:
        ready: what was trained, on what.
        folder: of the run; its beginning is written.
        evaluation: of the best epoch's weights.
        run_id: MLflow's id of the run.
        outcome: `best_epoch` and `epochs`. No times: the card is part of the model, and the same
            training gives the same model.
    """
    return CardFacts(
        tags=ready.tags(),
        params=ready.recipe.flatten(),
        spec=ready.state.model.spec.to_dict(),
        rule=decode_rule(ready.recipe).to_dict(),
        calibration=calibration_of(evaluation),
        counts=counted(ready.prepared.splits.table),
        leaks=json.loads((folder.begin / "data" / "leaks.json").read_text("utf-8")),
        outcome=outcome,
        provenance=asdict(ready.provenance),
        evaluation=evaluation.to_dict(),
        summary=ready.recipe.summary,
        run_id=run_id,
    )
