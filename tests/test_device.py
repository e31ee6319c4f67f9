import platform
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from histo_mlflow import device, probe
from histo_mlflow.device import DevicePlan, device_facts, plan_device
from histo_mlflow.errors import DeviceError


@pytest.fixture
def cpu_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def gains(monkeypatch, cpu_only):
    """What the probe would measure on this pretended CPU."""

    def pretend(*, units: bool, **measured: float) -> None:
        monkeypatch.setattr(probe, "has_bf16_units", lambda: units)
        monkeypatch.setattr(probe, "gain", lambda switch, **how: measured[switch])

    return pretend


@pytest.fixture
def card(monkeypatch):
    """A pretended CUDA machine of two cards."""

    def pretend(capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    return pretend


def test_a_cpu_without_bf16_units_computes_in_fp32_whatever_a_probe_says(gains):
    gains(units=False, channels_last=1.2, bf16=9.0)

    plan = plan_device()

    assert (plan.device, plan.precision, plan.channels_last) == ("cpu", "fp32", True)
    assert not plan.pin_memory
    assert any("no bf16 units" in reason for reason in plan.reasons)


@pytest.mark.parametrize(
    ("gain", "precision", "channels_last"), [(1.5, "bf16", True), (1.02, "fp32", False)]
)
def test_a_switch_is_on_where_it_gains_enough(gains, gain, precision, channels_last):
    gains(units=True, channels_last=gain, bf16=gain)

    plan = plan_device("cpu")

    assert (plan.precision, plan.channels_last) == (precision, channels_last)
    assert any(f"{gain:.2f}x" in reason for reason in plan.reasons)


def test_what_is_asked_for_is_not_measured(gains):
    gains(units=True)  # any look at a gain would be a KeyError

    plan = plan_device("cpu", "bf16", "contiguous", threads=3)

    assert (plan.precision, plan.channels_last, plan.threads) == ("bf16", False, 3)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"device": "cuda"}, "sees no CUDA device"),
        ({"device": "cuda:1"}, "sees no CUDA device"),
        ({"device": "mps"}, "has no MPS"),
        ({"device": "tpu"}, "device must be auto, cpu"),
        ({"device": "cpu:0"}, "device must be auto, cpu"),
        ({"precision": "bf16"}, "no bf16 units"),
        ({"precision": "fp16"}, "fp16 was asked for on a CPU"),
        ({"precision": "half"}, "precision must be one of"),
        ({"memory_format": "nhwc"}, "memory_format must be one of"),
        ({"threads": -1}, "threads must be 0"),
    ],
)
def test_what_is_not_there_is_refused(gains, asked, says):
    gains(units=False, channels_last=1.0)
    with pytest.raises(DeviceError, match=says):
        plan_device(**asked)


@pytest.mark.parametrize(("capability", "precision"), [((9, 0), "bf16"), ((7, 5), "fp16")])
def test_a_cards_units_decide_its_precision(card, capability, precision):
    card(capability)

    plan = plan_device()

    assert (plan.device, plan.precision) == ("cuda:0", precision)
    assert plan.channels_last
    assert plan.pin_memory


def test_a_card_that_is_not_there_or_cannot_is_refused(card):
    card((7, 5))
    with pytest.raises(DeviceError, match="there are 2 CUDA devices"):
        plan_device("cuda:2")
    with pytest.raises(DeviceError, match="no bf16 units"):
        plan_device("cuda:1", "bf16")


def test_autocast_changes_the_precision_only_where_planned(gains):
    gains(units=True)
    a = torch.ones(2, 2)

    with plan_device("cpu", "bf16", "contiguous").autocast():
        mixed = (a @ a).dtype
    with plan_device("cpu", "fp32", "contiguous").autocast():
        plain = (a @ a).dtype

    assert (mixed, plain) == (torch.bfloat16, torch.float32)


def test_threads_are_set_when_told_and_not_by_planning(gains):
    gains(units=False)
    before = torch.get_num_threads()
    plan = plan_device("cpu", "fp32", "contiguous", threads=before + 1)
    assert torch.get_num_threads() == before

    plan.use_threads()

    try:
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_probe_is_quick_and_its_answer_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HISTO_MLFLOW_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    started = time.process_time()

    measured = probe.gain("channels_last")

    assert time.process_time() - started < 2
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(probe, "measure", lambda *a, **k: pytest.fail("measured again"))
    assert probe.gain("channels_last") == measured


