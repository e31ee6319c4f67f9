"""Waiting for something outside this process, but never for ever."""

import threading
from collections.abc import Callable
from typing import TypeVar

from histo_mlflow.errors import TrackingError

T = TypeVar("T")


def within(seconds: float, doing: str, call: Callable[[], T]) -> T:
    """The result of `call`, or a `TrackingError` once `seconds` have passed.

    MLflow's own timeouts bound one attempt on one socket; name resolution, database drivers and
    the sum of the attempts stay unbounded (246 s for an unreachable server, 1,206 s for a silent
    one). The call runs in a daemon thread, which is left behind when it is late: it can hold
    neither the caller nor the end of the process.

    Args:
        seconds: how long to wait.
        doing: what is being done, for the message: "connecting to http://...".
        call: takes nothing; what it raises is raised here.

    Raises:
        TrackingError: no result in time.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name=f"histo-mlflow: {doing[:60]}")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TrackingError(f"{doing}: no answer within {seconds:.0f} s")
    return results[0]
