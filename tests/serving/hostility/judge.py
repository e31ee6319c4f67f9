"""Whether a server survived a case."""

import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hostility.case import CRASH, ECHO, GOOD, LONG, TRACE, Case, rows, text
from hostility.wire import SILENT, Answer, exchange_until_served, request

CLOSE = 1e-6
_TRACES = (b"Traceback", b'File "', b'File \\"', b"stack_trace", b"site-packages")
_PLACES = ("/home/", "/usr/", "/var/", sys.prefix, sys.base_prefix, tempfile.gettempdir() + "/")
_PATHS = re.compile("|".join([r"\w\.py\b", *map(re.escape, _PLACES)]).encode())


class Oracle(Protocol):
    """What answers right; `registry.predictor.Predictor` does."""

    classes: Sequence[str]

    def predict_bytes(self, images: Sequence[bytes]) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True)
class Verdict:
    """The faults that a case showed; `survived` where there are none."""

    name: str
    status: int
    faults: frozenset[str]
    expected: frozenset[str]
    seconds: float
    said: str

    @property
    def survived(self) -> bool:
        return not self.faults


def judge(case: Case, answer: Answer, oracle: Oracle) -> frozenset[str]:
    """The faults of an answer."""
    faults = set()
    if answer.status == SILENT:
        faults.add(LONG)
    elif answer.status == 500:
        faults.add(CRASH)
    elif answer.status not in case.allowed:
        faults.add(f"status {answer.status}")
    elif (
        answer.status == 200
        and case.images is not None
        and not is_right(answer, case.images, oracle)
    ):
        faults.add("wrong answer")
    if any(trace in answer.body for trace in _TRACES):
        faults.add(TRACE)
    if TRACE not in faults and answer.status != 200 and _PATHS.search(answer.body):
        faults.add("path")
    if answer.status != 200 and len(answer.body) > 1_000_000:
        faults.add(ECHO)
    return frozenset(faults)


def is_right(answer: Answer, images: Sequence[bytes], oracle: Oracle) -> bool:
    """Whether the answer holds the oracle's probabilities and classes, row by row."""
    try:
        found: list[dict[str, Any]] = answer.json()["predictions"]
    except (ValueError, KeyError, TypeError):
        return False
    if len(found) != len(images):
        return False
    if not images:
        return True
    known: dict[bytes, npt.NDArray[np.float64]] = {}
    for image in images:
        if image not in known:
            known[image] = oracle.predict_bytes([image])[0]
    expected = np.stack([known[image] for image in images])
    got = np.array([[row[f"p_{name}"] for name in oracle.classes] for row in found])
    classes = [oracle.classes[k] for k in expected.argmax(axis=1)]
    return bool(np.abs(got - expected).max() <= CLOSE) and [r["class"] for r in found] == classes


def good_answer(port: int, seconds: float = 60.0) -> bytes:
    """What the server says to a good request, to the byte; for so long it may be busy or late."""
    import json

    answer = exchange_until_served(
        port, request(json.dumps(rows(text(GOOD))).encode()), seconds=seconds
    )
    assert answer.status == 200, answer
    return answer.body


@contextmanager
def canary() -> Iterator[tuple[int, list[object]]]:
    """A port that must not be called, and the list of those who did."""
    callers: list[object] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            try:
                link, address = listener.accept()
            except TimeoutError:
                continue
            callers.append(address)
            link.close()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield listener.getsockname()[1], callers
    finally:
        ended.set()
        thread.join()
        listener.close()
