"""The doctor on tiny pixels: each wrong thing is named, its sound twin passes, nothing is moved."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from histo_mlflow.data.batches import PackedDataset, epoch_order
from histo_mlflow.data.findings import Level
from histo_mlflow.device import plan_device
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.ema import Ema
from histo_mlflow.models.groups import freeze_backbone, parameter_groups, unfreeze_backbone
from histo_mlflow.models.heads import build_head
from histo_mlflow.models.losses import loss_function
from histo_mlflow.models.normalise import Normalise
from histo_mlflow.models.weights import WeightsFacts
from histo_mlflow.training import (
    _doctor_judge,
    _doctor_losses,
    _doctor_model,
    _doctor_phases,
    _doctor_trial,
    loop,
)
from histo_mlflow.training._doctor_trial import Shown, Trial
from histo_mlflow.training.doctor import check_before, check_colours, check_phase, check_weights
from histo_mlflow.training.optim import build_optimiser
from histo_mlflow.training.state import FitSettings, LoopState
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import Policy, augment, policy

N, PX = 48, 32
CLASSES = ("dark", "bright")


@pytest.fixture
def train(packed_noise):
    pack_path, labels = packed_noise(N, PX)
    return PackedDataset(pack_path, np.arange(N), labels)


@pytest.fixture(scope="module")
def plan():
    return plan_device("cpu", "fp32", "channels_last", 1)


def settings(**changes):
    values = {
        "epochs": 4,
        "batch_size": 16,
        "eval_batch_size": 16,
        "seed": 0,
        "sampling": "shuffled",
        "policy": policy("dihedral"),
        "schedule": "onecycle",
        "warmup_epochs": 0.0,
        "frozen_epochs": 0,
        "clip_norm": None,
        "accumulate": 2,
    }
    return FitSettings(**{**values, **changes})


def optimiser_of(model, name="adamw", lr=1e-3):
    return build_optimiser(name, parameter_groups(model, lr=lr, weight_decay=0.01))


def state(*, ema=0.0, monitor="val/loss", head="hidden", name="adamw", lr=1e-3):
    spec = specify("resnet18", CLASSES, head=head, hidden=8, dropout=0.5, image_px=PX)
    model = build(spec, 0)
    return LoopState(
        model=model,
        optimiser=optimiser_of(model, name, lr),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        stopping=Stopping(monitor, None),
        ema=Ema(model, ema) if ema else None,
    )


def examined(loop_state, train, plan, level="quick", **changes):
    """Level of every check by name."""
    findings = check_before(
        loop_state,
        train,
        settings(**changes),
        loss_function=loss_function("softmax"),
        plan=plan,
        classes=CLASSES,
        level=level,
    )
    return {finding.check: finding for finding in findings}


def failures(found):
    return {name for name, finding in found.items() if finding.level is Level.FAIL}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"frozen_epochs": 2},
        {"policy": policy("none")},
        {"sampling": "balanced"},
        {"policy": policy("benign_malignant"), "clip_norm": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [{}, {"ema": 0.99, "name": "sgd", "monitor": "val/auc"}], ids=str)
def test_a_sound_training_passes_every_check(kind, changes, train, plan):
    found = examined(state(**kind), train, plan, **changes)

    assert {finding.level for finding in found.values()} == {Level.PASS}, found


def test_a_tiny_rate_is_no_frozen_model(train, plan):
    """The trial takes a rate of its own; a rate below float32's reach is not its matter."""
    found = examined(state(lr=1e-12), train, plan, frozen_epochs=1)

    assert failures(found) == set()


