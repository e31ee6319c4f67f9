"""Samplers by name: what proposes the next trial.

A sampler is made anew for each trial, with a seed made of the study's and the trial's number. What
it proposes depends on those and on the trials that it sees, never on which process asks.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Annotated, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from pydantic import Field

from histo_mlflow.errors import StudyError
from histo_mlflow.randomness import derive
from histo_mlflow.tuning.study._part import Count, Part
from histo_mlflow.tuning.study.design import grid_point, quasi_random_point
from histo_mlflow.tuning.study.ended_early import Reports, learning_of_all
from histo_mlflow.tuning.study.space import CategoricalAxis, Space, count, fixed_params


class Tpe(Part):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), over all axes jointly."""

    name: Literal["tpe"] = "tpe"
    startup_trials: Count = Field(10, ge=1, le=10_000, description="trials drawn at random first")
    candidates: Count = Field(24, ge=1, le=10_000, description="draws that the best is chosen of")


class Gp(Part):
    """Gaussian process with expected improvement."""

    name: Literal["gp"] = "gp"
    startup_trials: Count = Field(10, ge=1, le=10_000, description="trials drawn at random first")


class CmaEs(Part):
    """Covariance matrix adaptation (Hansen 2016) over the numeric axes."""

    name: Literal["cmaes"] = "cmaes"
    startup_trials: Count = Field(1, ge=1, le=10_000, description="trials drawn at random first")
    population: Count | None = Field(None, ge=4, le=1_000, description="trials of a generation")


class Random(Part):
    """Every value equally likely, every trial for itself."""

    name: Literal["random"] = "random"


class Grid(Part):
    """Every combination once, in an order shuffled by the seed."""

    name: Literal["grid"] = "grid"


class Qmc(Part):
    """A scrambled quasi-random sequence: random, but evenly spread."""

    name: Literal["qmc"] = "qmc"
    kind: Literal["sobol", "halton"] = "sobol"


Sampler = Tpe | Gp | CmaEs | Random | Grid | Qmc
SamplerSpec = Annotated[Sampler, Field(discriminator="name")]
SAMPLERS = ("tpe", "gp", "cmaes", "random", "grid", "qmc")


def make_sampler(
    spec: Sampler, space: Space, *, seed: int, number: int, reports: Reports = "epoch"
) -> BaseSampler:
    """The sampler for one trial.

    A dead worker's trial that is taken up again keeps the values it had: Optuna asks a sampler only
    for what the storage lacks.

    Args:
        spec: which one, with its options.
        space: the study's axes.
        seed: of the study.
        number: of the trial in the study, from 0.
        reports: what a trial reports once in.

    Raises:
        StudyError: the package `cmaes` is missing.
    """
    own = derive(seed, "sampler", number) % 2**32
    if isinstance(spec, Grid):
        return _placed(space, grid_point(space, seed=seed, number=number), own)
    if isinstance(spec, Qmc):
        point = quasi_random_point(
            space, seed=derive(seed, "qmc") % 2**32, number=number, kind=spec.kind
        )
        return _placed(space, point, own)
    if isinstance(spec, Random):
        return optuna.samplers.RandomSampler(seed=own)
    if isinstance(spec, CmaEs):
        return learning_of_all(_cmaes(spec, space, own), reports=reports)
    with warnings.catch_warnings():
        # Of the arguments `multivariate`, `group` and `constant_liar`, in some versions.
        warnings.simplefilter("ignore", ExperimentalWarning)
        if isinstance(spec, Gp):
            gp = optuna.samplers.GPSampler(
                seed=own, n_startup_trials=spec.startup_trials, warn_independent_sampling=False
            )
            return learning_of_all(gp, reports=reports)
        return optuna.samplers.TPESampler(
            seed=own,
            n_startup_trials=spec.startup_trials,
            n_ei_candidates=spec.candidates,
            multivariate=True,
            group=True,
            # What others are at work on counts as bad, so that workers do not crowd one spot.
            constant_liar=True,
        )


def _placed(space: Space, point: dict[str, object], seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(
            fixed_params(space, point), optuna.samplers.RandomSampler(seed=seed)
        )


def _cmaes(spec: CmaEs, space: Space, seed: int) -> BaseSampler:
    if importlib.util.find_spec("cmaes") is None:
        raise StudyError(
            "Expected the package cmaes for sampler: cmaes, and it is not installed: "
            "pip install 'histo-mlflow[cmaes]', or take sampler: tpe"
        )
    numeric = [axis for axis in space.values() if not isinstance(axis, CategoricalAxis)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=spec.startup_trials,
            popsize=spec.population,
            warn_independent_sampling=False,
            # Without a margin an integer axis gets stuck at one value (Hamano et al. 2022).
            with_margin=any(count(axis) is not None for axis in numeric),
        )
