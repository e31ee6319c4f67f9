"""A training that is left after any step and gone on with is the one that was never left."""

import json
import shutil

import numpy as np
import pytest
import torch

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.device import plan_device
from histo_mlflow.errors import DiskError, NotANumberError, ResumeError
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.ema import Ema
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.models.losses import loss_function
from histo_mlflow.training.checkpoint import Checkpoints
from histo_mlflow.training.loop import fit
from histo_mlflow.training.optim import build_optimiser
from histo_mlflow.training.state import FitSettings, LoopState
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import policy

N, PX = 40, 16
IDENTITY = {"recipe": "one", "data": "two"}
TIMES = ("seconds", "train_seconds", "images_per_second", "data_wait_share")


@pytest.fixture
def sets(packed_noise):
    """28 images to train on, 12 to judge."""
    path, labels = packed_noise(N, PX)
    rows = np.arange(N)
    return tuple(PackedDataset(path, part, labels[part]) for part in (rows[:28], rows[28:]))


def fresh(*, optimiser="adamw", seed=0, patience=None, layout=torch.channels_last, lr=1e-3):
    """A small network with batch norm, dropout and an average; two learning rates."""
    spec = specify(
        "test_resnet", ("dark", "bright"), head="hidden", hidden=8, dropout=0.5, image_px=PX
    )
    model = build(spec, seed).to(memory_format=layout)
    groups = parameter_groups(model, lr=lr, weight_decay=0.01, group_lrs={"head": 3 * lr})
    return LoopState(
        model=model,
        optimiser=build_optimiser(optimiser, groups, momentum=0.9 if optimiser == "sgd" else 0.0),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        stopping=Stopping("val/loss", patience),
        ema=Ema(model, 0.9),
    )


def settings(**changes):
    values = {
        "epochs": 3,
        "batch_size": 8,
        "eval_batch_size": 16,
        "seed": 3,
        "sampling": "shuffled",
        "policy": policy("dihedral"),
        "schedule": "cosine",
        "warmup_epochs": 0.5,
        "frozen_epochs": 1,
        "clip_norm": 1.0,
        "accumulate": 3,
    }
    return FitSettings(**{**values, **changes})


def measure(targets, logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return {"loss": float(-log_p[np.arange(len(targets)), targets].mean())}


class Left(Exception):  # noqa: N818 - not an error
    pass


def train(sets, state, checkpoints=None, *, leave=None, layout="channels_last", **changes):
    """Train, saving as a run does; leave after so many steps, or in a validation, or never."""
    seen = []

    def on_step(record):
        seen.append((record.epoch, record.step, tuple(record.index), float(record.loss)))
        if leave == len(seen):
            checkpoints.save(state)
            raise Left

    def measured(targets, logits):
        if leave == "validation" and len(targets) == 12:
            checkpoints.save(state)
            raise Left
        return measure(targets, logits)

    def on_epoch(record):
        if checkpoints is not None:
            if record.improved:
                checkpoints.save_best(state)
            checkpoints.save(state)

    for _ in fit(
        state,
        *sets,
        settings(**changes),
        loss_function=loss_function("softmax"),
        measure=measured,
        plan=plan_device("cpu", "fp32", layout, 1),
        on_step=on_step,
        on_epoch=on_epoch,
    ):
        pass
    return seen


def layout_of(tensor):
    """Strides of the sides that have any."""
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]