def test_nothing_is_altered(train, plan):
    """Weights, buffers, modes, gradients, optimiser, history and torch's generator stay."""
    loop_state = state(ema=0.9)
    loop_state.model.train()
    loop_state.model.backbone.eval()
    loop_state.model.head[0].weight.grad = torch.ones_like(loop_state.model.head[0].weight)
    before = copy.deepcopy(loop_state)
    modes = [module.training for module in loop_state.model.modules()]
    torch.manual_seed(5)
    generator = torch.get_rng_state()

    examined(loop_state, train, plan, "full", frozen_epochs=1)

    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in loop_state.model.modules()] == modes
    for ours, theirs in (
        (loop_state.model, before.model),
        (loop_state.ema.model, before.ema.model),
    ):
        expected = theirs.state_dict()
        assert all(torch.equal(t, expected[name]) for name, t in ours.state_dict().items())
    grads = {name: p.grad for name, p in loop_state.model.named_parameters() if p.grad is not None}
    assert list(grads) == ["head.0.weight"]
    assert bool((grads["head.0.weight"] == 1).all())
    assert loop_state.optimiser.state_dict()["state"] == {}
    rates = [group["initial_lr"] for group in loop_state.optimiser.param_groups]
    assert rates == [group["initial_lr"] for group in before.optimiser.param_groups]
    assert (loop_state.epoch, loop_state.history, loop_state.stopping) == (0, [], before.stopping)
    assert not loop_state.model._forward_pre_hooks


def test_the_same_question_gets_the_same_answer(train, plan):
    first, second = (examined(state(), train, plan) for _ in range(2))

    assert first == second
    assert "overfit" not in first


def test_an_optimiser_without_the_first_stages_is_named_stage_by_stage(train, plan):
    loop_state = state()
    groups = [
        group
        for group in parameter_groups(loop_state.model, lr=1e-3, weight_decay=0.0)
        if not group["name"].startswith(("stem", "layer1", "layer2"))
    ]
    loop_state.optimiser = build_optimiser("adam", groups)
    found = examined(loop_state, train, plan)

    assert failures(found) == {"optimiser-coverage", "full-phase"}
    assert "stem, layer1, layer2" in found["optimiser-coverage"].message
    assert found["full-phase"].offenders == ("stem", "layer1", "layer2")


def test_a_backbone_that_is_still_frozen_has_to_be_in_the_optimiser(train, plan):
    """It would stay frozen for ever after the thaw."""
    loop_state = state()
    freeze_backbone(loop_state.model)
    loop_state.optimiser = torch.optim.Adam(loop_state.model.head.parameters(), lr=1e-3)

    assert "optimiser-coverage" in failures(examined(loop_state, train, plan, frozen_epochs=1))


def test_a_tensor_in_two_groups_and_one_of_another_model_are_told():
    loop_state, other = state(), state()
    weight = loop_state.model.head[0].weight
    twice = copy.copy(loop_state)
    twice.optimiser = optimiser_of(loop_state.model)
    twice.optimiser.param_groups.append({**twice.optimiser.param_groups[0], "params": [weight]})
    foreign = copy.copy(loop_state)
    foreign.optimiser = torch.optim.Adam(
        [*loop_state.model.parameters(), *other.model.head.parameters()]
    )
    told = [check_phase(s, frozen=False)[0] for s in (twice, foreign)]

    assert [finding.level for finding in told] == [Level.FAIL, Level.FAIL]
    assert "several groups" in told[0].message
    assert "does not have" in told[1].message


def test_weights_that_are_fixed_for_good_are_a_warning(train, plan):
    """requires_grad_(False) by hand: never frozen by us, so never thawed."""
    loop_state = state()
    loop_state.model.backbone.layer4.requires_grad_(False)
    found = check_phase(loop_state, frozen=False)[0]

    assert (found.check, found.level) == ("optimiser-coverage", Level.WARN)


def test_a_warm_up_that_never_freezes(train, plan, monkeypatch):
    monkeypatch.setattr(loop, "freeze_backbone", lambda model: None)
    found = examined(state(), train, plan, frozen_epochs=1)

    assert "frozen-phase" in failures(found)
    assert "backbone stands still" in found["frozen-phase"].message


def test_a_warm_up_that_freezes_gradients_but_not_statistics(train, plan, monkeypatch):
    def half(model):
        freeze_backbone(model)
        nn.Module.train(model.backbone, True)
        model.train = lambda mode=True: model

    monkeypatch.setattr(loop, "freeze_backbone", half)
    found = examined(state(), train, plan, frozen_epochs=1)["frozen-phase"]

    assert found.level is Level.FAIL
    assert any("running_mean" in name for name in found.offenders)


