"""How much a switch gains on this CPU: a measurement of some two seconds, kept for next time.

Counted in the processor time of one thread, not by the clock: on a machine that others use as well
the clock made the same switch gain anything between 0.5 and 1.7 times.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from histo_mlflow.paths import cache_dir

SWITCHES = ("channels_last", "bf16")
_BUDGET_SECONDS = 1.2
_HOPELESS = 0.67  # after one round this slow, more rounds cannot change the answer
_BATCH, _PX = 16, 64


def gain(switch: str, *, channels_last: bool = False) -> float:
    """Time without the switch over time with it, for training steps of a small network.

    The answer is measured once for a processor and version of torch, and kept in the cache folder;
    a file that cannot be read is measured again.

    Args:
        switch: "channels_last" or "bf16".
        channels_last: for "bf16", the memory format of both sides.

    Returns:
        Above 1 where the switch pays.
    """
    facts = {
        "switch": switch,
        "channels_last": channels_last,
        "processor": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    kept = cache_dir() / "probes" / f"{key}.json"
    known = _read(kept)
    if known is not None:
        return known
    measured = measure(switch, channels_last=channels_last)
    _write(kept, {**facts, "gain": measured})
    return measured


def measure(switch: str, *, channels_last: bool = False) -> float:
    """Measure a gain now: pairs of steps in turn, and the ratio of the fastest of each side.

    The fastest, since whatever else the machine does can only slow a step down. torch's number of
    threads is put back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plain = _step(channels_last, bf16=False)
        switched = _step(channels_last or switch == "channels_last", bf16=switch == "bf16")
        return _ratio(plain, switched)
    finally:
        torch.set_num_threads(before)


def has_bf16_units() -> bool:
    """Whether the CPU says that it computes in bf16; where that cannot be asked, no.

    Linux lists it in /proc/cpuinfo: avx512_bf16 or amx_bf16 (x86), bf16 (ARM); other systems are
    taken not to have it. The capability that torch was dispatched to has to be beyond AVX2 as
    well, since ATEN_CPU_CAPABILITY can lower it.
    """
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return False
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())


def processor_name() -> str:
    """The processor's name, as the system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """First value of a field of /proc/cpuinfo; empty where there is none."""
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return ""
    for line in listing.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _step(channels_last: bool, *, bf16: bool) -> Callable[[], None]:
    """One forward and backward pass of what real networks are made of, in small.

    Full, depthwise and pointwise convolutions with batch norm; a network of full ones alone would
    not show what channels_last is worth to an EfficientNet.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(
            *_block(3, 32, stride=2),
            *_block(32, 32, groups=32),
            *_block(32, 64, kernel=1),
            *_block(64, 128, stride=2),
            *_block(128, 128),
            *_block(128, 256, stride=2),
            *_block(256, 256),
        ).to(memory_format=layout)
    images = torch.zeros(_BATCH, 3, _PX, _PX).to(memory_format=layout)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = F.adaptive_avg_pool2d(network(images), 1).float().square().mean()
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def _block(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _ratio(plain: Callable[[], None], switched: Callable[[], None]) -> float:
    end = time.perf_counter() + _BUDGET_SECONDS
    plain()  # once, untimed: kernels are chosen and memory is reserved
    fastest_plain = _seconds(plain)
    # The first switched step may be the slow one that ends it all.
    fastest_switched = _seconds(switched)
    while fastest_plain / fastest_switched > _HOPELESS and time.perf_counter() < end:
        fastest_plain = min(fastest_plain, _seconds(plain))
        fastest_switched = min(fastest_switched, _seconds(switched))
    return fastest_plain / fastest_switched


def _seconds(work: Callable[[], None]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _read(kept: Path) -> float | None:
    try:
        return float(json.loads(kept.read_text(encoding="utf-8"))["gain"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not whole: the caller measures


def _write(kept: Path, facts: dict[str, object]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{kept.name}.{os.getpid()}.part")
    part.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    part.replace(kept)
