"""A space with every kind of axis and two levels of conditions."""

from pydantic import TypeAdapter

from histo_mlflow.tuning.study.space import Axis, Space

AXES: dict[str, dict[str, object]] = {
    "lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
    "frozen_epochs": {"type": "int", "low": 0, "high": 2},
    "hidden": {"type": "int", "low": 16, "high": 1024, "log": True},
    "batch_size": {"type": "categorical", "choices": [32, 64, 128]},
    "scale": {"type": "categorical", "choices": [[0.8, 1.2], [0.9, 1.1]]},
    "optimiser": {"type": "categorical", "choices": ["adamw", "sgd"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimiser": "sgd"}},
    "clip_norm": {
        "type": "categorical",
        "choices": [None, 1.0],
        "when": {"optimiser": ["sgd"], "batch_size": [32, 64]},
    },
}


def space_of(*names: str, **axes: dict[str, object]) -> Space:
    """Some of the axes above, or all, and others."""
    chosen = {name: AXES[name] for name in names or (() if axes else AXES)} | axes
    return TypeAdapter(dict[str, Axis]).validate_python(chosen)