def test_a_phase_that_never_thaws(train, plan, monkeypatch):
    monkeypatch.setattr(loop, "unfreeze_backbone", lambda model: None)
    found = examined(state(), train, plan, frozen_epochs=1)

    assert "full-phase" in failures(found)


def test_judging_without_eval(train, plan, monkeypatch):
    def judge(model, dataset, *, batch_size, plan):
        with torch.no_grad():
            every = np.arange(len(dataset))
            return model(dataset.gather(every, every).images).double().numpy()

    monkeypatch.setattr(loop, "predict_logits", judge)
    found = examined(state(), train, plan)

    assert "evaluation-mode" in failures(found)
    assert "eval() was never called" in found["evaluation-mode"].message


@pytest.mark.parametrize("frozen_epochs", [0, 1])
def test_training_in_evaluation_mode(frozen_epochs, train, plan, monkeypatch):
    """All of it, or the norms of the backbone alone after the thaw."""
    real = loop._enter_phase

    def evaluating(model, *, frozen):
        phase = real(model, frozen=frozen)
        model.eval()
        return phase

    monkeypatch.setattr(loop, "_enter_phase", evaluating)
    found = examined(state(), train, plan, frozen_epochs=frozen_epochs)
    assert "training-mode" in failures(found)
    assert found["training-mode"].count > 20

    def norms_asleep(model, *, frozen):
        phase = real(model, frozen=frozen)
        model.backbone.eval()
        return phase

    monkeypatch.setattr(loop, "_enter_phase", norms_asleep)
    found = examined(state(), train, plan, frozen_epochs=frozen_epochs)["training-mode"]
    assert found.level is Level.FAIL
    assert all(name.startswith("backbone.") for name in found.offenders)


def test_a_head_that_trains_in_evaluation_mode_while_the_backbone_is_frozen(
    train, plan, monkeypatch
):
    real = loop._enter_phase

    def half(model, *, frozen):
        phase = real(model, frozen=frozen)
        if frozen:
            model.head.eval()
        return phase

    monkeypatch.setattr(loop, "_enter_phase", half)
    found = examined(state(), train, plan, frozen_epochs=2)

    assert failures(found) == {"training-mode"}
    assert found["training-mode"].offenders == ("head.2",)


def test_an_average_that_is_never_moved(train, plan, monkeypatch):
    monkeypatch.setattr(Ema, "update", lambda self, model: None)

    assert failures(examined(state(ema=0.99), train, plan)) == {"average"}
    assert failures(examined(state(), train, plan)) == set()


def test_an_average_of_long_standing_still_follows(train, plan):
    """A step of 1e-3 at a decay of 0.9999 is near the last digit of float32."""
    loop_state = state(ema=0.9999)
    loop_state.ema.updates = 10**6

    assert examined(loop_state, train, plan)["average"].level is Level.PASS


def blue_first(images, *rest):
    return augment(images.flip(1), *rest)


def not_at_all(images, *_):
    return images


def noise(images, chosen, seed, epoch, positions):
    return torch.randint_like(images, 0, 255)


@pytest.mark.parametrize("vary", [blue_first, not_at_all, noise], ids=lambda f: f.__name__)
@pytest.mark.parametrize("chosen", ["dihedral", "dermoscopy"])
def test_pictures_that_the_policy_does_not_give(chosen, vary, train, plan, monkeypatch):
    monkeypatch.setattr(loop, "augment", vary)
    found = examined(state(), train, plan, policy=policy(chosen))

    assert failures(found) == {"augmentation"}


