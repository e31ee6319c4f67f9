"""How many workers there are, and what each gets of the machine."""

import pytest
import torch

from histo_mlflow.errors import StudyError
from histo_mlflow.recipe import load
from histo_mlflow.tuning import machine_share
from histo_mlflow.tuning.machine_share import (
    devices_of,
    how_many,
    whole_machine,
    with_threads,
)


@pytest.fixture
def machine(monkeypatch):
    def made(*, gpus=0, mps=False, cores=8):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(machine_share, "available_cores", lambda: cores)

    return made


@pytest.mark.parametrize(
    ("device", "has", "expected"),
    [
        ("auto", {"gpus": 4}, 4),
        ("cuda", {"gpus": 2}, 2),
        ("cpu", {"gpus": 4}, 2),
        ("auto", {}, 2),
        ("auto", {"cores": 1}, 1),
        ("auto", {"mps": True}, 1),
        ("cuda:1", {"gpus": 4}, 1),
    ],
)
def test_auto_is_one_a_gpu_and_two_on_a_cpu(device, has, expected, machine):
    machine(**has)

    assert how_many("auto", device) == expected


@pytest.mark.parametrize("given", ["0", "-1", "two", "", "513", "1.5"])
def test_what_is_no_number_of_workers_is_refused_naming_it(given):
    with pytest.raises(StudyError, match=r"--workers .* from 1 to 512, or auto") as caught:
        how_many(given, "cpu")

    assert repr(given) in str(caught.value)
    assert how_many("512", "cpu") == 512


@pytest.mark.parametrize(("workers", "expected"), [(1, 8), (3, 2), (9, 1)])
def test_workers_share_the_cores(workers, expected, machine, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine(cores=8)

    assert with_threads(load("demo"), workers).machine.threads == expected


def test_threads_that_were_asked_for_are_not_changed(machine, monkeypatch):
    machine(cores=8)
    asked = load("demo", {"threads": 3})
    base = load("demo")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    by_environment = with_threads(base, 2)
    monkeypatch.delenv("OMP_NUM_THREADS")

    assert with_threads(asked, 2) == asked
    assert by_environment == base


def test_only_a_recipe_that_names_no_gpu_gets_all(machine):
    machine(gpus=2)

    assert devices_of(load("demo"), "cuda") == ["cuda:0", "cuda:1"]
    assert devices_of(load("demo", {"device": "cuda:1"}), "cuda:1") == ["cuda:1"]
    assert devices_of(load("demo", {"device": "cpu"}), "cpu") == ["cpu"]


@pytest.mark.parametrize(("named", "threads"), [(0, 8), (3, 1)])
def test_a_training_by_itself_gets_all_threads_unless_a_number_is_named(
    named, threads, machine, monkeypatch
):
    machine(cores=8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    plan = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "threads": 1}

    found = whole_machine(load("demo", {"threads": named}), plan)

    assert found == {**plan, "threads": threads}
