"""All that a run needs, brought together and proved before there is a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import histo_mlflow
from histo_mlflow.device import DevicePlan
from histo_mlflow.errors import DeviceError
from histo_mlflow.jobs.development import develop
from histo_mlflow.jobs.prepare import Prepared, prepare
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.trainable import Trainable, get_trainable, run_tags, settle, weights_tags
from histo_mlflow.models.weights import WeightsFacts
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.provenance import Provenance, collect
from histo_mlflow.training.state import FitSettings, LoopState


@dataclass(frozen=True)
class Ready:
    """Data, device, model and settings of a run that may begin."""

    recipe: Recipe
    prepared: Prepared
    plan: DevicePlan
    state: LoopState
    settings: FitSettings
    weights: WeightsFacts
    provenance: Provenance

    def trainable(self) -> Trainable:
        """What its epochs get to see; model and state are the same ones."""
        return Trainable(
            self.recipe,
            develop(self.prepared),
            self.plan,
            self.state,
            self.settings,
            self.weights,
        )

    def tags(self) -> dict[str, object]:
        """What a run says of itself beyond its recipe."""
        development = develop(self.prepared)
        real_labels = development.label_source not in ("placeholder", "synthetic")
        promotable = real_labels and not development.leaking and not development.crossing
        return {
            **run_tags(self.recipe, development, self.plan, self.provenance),
            "histo.promotable": str(promotable).lower(),
            **weights_tags(self.weights),
        }


def get_ready(recipe: Recipe, *, decided: Mapping[str, Any] | None = None, talk: Talk) -> Ready:
    """Settle everything; whatever is wrong with what was asked for is raised here.

    Args:
        recipe: what to do.
        decided: device, precision, memory_format and threads of a run that goes on, instead of
            measuring and deciding anew.
        talk: says what happens.

    Raises:
        HistoMlflowError: see the stages.
    """
    refuse_several_processes()
    # Names and device first: they cost nothing, and the data may take minutes to read.
    plan = settle(recipe, decided=decided)
    talk.say("device", plan.told())
    prepared = prepare(recipe, talk=talk)
    trainable = get_trainable(recipe, develop(prepared), plan, talk=talk)
    return Ready(
        recipe=recipe,
        prepared=prepared,
        plan=plan,
        state=trainable.state,
        settings=trainable.settings,
        weights=trainable.weights,
        provenance=collect(code_folder(), sys.argv),
    )


def code_folder() -> Path:
    """Where the code lies that runs: the checkout of an editable install, else where we stand."""
    code = Path(histo_mlflow.__file__).parent
    return Path.cwd() if "site-packages" in code.parts else code


def refuse_several_processes() -> None:
    """Under torchrun each process would train alone, in silence, and log its own run."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise DeviceError(
            f"training runs in one process and was started in {processes} (WORLD_SIZE): start it "
            "without torchrun"
        )
