"""What the gate is shown of a candidate and of the champion, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model and of the run that made it.

    Attributes:
        name: short, for people.
        run_id: of the run.
        model_id: of the logged model.
        version: of the registered model; None where it has none.
        status: MLflow's, such as "FINISHED".
        ending: how the run came to its end (tag `histo.ending`); None where it does not say.
        model_problem: why the model folder is not to be trusted; None where it is whole.
        model_run_id: the run that the model folder names as its origin; None where it names none.
        calibrated: whether the model folder holds a temperature.
        label_source: where the labels come from; None where that is not known.
        split_kind: such as "group" or "row".
        leaking: whether images of one group may lie on two sides of the split; None: not known.
        crossing: images that look alike and lie on two sides; None where nobody looked.
        promotable: what the run says of itself (tag `histo.promotable`); None where it does not.
        dirty: whether it ran with uncommitted changes; None where there was no git.
        patch: whether those changes are kept with the run, whole.
        patch_note: what is amiss with them.
        folds: of a cross-validation, whose model is the mean of its folds; else None.
        test_groups: groups among its held-out images.
        test_rows: held-out images.
        results_problem: why its predictions cannot be read; None where they can.
    """

    name: str
    run_id: str
    model_id: str
    version: int | None = None
    status: str = "FINISHED"
    ending: str | None = "finished"
    model_problem: str | None = None
    model_run_id: str | None = None
    calibrated: bool = True
    label_source: str | None = "metadata"
    split_kind: str | None = "group"
    leaking: bool | None = False
    crossing: int | None = 0
    promotable: bool | None = True
    dirty: bool | None = False
    patch: bool = False
    patch_note: str = ""
    folds: int | None = None
    test_groups: int = 0
    test_rows: int = 0
    results_problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Gain:
    """How much better the challenger is than the champion on the same images.

    Attributes:
        metric: such as "auc".
        better: which way the metric is better.
        champion: its value; None where it is undefined.
        challenger: its value.
        gain: challenger minus champion, signed so that a positive one is better.
        low: lower end of its 95 % interval by group; None where there is none.
        high: upper end.
        why: why a number is missing; else empty.
        split: whose images.
        rows: images compared.
        groups: among them.
        left_out: model -> images of its split that the other has not.
        seen: model -> compared images whose group it had in training; None where that is not known.
        same_data: whether both saw a data set of the same digest; None where that is not known.
        problem: why nothing could be compared; then there are no numbers.
    """

    metric: str
    better: Literal["higher", "lower"] = "higher"
    champion: float | None = None
    challenger: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""
    split: str = "test"
    rows: int = 0
    groups: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, int | None] = field(default_factory=dict)
    same_data: bool | None = True
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "left_out": dict(self.left_out), "seen": dict(self.seen)}
