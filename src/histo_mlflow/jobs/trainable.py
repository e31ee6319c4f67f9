"""What the epochs of a run need: device, model, settings, and development images alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from histo_mlflow.device import DevicePlan, device_facts, keep_freed_memory, plan_device
from histo_mlflow.jobs.development import Development
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.backbones import full_name
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.ema import Ema
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.models.losses import class_weights, loss_function
from histo_mlflow.models.weights import WeightsFacts, load_pretrained, origin_of
from histo_mlflow.randomness import derive
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.provenance import Provenance
from histo_mlflow.training.optim import build_optimiser
from histo_mlflow.training.state import FitSettings, LoopState
from histo_mlflow.training.step import LossFunction
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import Policy, policy


@dataclass(frozen=True)
class Trainable:
    """Data, device, model and settings of epochs that may begin. There is no test split in it."""

    recipe: Recipe
    development: Development
    plan: DevicePlan
    state: LoopState
    settings: FitSettings
    weights: WeightsFacts

    def identity(self) -> dict[str, str]:
        """What must be equal for a training to go on as the same one."""
        plan = self.plan
        return {
            "recipe": hashlib.sha256(self.recipe.to_yaml().encode()).hexdigest()[:16],
            "data": self.development.data_digest,
            "splits": self.development.division_digest,
            "weights": self.weights.sha256 or "none",
            "device": plan.device.partition(":")[0],
            "precision": plan.precision,
            "channels_last": str(plan.channels_last).lower(),
            "threads": str(plan.threads),
        }

    def objective(self) -> LossFunction:
        """What is minimised, with class weights from the training images."""
        optimisation, development = self.recipe.optimisation, self.development
        counts = np.bincount(development.train.labels, minlength=len(development.classes))
        weights = class_weights(counts.tolist(), optimisation.class_weights)
        return loss_function(
            self.recipe.model.output,
            class_weights=None if weights is None else weights.to(self.plan.device),
            label_smoothing=optimisation.label_smoothing,
        )


def run_tags(
    recipe: Recipe, development: Development, plan: DevicePlan, provenance: Provenance
) -> dict[str, object]:
    """What a run says of itself beyond its recipe, before there is a model."""
    return {
        "histo.recipe": recipe.name,
        **development.tags(),
        **{f"device.{key}": value for key, value in device_facts(plan).items()},
        **provenance.tags(),
    }


def weights_tags(weights: WeightsFacts) -> dict[str, object]:
    """What a run says of the weights that it began with."""
    return {
        "histo.weights.source": weights.source,
        "histo.weights.sha256": weights.sha256 or "none",
    }


def settle(recipe: Recipe, *, decided: Mapping[str, Any] | None = None) -> DevicePlan:
    """Decide on the device and set its threads; names in the recipe are looked at first.

    Args:
        recipe: what to do.
        decided: device, precision, memory_format and threads of a run that goes on, instead of
            measuring and deciding anew.

    Raises:
        HistoMlflowError: an unknown policy, model or kind of weights, or the device is not there.
    """
    policy_of(recipe)
    origin_of(full_name(recipe.model.model), recipe.model.weights)
    plan = plan_device(
        **(decided or recipe.machine.model_dump()),
        given="as the run began" if decided else "asked for",
    )
    plan.use_threads()
    if plan.device == "cpu":
        keep_freed_memory()
    return plan


def get_trainable(
    recipe: Recipe, development: Development, plan: DevicePlan, *, talk: Talk
) -> Trainable:
    """Build the model, load its weights, and bring together what the epochs need.

    Raises:
        HistoMlflowError: the model cannot be built as asked, or its weights cannot be had.
    """
    model = _built(recipe, development.classes)
    weights = load_pretrained(model, recipe.model.weights)
    talk.say("model", f"{model.spec.name}, weights: {weights.source}")
    if weights.skipped:
        talk.say("", f"left out, its classifier: {', '.join(weights.skipped)}")
    model = model.to(plan.device).to(memory_format=plan.memory_format)
    return Trainable(
        recipe=recipe,
        development=development,
        plan=plan,
        state=_state(recipe, model, plan),
        settings=_settings(recipe, policy_of(recipe)),
        weights=weights,
    )


def policy_of(recipe: Recipe) -> Policy:
    """The augmentation of a recipe.

    Raises:
        DataError: an unknown policy or a value out of range.
    """
    fields = recipe.augment.model_dump(exclude={"policy"}, exclude_none=True)
    return policy(recipe.augment.policy, **fields)


def _built(recipe: Recipe, classes: tuple[str, ...]) -> Classifier:
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
    return build(spec, derive(recipe.training.seed, "weights"))


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


def parameters_of(recipe: Recipe, classes: tuple[str, ...]) -> int:
    """How many parameters a recipe's model has; its weights are not loaded."""
    model = _built(recipe, classes)
    return sum(parameter.numel() for parameter in model.parameters())
