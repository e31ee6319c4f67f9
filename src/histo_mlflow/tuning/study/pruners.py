"""Pruners by name: what ends a trial that will not be the best.

Reports are counted as epochs are, from 1: the report after the first epoch has step 1. In a study
with folds there is one report a fold.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from pydantic import Field, field_validator

from histo_mlflow.tuning.study._part import Count, Number, Part


class NoPruner(Part):
    """Every trial is trained to its end."""

    name: Literal["none"] = "none"


class Median(Part):
    """Ends a trial whose best value so far is below the median of complete trials at that epoch."""

    name: Literal["median"] = "median"
    startup_trials: Count = Field(5, ge=0, le=10_000, description="complete trials before any ends")
    warmup: Count = Field(2, ge=0, le=10_000, description="epochs after which no trial ends")
    interval: Count = Field(1, ge=1, le=10_000, description="epochs from one look to the next")


class Hyperband(Part):
    """Successive halving at several paces (Li et al. 2018), asynchronous (ASHA, Li et al. 2020)."""

    name: Literal["hyperband"] = "hyperband"
    reduction: Count = Field(3, ge=2, le=100, description="one of so many goes on at each rung")
    min_epochs: Count = Field(1, ge=1, le=10_000, description="epochs before the first rung")


class Patient(Part):
    """Asks another pruner only when a trial's last epochs are all worse than its best before."""

    name: Literal["patient"] = "patient"
    patience: Count = Field(2, ge=0, le=10_000, description="epochs, and one more, to be worse")
    min_delta: Number = Field(0.0, ge=0, description="by more than this")
    wraps: Annotated[NoPruner | Median | Hyperband, Field(discriminator="name")] = Field(
        default_factory=Median, description="who is asked; none: nobody, the trial ends"
    )

    @field_validator("wraps", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class Wilcoxon(Part):
    """Ends a trial that is worse than the best one in a signed-rank test over the folds so far."""

    name: Literal["wilcoxon"] = "wilcoxon"
    p: Number = Field(0.1, gt=0, lt=1, description="the test's level")
    startup_folds: Count = Field(2, ge=2, le=100, description="folds before any ends")

    def first_p(self, folds: int) -> float:
        """The least p that the test can come to before the last fold, when all speak alike."""
        return float(0.5 ** (folds - 1))


Pruner = NoPruner | Median | Hyperband | Patient | Wilcoxon
OfEpochs = Median | Hyperband | Patient
"""Those that compare epochs, which a study with folds does not report."""
PrunerSpec = Annotated[Pruner, Field(discriminator="name")]
WRAPPED = ("median", "hyperband", "none")
"""What `patient` can wrap."""
PRUNERS = ("median", "hyperband", "patient", "wilcoxon", "none")


def over_folds(pruner: Pruner, folds: int) -> Pruner:
    """What a pruner gives way to when its study is trained on folds after all.

    Returns:
        Wilcoxon, or none where that could end no trial, for one that compares epochs; any other as
        it is.
    """
    if not isinstance(pruner, OfEpochs):
        return pruner
    test = Wilcoxon()
    return test if test.first_p(folds) < test.p else NoPruner()


def make_pruner(spec: Pruner, *, epochs: int) -> BasePruner:
    """The pruner of a study; it knows the direction from the study.

    Args:
        spec: which one, with its options.
        epochs: the most epochs that a trial has.
    """
    with warnings.catch_warnings():
        # Of the classes PatientPruner and WilcoxonPruner.
        warnings.simplefilter("ignore", ExperimentalWarning)
        if isinstance(spec, Median):
            # Optuna begins to look at this step, ours is the last at which it does not.
            return optuna.pruners.MedianPruner(
                n_startup_trials=spec.startup_trials,
                n_warmup_steps=spec.warmup + 1,
                interval_steps=spec.interval,
            )
        if isinstance(spec, Hyperband):
            return optuna.pruners.HyperbandPruner(
                min_resource=spec.min_epochs,
                max_resource=epochs,
                reduction_factor=spec.reduction,
            )
        if isinstance(spec, Patient):
            wrapped = None
            if not isinstance(spec.wraps, NoPruner):
                wrapped = make_pruner(spec.wraps, epochs=epochs)
            return optuna.pruners.PatientPruner(
                wrapped, patience=spec.patience, min_delta=spec.min_delta
            )
        if isinstance(spec, Wilcoxon):
            return optuna.pruners.WilcoxonPruner(
                p_threshold=spec.p, n_startup_steps=spec.startup_folds
            )
        return optuna.pruners.NopPruner()
