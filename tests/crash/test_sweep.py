"""The process ends after each file operation of a checkpoint; checkpoints get damaged."""

import shutil
from dataclasses import replace

import pytest
from harness import trials
from harness.zygote import Order

MID_EPOCH, WITH_NEW_BEST = "save 1 3", "epoch 2"


@pytest.mark.parametrize("window", [MID_EPOCH, WITH_NEW_BEST])
def test_some_operations_of_a_checkpoint_may_be_the_last(lab, window):
    tally = trials.sweep(lab, window, modes=("kill", "half"), stride=13)

    assert tally.tried >= 4
    assert tally.failures == []


@pytest.mark.parametrize("window", [MID_EPOCH, WITH_NEW_BEST])
def test_the_power_may_fail_within_a_checkpoint(lab, window):
    tally = trials.sweep(lab, window, modes=("power",), stride=17, first=5)

    assert tally.tried >= 2
    assert tally.failures == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("window", [MID_EPOCH, WITH_NEW_BEST])
def test_any_operation_of_a_checkpoint_may_be_the_last(lab, window):
    tally = trials.sweep(lab, window)

    assert tally.tried >= 50
    assert tally.failures == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("window", ["begin", "outcome"])
def test_operations_of_the_whole_job_may_be_the_last(lab, window):
    tally = trials.sweep(lab, window, kind="train", stride=4)

    assert tally.tried >= 5
    assert tally.failures == []


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


DAMAGES = {"flipped": _flip, "cut": _cut, "deleted": lambda path: path.unlink()}


@pytest.fixture(scope="module")
def interrupted(lab):
    """A run that was killed after two checkpoints of its third epoch."""
    place = lab.place()
    order = Order(str(place.root), "loop")
    assert lab.zygote.run(replace(order, die_at=(3, 7))).ending == "killed"
    yield place
    shutil.rmtree(place.root)


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("state.safetensors", "flipped"),
        ("state.safetensors", "cut"),
        ("state.json", "deleted"),
        ("commit.json", "cut"),
        ("commit.json", "deleted"),
    ],
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(lab, interrupted, file, how):
    place = lab.copy(interrupted)
    order = Order(str(place.root), "loop")
    newest = sorted((place.run / "checkpoints").glob("epoch-*"))[-1]
    DAMAGES[how](newest / file)

    report = lab.zygote.run(order)

    said = place.log.read_text()
    assert f"WARN     checkpoint {newest.name}: " in said
    assert "the one before it is taken" in said
    assert lab.judge(place, report, order) == []


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", ["state.json"])
def test_a_damaged_older_checkpoint_is_no_hindrance(lab, interrupted, file, how):
    place = lab.copy(interrupted)
    order = Order(str(place.root), "loop")
    older = sorted((place.run / "checkpoints").glob("epoch-*"))[-2]
    DAMAGES[how](older / file)

    report = lab.zygote.run(order)

    assert lab.judge(place, report, order) == []


def test_nothing_but_damaged_checkpoints_is_one_plain_sentence(lab, interrupted):
    place = lab.copy(interrupted)
    for path in (place.run / "checkpoints").glob("epoch-*/state.safetensors"):
        _flip(path)

    report = lab.zygote.run(Order(str(place.root), "loop"))

    assert report.ending == "failed"
    last = report.said.strip().splitlines()[-1]
    assert last.startswith("histo_mlflow.errors.ResumeError: no checkpoint in ")
    assert "state.safetensors was changed or cut off" in last
    assert last.endswith("start a new run")