@pytest.mark.parametrize("chosen", ["none", "dihedral", "dermoscopy"])
def test_channels_that_change_places_between_pack_and_model(chosen, train, plan, monkeypatch):
    real = PackedDataset.gather

    def gather(self, index, positions, *, pinned=False):
        batch = real(self, index, positions, pinned=pinned)
        return replace(batch, images=batch.images.flip(1))

    monkeypatch.setattr(PackedDataset, "gather", gather)

    assert failures(examined(state(), train, plan, policy=policy(chosen))) == {"augmentation"}


def left_out(self, images):
    return images.float()


def scaled_only(self, images):
    return images.float() / 255


def twice(self, images):
    return normalise(self, images) * self.scale + self.shift


def swapped(self, images):
    return normalise(self, images.flip(1))


normalise = Normalise.forward


@pytest.mark.parametrize("wrong", [left_out, scaled_only, twice, swapped], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", [{}, {"ema": 0.9}], ids=str)
def test_a_normalisation_that_is_not_the_specs(kind, wrong, train, plan, monkeypatch):
    monkeypatch.setattr(Normalise, "forward", wrong)
    found = examined(state(**kind), train, plan)["normalisation"]

    assert found.level is Level.FAIL
    assert ("red and blue" in found.message) is (wrong is swapped)


@pytest.mark.parametrize("how", ["none", "half", "imagenet"])
@pytest.mark.parametrize("level", [0, 255, 128])
def test_flat_dark_and_white_images_are_normalised_as_any(how, level, tmp_path):
    spec = specify("resnet18", CLASSES, image_px=PX, normalisation=how)
    model = build(spec, 0).eval()
    images = torch.full((2, 3, PX, PX), level, dtype=torch.uint8)
    shown = Shown(0, "train", np.arange(2), images, (), model.normalise(images))
    trial = Trial((), (), images, (shown,), (), None, None)

    assert _doctor_phases.normalisation(trial, model).level is Level.PASS


class AlwaysDropping(nn.Module):
    """Dropout that eval() does not reach."""

    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


class Neighbourly(nn.Module):
    """Normalises over the batch whatever the mode."""

    def forward(self, x):
        return x - x.mean(dim=0, keepdim=True)


@pytest.mark.parametrize("layer", [AlwaysDropping(), Neighbourly()], ids=lambda m: type(m).__name__)
def test_a_layer_that_eval_does_not_reach(layer, train, plan):
    loop_state = state()
    loop_state.model.head = nn.Sequential(layer, *loop_state.model.head)
    loop_state.optimiser = optimiser_of(loop_state.model)

    assert failures(examined(loop_state, train, plan)) == {"evaluation-mode"}


def test_pictures_that_are_augmented_once(train, plan, monkeypatch):
    real = loop.augment
    monkeypatch.setattr(
        loop, "augment", lambda images, chosen, seed, epoch, at: real(images, chosen, seed, 0, at)
    )
    fixed = settings(sampling="sequential").sampling  # the order hides the repeat otherwise
    found = examined(state(), train, plan, sampling=fixed)

    assert failures(found) >= {"augmentation"}
    assert "repeat" in found["augmentation"].message


def test_pictures_that_are_augmented_once_per_sample(train, plan, monkeypatch):
    """What the notebook did, with files on disk: what happens hangs on the sample alone."""
    real = loop.augment

    def by_content(images, chosen, seed, epoch, positions):
        own = images.flatten(1).long().sum(dim=1).numpy()
        return real(images, chosen, seed, 0, own)

    monkeypatch.setattr(loop, "augment", by_content)

    assert failures(examined(state(), train, plan)) == {"augmentation"}


def test_a_policy_that_rarely_does_anything_is_no_mistake(train, plan):
    found = examined(state(), train, plan, policy=Policy(erase_p=0.02))

    assert found["augmentation"].level is Level.PASS


def pictured(raw, chosen, seed, vary=augment):
    """A trial whose loop showed its training images so."""
    shown = [
        Shown(
            epoch,
            "train",
            (drawn := np.random.default_rng([seed, epoch]).permutation(len(raw))),
            vary(raw[torch.from_numpy(drawn)], chosen, seed, epoch, np.arange(len(raw))),
            (),
        )
        for epoch in (0, 1)
    ]
    return Trial((), (), raw, tuple(shown), (), None, None)


@pytest.mark.parametrize("p", [0.002, 0.01, 0.02, 0.1])
def test_a_policy_may_be_as_rare_as_it_likes(p):
    """Two epochs that look the same are a mistake only where the policy's own draws differ."""
    raw, chosen = torch.randint(0, 255, (8, 3, 16, 16), dtype=torch.uint8), Policy(erase_p=p)
    rare = 0
    for seed in range(150):
        found = _doctor_judge.augmentation(pictured(raw, chosen, seed), chosen, seed)
        assert found.level is Level.PASS
        rare += "rarely" in found.message
    assert rare > (100 if p < 0.02 else 10)


def test_augmented_pictures_without_a_policy_and_in_the_evaluation(train, plan, monkeypatch):
    real = loop.augment
    dihedral = policy("dihedral")
    monkeypatch.setattr(
        loop, "augment", lambda images, _, seed, epoch, at: real(images, dihedral, seed, epoch, at)
    )
    assert "augmentation" in failures(examined(state(), train, plan, policy=policy("none")))

    monkeypatch.undo()
    judge = loop.predict_logits

    class Flipped(PackedDataset):
        def gather(self, index, positions, *, pinned=False):
            batch = super().gather(index, positions, pinned=pinned)
            return replace(batch, images=batch.images.flip(3))

    def flipped(model, dataset, *, batch_size, plan):
        dataset.gather(np.arange(len(dataset)), np.arange(len(dataset)))
        other = Flipped(dataset.pack_path, dataset.rows, dataset.labels)
        return judge(model, other, batch_size=batch_size, plan=plan)

    monkeypatch.setattr(loop, "predict_logits", flipped)
    found = examined(state(), train, plan)["augmentation"]
    assert "evaluation" in found.message


def any_angle(images, chosen, seed, epoch, positions):
    """torchvision's RandomRotation(90) as the notebook used it: any angle, black corners."""
    from torchvision.transforms.v2 import functional as tv

    rng = np.random.default_rng([seed, epoch])
    turned = [tv.rotate(image, float(rng.uniform(-90, 90))) for image in images]
    return torch.stack(turned)


def test_black_corners(train, plan, monkeypatch):
    monkeypatch.setattr(loop, "augment", any_angle)
    monkeypatch.setattr(_doctor_judge, "augment", any_angle)

    assert "corners" in failures(examined(state(), train, plan, policy=Policy(rotate_degrees=90)))


def test_our_own_turns_by_any_angle_leave_no_corners():
    for chosen in (Policy(rotate_degrees=180), policy("dermoscopy"), Policy(brightness=1.0)):
        assert _doctor_judge.corners(chosen, PX, 0).level is Level.PASS


def test_an_order_that_is_never_shuffled(train, plan):
    found = examined(state(), train, plan, sampling="sequential")

    assert failures(found) == {"order"}
    assert "never shuffled" in found["order"].message


def once(n, seed, epoch, *, sampling, labels=None):
    return np.random.default_rng(0).permutation(n)


def by_class(n, seed, epoch, *, sampling, labels=None):
    drawn = np.random.default_rng(epoch).permutation(n)
    return drawn[np.argsort(labels[drawn], kind="stable")]


def with_gaps(n, seed, epoch, *, sampling, labels=None):
    return np.random.default_rng(epoch).integers(0, n, n)


@pytest.mark.parametrize(
    ("draw", "said"), [(once, "very same order"), (by_class, "sorted"), (with_gaps, "exactly once")]
)
def test_orders_that_are_not_a_fresh_shuffle(draw, said, train, plan, monkeypatch):
    monkeypatch.setattr(loop, "epoch_order", draw)
    monkeypatch.setattr(_doctor_judge, "epoch_order", draw)
    found = examined(state(), train, plan)

    assert failures(found) == {"order"}
    assert said in found["order"].message


def test_two_linear_layers_without_an_activation():
    """Dropout between them is none; nor helps an activation elsewhere."""
    for layers in (
        [nn.Linear(512, 64), nn.Dropout(0.5), nn.Linear(64, 2)],
        [nn.Linear(512, 64), nn.BatchNorm1d(64), nn.Linear(64, 2)],
        [nn.Linear(512, 64), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2)],
    ):
        model = state().model
        model.head = nn.Sequential(*layers)
        assert _doctor_model.head_is_nonlinear(model).level is Level.FAIL


