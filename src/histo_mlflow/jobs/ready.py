"""All that a run needs, brought together and proved before there is a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import histo_mlflow
from histo_mlflow.device import DevicePlan, device_facts, keep_freed_memory, plan_device
from histo_mlflow.errors import DeviceError
from histo_mlflow.jobs.prepare import Prepared, prepare
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.backbones import full_name
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.ema import Ema
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.models.weights import WeightsFacts, load_pretrained, origin_of
from histo_mlflow.randomness import derive
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.provenance import Provenance, collect
from histo_mlflow.training.optim import build_optimiser
from histo_mlflow.training.state import FitSettings, LoopState
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import Policy, policy


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

    def tags(self) -> dict[str, object]:
        """What a run says of itself beyond its recipe."""
        manifest, splits = self.prepared.manifest, self.prepared.splits
        real_labels = manifest.label_source not in ("placeholder", "synthetic")
        crossing = self.prepared.crossing
        return {
            "histo.recipe": self.recipe.name,
            "histo.data.digest": self.prepared.digest,
            "histo.data.label_source": manifest.label_source,
            "histo.data.group_kind": manifest.group_kind,
            "histo.split.kind": splits.kind,
            "histo.split.leaking": str(splits.leaking).lower(),
            "histo.leak_groups.crossing": crossing,
            "histo.promotable": str(real_labels and not splits.leaking and not crossing).lower(),
            "histo.weights.source": self.weights.source,
            "histo.weights.sha256": self.weights.sha256 or "none",
            **{f"device.{key}": value for key, value in device_facts(self.plan).items()},
            **self.provenance.tags(),
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
    _refuse_several_processes()
    machine = recipe.machine
    # Names and device first: they cost nothing, and the data may take minutes to read.
    chosen_policy = policy_of(recipe)
    origin_of(full_name(recipe.model.model), recipe.model.weights)
    plan = plan_device(
        **(decided or machine.model_dump()), given="as the run began" if decided else "asked for"
    )
    plan.use_threads()
    if plan.device == "cpu":
        keep_freed_memory()
    talk.say("device", plan.told())
    prepared = prepare(recipe, talk=talk)
    model, weights = _model(recipe, prepared.manifest.classes)
    talk.say("model", f"{model.spec.name}, weights: {weights.source}")
    if weights.skipped:
        talk.say("", f"left out, its classifier: {', '.join(weights.skipped)}")
    model = model.to(plan.device).to(memory_format=plan.memory_format)
    return Ready(
        recipe=recipe,
        prepared=prepared,
        plan=plan,
        state=_state(recipe, model, plan),
        settings=_settings(recipe, chosen_policy),
        weights=weights,
        provenance=collect(code_folder(), sys.argv),
    )


def code_folder() -> Path:
    """Where the code lies that runs: the checkout of an editable install, else where we stand."""
    code = Path(histo_mlflow.__file__).parent
    return Path.cwd() if "site-packages" in code.parts else code


def _refuse_several_processes() -> None:
    """Under torchrun each process would train alone, in silence, and log its own run."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise DeviceError(
            f"training runs in one process and was started in {processes} (WORLD_SIZE): start it "
            "without torchrun"
        )


def policy_of(recipe: Recipe) -> Policy:
    """The augmentation of a recipe.

    Raises:
        DataError: an unknown policy or a value out of range.
    """
    fields = recipe.augment.model_dump(exclude={"policy"}, exclude_none=True)
    return policy(recipe.augment.policy, **fields)


def _model(recipe: Recipe, classes: tuple[str, ...]) -> tuple[Classifier, WeightsFacts]:
    wanted = recipe.model
    spec = specify(
        wanted.model,
        classes,
        head=wanted.head,
        hidden=wanted.hidden,
        dropout=wanted.dropout,
        output=wanted.output,
        image_px=recipe.pixels.image_px,
        normalisation=wanted.normalisation,
    )
    model = build(spec, derive(recipe.training.seed, "weights"))
    return model, load_pretrained(model, wanted.weights)


def _state(recipe: Recipe, model: Classifier, plan: DevicePlan) -> LoopState:
    optimisation, training = recipe.optimisation, recipe.training
    groups = parameter_groups(
        model,
        lr=optimisation.lr,
        weight_decay=optimisation.weight_decay,
        group_lrs=optimisation.group_lrs,
        layer_decay=optimisation.layer_decay,
    )
    return LoopState(
        model=model,
        optimiser=build_optimiser(
            optimisation.optimiser, groups, momentum=optimisation.momentum or 0.0
        ),
        scaler=torch.amp.GradScaler(
            plan.device.partition(":")[0], enabled=plan.precision == "fp16"
        ),
        stopping=Stopping(training.monitor, training.patience),
        ema=Ema(model, optimisation.ema_decay) if optimisation.ema_decay else None,
    )


def _settings(recipe: Recipe, chosen_policy: Policy) -> FitSettings:
    optimisation, training = recipe.optimisation, recipe.training
    return FitSettings(
        epochs=training.epochs,
        batch_size=training.batch_size,
        eval_batch_size=training.eval_batch_size,
        seed=training.seed,
        sampling=optimisation.sampling,
        policy=chosen_policy,
        schedule=optimisation.schedule,
        warmup_epochs=optimisation.warmup_epochs,
        frozen_epochs=optimisation.frozen_epochs,
        clip_norm=optimisation.clip_norm,
        accumulate=optimisation.accumulate,
    )
