"""Every ending of a real training by a signal, and that the next command goes on where it was."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.alone, pytest.mark.usefixtures("blank_pictures")]

SMALL = (
    *("--model", "test_resnet", "--no-pictures"),
    *("--demo_images", "96", "--image_px", "32", "--batch_size", "16", "--epochs", "3"),
    *("--ema_decay", "0.9", "--dropout", "0.2", "--lr", "3e-4", "--weights", "none"),
    # What is decided on by measuring would differ from run to run on a busy machine.
    *(
        "--precision",
        "fp32",
        "--memory_format",
        "channels_last",
        "--threads",
        "1",
        "--doctor",
        "off",
    ),
)
"""Three epochs of four steps."""
DYING = 15
"""Seconds that a process may take to be gone once it has said its last word and all is saved."""
INT, TERM = [(signal.SIGINT, 0.0)], [(signal.SIGTERM, 0.0)]


def trained(folder):
    """The bytes of the last checkpoint's tensors, of the best weights and of the model."""
    newest = max((folder / "checkpoints").glob("epoch-*"))
    best = max((folder / "checkpoints").glob("best-*"))
    return (
        (newest / "state.safetensors").read_bytes(),
        (best / "weights.safetensors").read_bytes(),
        (folder / "model" / "weights.safetensors").read_bytes(),
    )


def files_of(folder):
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if "provenance" not in str(path)
    }