def contents(state):
    """Everything that a state is, in values that compare bit for bit."""
    optimiser = state.optimiser.state_dict()
    tensors = {f"model/{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"ema/{k}": v for k, v in state.ema.model.state_dict().items()}
    for i, entries in optimiser["state"].items():
        tensors |= {f"{i}/{k}": v for k, v in entries.items() if isinstance(v, torch.Tensor)}
    for i, p in enumerate(p for group in state.optimiser.param_groups for p in group["params"]):
        if p.grad is not None:
            tensors[f"gradient/{i}"] = p.grad
    if state.progress.losses:
        tensors["losses"] = torch.stack(state.progress.losses)
        tensors["logits"] = torch.cat(state.progress.logits)
    rest = {
        "groups": json.loads(json.dumps(optimiser["param_groups"])),  # its tuples become lists
        "scaler": state.scaler.state_dict(),
        "stopping": vars(state.stopping),
        "history": [{k: v for k, v in e.items() if k not in TIMES} for e in state.history],
        "epoch": state.epoch,
        "steps": state.progress.steps,
        "updates": state.ema.updates,
        "micro_batch": state.micro_batch,
    }
    return {
        "tensors": {
            name: (str(t.dtype), layout_of(t), t.detach().contiguous().numpy().tobytes())
            for name, t in tensors.items()
        },
        **rest,
    }


def assert_equal(found, expected):
    assert found["tensors"].keys() == expected["tensors"].keys()
    differing = [k for k, v in expected["tensors"].items() if found["tensors"][k] != v]
    assert not differing, differing
    assert {**found, "tensors": None} == {**expected, "tensors": None}


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_every_part_of_a_state_comes_back_bit_for_bit(optimiser, layout, sets, tmp_path):
    """Left in the fourth step of the second epoch: half an epoch, one of three gradients."""
    state = fresh(optimiser=optimiser, layout=layout)
    name = "channels_last" if layout is torch.channels_last else "contiguous"
    checkpoints = Checkpoints(tmp_path / "c", IDENTITY)
    with pytest.raises(Left):
        train(sets, state, checkpoints, leave=4 + 2, accumulate=3, layout=name)
    state.micro_batch = 4
    state.stopping.waited, state.stopping.best_value = 7, 0.1 + 0.2
    state.progress.steps += 1  # under another name, since this one is saved
    checkpoints.save(state)
    other = fresh(optimiser=optimiser, layout=layout, seed=9)
    with pytest.raises(Left):  # of another past, all of which has to go
        train(sets, other, Checkpoints(tmp_path / "d", IDENTITY), leave=7, layout=name)
    resumed = Checkpoints(tmp_path / "c", IDENTITY).load(other)

    assert (resumed.epoch, resumed.step, resumed.damaged) == (1, 3, ())
    assert any(name.startswith("gradient/") for name in contents(state)["tensors"])
    assert_equal(contents(other), contents(state))
    assert other.progress.seconds == state.progress.seconds
    for entries in other.optimiser.state.values():
        assert all(not value.requires_grad for value in entries.values())


def test_the_moments_lie_in_memory_as_the_weights_do(sets, tmp_path):
    """torch's fused updates walk both side by side; in another order they hit other weights."""
    state = fresh()
    checkpoints = Checkpoints(tmp_path, IDENTITY)
    train(sets, state, checkpoints, epochs=2)
    other = fresh(seed=1)
    Checkpoints(tmp_path, IDENTITY).load(other)

    permuted = 0
    for parameter, entries in other.optimiser.state.items():
        assert entries["exp_avg"].stride() == entries["exp_avg_sq"].stride() == parameter.stride()
        permuted += not parameter.is_contiguous()
    assert permuted >= 10


def test_a_scaler_comes_back(tmp_path):
    state, other = fresh(), fresh()
    for one in (state, other):
        one.scaler = torch.amp.GradScaler("cpu", enabled=True, growth_interval=3)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 8.0, "_growth_tracker": 2})
    Checkpoints(tmp_path, IDENTITY).save(state)
    Checkpoints(tmp_path, IDENTITY).load(other)

    assert other.scaler.state_dict() == state.scaler.state_dict()
    assert other.scaler.state_dict()["scale"] == 8.0


CASES = {
    "frozen, then full": {},
    "early stop": {"epochs": 9, "patience": 1, "lr": 0.3, "accumulate": 1, "frozen_epochs": 0},
    "sgd, balanced": {"optimiser": "sgd", "sampling": "balanced", "schedule": "onecycle",
                      "warmup_epochs": 0.0, "accumulate": 2},
}  # fmt: skip


