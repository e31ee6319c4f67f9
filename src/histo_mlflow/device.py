"""Where and how to compute: device, precision, memory format, threads, each with its reason.

Fixed rules where hardware decides (CUDA), measurement where it depends: on a CPU, bf16 and
channels_last are switched on only if a short probe gains at least `GAIN`, since on a CPU without
bf16 units training in bf16 is many times slower.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, cast

import psutil
import torch

from histo_mlflow import probe
from histo_mlflow.errors import DeviceError

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
MEMORY_FORMATS = ("auto", "contiguous", "channels_last")
GAIN = 1.03  # what a switch must gain to be worth its complication
_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class DevicePlan:
    """What was decided.

    Attributes:
        device: "cpu", "mps" or "cuda:N".
        precision: of the forward pass under `autocast`; weights stay float32. "fp16" needs loss
            scaling, the others do not.
        channels_last: whether model and images are laid out channels last.
        threads: CPU threads for torch; `use_threads` sets them.
        pin_memory: whether batches go through pinned memory; only where there is CUDA.
        reasons: of the device, the precision and the memory format; the last two name it.
    """

    device: str
    precision: Precision
    channels_last: bool
    threads: int
    pin_memory: bool
    reasons: tuple[str, ...]

    def autocast(self) -> AbstractContextManager[object]:
        """The context of forward pass and loss; does nothing for fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.partition(":")[0], dtype=_DTYPES[self.precision])

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of model and images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def decided(self) -> dict[str, str | int]:
        """What `plan_device` takes to make this plan again, without measuring."""
        return {
            "device": self.device,
            "precision": self.precision,
            "memory_format": "channels_last" if self.channels_last else "contiguous",
            "threads": self.threads,
        }

    def told(self) -> str:
        """The plan as one line: "cpu, 2 threads (no CUDA, no MPS); bf16, 1.67x as fast ..."."""
        device, *switches = self.reasons
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return "; ".join([f"{self.device}, {threads} ({device})", *switches])

    def use_threads(self) -> None:
        """Give torch this plan's number of CPU threads, for the whole process."""
        torch.set_num_threads(self.threads)


def plan_device(
    device: str = "auto",
    precision: str = "auto",
    memory_format: str = "auto",
    threads: int = 0,
    *,
    given: str = "asked for",
) -> DevicePlan:
    """Decide where and how to compute.

    Args:
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        memory_format: "auto", "contiguous" or "channels_last".
        threads: CPU threads; 0 leaves torch's choice: the cores it may use, or OMP_NUM_THREADS.
        given: the reason of what is not "auto".

    Raises:
        DeviceError: what was asked for is unknown or not on this machine.
    """
    _known("precision", precision, PRECISIONS)
    _known("memory_format", memory_format, MEMORY_FORMATS)
    if threads < 0:
        raise DeviceError(f"threads must be 0 (all cores) or more; {threads} was given.")
    chosen, why_device = _device(device, given)
    threads = threads or torch.get_num_threads()
    decide = _on_cpu if chosen == "cpu" else _on_mps if chosen == "mps" else _on_cuda
    name, channels_last, why = decide(chosen, precision, memory_format, given)
    return DevicePlan(
        device=chosen,
        precision=name,
        channels_last=channels_last,
        threads=threads,
        pin_memory=chosen.startswith("cuda"),
        reasons=(why_device, *why),
    )


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that tensors free, for the next step to use.

    glibc hands blocks of megabytes back to the kernel at every free, and every step of a training
    on a CPU pays for having them cleared anew: up to a fifth of its processor time. The process
    holds on to its peak instead (mallopt(3): M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD).

    Returns:
        Whether it was done; other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mmap_max, trim_threshold, top_pad = -4, -1, -2
    library = ctypes.CDLL(None)
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 * 2**20))
    return all(library.mallopt(name, value) == 1 for name, value in settings)


def device_facts(plan: DevicePlan) -> dict[str, str | int | float]:
    """What a run records about the machine: names, memory in GB (1e9 bytes), versions."""
    facts: dict[str, str | int | float] = {
        "device": plan.device,
        "device_name": probe.processor_name(),
        "precision": plan.precision,
        "channels_last": str(plan.channels_last).lower(),
        "threads": plan.threads,
        "cores": available_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "timm")},
    }
    if plan.device.startswith("cuda"):
        card = torch.cuda.get_device_properties(plan.device)
        facts["device_name"] = card.name
        facts["device_memory_gb"] = round(card.total_memory / 1e9, 1)
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = int(torch.backends.cudnn.version() or 0)  # type: ignore[no-untyped-call]
    return facts


