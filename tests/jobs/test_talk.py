"""The progress bar and the lines around it."""

import io
import sys

import numpy as np
import pytest
import torch

from histo_mlflow.jobs.talk import Talk
from histo_mlflow.training.state import StepRecord


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def to_terminal(monkeypatch):
    """Called inside the test: pytest puts its own stderr back after the fixtures."""

    def switch():
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return switch


def records(steps):
    return [
        StepRecord(1, step + 1, steps, 32, torch.tensor(0.5), np.arange(32))
        for step in range(steps)
    ]


def test_a_terminal_sees_images_speed_loss_and_time_left(to_terminal):
    terminal = to_terminal()
    with Talk().epoch_bar(3) as bar:
        bar._loss_read_at = -1.0
        for record in records(4)[:3]:
            bar(record)
        bar._bar.refresh()

    shown = terminal.getvalue()
    assert "epoch 1/3" in shown
    assert "96/128" in shown
    assert "img/s" in shown
    assert "loss=0.500" in shown


def test_a_log_file_sees_no_bar(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    talk = Talk()
    with talk.epoch_bar(3) as bar:
        for record in records(4):
            bar(record)
    talk.say("data", "10 images")

    assert written.getvalue() == "data     10 images\n"


def test_quiet_says_nothing(to_terminal):
    terminal = to_terminal()
    talk = Talk(quiet=True)
    talk.say("data", "10 images")
    with talk.epoch_bar(1) as bar:
        for record in records(2):
            bar(record)

    assert terminal.getvalue() == ""


def test_a_muted_topic_is_not_said_and_others_are(to_terminal):
    said = to_terminal()
    talk = Talk(muted=frozenset({"data"}))
    talk.say("data", "96 images")
    talk.say("epoch", "1/1")
    assert said.getvalue().split() == ["epoch", "1/1"]
