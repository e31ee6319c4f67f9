"""What a model card is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class CardFacts:
    """Plain values, as a training has them or as its run keeps them.

    A mapping may lack anything, and values may be text ("None" and "true" as MLflow has them); the
    card then says "not recorded".

    Attributes:
        tags: of the run (`Ready.tags`, or the store's).
        params: leaf names of the recipe to values (`Recipe.flatten`, or the store's).
        spec: the architecture and the classes (`ModelSpec.to_dict`; "spec" of model.json).
        rule: how bytes become pixels (`DecodeRule.to_dict`; "rule" of model.json).
        calibration: what the served model holds, as `write_model_folder` takes it; None: none.
        members: how many models the served one averages.
        counts: images and groups of every split and class, from `card.counted`.
        leaks: of the leak audit (data/leaks.json).
        outcome: best_epoch, epochs and seconds ("result" of outcome.json).
        provenance: python, packages and more (provenance/provenance.json).
        evaluation: evaluation.json; None where the model was not evaluated.
        summary: of the recipe, one line.
        run_id: MLflow's id of the run.
        model_id: MLflow's id of the model; None where the card is written before there is one.
    """

    tags: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    rule: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None
    members: int = 1
    counts: Sequence[Mapping[str, Any]] = ()
    leaks: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    summary: str = ""
    run_id: str | None = None
    model_id: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the model's outputs; empty if not known."""
        return tuple(str(name) for name in self.spec.get("classes", ()))

    @property
    def group_kind(self) -> str:
        """What a group is; "group" if that is not known."""
        found = self.tags.get("histo.data.group_kind") or (self.evaluation or {}).get("group_kind")
        return str(found or "group")

    def total(self, split: str, of: str) -> int | None:
        """`images` or `groups` of a split; None if not known."""
        found = [
            row[of] for row in self.counts if row["split"] == split and row.get("class") is None
        ]
        return int(found[0]) if found else None