def available_cores() -> int:
    """Cores that this process may use; fewer than the machine has inside a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _known(field: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise DeviceError(f"{field} must be one of {', '.join(values)}; {value!r} was given.")


def _device(asked: str, given: str) -> tuple[str, str]:
    kind, _, index = asked.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and kind != "cuda"):
        raise DeviceError(f"device must be auto, cpu, cuda, cuda:N or mps; {asked!r} was given.")
    if asked == "auto":
        if torch.cuda.is_available():
            return f"cuda:{torch.cuda.current_device()}", "there is CUDA"
        if torch.backends.mps.is_available():
            return "mps", "there is MPS, no CUDA"
        return "cpu", "no CUDA, no MPS"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(
            "device=mps was asked for, but this machine or this build of torch has no MPS: take "
            "device=auto or device=cpu."
        )
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise DeviceError(
                f"device={asked} was asked for, but torch {torch.__version__} sees no CUDA device: "
                "take device=auto or device=cpu, or look at nvidia-smi and the build of torch."
            )
        if index and not (index.isdigit() and int(index) < count):
            raise DeviceError(
                f"device={asked} was asked for, but there are {count} CUDA devices: cuda:0 to "
                f"cuda:{count - 1}."
            )
        return f"cuda:{index or torch.cuda.current_device()}", given
    return kind, given


def _on_cuda(
    device: str, precision: str, memory_format: str, given: str
) -> tuple[Precision, bool, list[str]]:
    # Ampere (8.0) brought bf16 units; torch emulates bf16 on older cards, slowly.
    has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
    if precision == "bf16" and not has_bf16:
        raise DeviceError(
            "precision=bf16 was asked for, but this card has no bf16 units (compute capability "
            "below 8.0): take precision=fp16 or fp32."
        )
    if precision == "auto":
        name: Precision = "bf16" if has_bf16 else "fp16"
        why = f"{name}: the card {'has' if has_bf16 else 'lacks'} bf16 units"
    else:
        name, why = cast(Precision, precision), f"{precision}, {given}"
    if memory_format != "auto":
        return name, memory_format == "channels_last", [why, f"{memory_format}, {given}"]
    # cuDNN's tensor-core kernels work channels last and convert anything else.
    return name, True, [why, "channels_last: what tensor cores work in"]


def _on_mps(
    device: str, precision: str, memory_format: str, given: str
) -> tuple[Precision, bool, list[str]]:
    name = cast(Precision, "fp32" if precision == "auto" else precision)
    whys = [
        "fp32: mixed precision is not measured on MPS"
        if precision == "auto"
        else f"{precision}, {given}",
        "contiguous: channels_last is not measured on MPS"
        if memory_format == "auto"
        else f"{memory_format}, {given}",
    ]
    return name, memory_format == "channels_last", whys


def _on_cpu(
    device: str, precision: str, memory_format: str, given: str
) -> tuple[Precision, bool, list[str]]:
    if precision == "fp16":
        raise DeviceError(
            "precision=fp16 was asked for on a CPU, where it is slow and overflows: take auto, "
            "fp32 or bf16."
        )
    has_bf16 = probe.has_bf16_units()
    if precision == "bf16" and not has_bf16:
        raise DeviceError(
            "precision=bf16 was asked for, but this CPU has no bf16 units "
            f"({torch.backends.cpu.get_cpu_capability()}), where bf16 is many times slower: take "
            "precision=auto or fp32."
        )
    if memory_format == "auto":
        gain = probe.gain("channels_last")
        channels_last = gain >= GAIN
        why_format = _measured("channels_last", "contiguous", gain)
    else:
        channels_last, why_format = memory_format == "channels_last", f"{memory_format}, {given}"
    if precision != "auto":
        return cast(Precision, precision), channels_last, [f"{precision}, {given}", why_format]
    if not has_bf16:
        return "fp32", channels_last, ["fp32: this CPU has no bf16 units", why_format]
    gain = probe.gain("bf16", channels_last=channels_last)
    name: Precision = "bf16" if gain >= GAIN else "fp32"
    return name, channels_last, [_measured("bf16", "fp32", gain), why_format]


def _measured(switched: str, plain: str, gain: float) -> str:
    if gain >= GAIN:
        return f"{switched}, {gain:.2f}x as fast as {plain} here"
    return f"{plain}: {switched} is only {gain:.2f}x as fast here ({GAIN}x is needed)"
