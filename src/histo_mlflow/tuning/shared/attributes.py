"""Names of what a study keeps in Optuna's storage, as user attributes of study and trials.

Params, values and intermediate values are Optuna's own. `optuna` and optuna-dashboard show all.
"""

from __future__ import annotations

from typing import Literal, get_args

TrialState = Literal["complete", "pruned", "failed", "out_of_memory", "diverged"]
"""How a trial ended, also the tag `histo.trial.state` of its child run.

`out_of_memory` and `diverged` are PRUNED in Optuna, without a value: samplers take that for as bad
as can be and look elsewhere (two of them by `study.ended_early`); a FAIL teaches them nothing.
"""
TRIAL_STATES: tuple[TrialState, ...] = get_args(TrialState)

STATE_TAG = "histo.trial.state"
"""Of a trial's run."""

# Of a study.
KIND = "histo.kind"
"""search, or confirm."""
DEFINITION = "histo.definition"
"""JSON: see `definition.Definition`."""
KEY = "histo.key"
"""Finds the parent run; the keys of child runs begin with it."""
PARENT = "histo.parent"
"""Id of the parent run."""
EXPERIMENT = "histo.experiment"
"""Name of the MLflow experiment that the parent run is in."""
CONFIRM = "histo.confirm"
"""JSON: what a confirmation trains; see `confirmation.Plan`."""
TRIALS = "histo.trials"
"""How many trials there are to be in all; None for no limit."""
GUESSES = "histo.guesses"
"""JSON: {trial number: its fixed params}."""
WALL_SECONDS = "histo.wall_seconds"
"""How long the study may be at work in all, whoever works; None for no limit."""

# Of a trial.
STATE = "histo.state"
"""One of `TRIAL_STATES`; only of a trial that ended."""
RUN_ID = "histo.run_id"
"""Of its child run."""
FOLD_RUNS = "histo.fold_runs"
"""Of the runs below its child run, where it trains on folds: a list of ids, those begun so far."""
CAUSE = "histo.cause"
"""One sentence: why it failed, ran out of memory or diverged."""
BEST_EPOCH = "histo.best_epoch"
EPOCHS = "histo.epochs"
"""Epochs that were trained."""
SECONDS = "histo.seconds"
"""Spent on training and validation, of all its lives."""
LEASE = "histo.lease"
"""JSON: who works on it, and how often that worker has said so; see `queue.Lease`."""
TAKES = "histo.takes"
"""How often it was taken up."""
LIVES_LOST = "histo.lives_lost"
"""How often it was given back because its worker died."""
SPANS = "histo.spans"
"""JSON: [[from, to], ...] in seconds since 1970: when somebody was at work on it."""
