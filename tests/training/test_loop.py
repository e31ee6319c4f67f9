"""The loop on tiny pixels: what it records, what it freezes, and that it is a pure function."""

import numpy as np
import pytest
import torch

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.device import plan_device
from histo_mlflow.errors import TrainingError
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.ema import Ema
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.models.losses import loss_function
from histo_mlflow.training.judging import predict_logits
from histo_mlflow.training.loop import fit
from histo_mlflow.training.optim import build_optimiser
from histo_mlflow.training.state import FitSettings, LoopState
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import policy

N, PX = 48, 32


@pytest.fixture
def datasets(packed_noise):
    """Two halves of a pack whose bright images are class 1."""
    pack_path, labels = packed_noise(N, PX)
    half = np.arange(N // 2)
    return (
        PackedDataset(pack_path, half, labels[half]),
        PackedDataset(pack_path, half + N // 2, labels[half + N // 2]),
    )


@pytest.fixture
def plan():
    return plan_device("cpu", "fp32", "channels_last", 1)


def settings(**changes):
    values = {
        "epochs": 3,
        "batch_size": 8,
        "eval_batch_size": 16,
        "seed": 0,
        "sampling": "shuffled",
        "policy": policy("dihedral"),
        "schedule": "cosine",
        "warmup_epochs": 0.0,
        "frozen_epochs": 0,
        "clip_norm": None,
        "accumulate": 1,
    }
    return FitSettings(**{**values, **changes})


def state(*, lr=1e-3, ema=0.0, patience=None, monitor="val/loss", seed=0):
    spec = specify(
        "resnet18", ("dark", "bright"), head="hidden", hidden=8, dropout=0.5, image_px=PX
    )
    model = build(spec, seed)
    groups = parameter_groups(model, lr=lr, weight_decay=0.01)
    return LoopState(
        model=model,
        optimiser=build_optimiser("adamw", groups, momentum=0.0),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        stopping=Stopping(monitor, patience),
        ema=Ema(model, ema) if ema else None,
    )


def measure(targets, logits):
    picked = logits - logits.max(axis=1, keepdims=True)
    log_p = picked - np.log(np.exp(picked).sum(axis=1, keepdims=True))
    return {
        "loss": float(-log_p[np.arange(len(targets)), targets].mean()),
        "accuracy": float((logits.argmax(axis=1) == targets).mean()),
    }


def run(datasets, plan, loop_state, **changes):
    train, val = datasets
    return list(
        fit(
            loop_state,
            train,
            val,
            settings(**changes),
            loss_function=loss_function("softmax"),
            measure=measure,
            plan=plan,
        )
    )


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_each_epoch_gives_one_record_with_both_splits(datasets, plan):
    records = run(datasets, plan, state())

    assert [record.epoch for record in records] == [1, 2, 3]
    expected = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/objective"}
    assert expected | {"lr", "images_per_second", "data_wait_share"} <= set(records[0].metrics)
    assert all(np.isfinite(list(record.metrics.values())).all() for record in records)


def test_it_learns_what_can_be_learned(datasets, plan):
    records = run(datasets, plan, state(lr=3e-3), epochs=6)

    assert records[-1].metrics["train/objective"] < 0.6 * records[0].metrics["train/objective"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(datasets, plan):
    """Order, augmentation and dropout depend on (seed, epoch, step) and on nothing global."""
    first, second, other = state(), state(), state()
    run(datasets, plan, first)
    torch.manual_seed(123)
    np.random.default_rng(5).random(10)
    run(datasets, plan, second)
    run(datasets, plan, other, seed=1)

    assert same(weights(first.model), weights(second.model))
    assert not same(weights(first.model), weights(other.model))


def test_a_frozen_epoch_moves_the_head_alone_and_the_next_one_everything(datasets, plan):
    """The sources' frozen warm-up never froze; BatchNorm statistics are frozen here too."""
    loop_state = state()
    before = weights(loop_state.model)
    train, val = datasets
    seen = []
    for record in fit(
        loop_state,
        train,
        val,
        settings(frozen_epochs=1, epochs=2),
        loss_function=loss_function("softmax"),
        measure=measure,
        plan=plan,
    ):
        seen.append((record.phase, weights(loop_state.model)))

    (first_phase, frozen), (second_phase, full) = seen
    assert (first_phase, second_phase) == ("frozen", "full")
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], frozen[name])}
    assert moved == {"head"}
    still = [name for name in before if torch.equal(frozen[name], full[name])]
    assert not [name for name in still if name.startswith("backbone") and "weight" in name]


def test_evaluation_leaves_the_model_as_it_was(datasets, plan):
    model = state().model.train()
    before = weights(model)
    first = predict_logits(model, datasets[1], batch_size=5, plan=plan)
    second = predict_logits(model, datasets[1], batch_size=24, plan=plan)

    assert model.training
    assert same(before, weights(model))
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert first.shape == (N // 2, 2)


def test_patience_ends_training(datasets, plan):
    records = run(datasets, plan, state(lr=1e-12, patience=2), epochs=30)

    assert records[-1].exhausted
    assert len(records) < 30


def test_accumulating_equals_the_large_batch(datasets, plan):
    """Three batches with weight 1/3 give the step of one, where nothing looks across a batch."""

    def trained(batch_size, accumulate):
        loop_state = state(lr=1e-3)
        loop_state.model.head[2].p = 0.0
        freeze = {"frozen_epochs": 1, "epochs": 2}
        train, val = datasets
        generator = fit(
            loop_state,
            train,
            val,
            settings(batch_size=batch_size, accumulate=accumulate, policy=policy("none"), **freeze),
            loss_function=loss_function("softmax"),
            measure=measure,
            plan=plan,
        )
        next(generator)
        return weights(loop_state.model.head)

    exact = trained(24, 1), trained(8, 3)
    for name in exact[0]:
        torch.testing.assert_close(exact[0][name], exact[1][name], atol=1e-6, rtol=1e-5)


def test_the_average_is_what_is_judged(datasets, plan):
    loop_state = state(ema=0.9)
    records = run(datasets, plan, loop_state)
    logits = predict_logits(loop_state.judged_model, datasets[1], batch_size=16, plan=plan)

    assert loop_state.judged_model is loop_state.ema.model
    expected = measure(datasets[1].labels, logits)["loss"]
    assert records[-1].metrics["val/loss"] == pytest.approx(expected, rel=1e-9)


def test_a_batch_larger_than_the_split_becomes_the_split(datasets, plan):
    records = run(datasets, plan, state(), batch_size=1000, epochs=1)

    assert np.isfinite(records[0].metrics["train/objective"])


def test_a_loss_that_is_no_number_stops_with_the_remedy(datasets, plan):
    loop_state = state()
    with torch.no_grad():
        next(loop_state.model.head.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"the loss became nan in epoch 1, step 1.*lower lr"):
        run(datasets, plan, loop_state)
