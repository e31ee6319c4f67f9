"""The bounded queue: what runs ends by itself, what waits is taken out, too much is told."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from histo_mlflow.inference.serving.answers import GoneError, RefusedError
from histo_mlflow.inference.serving.work import Ticket, Workers


@pytest.fixture
def workers() -> Iterator[Callable[..., Workers]]:
    made = []

    def make(threads: int = 1, queue: int = 1) -> Workers:
        made.append(Workers(threads, queue))
        return made[-1]

    yield make
    for one in made:
        one.close()


def quick(ticket: Ticket) -> str:
    return threading.current_thread().name


def patient(ticket: Ticket) -> str:
    """Works until it is told to stop, as the model does between images."""
    while True:
        ticket.check()
        time.sleep(0.005)


async def submit(workers: Workers, work: Any, seconds: float = 30, gone: Any = None) -> Any:
    never = asyncio.get_running_loop().create_future()
    return await workers.run(work, Ticket(seconds), gone or never)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def test_work_is_done_in_a_thread_and_what_it_raises_is_raised(workers: Any) -> None:
    def broken(ticket: Ticket) -> None:
        raise RefusedError(400, "x", "no")

    async def run() -> None:
        one = workers()
        assert await submit(one, quick) == "inference-0"
        with pytest.raises(RefusedError, match="no"):
            await submit(one, broken)
        assert await submit(one, quick) == "inference-0"

    asyncio.run(run())


def test_more_than_the_queue_holds_is_503_at_once(workers: Any) -> None:
    async def run() -> None:
        one = workers(queue=1)
        running = asyncio.ensure_future(submit(one, patient, 3))
        await until(lambda: one.running == 1)
        assert not one.full
        waiting = asyncio.ensure_future(submit(one, quick))
        await until(lambda: one.waiting == 1)
        assert one.full
        started = time.perf_counter()
        with pytest.raises(RefusedError) as caught:
            await submit(one, quick)
        assert (caught.value.status, caught.value.reason) == (503, "queue_full")
        assert time.perf_counter() - started < 0.8
        with pytest.raises(RefusedError, match="longer"):
            await running
        assert await waiting == "inference-0"
        assert (one.waiting, one.running, one.full) == (0, 0, False)

    asyncio.run(run())


def test_a_queue_of_none_still_works(workers: Any) -> None:
    assert asyncio.run(submit(workers(queue=0), quick)) == "inference-0"


def test_what_takes_too_long_is_504_and_frees_its_thread(workers: Any) -> None:
    async def run() -> None:
        one = workers()
        started = time.perf_counter()
        with pytest.raises(RefusedError) as caught:
            await submit(one, patient, 0.1)
        assert (caught.value.status, caught.value.reason) == (504, "timeout")
        assert await submit(one, quick) == "inference-0"
        assert time.perf_counter() - started < 3

    asyncio.run(run())


def test_an_answer_does_not_wait_for_a_thread_that_cannot_look(workers: Any) -> None:
    async def run() -> None:
        one, go = workers(), threading.Event()
        started = time.perf_counter()
        with pytest.raises(RefusedError) as caught:
            await submit(one, lambda ticket: go.wait(5), 0.05)
        assert caught.value.status == 504
        assert time.perf_counter() - started < 1
        go.set()
        assert await submit(one, quick) == "inference-0"

    asyncio.run(run())


def test_what_waited_too_long_is_503_and_never_begins(workers: Any) -> None:
    begun = []

    async def run() -> None:
        one = workers()
        running = asyncio.ensure_future(submit(one, patient, 3))
        await until(lambda: one.running == 1)
        with pytest.raises(RefusedError) as caught:
            await submit(one, begun.append, 0.05)
        assert caught.value.status == 503
        assert one.waiting == 0
        with pytest.raises(RefusedError):
            await running
        await submit(one, quick)

    asyncio.run(run())
    assert begun == []


@pytest.mark.parametrize("queued", [False, True])
def test_a_client_that_leaves_takes_its_work_along(workers: Any, queued: bool) -> None:
    async def run() -> None:
        one = workers()
        first = None
        if queued:
            first = asyncio.ensure_future(submit(one, patient, 3))
            await until(lambda: one.running == 1)
        gone = asyncio.get_running_loop().create_future()
        leaving = asyncio.ensure_future(submit(one, patient, 60, gone))
        await until(lambda: one.waiting == 1 if queued else one.running == 1)
        gone.set_result(None)
        with pytest.raises(GoneError):
            await leaving
        assert one.waiting == 0
        if first is not None:
            with pytest.raises(RefusedError):
                await first
        started = time.perf_counter()
        assert await submit(one, quick) == "inference-0"
        assert time.perf_counter() - started < 3

    asyncio.run(run())


def test_several_threads_work_side_by_side(workers: Any) -> None:
    barrier = threading.Barrier(3, timeout=5)

    def meet(ticket: Ticket) -> str:
        barrier.wait()
        return threading.current_thread().name

    async def run() -> list[str]:
        one = workers(threads=3, queue=0)
        return await asyncio.gather(*(submit(one, meet) for _ in range(3)))

    assert sorted(asyncio.run(run())) == ["inference-0", "inference-1", "inference-2"]