def test_another_question_is_measured_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("HISTO_MLFLOW_CACHE", str(tmp_path))
    answers = iter([1.1, 1.2, 1.3])
    monkeypatch.setattr(probe, "measure", lambda *a, **k: next(answers))

    assert probe.gain("channels_last") == 1.1
    assert probe.gain("bf16") == 1.2
    assert probe.gain("bf16", channels_last=True) == 1.3


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"gain": null}'])
def test_a_damaged_answer_is_measured_again(monkeypatch, tmp_path, content):
    monkeypatch.setenv("HISTO_MLFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(probe, "measure", lambda *a, **k: 1.25)
    probe.gain("bf16")
    [kept] = (tmp_path / "probes").iterdir()
    kept.write_text(content)

    assert probe.gain("bf16") == 1.25


def test_a_hopeless_switch_costs_one_round(monkeypatch):
    calls = {"plain": 0, "switched": 0}

    def plain():
        calls["plain"] += 1

    def switched():
        calls["switched"] += 1
        time.sleep(0.05)

    assert probe._ratio(plain, switched) < 0.67
    assert calls == {"plain": 2, "switched": 1}


@pytest.mark.parametrize(
    ("capability", "flags", "units"),
    [
        ("AVX512", "fpu avx512_bf16 amx_bf16", True),
        ("AVX512", "fpu avx512f", False),
        ("AVX2", "fpu avx512_bf16", False),
        ("DEFAULT", "", False),
    ],
)
def test_bf16_units_need_the_flag_and_torchs_use_of_it(monkeypatch, capability, flags, units):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(probe, "_cpuinfo", lambda field: flags if field == "flags" else "")

    assert probe.has_bf16_units() is units


def test_facts_name_the_machine_in_flat_values(gains):
    gains(units=False)
    facts = device_facts(plan_device("cpu", "fp32", "contiguous", threads=1))

    assert all(isinstance(value, str | int | float) for value in facts.values())
    assert facts["torch"] == torch.__version__.partition("+")[0]
    assert (facts["precision"], facts["threads"]) == ("fp32", 1)
    assert facts["cores"] >= 1
    assert facts["memory_gb"] > 0
    assert facts["device_name"]


def test_facts_name_the_card(card, monkeypatch):
    card((9, 0))
    properties = SimpleNamespace(name="A Card", total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    facts = device_facts(plan_device())

    assert (facts["device_name"], facts["device_memory_gb"]) == ("A Card", 80.0)
    assert "cudnn" in facts


def test_a_plan_holds_a_reason_for_every_decision(gains):
    gains(units=True, channels_last=1.1, bf16=1.1)

    assert len(plan_device().reasons) == 3
    assert device.GAIN == 1.03


def test_the_plan_is_told_in_one_plain_line(gains):
    gains(units=True, channels_last=1.18, bf16=1.67)
    assert plan_device(threads=2).told() == (
        "cpu, 2 threads (no CUDA, no MPS); bf16, 1.67x as fast as fp32 here; "
        "channels_last, 1.18x as fast as contiguous here"
    )
    gains(units=True, channels_last=0.98, bf16=1.01)
    assert plan_device("cpu", threads=1).told() == (
        "cpu, 1 thread (asked for); fp32: bf16 is only 1.01x as fast here (1.03x is needed); "
        "contiguous: channels_last is only 0.98x as fast here (1.03x is needed)"
    )


def test_a_reason_says_who_asked(gains, card):
    gains(units=True)
    plan = plan_device("cpu", "bf16", "contiguous", 1, given="as it began")
    assert plan.reasons == ("as it began", "bf16, as it began", "contiguous, as it began")
    card((9, 0))
    assert plan_device(precision="fp32", memory_format="contiguous").reasons == (
        "there is CUDA",
        "fp32, asked for",
        "contiguous, asked for",
    )


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    """In a process of its own, since the setting stays."""
    code = "from histo_mlflow.device import keep_freed_memory; print(keep_freed_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")


def test_a_plan_says_what_makes_it_again():
    plan = DevicePlan(
        device="cpu",
        precision="fp32",
        channels_last=True,
        threads=2,
        pin_memory=False,
        reasons=(),
    )

    assert plan.decided() == {
        "device": "cpu",
        "precision": "fp32",
        "memory_format": "channels_last",
        "threads": 2,
    }
