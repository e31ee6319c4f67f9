"""A terminal that is closed, as by a dropped ssh, under a real training and a real study."""

import json
import os
import select
import termios
import threading

import pytest

from tuned_studies import read, trials_in, wait_until, write_study

pytestmark = [pytest.mark.alone, pytest.mark.usefixtures("blank_pictures")]

SMALL = (
    *("--model", "test_resnet", "--no-pictures", "--doctor", "off", "--threads", "1"),
    *("--demo_images", "96", "--image_px", "32", "--batch_size", "16", "--epochs", "3"),
    *("--precision", "fp32", "--memory_format", "contiguous", "--weights", "none"),
)
"""Three epochs of four steps."""


class Terminal:
    """A pseudo-terminal that somebody looks at until it is closed.

    Attributes:
        name: what a process opens.
    """

    def __init__(self):
        self._seen_by, self._shown_by = os.openpty()
        self.name = os.ttyname(self._shown_by)
        termios.tcsetwinsize(self._shown_by, (24, 100))  # without a width no bar is drawn
        self._shown, self._closed = b"", threading.Event()
        self._reader = threading.Thread(target=self._look, daemon=True)
        self._reader.start()

    def _look(self):
        """Take what is shown, or who writes would wait; never within a read as it is closed."""
        while not self._closed.is_set():
            if select.select([self._seen_by], [], [], 0.02)[0]:
                self._shown += os.read(self._seen_by, 65536)

    def shown(self):
        return self._shown.decode(errors="replace")

    def close(self):
        if not self._closed.is_set():
            self._closed.set()
            self._reader.join()
            os.close(self._seen_by)  # the system tells the processes of its session
            os.close(self._shown_by)


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


def test_a_terminal_that_closes_saves_the_training_and_the_same_command_goes_on(
    start, command, terminal, store_uri, found, tmp_path
):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    gate = tmp_path / "gate"
    running = start(*train, moment="step:6", signals=[(0, 0.0)], gate=gate, terminal=terminal.name)
    there = tmp_path / "gate.there"
    wait_until(there.exists, "a step", 60.0, pid=running.pid, said=terminal.shown)
    terminal.close()
    gate.touch()
    ended = running.wait()

    assert ended.code == 129, terminal.shown()
    assert "epoch 1/3:" in terminal.shown()  # a bar, which is moved at every step
    seen = found(store_uri)
    assert seen.ended == ("KILLED", "interrupted")
    assert "ended by SIGHUP" in seen.tags["histo.cause"]
    assert (tmp_path / "run" / "checkpoints" / "epoch-0001-step-000002").is_dir()
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["ending"] == "interrupted"

    again = command(*train)
    assert again.code == 0, again.said
    assert found(store_uri).ended == ("FINISHED", "finished")


def test_under_nohup_a_terminal_that_closes_ends_nothing(
    start, terminal, store_uri, found, tmp_path
):
    gate = tmp_path / "gate"
    running = start(
        *("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri),
        moment="step:6",
        signals=[(0, 0.0)],
        gate=gate,
        terminal=terminal.name,
        nohup=True,
    )
    there = tmp_path / "gate.there"
    wait_until(there.exists, "a step", 60.0, pid=running.pid, said=running.said)
    terminal.close()
    gate.touch()
    ended = running.wait()

    assert ended.code == 0, ended.said
    assert found(store_uri).ended == ("FINISHED", "finished")


@pytest.mark.slow
def test_a_terminal_that_closes_closes_the_runs_of_a_study(start, terminal, store_uri, tmp_path):
    """The command's own run too, which only the command can close."""
    study = write_study(tmp_path, trials=2, epochs=200)
    running = start(
        *("tune", "--study", study, "--workers", "1", "--doctor", "off"),
        *("--tracking-uri", store_uri),
        terminal=terminal.name,
        TERM="xterm",
    )
    wait_until(
        lambda: any(trial.intermediate_values for trial in trials_in(tmp_path)),
        "an epoch",
        pid=running.pid,
        said=terminal.shown,
    )
    terminal.close()
    ended = running.wait()

    assert ended.code == 129, terminal.shown()
    assert "\x1b[J" in terminal.shown()  # there was a table to be redrawn
    told = read(tmp_path, store_uri)
    tags = told.parent.data.tags
    assert (told.parent.info.status, tags["histo.ending"]) == ("KILLED", "interrupted")
    assert "ended by SIGHUP" in tags["histo.cause"]
    assert {told.child(number).info.status for number in told.children} == {"KILLED"}
    assert not [trial for trial in told.trials if trial.state.name == "RUNNING"]
