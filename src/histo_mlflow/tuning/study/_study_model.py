"""The keys of a study file, each for itself; what they say of each other is checked elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from histo_mlflow import recipe as recipes
from histo_mlflow.recipe import Monitor, Recipe
from histo_mlflow.tuning.study._part import Count, Part, Seconds
from histo_mlflow.tuning.study.design import grid_size
from histo_mlflow.tuning.study.pruners import PrunerSpec
from histo_mlflow.tuning.study.samplers import Grid, SamplerSpec, Tpe
from histo_mlflow.tuning.study.space import Axis, CategoricalAxis

Direction = Literal["maximize", "minimize"]


class Confirm(Part):
    """How the best trials are trained again where `--confirm` is given."""

    candidates: Count = Field(3, ge=1, le=100, description="the best so many trials")
    replicates: Count = Field(5, ge=2, le=50, description="trainings of each")


class StudyFile(Part):
    """A study as it was asked for; `docs/studies.md` describes each key."""

    name: str = Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    summary: str = ""
    recipe: str = Field(description="name of a shipped recipe, or path of its file")
    set: dict[str, Any] = Field(default_factory=dict, description="fields laid over the recipe")
    metric: Monitor
    direction: Direction
    folds: Count | None = Field(None, ge=2, le=50, description="group folds in each trial")
    space: dict[str, Axis]
    sampler: SamplerSpec = Field(default_factory=Tpe)
    pruner: PrunerSpec
    trials: Count | None = Field(None, ge=1, le=100_000, description="in all")
    wall_time: Seconds | None = Field(None, description="seconds at work, in all")
    retries: Count = Field(2, ge=0, le=1_000, description="lost lives before a trial fails")
    keep: Count = Field(3, ge=0, le=100_000, description="best trials whose checkpoints stay")
    seed: Count = Field(0, ge=0, le=2**63 - 1)
    confirm: Confirm = Field(default_factory=Confirm)
    enqueue: tuple[dict[str, Any], ...] = Field((), max_length=1_000, description="first guesses")

    @model_validator(mode="before")
    @classmethod
    def _by_default(cls, raw: Any) -> Any:
        """A bare name is a sampler or pruner with its defaults; a metric has a direction."""
        if not isinstance(raw, Mapping):
            return raw
        filled = {
            "direction": None,
            "pruner": "median" if raw.get("folds") is None else "none",
            **raw,
        }
        for key in ("sampler", "pruner"):
            if isinstance(filled.get(key), str):
                filled[key] = {"name": filled[key]}
        if filled["direction"] is None:
            filled["direction"] = direction_of(raw.get("metric"))
        return filled

    def base(self) -> Recipe:
        """The recipe that every trial varies: the named one with `set`, monitoring the metric."""
        return recipes.load(self.recipe, {**self.set, "monitor": self.metric})

    @property
    def slots(self) -> int | None:
        """How many trials there are to be; None: as many as the wall time allows."""
        if isinstance(self.sampler, Grid):
            size = grid_size(self.space)
            return size if self.trials is None else min(size, self.trials)
        return self.trials

    @property
    def most_epochs(self) -> int:
        """The most epochs that a trial can have."""
        axis = self.space.get("epochs")
        if axis is None:
            return self.base().training.epochs
        values = [axis.high] if not isinstance(axis, CategoricalAxis) else list(axis.choices)
        if axis.when:
            values.append(self.base().training.epochs)
        return int(max(values))


def direction_of(metric: Any) -> Direction:
    """A loss is minimized, all other metrics are maximized."""
    return "minimize" if isinstance(metric, str) and metric.endswith("loss") else "maximize"