@pytest.mark.parametrize("head", ["linear", "hidden", "three"])
def test_our_own_heads_are_sound(head):
    assert _doctor_model.head_is_nonlinear(state(head=head).model).level is Level.PASS


def shown_orders(orders):
    """A trial whose loop showed its training images so."""
    shown = [Shown(epoch, "train", drawn, torch.empty(0), ()) for epoch, drawn in enumerate(orders)]
    return Trial((), (), torch.empty(0), tuple(shown), (), None, None)


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
@pytest.mark.parametrize("n", range(2, 9))
def test_few_images_in_a_sound_order_are_never_refused(n, sampling, tmp_path):
    """Four of them come in the order of the files once in 24 draws."""
    few = PackedDataset(tmp_path, np.arange(n), np.arange(n) % 2)
    for seed in range(300):
        chosen = settings(seed=seed, sampling=sampling)
        dataset = _doctor_trial.sample(few, 8, seed)
        drawn = [
            epoch_order(n, seed, epoch, sampling=sampling, labels=dataset.labels)
            for epoch in (0, 1)
        ]
        assert _doctor_judge.order(shown_orders(drawn), few, chosen).level is Level.PASS


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
@pytest.mark.parametrize("n", [5, 8, 48])
def test_a_loop_that_never_shuffles_is_caught_with_few_images_too(n, sampling, tmp_path):
    few = PackedDataset(tmp_path, np.arange(n), np.arange(n) % 2)
    files = [np.arange(min(n, 8))] * 2
    found = _doctor_judge.order(shown_orders(files), few, settings(sampling=sampling))

    assert (found.level, "never shuffled" in found.message) == (Level.FAIL, True)


