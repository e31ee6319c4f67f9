"""The live table in a real pseudo-terminal, as a terminal shows it, and the lines of a log file."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pyte
import pytest
from tqdm import tqdm

import made_studies
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tuning.report._progress_lines import ended_line, lines
from histo_mlflow.tuning.report._text_width import columns, fit
from histo_mlflow.tuning.report.progress import Progress
from histo_mlflow.tuning.report.snapshot import look

PARAMS = {"lr": 1.23e-3, "batch_size": 64, "policy": "dermoscopy", "optimiser": "sgd"}


def snapshot(running=2, reports=2, best=True):
    study = made_studies.made_study(12 if best else 0, tuple(made_studies.FIXED))
    for i in range(running):
        study.add_trial(made_studies.running_trial(PARAMS, [0.7 + i / 100] * reports, f"w{i}"))
    return look(
        "demo", study.get_trials(), metric="val/auc", direction="maximize", steps=6, limit=40,
        used_seconds=372.0, workers=2,
    )  # fmt: skip


class Terminal:
    """A real pseudo-terminal and what a person sees on it."""

    def __init__(self, width=100, rows=24):
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.screen = pyte.HistoryScreen(width, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.file = os.fdopen(theirs, "w", encoding="utf-8")
        self.raw = b""
        self.resize(width, rows)

    def resize(self, width, rows):
        size = struct.pack("HHHH", rows, width, 0, 0)
        fcntl.ioctl(self.file.fileno(), termios.TIOCSWINSZ, size)
        self.seen()
        self.screen.resize(rows, width)

    def seen(self):
        self.file.flush()
        try:
            while data := os.read(self._ours, 65536):
                self.raw += data
                self._stream.feed(data)
        except BlockingIOError:  # all is read
            pass
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def close(self):
        self.file.close()
        os.close(self._ours)


@pytest.fixture
def terminal(monkeypatch):
    """Tests put it in the place of `sys.stderr`: pytest sets its own after the fixtures."""
    found = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    yield found
    found.close()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_table_is_redrawn_in_place(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.file)
    clock = Clock()
    with Progress(Talk(), clock=clock) as progress:
        for reports in range(4):
            clock.now += 1
            progress.show(snapshot(reports=reports))
        seen = terminal.seen()
        clock.now += 1
        progress.show(snapshot(running=1))
        fewer = terminal.seen()

    assert seen == lines(snapshot(reports=3), 99, 23)
    assert fewer == lines(snapshot(running=1), 99, 23)
    assert sys.stderr is terminal.file


def test_it_is_drawn_at_most_twice_a_second(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.file)
    clock = Clock()
    with Progress(Talk(), clock=clock) as progress:
        for tenth in range(20):
            clock.now = tenth / 10
            progress.show(snapshot(running=1))
        terminal.seen()

    assert terminal.raw.count(b"study demo") == 4


def test_messages_stand_above_the_table_and_stay(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.file)
    clock, talk = Clock(), Talk()
    with Progress(talk, clock=clock) as progress:
        progress.show(snapshot())
        talk.say("worker", "process 7 ended by signal 9")
        tqdm.write("from tqdm", file=sys.stderr)
        sys.stderr.write("half a ")
        halfway = terminal.seen()
        clock.now += 1
        progress.show(snapshot())
        sys.stderr.write("message\n")
        seen = terminal.seen()
    after = terminal.seen()

    said = ["worker   process 7 ended by signal 9", "from tqdm"]
    assert halfway == [*said, "half a"]
    assert seen == [*said, "half a message", *lines(snapshot(), 99, 23)]
    assert after == [*said, "half a message"]


def test_the_table_fits_again_after_the_terminal_was_resized(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.file)
    clock = Clock()
    with Progress(Talk(), clock=clock) as progress:
        for width, rows in ((100, 24), (60, 24), (120, 10), (40, 6)):
            terminal.resize(width, rows)
            clock.now += 1
            progress.show(snapshot())
            assert terminal.seen() == lines(snapshot(), width - 1, rows - 1)


def test_lines_that_a_narrower_terminal_broke_are_counted(terminal):
    from histo_mlflow.tuning.report._live_text import Live

    live = Live(terminal.file)
    live.draw(lambda width, rows, plain: ["x" * 70, "y" * 10])
    terminal.resize(30, 24)
    terminal.raw = b""
    live.draw(lambda width, rows, plain: ["z"])
    terminal.seen()

    assert terminal.raw.startswith(b"\r\x1b[4A")


def test_after_an_error_the_screen_and_the_stream_are_as_before(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.file)

    def interrupted():
        with Progress(Talk(), clock=Clock()) as progress:
            progress.show(snapshot())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.seen() == []
    assert sys.stderr is terminal.file


def test_a_terminal_without_a_cursor_and_a_log_file_get_a_line_for_each_ended_trial(
    terminal, monkeypatch
):
    monkeypatch.setattr(sys, "stderr", terminal.file)
    monkeypatch.setenv("TERM", "dumb")
    study = made_studies.made_study(3)
    for stream in (terminal.file, log := io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(Talk(), known={0}, clock=Clock()) as progress:
            progress.show(snapshot())
            progress.tell(study.get_trials()[:2], metric="val/auc")
            progress.tell(study.get_trials(), metric="val/auc")

    told = [f"trial    {ended_line(one, 'val/auc')}" for one in study.get_trials()[1:3]]
    assert log.getvalue().splitlines() == told
    assert b"\x1b" not in terminal.raw
    assert terminal.raw == b"" or b"study demo" not in terminal.raw


def test_above_the_table_a_line_says_why_a_trial_ended_without_a_value(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.file)
    terminal.resize(160, 24)
    trials = made_studies.made_study(12).get_trials()
    with Progress(Talk(), clock=Clock()) as progress:
        progress.show(snapshot())
        progress.tell(trials[:9], metric="val/auc")
        progress.tell(trials, metric="val/auc")
        seen = terminal.seen()

    said = [f"trial    {ended_line(trials[number], 'val/auc')}" for number in (8, 9)]
    assert [line.rpartition(": ")[2] for line in said] == [
        made_studies.CAUSES["diverged"],
        made_studies.CAUSES["out_of_memory"],
    ]
    assert seen == [*said, *lines(snapshot(), 159, 23)]


def test_nothing_at_all_is_said_when_quiet(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.file)
    with Progress(Talk(quiet=True), clock=Clock()) as progress:
        progress.show(snapshot())
        progress.tell(made_studies.made_study(3).get_trials(), metric="val/auc")

    assert terminal.seen() == []


def test_a_terminal_without_unicode_gets_ascii():
    found = lines(snapshot(), 60, 20, plain=True)

    assert all(line.isascii() for line in found)
    assert any(line.endswith("...") for line in found)


@pytest.mark.parametrize("running", [0, 1, 2, 30])
@pytest.mark.parametrize("width", [1, 20, 60, 100, 200])
@pytest.mark.parametrize("rows", [1, 3, 6, 20])
def test_no_line_is_too_wide_and_no_table_too_high(running, width, rows):
    shown = snapshot(running)
    found = lines(shown, width, rows)

    assert max(map(columns, found)) <= width
    assert 1 <= len(found) <= rows


def test_a_wide_terminal_shows_all_and_a_narrow_one_what_matters():
    wide = "\n".join(lines(snapshot(), 160, 20))
    narrow = lines(snapshot(), 60, 20)

    for word in ("0.8988 (trial 2)", "2/6", "optimiser=sgd", "7 on box", "9 complete, 1 pruned",
                 "1 out of memory", "6:12 min used", "about"):  # fmt: skip
        assert word in wide
    assert "worker" not in narrow[1]
    assert narrow[2].split()[:4] == ["15", "2/6", "0.7000", "0.7000"]


def test_running_trials_that_have_no_room_are_counted():
    found = lines(snapshot(30), 100, 10)

    shown = [line for line in found if "2/6" in line]
    assert f"  ... and {30 - len(shown)} more running" in found
    assert len(found) == 10


def test_a_study_that_has_just_begun_says_what_is_not_known_yet():
    assert lines(snapshot(running=0, best=False), 100, 20) == [
        "study demo: best val/auc none yet",
        "0 of 40 ended: 0 complete, 0 pruned; 6:12 min used, time left unknown",
    ]


@pytest.mark.parametrize(
    ("text", "width", "wanted"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("皮膚病", 6, "皮膚病"),
        ("皮膚病", 5, "皮膚…"),
        ("皮膚病", 4, "皮…"),
        ("e\u0301a", 2, "e\u0301a"),
        ("a\x1b[2Jb\nc", 20, "a?[2Jb?c"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ],
)
def test_texts_are_cut_by_columns_and_cannot_move_the_cursor(text, width, wanted):
    assert fit(text, width) == wanted