@pytest.fixture(scope="module")
def undisturbed(zygote, fresh_database, tmp_path_factory, found):
    """A training that nothing ends: its folder, and what the store has of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(fresh_database, folder / "mlflow.db")
    done = zygote.start(folder, "train", *SMALL, "--run_dir", "run").wait()
    assert done.code == 0, done.said
    return folder / "run", found(f"sqlite:///{folder}/mlflow.db")


def assert_as_undisturbed(undisturbed, folder, seen):
    expected_folder, expected = undisturbed
    assert trained(folder) == trained(expected_folder)
    assert files_of(folder) == files_of(expected_folder)
    assert seen.ended == ("FINISHED", "finished")
    assert seen.curves == expected.curves
    assert seen.models == ["READY"]
    assert {name for name in seen.artifacts if "provenance" not in name} == {
        name for name in expected.artifacts if "provenance" not in name
    }


@pytest.mark.parametrize(
    ("moment", "signals", "hang", "code"),
    [
        ("step:6", INT, 0.0, 130),
        pytest.param("validation:2", TERM, 0.0, 143, marks=pytest.mark.slow),
        pytest.param("step:1", TERM, 0.0, 143, marks=pytest.mark.slow),
        pytest.param("upload:1", INT, 30.0, 130, marks=pytest.mark.slow),
        ("upload:2", TERM, 30.0, 143),
        pytest.param("model", INT, 30.0, 130, marks=pytest.mark.slow),
        # What `mlflow run` does when the terminal gave Ctrl-C to both.
        pytest.param(
            "step:7",
            [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.05)],
            0.3,
            130,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["step", "validation", "first-step", "begin", "results", "model", "int-then-term"],
)
def test_a_signal_saves_within_5_s_and_the_same_command_ends_as_if_nothing_had_been(
    moment, signals, hang, code, command, store_uri, found, tmp_path, undisturbed
):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    ended = command(*train, moment=moment, signals=signals, hang=hang)

    print(f"{moment}: {ended.seconds:.2f} s")
    assert ended.code == code, ended.said
    assert ended.seconds < 5
    assert ended.dying < DYING
    assert ended.sentence == f"ended by {signals[0][0].name}"
    assert found(store_uri).ended == ("KILLED", "interrupted")
    training = moment.partition(":")[0] in ("step", "validation")
    assert ("go on: histo-mlflow train --run-dir run" in ended.said) == training

    again = command(*train)
    assert again.code == 0, again.said
    assert_as_undisturbed(undisturbed, tmp_path / "run", found(store_uri))


def test_a_signal_while_packing_ends_before_there_is_a_run(command, store_uri, tmp_path):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    ended = command(
        *train, moment="packing", signals=TERM, HISTO_MLFLOW_CACHE=str(tmp_path / "cache")
    )

    print(f"packing: {ended.seconds:.2f} s")
    assert (ended.code, ended.sentence) == (143, "ended by SIGTERM")
    assert ended.seconds < 5
    assert ended.dying < DYING
    assert not list((tmp_path / "cache" / "packs").iterdir())


@pytest.mark.slow
def test_a_step_that_does_not_end_is_left_half_way_and_the_checkpoint_before_it_counts(
    command, store_uri, found, tmp_path, undisturbed
):
    """Nobody waits longer than 5 s for a hanging device."""
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    ended = command(*train, moment="step:6", signals=TERM, hang=30.0)

    print(f"hanging step: {ended.seconds:.2f} s")
    assert (ended.code, ended.sentence) == (143, "ended by SIGTERM")
    assert ended.seconds < 8
    assert ended.dying < DYING
    assert "a step was left half-way: the last checkpoint stands" in ended.said
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("epoch-*"))
    assert names == ["epoch-0000-step-000000", "epoch-0001-step-000000"]

    again = command(*train)
    assert again.code == 0, again.said
    assert "resume   after epoch 1" in again.said
    assert_as_undisturbed(undisturbed, tmp_path / "run", found(store_uri))


@pytest.mark.parametrize("moment", ["starting", pytest.param("making", marks=pytest.mark.slow)])
def test_a_signal_while_the_run_is_made_closes_it(
    moment, command, store_uri, found, tmp_path, undisturbed
):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    ended = command(*train, moment=moment, signals=TERM)

    assert (ended.code, ended.sentence) == (143, "ended by SIGTERM"), ended.said
    assert found(store_uri).ended == ("KILLED", "interrupted")
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["ending"] == "interrupted"

    again = command(*train)
    assert again.code == 0, again.said
    assert_as_undisturbed(undisturbed, tmp_path / "run", found(store_uri))


def test_a_folder_of_runs_that_cannot_be_written_makes_no_run(command, store_uri, tmp_path):
    from mlflow import MlflowClient

    (tmp_path / "runs").write_text("a file")
    ended = command("train", *SMALL, "--tracking_uri", store_uri)

    assert ended.code == 1, ended.said
    assert "runs" in ended.sentence
    client = MlflowClient(store_uri)
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


def test_a_second_ctrl_c_leaves_at_once(command, store_uri, tmp_path):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    ended = command(
        *train,
        moment="step:6",
        signals=[(signal.SIGINT, 0.0), (signal.SIGINT, 0.2)],
        hang=30.0,
    )

    print(f"second SIGINT: {ended.seconds:.2f} s")
    assert ended.code == 130
    assert ended.seconds + ended.dying < 3  # with one Ctrl-C alone it is at least 3.5
    assert ended.sentence == "left at once; the last checkpoint stands"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["run_id"]


@pytest.mark.slow  # starts real processes, which import for seconds
@pytest.mark.parametrize(
    ("number", "codes"),
    [(signal.SIGINT, {130, -signal.SIGINT}), (signal.SIGTERM, {143, -signal.SIGTERM})],
)
def test_a_signal_while_it_still_imports_ends_it_without_a_traceback(
    number, codes, store_uri, tmp_path
):
    """Before it can handle a signal the system does; a shell reports 130 or 143 all the same."""
    program = Path(sys.executable).parent / "histo-mlflow"
    log = tmp_path / "log"
    # Python starts for the first; the others are sent once torch is being imported.
    for torch, pause in ((False, 0.3), (True, 0.0), (True, 0.7), (True, 1.7)):
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [program, "train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
                stderr=stderr,
            )
        wait_for(lambda wanted=torch: not wanted or " torch." in log.read_text())
        time.sleep(pause)
        sent = time.time()
        process.send_signal(number)
        process.wait(30)
        gone = time.time()
        said = log.read_text()
        # The last word of one that could handle the signal; the others say none.
        spoke = log.stat().st_mtime if process.returncode > 0 else gone
        what = f"{number.name} {pause} s into {'torch' if torch else 'Python'}"
        print(f"{what}: {spoke - sent:.2f} s, gone after {gone - sent:.2f} s")
        assert process.returncode in codes, said
        assert spoke - sent < 5
        assert gone - spoke < DYING
        if torch:
            assert "Traceback" not in said, said


def test_a_rate_that_explodes_fails_with_the_images_and_the_checkpoint_stands(
    command, store_uri, found, tmp_path
):
    train = ("train", *SMALL, "--optimiser", "sgd", "--lr", "1e30", "--schedule", "constant")
    ended = command(*train, "--run_dir", "run", "--tracking_uri", store_uri)

    assert ended.code == 1, ended.said
    assert " in epoch 1, step " in ended.sentence
    assert "lower lr" in ended.sentence
    named = json.loads((tmp_path / "run" / "failure.json").read_text())["sample_ids"]
    assert 1 <= len(named) <= 16
    assert named[0] in ended.sentence
    seen = found(store_uri)
    assert seen.ended == ("FAILED", "failed")
    assert named[0] in seen.tags["histo.cause"]
    commit = json.loads(
        (tmp_path / "run" / "checkpoints" / "epoch-0000-step-000000" / "commit.json").read_text()
    )
    state = tmp_path / "run" / "checkpoints" / "epoch-0000-step-000000" / "state.safetensors"
    assert hashlib.sha256(state.read_bytes()).hexdigest() == commit["state.safetensors"]["sha256"]


def test_a_loss_that_turns_bad_later_leaves_the_best_weights_untouched(
    command, store_uri, found, tmp_path
):
    """The sixth step's loss is NaN: the first epoch's weights are as they were."""
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    ended = command(*train, moment="step:6", poison=True)

    assert ended.code == 1, ended.said
    assert "the loss became nan in epoch 2, step 2" in ended.sentence
    assert found(store_uri).ended == ("FAILED", "failed")
    checkpoints = tmp_path / "run" / "checkpoints"
    commit = json.loads((checkpoints / "best-0001" / "commit.json").read_text())
    weights = (checkpoints / "best-0001" / "weights.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == commit["weights.safetensors"]["sha256"]

    again = command(*train)
    assert again.code == 0, again.said
    assert "resume   after epoch 1" in again.said
    assert found(store_uri).ended == ("FINISHED", "finished")


def test_resuming_by_id_takes_the_runs_recipe_and_no_other(command, store_uri, found, undisturbed):
    """The whole recipe comes from the run; one that differs is refused, naming how."""
    interrupted = command(
        "train", *SMALL, "--tracking_uri", store_uri, moment="step:6", signals=TERM
    )
    assert interrupted.code == 143
    run_id = found(store_uri).run_id
    resume = ("train", "--resume", run_id, "--doctor", "off")
    refused = command(*resume, "--lr", "0.5", "--patience", "3")
    assert refused.code == 1
    assert "lr was 0.0003, 0.5 is given; patience was unset, 3 is given" in refused.sentence
    assert found(store_uri).ended == ("KILLED", "interrupted")

    done = command(*resume)
    assert done.code == 0, done.said
    assert found(store_uri).curves == undisturbed[1].curves
    finished = command(*resume)
    assert finished.code == 0
    assert f"run {run_id} was finished before" in finished.said


@pytest.mark.slow
def test_of_two_processes_at_one_run_the_second_is_refused(start, command, store_uri, tmp_path):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    gate = tmp_path / "gate"
    first = start(*train, moment="upload:1", signals=[(0, 0.0)], gate=gate)
    wait_for(lambda: "run      " in first.said())
    second = command(*train)

    assert second.code == 1
    assert "another process is training or delivering run" in second.sentence
    gate.touch()
    assert first.wait().code == 0, first.said()


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow  # a real server
def test_with_a_dead_server_an_interrupt_still_ends_in_10_s_and_says_how_to_sync(
    command, start, server, found, tmp_path
):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", server.uri)
    gate = tmp_path / "gate"
    running = start(*train, moment="step:6", signals=TERM, gate=gate)
    wait_for(lambda: "epoch      1/3" in running.said())
    server.kill()
    gate.touch()
    ended = running.wait()

    print(f"dead server: {ended.seconds:.2f} s")
    assert ended.code == 143, ended.said
    assert ended.seconds < 10
    assert ended.dying < DYING
    assert "histo-mlflow runs sync run" in ended.said
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())
    assert outcome["ending"] == "interrupted"

    server.start()
    server.wait()
    synced = command("runs", "sync", "run")
    assert synced.code == 0, synced.said
    run_id = json.loads((tmp_path / "run" / "run.json").read_text())["run_id"]
    assert found(server.uri, server.database, run_id).ended == ("KILLED", "interrupted")


@pytest.mark.slow  # a real server, and the waits for one that is gone
@pytest.mark.timeout(600)
def test_a_training_whose_server_died_is_delivered_by_runs_sync_once(
    command, start, server, found, tmp_path, undisturbed
):
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", server.uri)
    gate = tmp_path / "gate"
    running = start(*train, moment="validation:2", signals=[(0, 0.0)], gate=gate)
    wait_for(lambda: "epoch      1/3" in running.said())
    server.kill()
    gate.touch()
    ended = running.wait()

    assert ended.code == 1, ended.said
    last = ended.said.splitlines()[-1]
    assert "the training is done and nothing is lost: histo-mlflow runs sync run" in last
    still = command("runs", "sync", "run")
    assert still.code == 1
    server.start()
    server.wait()
    for _ in range(2):
        synced = command("runs", "sync", "run")
        assert synced.code == 0, synced.said
        run_id = json.loads((tmp_path / "run" / "run.json").read_text())["run_id"]
        assert synced.said.splitlines()[-2].startswith(f"run {run_id}  finished")
        assert_as_undisturbed(
            undisturbed, tmp_path / "run", found(server.uri, server.database, run_id)
        )