def split_case(case):
    made = {k: v for k, v in CASES[case].items() if k in ("patience", "lr", "optimiser")}
    return made, {k: v for k, v in CASES[case].items() if k not in made}


@pytest.mark.parametrize("case", CASES)
def test_left_after_any_step_it_ends_as_if_it_never_had_been(case, sets, tmp_path):
    made, changes = split_case(case)
    undisturbed = fresh(**made)
    expected = train(sets, undisturbed, Checkpoints(tmp_path / "undisturbed", IDENTITY), **changes)
    if case == "early stop":
        assert undisturbed.stopping.exhausted
        assert undisturbed.epoch < 9
    left = list(range(1, len(expected) + 1))
    for leave in [*left, "validation"]:
        folder = tmp_path / str(leave)
        first, second = fresh(**made), fresh(**made, seed=5)
        with pytest.raises(Left):
            train(sets, first, Checkpoints(folder, IDENTITY), leave=leave, **changes)
        checkpoints = Checkpoints(folder, IDENTITY)
        resumed = checkpoints.load(second)
        rest = train(sets, second, checkpoints, **changes)

        done = 4 if leave == "validation" else leave
        assert (resumed.epoch * 4 + resumed.step, rest) == (done, expected[done:])
        assert_equal(contents(second), contents(undisturbed))
        assert checkpoints.best_path(second).read_bytes() == (
            Checkpoints(tmp_path / "undisturbed", IDENTITY).best_path(undisturbed).read_bytes()
        )
        shutil.rmtree(folder)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def saved(sets, tmp_path):
    """(folder of a training of three epochs, its state)."""
    state = fresh()
    train(sets, state, Checkpoints(tmp_path / "c", IDENTITY))
    return tmp_path / "c", state


