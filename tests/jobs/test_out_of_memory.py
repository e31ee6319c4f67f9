"""A batch that does not fit is computed in portions, said and logged; the update stays the same."""

import json
import os
import signal
import time

import pytest
import torch
from mlflow import MlflowClient

from histo_mlflow.errors import TrainingError
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import train
from histo_mlflow.recipe import load
from histo_mlflow.training import loop

RECIPE = {
    "model": "test_convnext",  # layer norms: nothing looks across a batch
    "weights": "none",
    "demo_images": "96",
    "image_px": "32",
    "batch_size": "16",
    "epochs": "2",
    "lr": "1e-3",
    "optimiser": "sgd",
    "precision": "fp32",
    "memory_format": "contiguous",
    "threads": "1",
}
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@pytest.fixture
def trained(store_uri, tmp_path, capsys):
    """Train under a limit of images at once: (result, what was said, portions of each step)."""

    def run(monkeypatch, *, limit=None, error=CUDA, name="run", judged=None, after=0):
        step, predict, portions = loop.train_step, loop.predict_logits, []

        def limited(model, loss_function, optimiser, images, labels, **options):
            portions.append(len(images))
            if limit is not None and len(images) > limit and len(portions) > after:
                raise error
            return step(model, loss_function, optimiser, images, labels, **options)

        def limited_judging(model, dataset, *, batch_size, plan):
            if judged is not None and batch_size > judged:
                raise error
            return predict(model, dataset, batch_size=batch_size, plan=plan)

        monkeypatch.setattr(loop, "train_step", limited)
        monkeypatch.setattr(loop, "predict_logits", limited_judging)
        done = train(
            load("demo", RECIPE),
            tracking_uri=store_uri,
            run_dir=tmp_path / name,
            doctor_level=None,
            pictures=False,
            talk=Talk(),
        )
        monkeypatch.undo()
        return done, capsys.readouterr().err, portions

    return run


def weights(result):
    from safetensors.torch import load_file

    return load_file(result.run_dir / "model" / "weights.safetensors")


@pytest.mark.parametrize(("error", "after"), [(CUDA, 0), (CPU, 6)], ids=["at once", "mid-way"])
def test_a_batch_that_does_not_fit_is_halved_and_the_training_is_the_same(
    error, after, trained, store_uri
):
    with pytest.MonkeyPatch.context() as patch:
        whole, _, _ = trained(patch, name="whole")
    with pytest.MonkeyPatch.context() as patch:
        done, said, portions = trained(patch, limit=5, error=error, after=after)

    assert done.ending == "finished"
    assert "out of memory: going on in portions of 4 images" in said
    assert "the update stays that of 16; batch norm sees the portions" in said
    assert max(portions[after + 2 :]) <= 8
    assert set(portions[-8:]) == {4}
    history = json.loads((done.run_dir / "results" / "history.json").read_text())
    # The second is found out in the second epoch: the first one was whole.
    portions_by_epoch = [entry.get("micro_batch") for entry in history]
    assert portions_by_epoch == ([None, 4] if after else [4, 4])
    logged = MlflowClient(store_uri).get_metric_history(done.run_id, "micro_batch")
    assert [(metric.step, metric.value) for metric in logged] == [(1, 4), (2, 4)][bool(after) :]
    expected, found = weights(whole), weights(done)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_pair_that_does_not_fit_is_one_sentence(trained, store_uri, tmp_path):
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(TrainingError, match="out of memory with 2 images at once"),
    ):
        trained(patch, limit=1)

    (run,) = MlflowClient(store_uri).search_runs(["1"])
    assert (run.info.status, run.data.tags["histo.ending"]) == ("FAILED", "failed")
    assert (tmp_path / "run" / "checkpoints" / "epoch-0000-step-000000" / "commit.json").is_file()


def test_a_validation_that_does_not_fit_is_judged_in_smaller_batches(trained):
    with pytest.MonkeyPatch.context() as patch:
        done, said, _ = trained(patch, judged=8)

    assert done.ending == "finished"
    assert "out of memory: going on in portions of 8 images" in said


def test_a_validation_that_does_not_fit_leaves_the_training_as_it_was(
    store_uri, tmp_path, monkeypatch
):
    """It is judging that goes in halves; batch norms of the training see whole batches."""
    from histo_mlflow.training import judging

    real = judging.batches

    def limited(dataset, order, batch_size, **options):
        if batch_size > 8:
            raise CUDA
        return real(dataset, order, batch_size, **options)

    monkeypatch.setattr(judging, "batches", limited)
    done = train(
        load("demo", RECIPE),
        tracking_uri=store_uri,
        run_dir=tmp_path / "run",
        doctor_level=None,
        pictures=False,
        talk=Talk(quiet=True),
    )

    assert done.ending == "finished"
    history = json.loads((done.run_dir / "results" / "history.json").read_text())
    assert [entry.get("micro_batch") for entry in history] == [None, None]


def test_a_signal_while_the_checkpoint_before_comes_back_saves_nothing_else(
    store_uri, tmp_path, monkeypatch
):
    """The step that ran out of memory is half done: it must not be saved as a whole one."""
    from histo_mlflow.errors import Interrupted
    from histo_mlflow.training.checkpoint import Checkpoints

    step, load_state, steps, loads = loop.train_step, Checkpoints.load, [], []

    def failing(*arguments, **options):
        steps.append(True)
        if len(steps) == 3:
            raise MemoryError
        return step(*arguments, **options)

    def loaded(self, state):
        loads.append(True)
        if len(loads) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        return load_state(self, state)

    monkeypatch.setattr(loop, "train_step", failing)
    monkeypatch.setattr(Checkpoints, "load", loaded)
    with pytest.raises(Interrupted):
        train(
            load("demo", RECIPE),
            tracking_uri=store_uri,
            run_dir=tmp_path / "run",
            doctor_level=None,
            pictures=False,
            talk=Talk(quiet=True),
        )

    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == ["epoch-0000-step-000000"]


def test_numbers_not_looked_at_yet_are_looked_at_before_a_signal_saves(
    store_uri, tmp_path, monkeypatch, capsys
):
    """As on a GPU, where a look waits for the device."""
    from histo_mlflow.errors import Interrupted
    from histo_mlflow.training.numbers import NumberWatch

    step, steps = loop.train_step, []

    def poisoned(model, loss_function, *arguments, **options):
        steps.append(True)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            return step(
                model, lambda x, y: loss_function(x, y) * float("nan"), *arguments, **options
            )
        return step(model, loss_function, *arguments, **options)

    def go():
        return train(
            load("demo", {**RECIPE, "accumulate": "4"}),
            tracking_uri=store_uri,
            run_dir=tmp_path / "run",
            doctor_level=None,
            pictures=False,
            talk=Talk(),
        )

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", poisoned)
        patch.setattr(
            loop,
            "NumberWatch",
            lambda epoch, at_once, scaled, names: NumberWatch(epoch, False, scaled, names),
        )
        with pytest.raises(Interrupted):
            go()

    assert "the loss became nan in epoch 1, step 3" in capsys.readouterr().err
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == ["epoch-0000-step-000000"]
    assert go().ending == "finished"


def test_another_error_of_torch_is_no_lack_of_memory(trained):
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
    ):
        trained(patch, limit=1, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
