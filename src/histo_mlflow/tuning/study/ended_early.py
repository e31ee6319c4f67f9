"""Shows the trials that were ended early to samplers that read complete ones alone.

Optuna's Gaussian process and CMA-ES pass over PRUNED trials. A trial that ran out of memory would
teach them nothing, and they would propose its values again and again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Sequence
from typing import Any, Literal, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from histo_mlflow.tuning.shared import attributes

Reports = Literal["epoch", "fold"]


def learning_of_all(inner: BaseSampler, *, reports: Reports) -> BaseSampler:
    """A sampler for which trials that were ended early are complete, with a value.

    Args:
        inner: proposes the values.
        reports: what a trial reports once in.
    """
    return _LearningOfAll(inner, reports)


class _LearningOfAll(BaseSampler):
    def __init__(self, inner: BaseSampler, reports: Reports) -> None:
        self._inner = inner
        self._reports = reports

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(self._view(study), trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return self._inner.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._inner.sample_independent(
            self._view(study), trial, param_name, param_distribution
        )

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._inner.after_trial(study, trial, state, values)

    def _view(self, study: optuna.Study) -> optuna.Study:
        return cast(optuna.Study, _View(study, self._reports))


class _View:
    """A study whose trials that were ended early are complete; the rest is the study's own."""

    def __init__(self, study: optuna.Study, reports: Reports) -> None:
        self._study = study
        self._reports = reports

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._chosen(self._study.get_trials(deepcopy=False), deepcopy, states)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        found = self._study._get_trials(deepcopy=False, use_cache=use_cache)
        return self._chosen(found, deepcopy, states)

    def _chosen(
        self, trials: Sequence[FrozenTrial], deepcopy: bool, states: Container[TrialState] | None
    ) -> list[FrozenTrial]:
        direction = self._study.direction
        shown = with_values(trials, direction=direction, reports=self._reports)
        chosen = [trial for trial in shown if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen


def with_values(
    trials: Sequence[FrozenTrial], *, direction: StudyDirection, reports: Reports
) -> list[FrozenTrial]:
    """The trials as they are, but for those that were ended early: complete, with a value.

    What a pruner ended is worth its last report, or over folds the mean of its reports, but lies
    no further below the complete trials than these lie apart: beside a loss of thousands a Gaussian
    process could not tell the good ones from each other. What ran out of memory, diverged or never
    reported is worth as little as the worst trial of known worth, whatever it had reported; while
    none is known it stays as it is.

    Args:
        trials: not changed.
        direction: of the study.
        reports: what a trial reports once in.
    """
    worths = [_worth(trial, reports) for trial in trials]
    complete = [
        worth
        for trial, worth in zip(trials, worths, strict=True)
        if trial.state == TrialState.COMPLETE and worth is not None
    ]
    low, high = _bounds(complete, direction)
    worths = [None if worth is None else min(max(worth, low), high) for worth in worths]
    known = [worth for worth in worths if worth is not None]
    if not known:
        return list(trials)
    worst = min(known) if direction == StudyDirection.MAXIMIZE else max(known)
    return [
        # One without params was ended by hand before it was sampled.
        _complete(trial, worst if worth is None else worth)
        if trial.state == TrialState.PRUNED and trial.params
        else trial
        for trial, worth in zip(trials, worths, strict=True)
    ]


def _bounds(complete: Sequence[float], direction: StudyDirection) -> tuple[float, float]:
    """Between which a worth lies; boundless on the good side, or while complete ones are alike."""
    span = max(complete) - min(complete) if complete else 0.0
    if span == 0:
        return -math.inf, math.inf
    if direction == StudyDirection.MAXIMIZE:
        return min(complete) - span, math.inf
    return -math.inf, max(complete) + span


def _worth(trial: FrozenTrial, reports: Reports) -> float | None:
    """A trial's own value; None: it has none."""
    if trial.state == TrialState.COMPLETE:
        return trial.value if trial.value is not None and math.isfinite(trial.value) else None
    named = trial.user_attrs.get(attributes.STATE, "pruned")
    if trial.state != TrialState.PRUNED or named != "pruned":
        return None
    told = [value for _, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)]
    if not told:
        return None
    return told[-1] if reports == "epoch" else sum(told) / len(told)


def _complete(trial: FrozenTrial, value: float) -> FrozenTrial:
    shown = copy.copy(trial)  # the storage's own is not to be changed
    shown.state, shown.values = TrialState.COMPLETE, [value]
    return shown
