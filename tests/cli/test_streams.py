"""A command whose stderr or stdout cannot be written to: real processes, real pipes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HISTO = Path(sys.executable).parent / "histo-mlflow"
# A command that says as much as a training does, in all the ways that one does.
CHAT = """
import logging, sys
from pathlib import Path
import click
from tqdm import tqdm
from histo_mlflow import cli
from histo_mlflow.errors import Interrupted
from histo_mlflow.jobs.talk import Talk

@cli.cli.command()
@click.argument("ending")
def chat(ending):
    for number in range(2000):
        Talk().say("data", f"line {number} " + "x" * 100)
    logging.getLogger("chat").warning("a warning")
    for _ in tqdm(range(3)):
        click.echo("an echo", err=True)
    sys.stderr.isatty(), sys.stderr.encoding
    Path("done").touch()
    if ending == "interrupted":
        raise Interrupted(2)
    if ending == "bug":
        raise RuntimeError("a bug")
    click.echo("42")

def noted(write):
    def leave(*told):
        Path("left").write_text(repr(told))
        write(*told)
    return leave

cli._leave, sys.excepthook = noted(cli._leave), noted(sys.excepthook)
cli.main()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and a POSIX shell")


def chat(ending, how, tmp_path):
    """(exit code, stdout) of the talkative command with a stderr that is `how`."""
    command = [sys.executable, "-c", CHAT, "chat", ending]
    if how == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    if how == "full":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        read, target = os.pipe()
        os.close(read)
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=target, text=True, check=False, cwd=tmp_path
        )
    finally:
        os.close(target)
    left = tmp_path / "left"
    if ending == "finished" and left.exists():  # stderr is closed, so that nothing else tells
        pytest.fail(f"{how}: exit {done.returncode}, {left.read_text()}")
    return done.returncode, done.stdout


@linux
@pytest.mark.parametrize("how", ["a broken pipe", "full", "closed"])
def test_a_stderr_that_cannot_be_written_to_ends_nothing(how, tmp_path):
    assert chat("finished", how, tmp_path) == (0, "42\n")
    assert (tmp_path / "done").exists()


@linux
@pytest.mark.parametrize(("ending", "code"), [("interrupted", 128 + signal.SIGINT), ("bug", 1)])
def test_the_exit_code_does_not_hang_on_who_reads_stderr(ending, code, tmp_path):
    """As after Ctrl-C to `histo-mlflow train 2>&1 | tee log`, which ends `tee` as well."""
    assert chat(ending, "a broken pipe", tmp_path) == (code, "")


@linux
def test_a_result_that_cannot_be_written_is_one_plain_sentence():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [HISTO, "recipe", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == (
        "histo-mlflow: the result cannot be written to stdout (No space left on device); "
        "send it to another file or disk\n"
    )


def test_a_reader_of_the_result_that_has_enough_is_no_mistake():
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [HISTO, "recipe", "list"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("words", [(), ("data",)])
def test_a_group_without_a_command_shows_its_help(words):
    done = subprocess.run([HISTO, *words], capture_output=True, text=True, check=False)

    assert done.returncode in (0, 2)  # versions of click differ, also in the stream
    assert (done.stdout + done.stderr).startswith("Usage: histo-mlflow")
    assert "check" in done.stdout + done.stderr or "train" in done.stdout + done.stderr


@linux
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_it_makes_no_difference_whether_python_buffers(unbuffered, tmp_path, monkeypatch):
    """With a buffer click looks at the stream only when it has fallen silent already."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert chat("finished", "full", tmp_path) == (0, "42\n")