def test_of_three_images_no_order_can_be_told(tmp_path, monkeypatch):
    few = PackedDataset(tmp_path, np.arange(3), np.arange(3) % 2)
    found = _doctor_judge.order(shown_orders([np.arange(3)] * 2), few, settings(seed=1))

    assert (found.level, "too few" in found.message) == (Level.PASS, True)

    monkeypatch.setattr(_doctor_judge, "epoch_order", lambda n, *_, **__: np.arange(n))
    found = _doctor_judge.order(shown_orders([np.arange(3)] * 2), few, settings(seed=1))
    assert "never shuffled" in found.message


@pytest.mark.parametrize("hidden", range(1, 9))
def test_heads_of_few_units_are_sound_with_an_activation_and_only_then(hidden):
    """Their biases may all be positive, and a ReLU leaves them as they are."""
    model = state().model
    for seed in range(100):
        torch.manual_seed(seed)
        model.head = build_head("hidden", features=512, outputs=7, hidden=hidden, dropout=0.0)
        if seed % 2:
            model.head[0].bias.data.abs_()
        assert _doctor_model.head_is_nonlinear(model).level is Level.PASS
        del model.head[1]
        assert _doctor_model.head_is_nonlinear(model).level is Level.FAIL


def test_pixels_that_are_not_normalised_show_in_the_first_loss(train, plan):
    """A head on features a hundred times too large is far surer than a fresh one can be."""
    loop_state = state(head="linear")
    with torch.no_grad():
        loop_state.model.head[1].weight.mul_(100)
    found = examined(loop_state, train, plan)["initial-loss"]

    assert found.level is Level.FAIL
    assert "ln 2 = 0.693" in found.message


def test_the_first_loss_of_a_resumed_run_is_its_own_matter(train, plan):
    loop_state = state()
    with torch.no_grad():
        loop_state.model.head[0].weight.mul_(1e4)
    loop_state.epoch = 2

    assert examined(loop_state, train, plan)["initial-loss"].level is Level.PASS


