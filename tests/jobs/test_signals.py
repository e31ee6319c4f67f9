"""What a signal does at each moment, in this very process."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from histo_mlflow.errors import Interrupted
from histo_mlflow.jobs import signals
from histo_mlflow.jobs.signals import ending_by_signal


@pytest.fixture(autouse=True)
def _not_under_nohup():
    """However the tests are run: this process, and those that it starts, hear of a terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.05)  # Python runs the handler between two of its steps


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (signal.SIGINT, 130, "ended by SIGINT"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_a_signal_raises_with_the_exit_code_of_a_shell(number, code, sentence):
    with pytest.raises(Interrupted) as caught, ending_by_signal():
        send(number)

    assert (caught.value.exit_code, str(caught.value)) == (code, sentence)
    assert isinstance(caught.value, KeyboardInterrupt)  # which no `except Exception` swallows


@pytest.mark.parametrize("handler", [signal.SIG_IGN, print], ids=["ignored", "handled"])
def test_a_hangup_that_is_ignored_or_handled_stays_so(handler):
    """`nohup` has it ignored, so that the job goes on without its terminal."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with ending_by_signal():
            assert signal.getsignal(signal.SIGHUP) is handler
            send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_whole_is_done_first():
    done = []
    with pytest.raises(Interrupted), ending_by_signal() as ending:  # noqa: PT012
        with ending.whole():
            with ending.whole():
                send(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("never")

    assert done == ["inner", "outer"]
    assert not ending.torn


def test_after_the_signal_what_is_whole_is_so_again():
    """The state is saved on the way out, and that must not be interrupted once more."""
    saved = []
    with pytest.raises(Interrupted), ending_by_signal() as ending:  # noqa: PT012
        try:
            with ending.whole():
                send(signal.SIGINT)
        except Interrupted:
            with ending.whole():
                send(signal.SIGTERM)
                saved.append(True)
            raise

    assert saved == [True]


def test_what_does_not_end_in_time_is_torn(monkeypatch):
    monkeypatch.setattr(signals, "LATEST_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(Interrupted), ending_by_signal() as ending, ending.whole():  # noqa: PT012
        send(signal.SIGTERM)
        time.sleep(20)

    assert 0.2 <= time.monotonic() - started < 2
    assert ending.torn


def test_what_ended_in_time_is_not_torn_by_a_late_alarm(monkeypatch):
    monkeypatch.setattr(signals, "LATEST_SECONDS", 1.0)
    with pytest.raises(Interrupted), ending_by_signal() as ending:  # noqa: PT012
        try:
            with ending.whole():
                send(signal.SIGTERM)
        except Interrupted:
            time.sleep(1.3)
            raise

    assert not ending.torn


def test_a_failure_while_a_signal_waits_counts_as_torn():
    """What failed is not to be saved, and the signal must not come at a random place later."""
    with pytest.raises(Interrupted) as caught, ending_by_signal() as ending, ending.whole():  # noqa: PT012
        send(signal.SIGTERM)
        raise MemoryError

    assert ending.torn
    assert isinstance(caught.value.__cause__, MemoryError)


def test_a_failure_without_a_signal_stays_what_it_is():
    with pytest.raises(MemoryError), ending_by_signal() as ending, ending.whole():
        raise MemoryError

    assert ending.torn  # until whoever goes back to a whole state says otherwise


def test_another_reason_replaces_the_name_of_the_signal():
    with pytest.raises(Interrupted, match="the parent is gone"), ending_by_signal() as ending:  # noqa: PT012
        ending.why = "the parent is gone"
        send(signal.SIGTERM)


def test_the_handlers_of_before_come_back():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with ending_by_signal():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_outside_the_main_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with ending_by_signal() as ending, ending.whole():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_while_it_imports_a_sigint_is_no_exception_that_a_module_could_swallow():
    script = """
import os, signal
from histo_mlflow.jobs.signals import ending_at_once
before = signal.getsignal(signal.SIGINT)
with ending_at_once():
    pass
assert signal.getsignal(signal.SIGINT) is before
with ending_at_once():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        pass
print("goes on")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


SCRIPT = """
import os, signal, sys, time
from histo_mlflow.jobs.signals import ending_by_signal
first, second = (getattr(signal, name) for name in sys.argv[1:])
with ending_by_signal() as ending:
    try:
        os.kill(os.getpid(), first)
    except KeyboardInterrupt:
        os.kill(os.getpid(), second)
        time.sleep(0.05)
        print("saved")
"""


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        ("SIGINT", "SIGINT", 130, ""),
        ("SIGTERM", "SIGINT", 130, ""),
        ("SIGINT", "SIGTERM", 0, "saved\n"),  # what `mlflow run` sends its child after a Ctrl-C
        ("SIGTERM", "SIGTERM", 0, "saved\n"),
        ("SIGHUP", "SIGHUP", 0, "saved\n"),  # of the terminal and of its shell
        ("SIGHUP", "SIGINT", 130, ""),
    ],
)
def test_only_a_sigint_after_the_first_signal_leaves_at_once(first, second, code, said):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, first, second], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout) == (code, said), done.stderr


def test_a_second_sigint_leaves_at_once_although_nobody_reads_that():
    """As in `histo-mlflow train 2>&1 | tee log`: the first Ctrl-C ends `tee`."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, "SIGINT", "SIGINT"],
            stdout=subprocess.PIPE,
            stderr=write,
            text=True,
            timeout=60,
        )
    finally:
        os.close(write)

    assert (done.returncode, done.stdout) == (130, "")


def test_a_job_within_a_job_shares_its_signals():
    """Else a Ctrl-C that ended the inner one would count as none for the outer one's closing."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted), ending_by_signal() as outer:  # noqa: PT012
        try:
            with ending_by_signal() as inner:
                assert inner is outer
                send(signal.SIGINT)
        finally:
            send(signal.SIGTERM)  # says nothing new
    assert signal.getsignal(signal.SIGINT) is before
