import threading
import time
from collections.abc import Callable, Sequence

import pytest

from histo_mlflow.tracking.outbox import BATCH_POINTS, NotDeliveredError, Outbox, Point


def points(n: int, start: int = 0) -> list[Point]:
    return [Point("train/loss", float(i), 1_000 + i, i) for i in range(start, start + n)]


def until(condition: Callable[[], object]) -> None:
    """Wait for what the sender's thread does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Recorder:
    """A store that takes everything, unless it is told to fail."""

    def __init__(self) -> None:
        self.batches: list[list[Point]] = []
        self.failure: NotDeliveredError | None = None
        self.attempts = 0

    def __call__(self, batch: Sequence[Point]) -> None:
        self.attempts += 1
        if self.failure is not None:
            raise self.failure
        self.batches.append(list(batch))

    @property
    def taken(self) -> list[Point]:
        return [point for batch in self.batches for point in batch]


def test_points_arrive_in_order_in_batches_that_the_store_takes() -> None:
    store = Recorder()
    outbox = Outbox(store)
    outbox.put(points(2_500))
    assert outbox.close(5.0) == 0
    assert store.taken == points(2_500)
    assert max(len(batch) for batch in store.batches) <= BATCH_POINTS


def test_put_does_not_wait_for_a_store_that_hangs() -> None:
    release = threading.Event()
    outbox = Outbox(lambda _: (release.wait(10), None)[1])
    start = time.monotonic()
    for step in range(100):
        outbox.put(points(10, step * 10))
    assert time.monotonic() - start < 2.0  # the store hangs for 10 s
    release.set()
    assert outbox.close(5.0) == 0


def test_points_of_an_outage_are_kept_and_sent_afterwards() -> None:
    store = Recorder()
    store.failure = NotDeliveredError("down", permanent=False)
    outbox = Outbox(store, retry_seconds=(0.01,))
    outbox.put(points(3))
    until(lambda: outbox.reason)
    assert outbox.flush(0.2) == 3
    assert outbox.reason == "down"
    store.failure = None
    assert outbox.close(5.0) == 0
    assert store.taken == points(3)


def test_points_that_were_refused_can_be_put_again() -> None:
    store = Recorder()
    store.failure = NotDeliveredError("no", permanent=True)
    outbox = Outbox(store, retry_seconds=(0.01,))
    outbox.put(points(2))
    assert (outbox.flush(5.0), outbox.waiting) == (2, 0)
    store.failure = None
    outbox.put_again(points(2))
    assert outbox.close(5.0) == 0
    assert store.taken == points(2)


def test_an_outage_is_retried_ever_more_rarely_and_flush_wakes_the_sender() -> None:
    store = Recorder()
    store.failure = NotDeliveredError("down", permanent=False)
    outbox = Outbox(store, retry_seconds=(0.05, 60.0))
    outbox.put(points(1))
    until(lambda: store.attempts == 2)
    time.sleep(0.3)  # a third would come after 0.05 s if the pauses did not grow
    assert store.attempts == 2
    store.failure = None
    start = time.monotonic()
    assert outbox.flush(5.0) == 0
    assert time.monotonic() - start < 2.0
    outbox.close(1.0)


def test_close_gives_up_after_its_timeout_and_counts_what_is_left() -> None:
    store = Recorder()
    store.failure = NotDeliveredError("down", permanent=False)
    outbox = Outbox(store, retry_seconds=(0.05,))
    outbox.put(points(7))
    start = time.monotonic()
    assert outbox.close(0.3) == 7
    assert time.monotonic() - start < 3.0


def test_a_refused_batch_is_lost_counted_and_does_not_block_the_next() -> None:
    store = Recorder()
    store.failure = NotDeliveredError("no such run", permanent=True)
    outbox = Outbox(store)
    outbox.put(points(4))
    assert outbox.flush(5.0) == 4
    store.failure = None
    outbox.put(points(2, 4))
    assert outbox.close(5.0) == 4
    assert store.taken == points(2, 4)
    assert outbox.undelivered == 4


def test_a_closed_outbox_takes_nothing() -> None:
    outbox = Outbox(Recorder())
    outbox.close(1.0)
    with pytest.raises(RuntimeError, match="has ended"):
        outbox.put(points(1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_dies_of_a_bug_does_not_make_flush_wait() -> None:
    def broken(_: Sequence[Point]) -> None:
        raise ZeroDivisionError

    outbox = Outbox(broken)
    outbox.put(points(5))
    start = time.monotonic()
    assert outbox.flush(30.0) == 5
    assert time.monotonic() - start < 2.0


class Forgetful:
    """A store that keeps everything, duplicates too, and fails as it is told.

    `before` and `after` are how many calls fail before and after the points were stored.
    """

    def __init__(self, before: int = 0, after: int = 0) -> None:
        self.held: list[Point] = []
        self.before, self.after = before, after
        self.asked = 0
        self.bad: set[int] = set()
        self.requests = 0

    def send(self, batch: Sequence[Point]) -> None:
        self.requests += 1
        if self.before:
            self.before -= 1
            raise NotDeliveredError("down", permanent=False)
        if any(point.step in self.bad for point in batch):
            raise NotDeliveredError("not a point", permanent=True)
        self.held += batch
        if self.after:
            self.after -= 1
            raise NotDeliveredError("no answer", permanent=False)

    def missing(self, batch: Sequence[Point]) -> list[Point]:
        self.asked += 1
        held = set(self.held)
        return [point for point in batch if point not in held]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 1), (0, 3), (2, 2)])
def test_lost_acknowledgements_double_nothing_in_a_store_that_would_keep_both(
    before: int, after: int
) -> None:
    store = Forgetful(before, after)
    outbox = Outbox(store.send, missing=store.missing, retry_seconds=(0.01,))
    for start in range(0, 3_000, 100):
        outbox.put(points(100, start))
    assert outbox.close(5.0) == 0
    assert store.held == points(3_000)
    assert (store.asked > 0) == (before + after > 0)


def test_a_replay_is_asked_for_first_and_what_comes_after_it_is_not() -> None:
    store = Forgetful()
    store.held = points(1_500)
    outbox = Outbox(store.send, missing=store.missing)
    outbox.put(points(1_700), replay=True)
    assert outbox.flush(5.0) == 0
    assert (store.held, store.asked, store.requests) == (points(1_700), 2, 1)
    outbox.put(points(10, 1_700))
    assert outbox.close(5.0) == 0
    assert (store.held, store.asked, store.requests) == (points(1_710), 2, 2)


def test_one_bad_point_does_not_lose_the_999_good_ones() -> None:
    store = Forgetful()
    store.bad = {123}
    outbox = Outbox(store.send, missing=store.missing)
    outbox.put(points(1_000))
    assert outbox.close(5.0) == 1
    assert store.held == [p for p in points(1_000) if p.step != 123]
    assert outbox.reason == "not a point"
    assert store.requests < 50


def test_points_of_a_run_that_is_gone_are_given_up_after_one_request() -> None:
    store = Recorder()
    store.failure = NotDeliveredError("no such run", permanent=True, of_run=True)
    outbox = Outbox(store)
    outbox.put(points(900))
    assert outbox.close(5.0) == 900
    assert store.attempts == 1


def test_a_store_that_cannot_be_asked_gets_nothing_until_it_can() -> None:
    store = Forgetful(after=1)
    silent = threading.Event()
    silent.set()

    def missing(batch: Sequence[Point]) -> list[Point]:
        if silent.is_set():
            raise NotDeliveredError("no answer", permanent=False)
        return store.missing(batch)

    outbox = Outbox(store.send, missing=missing, retry_seconds=(0.01,))
    outbox.put(points(5))
    until(lambda: outbox.reason)
    assert outbox.flush(0.3) == 5
    assert store.requests == 1
    silent.clear()
    assert outbox.close(5.0) == 0
    assert store.held == points(5)
