"""Studies made by hand, with the attributes that workers note; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from histo_mlflow.tuning.shared import attributes

BEGUN = datetime(2026, 1, 5, 9, 0, 0)
FIXED = {
    "lr": FloatDistribution(1e-4, 1e-2, log=True),
    "batch_size": CategoricalDistribution((32, 64, 128)),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "policy": CategoricalDistribution(("none", "dihedral", "dermoscopy", "histology")),
    "frozen_epochs": IntDistribution(0, 2),
    "optimiser": CategoricalDistribution(("adamw", "sgd")),
}
MOMENTUM = FloatDistribution(0.5, 0.99)
"""Active where the optimiser is sgd."""
CAUSES = {
    "out_of_memory": "128 images of 64 px did not fit into memory",
    "diverged": "the loss was NaN in epoch 1",
    "failed": "its worker died 3 times",
}


def ended_trial(
    number: int,
    params: Mapping[str, Any],
    reports: list[float],
    *,
    state: str = "complete",
    seconds: float = 30.0,
    distributions: Mapping[str, Any] | None = None,
    direction: str = "maximize",
) -> FrozenTrial:
    """A trial with a report an epoch from 1 on, ended `number` + 1 half minutes after the start."""
    known = distributions or {**FIXED, "momentum": MOMENTUM}
    best = max(reports) if direction == "maximize" and reports else min(reports, default=None)
    noted: dict[str, Any] = {
        attributes.STATE: state,
        attributes.RUN_ID: f"{number:032x}",
        attributes.SECONDS: seconds,
        attributes.EPOCHS: len(reports),
        attributes.TAKES: 1,
        attributes.LIVES_LOST: 0,
    }
    if best is not None:
        noted[attributes.BEST_EPOCH] = reports.index(best) + 1
    if state in CAUSES:
        noted[attributes.CAUSE] = CAUSES[state]
    trial = create_trial(
        state={"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}.get(
            state, TrialState.PRUNED
        ),
        value=best if state == "complete" else None,
        params=dict(params),
        distributions={name: known[name] for name in params},
        user_attrs=noted,
        intermediate_values=dict(enumerate(reports, start=1)),
    )
    trial.datetime_start = BEGUN + timedelta(seconds=30 * number)
    trial.datetime_complete = BEGUN + timedelta(seconds=30 * (number + 1))
    return trial


def running_trial(params: Mapping[str, Any], reports: list[float], worker: str) -> FrozenTrial:
    """A trial that a worker is busy with."""
    known = {**FIXED, "momentum": MOMENTUM}
    trial = create_trial(
        state=TrialState.RUNNING,
        params=dict(params),
        distributions={name: known[name] for name in params},
        user_attrs={
            attributes.TAKES: 1,
            attributes.RUN_ID: "f" * 32,
            attributes.LEASE: json.dumps({"worker": worker, "host": "box", "pid": 7, "beats": 3}),
        },
        intermediate_values=dict(enumerate(reports, start=1)),
    )
    trial.datetime_start = BEGUN
    return trial


def waiting_trial() -> FrozenTrial:
    """A slot that nobody has taken yet."""
    return create_trial(state=TrialState.WAITING)


def made_study(
    trials: int = 12,
    axes: tuple[str, ...] = ("lr", "batch_size", "optimiser"),
    *,
    epochs: int = 6,
    direction: str = "maximize",
    storage: str | None = None,
    seed: int = 0,
    waiting: int = 3,
) -> optuna.Study:
    """A study in which lr matters most: some trials are pruned, the last ones wait.

    With `optimiser` among the axes there is the conditional axis `momentum` too.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=storage, study_name="demo", direction=direction)
    rng = np.random.default_rng(seed)
    for number in range(trials):
        params = {name: drawn(FIXED[name], rng) for name in axes}
        if params.get("optimiser") == "sgd":
            params["momentum"] = drawn(MOMENTUM, rng)
        off = abs(np.log10(params.get("lr", 1e-3)) + 2.7) / 2
        goal = 0.93 - 0.2 * off - 0.02 * rng.random()
        curve = [goal - 0.25 * 0.6**e - 0.01 * rng.random() for e in range(1, epochs + 1)]
        state = "complete"
        if number >= 4 and off > 0.45:
            curve, state = curve[: int(rng.integers(1, 4))], "pruned"
        if number % 11 == 9:
            curve, state = [], "out_of_memory"
        if number % 17 == 8:
            curve, state = curve[:1], "diverged"
        if direction == "minimize":
            curve = [2.0 * (1 - value) for value in curve]
        study.add_trial(
            ended_trial(
                number,
                params,
                [float(v) for v in curve],
                state=state,
                seconds=5.0 * len(curve) + 1,
                direction=direction,
            )
        )
    for _ in range(waiting):
        study.add_trial(waiting_trial())
    return study


def drawn(distribution: Any, rng: np.random.Generator) -> Any:
    """A value of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    if isinstance(distribution, IntDistribution):
        return int(rng.integers(distribution.low, distribution.high + 1))
    if distribution.log:
        return float(np.exp(rng.uniform(np.log(distribution.low), np.log(distribution.high))))
    value = float(rng.uniform(distribution.low, distribution.high))
    return round(value, 1) if distribution.step else value
