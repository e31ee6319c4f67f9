"""What the machine does while a run lasts: processor, memory, disk, network, GPU.

MLflow's own monitor reads the run from the store before every sample, gives up for good after one
failure, and joins without a limit; this one only hands numbers to the run's outbox.
"""

import importlib.util
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psutil

from histo_mlflow.errors import DiskError

logger = logging.getLogger(__name__)

MEGABYTE = 1e6


class SystemSampler:
    """A thread that samples until it is stopped.

    The pauses grow with the run (2 % of its age, between 1 and 60 s): a run of one minute gets some
    50 samples, one of a day about 1,700.

    Args:
        put: takes metric values and the number of the sample.
        folder: the disk that holds it is the one that is measured.
        first: the number of the first sample; a run that is continued goes on counting.
    """

    def __init__(
        self, put: Callable[[dict[str, float], int], None], folder: Path, *, first: int = 0
    ) -> None:
        self._put = put
        self._folder = folder
        self._first = first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="histo-mlflow system")

    def start(self) -> None:
        """Begin to sample; the first sample comes after a second."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling; a sample in progress is waited for, at most a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _work(self) -> None:
        try:
            self._sample_until_stopped()
        except (psutil.Error, OSError, RuntimeError, DiskError) as error:
            # A gauge that breaks must not end a training, nor be lost without a word.
            logger.warning("system metrics end here: %s", error)

    def _sample_until_stopped(self) -> None:
        began = time.monotonic()
        process = psutil.Process()
        network = psutil.net_io_counters()
        # The first call of each only sets the mark that the next one measures from.
        psutil.cpu_percent()
        process.cpu_percent()
        number = self._first
        while not self._stop.wait(pause_seconds(time.monotonic() - began)):
            values = sample(process, self._folder)
            now = psutil.net_io_counters()
            if network and now:  # None in a container without a network
                sent = now.bytes_sent - network.bytes_sent
                received = now.bytes_recv - network.bytes_recv
                values["system/network_transmit_megabytes"] = sent / MEGABYTE
                values["system/network_receive_megabytes"] = received / MEGABYTE
            if self._stop.is_set():
                return
            self._put(values, number)
            number += 1


def pause_seconds(age_seconds: float) -> float:
    """The pause before the next sample of a run of that age."""
    return min(max(1.0, 0.02 * age_seconds), 60.0)


def sample(process: psutil.Process, folder: Path) -> dict[str, float]:
    """One sample, named as MLflow names them: its UI shows `system/*` on a page of its own."""
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(folder))
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_cpu_percentage": process.cpu_percent(),
        "system/process_memory_megabytes": process.memory_info().rss / MEGABYTE,
        "system/disk_usage_percentage": disk.percent,
        "system/disk_available_megabytes": disk.free / MEGABYTE,
        **_gpus(),
    }


def _gpus() -> dict[str, float]:
    """Memory of the CUDA devices in use; how busy they are only where `nvidia-ml-py` is installed.

    Looks only at a torch that training has imported and at devices it has memory on: a monitor must
    not be what opens a CUDA context.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    values: dict[str, float] = {}
    busy_known = importlib.util.find_spec("pynvml") is not None
    for index in range(torch.cuda.device_count()):
        if torch.cuda.memory_reserved(index) == 0:
            continue
        free, total = torch.cuda.mem_get_info(index)
        values[f"system/gpu_{index}_memory_usage_megabytes"] = (total - free) / MEGABYTE
        values[f"system/gpu_{index}_memory_usage_percentage"] = 100.0 * (total - free) / total
        if busy_known and (busy := _busy(torch, index)) is not None:
            values[f"system/gpu_{index}_utilization_percentage"] = busy
    return values


def _busy(torch: ModuleType, index: int) -> float | None:
    """How busy a GPU is, in percent; None where it does not tell, such as a slice of a card."""
    from pynvml import NVMLError

    try:
        return float(torch.cuda.utilization(index))
    except NVMLError:
        return None
