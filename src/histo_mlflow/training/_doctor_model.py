"""What can be told from the model and its optimiser: groups, head, weights, phases."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from histo_mlflow.data.findings import Finding, counted, failed, passed, warned
from histo_mlflow.models.build import Classifier
from histo_mlflow.models.groups import stages
from histo_mlflow.models.weights import WeightsFacts
from histo_mlflow.training._doctor_trial import active_modules
from histo_mlflow.training.state import LoopState

FIXED_SHARE = 0.05
"""Share of weights that an architecture may fix itself (position embeddings) without a word."""
HEAD_POINTS = 64
"""Random features on which a head of one hidden unit shows its activation on both sides."""


def coverage(model: Classifier, optimiser: torch.optim.Optimizer) -> Finding:
    """Every tensor that trains at any time of the run is in exactly one optimiser group.

    Tensors of a backbone that is still frozen count: what the optimiser never got cannot train
    after the thaw.
    """
    name = "optimiser-coverage"
    held = Counter(id(p) for group in optimiser.param_groups for p in group["params"])
    names = {id(p): key for key, p in model.named_parameters()}
    wanted = {id(p): stage for stage, named in stages(model).items() for _, p in named}
    missing = [names[key] for key in wanted if not held[key]]
    double = [names[key] for key, count in held.items() if count > 1 and key in names]
    foreign = sum(key not in names for key in held)
    if missing:
        lacking = dict.fromkeys(wanted[key] for key in wanted if not held[key])
        return failed(
            name,
            f"the optimiser never gets {len(missing)} of {len(wanted)} tensors, in "
            f"{', '.join(lacking)}: they keep their first weights for ever",
            missing,
        )
    if double:
        return failed(name, f"{counted(len(double), 'tensor')} in several groups", double)
    if foreign:
        return failed(
            name, f"the optimiser moves {counted(foreign, 'tensor')} that the model does not have"
        )
    fixed = [(key, p.numel()) for key, p in model.named_parameters() if id(p) not in wanted]
    share = sum(n for _, n in fixed) / max(1, sum(p.numel() for p in model.parameters()))
    if share > FIXED_SHARE:
        return warned(
            name,
            f"{share:.0%} of all weights never train, whatever the phase",
            [k for k, _ in fixed],
        )
    return passed(
        name, f"{len(wanted)} tensors of {len(set(wanted.values()))} stages, each in one group"
    )


def head_is_nonlinear(model: Classifier) -> Finding:
    """Between two linear layers of the head stands an activation; without one they are a single.

    Looked at on a copy in eval mode, where dropout does nothing: what leaves one linear layer must
    not enter the next as it is, nor may a head of several be affine as a whole.
    """
    name, head = "head", copy.deepcopy(model.head).float().eval()
    linear = [
        (key, module) for key, module in head.named_modules() if isinstance(module, nn.Linear)
    ]
    if len(linear) < 2:
        return passed(name, f"{counted(len(linear), 'linear layer')}")
    device = linear[0][1].weight.device
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, HEAD_POINTS, linear[0][1].in_features, generator=draws).to(device)
    met: list[tuple[str, Tensor, Tensor]] = []
    with torch.no_grad():
        bent = head(x + y) - head(x) - head(y) + head(torch.zeros_like(x))
        # Watched on x alone: of zeros a layer gives its bias, which a ReLU leaves where it is
        # positive.
        for key, module in linear:
            module.register_forward_hook(
                lambda _, given, made, key=key: met.append((key, given[0].clone(), made.clone()))
            )
        scale = float(head(x).abs().max())
    bare = {
        f"{first[0]} - {second[0]}"
        for first, second in pairwise(met)
        if first[2].shape == second[1].shape and torch.equal(first[2], second[1])
    }
    if bare or float(bent.abs().max()) <= 1e-4 * max(scale, 1e-6):
        return failed(
            name,
            f"{len(linear)} linear layers with no activation between them compute what one would: "
            "put a ReLU there",
            sorted(bare),
        )
    return passed(name, f"{len(linear)} linear layers with activations between them")


def weights(model: Classifier, fresh: Classifier, asked: str, facts: WeightsFacts) -> Finding:
    """Weights that were asked for are there: whole, and nothing but the old classifier left out.

    Args:
        model: the model, before its first step or after.
        fresh: the same spec built with the same seed, without weights.
        asked: the recipe's `weights`: "none", "imagenet" or a file.
        facts: what loading said.
    """
    name = "weights"
    if asked == "none":
        if facts.source != "none":
            return failed(name, f"no weights were asked for, but {facts.source} were loaded")
        return passed(name, "random, as asked for")
    if facts.source == "none":
        return failed(name, f"weights={asked} was asked for, but nothing was loaded")
    prefixes = tuple(f"{prefix}." for prefix in model.classifiers)
    strange = [key for key in facts.skipped if not key.startswith(prefixes)]
    if strange:
        return failed(
            name, f"the file holds {len(strange)} tensors beyond its classifier, left out", strange
        )
    # Matrices and kernels only: scales of 1 and shifts of 0 may be what the file holds too.
    kernels = {
        key: p
        for named in stages(model).values()
        for key, p in named
        if key.startswith("backbone.") and p.ndim > 1
    }
    begun = dict(fresh.named_parameters())
    random = [key for key, p in kernels.items() if torch.equal(p.cpu(), begun[key].cpu())]
    if random:
        return failed(
            name,
            f"weights={asked} was asked for, but {len(random)} of {len(kernels)} kernels still "
            "hold their random start: the load was partial and silent",
            random,
        )
    return passed(name, f"{facts.source}: all {len(kernels)} kernels of the backbone were loaded")


def phase(state: LoopState, *, frozen: bool) -> list[Finding]:
    """Whether model, optimiser and average are what the phase says; only reads."""
    model = state.model
    return [
        coverage(model, state.optimiser),
        _trainable(model, frozen=frozen),
        _statistics(model, frozen=frozen),
        _stale_gradients(model),
        _judged(state),
    ]


def _trainable(model: Classifier, *, frozen: bool) -> Finding:
    name = "phase-trainable"
    own = [(key, p) for named in stages(model).values() for key, p in named]
    inside = [(key, p) for key, p in own if key.startswith("backbone.")]
    head = [key for key, p in model.head.named_parameters() if not p.requires_grad]
    if head:
        return failed(name, "the head does not train", head)
    if frozen:
        training = [key for key, p in inside if p.requires_grad]
        if training:
            return failed(
                name,
                f"the phase is frozen, but {len(training)} tensors of the backbone train",
                training,
            )
        return passed(name, f"the head alone: {len(own) - len(inside)} tensors")
    still = [key for key, p in inside if not p.requires_grad]
    if still or not inside:
        return failed(
            name, "the whole model trains in this phase, but its backbone does not", still
        )
    return passed(name, f"the whole model: {len(own)} tensors")


def _statistics(model: Classifier, *, frozen: bool) -> Finding:
    name = "phase-statistics"
    norms = [(key, m) for key, m in model.backbone.named_modules() if isinstance(m, _BatchNorm)]
    wrong = [key for key, module in norms if module.training == frozen]
    if wrong:
        told = "go on learning their statistics" if frozen else "keep the statistics they had"
        return failed(
            name,
            f"{len(wrong)} of {len(norms)} batch norms of the backbone {told} in the "
            f"{'frozen' if frozen else 'full'} phase",
            wrong,
        )
    return passed(name, f"{counted(len(norms), 'batch norm')} {'fixed' if frozen else 'learning'}")


def _stale_gradients(model: Classifier) -> Finding:
    stale = [
        key for key, p in model.named_parameters() if not p.requires_grad and p.grad is not None
    ]
    if stale:
        return failed(
            "phase-gradients",
            f"{counted(len(stale), 'tensor')} that shall stand still held a gradient, which an "
            "optimiser goes on applying",
            stale,
        )
    return passed("phase-gradients", "no gradient is left on a tensor that stands still")


def _judged(state: LoopState) -> Finding:
    name = "judged-model"
    if state.ema is None:
        return passed(name, "the model itself is judged")
    average = state.ema.model
    active = active_modules(average)
    if active or average.training:
        return failed(name, "the averaged model is in training mode", active)
    own = {p.data_ptr() for p in state.model.parameters()}
    shared = [key for key, p in average.named_parameters() if p.data_ptr() in own]
    if shared:
        return failed(name, "the average holds the model's own tensors instead of copies", shared)
    trained = [key for key, p in average.named_parameters() if p.requires_grad]
    if trained:
        return failed(name, "the averaged model would be given gradients", trained)
    return passed(name, "the averaged copy is judged, in eval mode")