def test_the_newest_two_are_kept_with_the_best_weights_that_they_name(saved):
    folder, state = saved
    bests = {
        json.loads((folder / name / "state.json").read_text())["stopping"]["best_epoch"]
        for name in ("epoch-0002-step-000000", "epoch-0003-step-000000")
    }

    assert state.stopping.best_epoch in bests
    assert names(folder) == [
        *sorted(f"best-{epoch:04d}" for epoch in bests),
        "epoch-0002-step-000000",
        "epoch-0003-step-000000",
    ]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a bit of the tensors": (lambda c: flip(c / "state.safetensors"), "was changed or cut off"),
    "a bit of the facts": (lambda c: flip(c / "state.json"), "was changed or cut off"),
    "cut off": (
        lambda c: (c / "state.safetensors").write_bytes(
            (c / "state.safetensors").read_bytes()[:-1]
        ),
        "was changed or cut off",
    ),
    "emptied": (lambda c: (c / "state.safetensors").write_bytes(b""), "was changed or cut off"),
    "no tensors": (lambda c: (c / "state.safetensors").unlink(), "state.safetensors is missing"),
    "no marker": (lambda c: (c / "commit.json").unlink(), "commit.json is missing"),
    "a torn marker": (lambda c: (c / "commit.json").write_text('{"state'), "cannot be read"),
    "an empty marker": (lambda c: (c / "commit.json").write_text("{}"), "names other files"),
    "a marker that forgets a file": (
        lambda c: (
            (c / "commit.json").write_text(
                json.dumps(
                    {"state.json": json.loads((c / "commit.json").read_text())["state.json"]}
                )
            ),
            (c / "state.safetensors").unlink(),
        ),
        "names other files",
    ),
    "a folder in the marker's place": (
        lambda c: ((c / "commit.json").unlink(), (c / "commit.json").mkdir()),
        "commit.json cannot be read (Is a directory)",
    ),
    "a file in its place": (
        lambda c: (shutil.rmtree(c), c.write_text("")),
        "cannot be read (Not a directory)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, saved):
    folder, _ = saved
    act, problem = DAMAGES[damage]
    act(folder / "epoch-0003-step-000000")
    state = fresh(seed=7)
    resumed = Checkpoints(folder, IDENTITY).load(state)

    assert (resumed.epoch, state.epoch, len(state.history)) == (2, 2, 2)
    (said,) = resumed.damaged
    assert said.startswith("epoch-0003-step-000000: ")
    assert problem in said
    assert "epoch-0003-step-000000" not in names(folder)


def test_where_all_are_damaged_it_says_so_and_leaves_the_state_alone(saved):
    folder, _ = saved
    for name in ("epoch-0002-step-000000", "epoch-0003-step-000000"):
        flip(folder / name / "state.safetensors")
    state = fresh(seed=7)
    before = contents(state)
    with pytest.raises(ResumeError, match=r"no checkpoint in .* is whole .*start a new run"):
        Checkpoints(folder, IDENTITY).load(state)

    assert_equal(contents(state), before)
    assert "epoch-0003-step-000000" in names(folder)


def test_damaged_best_weights_are_noticed_when_resuming_and_when_asked_for(saved):
    folder, state = saved
    flip(folder / f"best-{state.stopping.best_epoch:04d}" / "weights.safetensors")
    with pytest.raises(ResumeError, match=r"cannot be used: weights\.safetensors was changed"):
        Checkpoints(folder, IDENTITY).best_path(state)
    for other in folder.glob("best-*"):
        (other / "commit.json").unlink()
    with pytest.raises(ResumeError, match="its best weights are not whole"):
        Checkpoints(folder, IDENTITY).load(fresh())


def test_another_identity_is_refused_naming_every_difference(saved):
    folder, _ = saved
    state = fresh(seed=7)
    before = contents(state)
    with pytest.raises(ResumeError) as caught:
        Checkpoints(folder, {"recipe": "one", "data": "2", "device": "cpu"}).load(state)

    message = str(caught.value)
    assert "data: two there, 2 now; device: nothing there, cpu now" in message
    assert "recipe" not in message
    assert_equal(contents(state), before)


def test_nothing_is_there_to_go_on_from_in_a_new_folder(tmp_path):
    assert Checkpoints(tmp_path / "none", IDENTITY).load(fresh()) is None


def test_what_a_kill_left_half_written_is_removed(saved):
    folder, _ = saved
    for name in (".epoch-0004-step-000000.partial", ".best-0001.removed.partial"):
        (folder / name).mkdir()
        (folder / name / "state.safetensors").write_bytes(b"half")
    before = [name for name in names(folder) if not name.startswith(".")]
    Checkpoints(folder, IDENTITY).load(fresh())

    assert names(folder) == before


@pytest.mark.parametrize("where", ["weight", "buffer", "average"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_saved(where, value, saved):
    folder, state = saved
    model = state.ema.model if where == "average" else state.model
    name = next(n for n in model.state_dict() if where != "buffer" or n.endswith("running_var"))
    tensor = model.state_dict()[name]
    tensor[(0,) * tensor.dim()] = value
    state.progress.steps = 1
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for save in (Checkpoints(folder, IDENTITY).save, Checkpoints(folder, IDENTITY).save_best):
        with pytest.raises(NotANumberError, match=r"is not finite after epoch 3, step 1"):
            save(state)

    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_place_that_is_saved_is_not_written_again(saved, monkeypatch):
    folder, _ = saved
    state = fresh()
    checkpoints = Checkpoints(folder, IDENTITY)
    checkpoints.load(state)
    written = []
    monkeypatch.setattr(checkpoints, "_commit", lambda *arguments: written.append(arguments))
    checkpoints.save(state)
    assert not written
    state.progress.steps = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "_prune", lambda: None)
        checkpoints.save(state)
    assert len(written) == 1


def test_a_full_disk_leaves_the_earlier_checkpoints_and_no_rest(saved, monkeypatch):
    import errno
    import os

    folder, state = saved
    state.progress.steps = 1
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match=r"the disk is full: .* needs [\d,]{7,} bytes"):
            Checkpoints(folder, IDENTITY).save(state)

    assert calls
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(folder.glob(".*"))
    Checkpoints(folder, IDENTITY).save(state)
    assert "epoch-0003-step-000001" in names(folder)