def test_a_loss_that_is_no_number_is_a_finding_and_no_traceback(train, plan):
    loop_state = state()
    with torch.no_grad():
        loop_state.model.head[0].weight.fill_(float("nan"))

    assert {"initial-loss", "trial-steps"} <= failures(examined(loop_state, train, plan))


def test_a_best_epoch_by_the_wrong_direction_or_by_another_metric(train, plan, monkeypatch):
    class Reversed(Stopping):
        def _is_better(self, value):
            return self.best_value is None or not super()._is_better(value)

    backwards = state()
    backwards.stopping = Reversed("val/loss", 3)
    assert failures(examined(backwards, train, plan)) == {"monitor"}

    class Accuracy(Stopping):
        """Says loss, reads accuracy."""

        def update(self, epoch, value):
            return super().update(epoch, 0.6 if epoch == 1 else 0.4)

        def _is_better(self, value):
            return self.best_value is None or value > self.best_value

    deaf = state()
    deaf.stopping = Accuracy("val/loss", 3)
    assert failures(examined(deaf, train, plan)) == {"monitor"}

    assert failures(examined(state(monitor="test/auc"), train, plan)) == {"monitor"}


@pytest.mark.parametrize("monitor", ["val/loss", "val/auc"])
def test_a_best_epoch_by_the_metric_of_the_training_images(monitor, train, plan, monkeypatch):
    real = loop._end_epoch

    def of_training(state, phase, seconds, metrics):
        read = {**metrics, monitor: metrics[monitor.replace("val/", "train/")]}
        return real(state, phase, seconds, read)

    monkeypatch.setattr(loop, "_end_epoch", of_training)

    assert failures(examined(state(monitor=monitor), train, plan)) == {"monitor"}


def test_judging_on_the_training_images(train, plan, monkeypatch):
    seen = {}
    real, predict = loop._train_epoch, loop.predict_logits

    def trained(state, images, *rest, **more):
        seen["train"] = images
        return real(state, images, *rest, **more)

    monkeypatch.setattr(loop, "_train_epoch", trained)
    monkeypatch.setattr(loop, "predict_logits", lambda m, _, **k: predict(m, seen["train"], **k))

    assert "monitor" in failures(examined(state(), train, plan))


def test_patience_that_is_not_kept(train, plan):
    class Endless(Stopping):
        @property
        def exhausted(self):
            return False

    loop_state = state()
    loop_state.stopping = Endless("val/loss", 2)

    assert failures(examined(loop_state, train, plan)) == {"monitor"}


def test_pinned_memory_without_cuda(train, plan):
    found = examined(state(), train, replace(plan, pin_memory=True))

    assert failures(found) == {"pinned-memory"}


def test_labels_beyond_the_classes_end_the_examination(train, plan):
    train.labels[3] = 2
    assert failures(examined(state(), train, plan)) == {"classes"}


