"""A classifier as named stages, each with its own learning rate, and the freezing of its backbone.

The names are those users know: stem, layer1 ... layer4, head (ResNets); stem, blocks.0 ...,
conv_head, head (EfficientNets); embed, blocks.0 ..., norm, head (transformers). Any other
architecture is divided by its top-level children.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.build import Classifier

Named = tuple[str, nn.Parameter]

# First match wins; "" in place of a name keeps the matched text.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), stage)
    for pattern, stage in (
        (r"(conv1|bn1|conv_stem|stem)(\.|$)", "stem"),
        (r"(bn2|conv_head|norm_head)\.", "conv_head"),
        (r"encoder\.layers\.encoder_layer_(?P<n>\d+)\.", "blocks"),
        (r"(encoder\.ln|norm|fc_norm|head\.norm)(\.|$)", "norm"),
        (r"(patch_embed|conv_proj|norm_pre|encoder\.pos_embedding)(\.|$)", "embed"),
        # Containers whose children are the stages.
        (r"(blocks|features|stages|layers|trunk_output)\.[^.]+", ""),
        (r"(head|heads|head_drop|classifier|fc|pre_logits)\.", "pre_logits"),
        (r"[^.]+$", "embed"),  # a tensor of the network itself: class token, position embedding
        (r"[^.]+", ""),
    )
)


def stage_of(parameter: str) -> str:
    """The stage of a backbone's parameter, from its name."""
    for pattern, stage in _RULES:
        match = pattern.match(parameter)
        if match:
            number = match.groupdict().get("n")
            return f"{stage}.{number}" if number else stage or match[0]
    raise ModelError("A parameter without a name cannot belong to a stage.")


def stages(model: Classifier) -> dict[str, list[Named]]:
    """Every tensor that training may change, by stage, from the input to the head.

    Tensors of a frozen backbone are included, since an optimiser that never got them could not
    train them after the thaw; tensors that the architecture itself fixes are not.

    Returns:
        Stage name -> [(name in the model, parameter)]; every tensor exactly once.
    """
    frozen = {id(parameter) for parameter in model.frozen}
    found: dict[str, list[Named]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and id(parameter) not in frozen:
            continue
        part, _, inner = name.partition(".")
        stage = "head" if part == "head" else stage_of(inner)
        found.setdefault(stage, []).append((name, parameter))
    # Modules are registered in the order of use, but a head may be registered before a late norm.
    head = found.pop("head")
    return {**found, "head": head}


def parameter_groups(
    model: Classifier,
    *,
    lr: float,
    weight_decay: float,
    group_lrs: Mapping[str, float] | None = None,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for an optimiser: two a stage at most, with and without weight decay.

    Args:
        model: the classifier.
        lr: base learning rate.
        weight_decay: for matrices and kernels; tensors of one dimension (biases, norms) get none
            (Goyal et al. 2017, arXiv:1706.02677, section 5.3).
        group_lrs: absolute rates by stage ("head", "layer4"), by family ("blocks" for all of
            blocks.0, blocks.1 ...) or "rest" for every stage not named.
        layer_decay: every stage not named gets lr * layer_decay ** (stages between it and the
            output), as in BEiT (arXiv:2106.08254); 1 for one rate.

    Returns:
        Dicts with params, lr, weight_decay and name, ordered from the input to the head.

    Raises:
        ModelError: a stage is not known, a rate is negative, or `layer_decay` is not in (0, 1].
    """
    rates = dict(group_lrs or {})
    by_stage = stages(model)
    families = {stage.partition(".")[0] for stage in by_stage}
    unknown = [name for name in rates if name not in {*by_stage, *families, "rest"}]
    if unknown:
        raise ModelError(
            f"{model.spec.name} has no stage {', '.join(unknown)}; "
            f"its stages are {', '.join(by_stage)} (and rest)."
        )
    if min([lr, weight_decay, *rates.values()]) < 0:
        raise ModelError("Learning rates and weight decay must not be negative.")
    if not 0 < layer_decay <= 1:
        raise ModelError(f"layer_decay must lie in (0, 1]; {layer_decay} was given.")
    groups: list[dict[str, Any]] = []
    for depth, (stage, named) in enumerate(reversed(by_stage.items())):
        family = stage.partition(".")[0]
        fallback = rates.get("rest", lr) * layer_decay**depth
        rate = rates.get(stage, rates.get(family, fallback))
        flat = [parameter for _, parameter in named if parameter.ndim <= 1]
        deep = [parameter for _, parameter in named if parameter.ndim > 1]
        plain = {"params": flat, "lr": rate, "weight_decay": 0.0, "name": f"{stage} (no decay)"}
        decayed = {"params": deep, "lr": rate, "weight_decay": weight_decay, "name": stage}
        groups += [group for group in (plain, decayed) if group["params"]]
    return groups[::-1]


def freeze_backbone(model: Classifier) -> None:
    """Train the head alone: no gradients and no batch-norm updates in the backbone.

    Freezing a frozen model changes nothing.
    """
    if model.frozen:
        return
    model.frozen = tuple(p for p in model.backbone.parameters() if p.requires_grad)
    for parameter in model.frozen:
        parameter.requires_grad_(False)
        parameter.grad = None  # an optimiser would go on applying a gradient left behind
    model.train(model.training)


def unfreeze_backbone(model: Classifier) -> None:
    """Undo `freeze_backbone`: exactly the tensors that it froze train again."""
    for parameter in model.frozen:
        parameter.requires_grad_(True)
    model.frozen = ()
    model.train(model.training)
