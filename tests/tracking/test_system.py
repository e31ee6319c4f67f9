import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from histo_mlflow.tracking.system import SystemSampler, pause_seconds, sample


def test_a_sample_holds_finite_numbers_under_the_prefix_of_mlflows_page(tmp_path: Path) -> None:
    values = sample(psutil.Process(), tmp_path)
    assert all(name.startswith("system/") for name in values)
    assert values["system/process_memory_megabytes"] > 1
    assert 0 <= values["system/system_memory_usage_percentage"] <= 100


def test_samples_come_numbered_until_the_sampler_is_stopped(tmp_path: Path) -> None:
    seen: list[int] = []
    two = threading.Event()

    def put(values: dict[str, float], number: int) -> None:
        assert values
        seen.append(number)
        if number == 1:
            two.set()

    sampler = SystemSampler(put, tmp_path)
    sampler.start()
    assert two.wait(20)
    sampler.stop()
    assert seen[:2] == [0, 1]
    assert not sampler._thread.is_alive()


def test_a_long_run_is_not_flooded_and_a_short_one_not_empty() -> None:
    def samples(seconds: float) -> int:
        age, n = 0.0, 0
        while (age := age + pause_seconds(age)) <= seconds:
            n += 1
        return n

    assert samples(10) == 10
    assert 200 < samples(3_600) < 300
    assert samples(24 * 3_600) < 1_800


def test_gpus_in_use_are_sampled_and_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stand-in for torch: asking an unused device would open a context on it."""

    def memory(index: int) -> tuple[int, int]:
        assert index == 1
        return 25_000_000, 100_000_000

    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        memory_reserved=lambda index: index,
        mem_get_info=memory,
        utilization=lambda index: 50,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    values = sample(psutil.Process(), tmp_path)
    assert values["system/gpu_1_memory_usage_megabytes"] == 75.0
    assert values["system/gpu_1_memory_usage_percentage"] == 75.0
    assert not any("gpu_0" in name for name in values)