def test_one_batch_is_learnt_by_heart_or_not(train, plan, monkeypatch):
    assert examined(state(), train, plan, "full")["overfit"].level is Level.PASS
    real = _doctor_losses.train_step
    monkeypatch.setattr(  # the gradient's sign turned round
        _doctor_losses,
        "train_step",
        lambda model, loss, *rest, **more: real(model, lambda z, y: -loss(z, y), *rest, **more),
    )
    assert examined(state(), train, plan, "full")["overfit"].level is Level.FAIL


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ({"lr": 1e-6, "name": "sgd"}, {"clip_norm": 0.01}),
        pytest.param({"lr": 30.0}, {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_recipe_that_learns_nothing_in_thirty_steps_is_its_own_matter(
    recipe, changes, train, plan
):
    """A rate for thousands of steps, or one that is far too high: gradients and loss are sound."""
    found = _doctor_losses.overfits(
        state(**recipe),
        train,
        settings(**changes),
        loss_function=loss_function("softmax"),
        plan=plan,
    )

    assert found.level is Level.WARN
    assert "at lr=" in found.message


def levels(findings):
    return {finding.check: finding.level for finding in findings if finding.level is Level.FAIL}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_sound_phase_passes(frozen, ema):
    loop_state = state(ema=ema)
    if frozen:
        freeze_backbone(loop_state.model)
    found = check_phase(loop_state, frozen=frozen)

    assert {finding.level for finding in found} == {Level.PASS}


def test_a_phase_that_is_not_what_it_says():
    thawed, frozen = state(), state()
    freeze_backbone(frozen.model)

    assert set(levels(check_phase(thawed, frozen=True))) == {"phase-trainable", "phase-statistics"}
    assert set(levels(check_phase(frozen, frozen=False))) == {"phase-trainable", "phase-statistics"}
    unfreeze_backbone(frozen.model)
    assert levels(check_phase(frozen, frozen=False)) == {}


def test_a_frozen_backbone_with_learning_statistics_or_a_stale_gradient():
    loop_state = state()
    freeze_backbone(loop_state.model)
    nn.Module.train(loop_state.model.backbone, True)
    loop_state.model.backbone.conv1.weight.grad = torch.ones(1).expand(64, 3, 7, 7)
    found = levels(check_phase(loop_state, frozen=True))

    assert set(found) == {"phase-statistics", "phase-gradients"}


def test_an_average_that_is_in_training_mode_or_no_copy():
    loop_state = state(ema=0.9)
    loop_state.ema.model.train()
    assert set(levels(check_phase(loop_state, frozen=False))) == {"judged-model"}

    loop_state = state(ema=0.9)
    loop_state.ema.model = copy.copy(loop_state.model).eval()
    assert "judged-model" in levels(check_phase(loop_state, frozen=False))


def pictures(n=12, px=20):
    """Reddish noise: every channel has another mean."""
    rng = np.random.default_rng(1)
    return (rng.integers(0, 60, (n, px, px, 3)) + np.array([150, 90, 60])).astype(np.uint8)


def test_colours_in_the_wrong_order_of_other_files_or_grey():
    rgb = pictures()
    grey = np.repeat(rgb[..., :1], 3, axis=3)

    assert check_colours(rgb, rgb[:, :10]).level is Level.PASS
    swapped = check_colours(rgb[..., ::-1], rgb)
    assert (swapped.level, "BGR, not RGB" in swapped.message) == (Level.FAIL, True)
    assert "GBR" in check_colours(rgb[..., [1, 2, 0]], rgb).message
    assert check_colours(grey, grey).level is Level.WARN
    assert check_colours([], []).level is Level.WARN
    assert "not those of their files" in check_colours(rgb // 2, rgb).message


def loaded(other_seed=9):
    """A model whose backbone comes from elsewhere, the one it began as, and what loading said."""
    model, fresh = state().model, state().model
    model.backbone.load_state_dict(build(model.spec, other_seed).backbone.state_dict())
    return model, fresh, WeightsFacts("r18.pth", "0" * 64, ("fc.bias", "fc.weight"))


def test_weights_that_were_loaded_whole_partly_or_never():
    model, fresh, facts = loaded()
    assert check_weights(model, fresh, "imagenet", facts).level is Level.PASS
    assert check_weights(fresh, fresh, "none", WeightsFacts("none", None, ())).level is Level.PASS

    model.backbone.layer4.load_state_dict(fresh.backbone.layer4.state_dict())
    partly = check_weights(model, fresh, "imagenet", facts)
    assert (partly.level, partly.count) == (Level.FAIL, 5)
    assert partly.offenders[0].startswith("backbone.layer4")

    never = check_weights(fresh, fresh, "imagenet", WeightsFacts("none", None, ()))
    assert "nothing was loaded" in never.message
    beyond = replace(facts, skipped=("fc.weight", "layer4.0.conv1.weight"))
    assert "beyond" in check_weights(loaded()[0], fresh, "imagenet", beyond).message
    assert check_weights(model, fresh, "none", facts).level is Level.FAIL
