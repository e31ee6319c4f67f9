"""A disk that is really full, wherever a training writes: nothing is lost, and it is said."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from mlflow import MlflowClient

MB = 1 << 20
SMALL = (
    *("--model", "test_resnet", "--weights", "none", "--ema_decay", "0.9"),
    *("--demo_images", "96", "--image_px", "32", "--batch_size", "16", "--epochs", "3"),
    *("--precision", "fp32", "--memory_format", "channels_last", "--threads", "1"),
    *("--doctor", "off", "--no-pictures"),
)
"""Three epochs of four steps; a checkpoint has some 5 MB."""


@pytest.fixture
def disk(tmp_path):
    """A small file system in memory."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={64 * MB}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def whole_checkpoints(folder):
    return {
        path: path.read_bytes()
        for path in (folder / "checkpoints").rglob("*")
        if path.is_file() and not path.parent.name.startswith(".")
    }


def assert_told(sentence, folder, least):
    """One sentence: that the disk is full, where, and what was needed."""
    assert "\n" not in sentence
    found = re.search(
        r"the disk is full: (\S+) needs ([\d,]+) bytes and has ([\d,]+) free", sentence
    )
    assert found, sentence
    assert found[1].startswith(str(folder)), sentence
    needed = int(found[2].replace(",", ""))
    assert needed >= least, sentence


@pytest.mark.parametrize(
    ("moment", "least", "stands"),
    [
        pytest.param("begin", 1, set(), marks=pytest.mark.slow),
        pytest.param("validation:1", 100, {"epoch-0000-step-000000"}, marks=pytest.mark.slow),
        ("validation:2", 1_000_000, {"epoch-0000-step-000000", "epoch-0001-step-000000"}),
        pytest.param(
            "results",
            1_000_000,
            {"epoch-0002-step-000000", "epoch-0003-step-000000"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "model-folder",
            1_000_000,
            {"epoch-0002-step-000000", "epoch-0003-step-000000"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "example",
            100,
            {"epoch-0002-step-000000", "epoch-0003-step-000000"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_folder_that_is_full_keeps_its_state_and_is_gone_on_with(
    moment, least, stands, disk, command, store_uri, found
):
    train = ("train", *SMALL, "--run_dir", disk / "run", "--tracking_uri", store_uri)
    ended = command(*train, moment=moment, fill=disk / "filler")

    print(ended.said[-600:])
    assert ended.code == 1, ended.said
    assert_told(ended.sentence, disk / "run", least)
    assert found(store_uri).ended == ("FAILED", "failed")
    assert "the disk is full" in found(store_uri).tags["histo.cause"]
    checkpoints = disk / "run" / "checkpoints"
    assert {path.name for path in checkpoints.glob("epoch-*")} == stands
    assert not list(checkpoints.glob(".*"))

    before = whole_checkpoints(disk / "run")
    full = command(*train)
    assert full.code == 1
    assert_told(full.sentence, disk / "run", 1)
    assert whole_checkpoints(disk / "run") == before

    (disk / "filler").unlink()
    again = command(*train)
    assert again.code == 0, again.said
    assert found(store_uri).ended == ("FINISHED", "finished")
    assert [step for step, _ in found(store_uri).curves["val/loss"]] == [1, 2, 3]


@pytest.mark.slow
def test_a_journal_that_is_full_keeps_its_points(disk, command, store_uri, found, tmp_path):
    """The journal is linked to a disk of its own, so that it is the first to have no room."""
    subprocess.run(["mount", "-o", "remount,size=4096", str(disk)], check=True)
    run = tmp_path / "run"
    run.mkdir()
    (run / "journal.jsonl").symlink_to(disk / "journal")
    train = ("train", *SMALL, "--epochs", "12", "--run_dir", run, "--tracking_uri", store_uri)
    ended = command(*train)

    print(ended.said[-600:])
    assert ended.code == 1, ended.said
    assert_told(ended.sentence, run, 100)
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    assert lines
    epochs = {row[3] for line in lines for row in line["points"] if row[0] == "val/loss"}
    assert found(store_uri).ended == ("FAILED", "failed")

    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    again = command(*train)
    assert again.code == 0, again.said
    assert [step for step, _ in found(store_uri).curves["val/loss"]] == list(range(1, 13))
    assert f"resume   after epoch {max(epochs, default=0)}" in again.said or not epochs


def test_a_cache_that_is_full_packs_nothing_and_leaves_nothing(disk, command, store_uri, tmp_path):
    cache = disk / "cache"
    subprocess.run(["mount", "-o", f"remount,size={8 * MB}", str(disk)], check=True)
    train = ("train", *SMALL, "--image_px", "224", "--run_dir", tmp_path / "run")
    ended = command(*train, "--tracking_uri", store_uri, HISTO_MLFLOW_CACHE=str(cache))

    assert ended.code == 1, ended.said
    sentence = ended.sentence
    assert re.search(
        rf"need {96 * 224 * 224 * 3:,} bytes in {cache}/packs, which has [\d,]+ free", sentence
    )
    assert not list((cache / "packs").iterdir())
    assert not (tmp_path / "run" / "run.json").exists()
    assert MlflowClient(store_uri).search_runs(["0"]) == []


def test_a_cache_with_no_room_at_all_is_told_too(disk, command, store_uri, tmp_path):
    (disk / "cache").mkdir()
    with (disk / "filler").open("wb") as file, pytest.raises(OSError):  # noqa: PT012
        while True:
            file.write(bytes(MB))
    train = ("train", *SMALL, "--run_dir", tmp_path / "run", "--tracking_uri", store_uri)
    ended = command(*train, HISTO_MLFLOW_CACHE=str(disk / "cache"))

    print(ended.said[-900:])
    assert ended.code == 1, ended.said
    assert str(disk) in ended.sentence


@pytest.mark.parametrize(
    "moment",
    [
        "upload:2",
        *(pytest.param(moment, marks=pytest.mark.slow) for moment in ("upload:1", "model")),
    ],
)
def test_a_store_without_room_for_artifacts_is_told_where_and_is_synced_later(
    moment, disk, command, store_uri, found, tmp_path
):
    """The database is elsewhere, so only the artifacts have no room."""
    MlflowClient(store_uri).create_experiment("demo", (disk / "mlruns").as_uri())
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", store_uri)
    ended = command(*train, moment=moment, fill=disk / "filler")

    print(ended.said[-900:])
    assert ended.code == 1, ended.said
    assert_told(ended.sentence, disk / "mlruns", 1000)
    assert "histo-mlflow runs sync run" in ended.sentence
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["ending"] == "finished"

    (disk / "filler").unlink()
    synced = command("runs", "sync", "run")
    assert synced.code == 0, synced.said
    seen = found(store_uri)
    assert seen.ended == ("FINISHED", "finished")
    assert seen.models == ["READY"]
    assert {"recipe.yaml", "history.json"} <= seen.artifacts


@pytest.mark.slow
def test_a_database_without_room_is_told(disk, command, found, fresh_database, tmp_path):
    shutil.copy(fresh_database, disk / "mlflow.db")
    uri = f"sqlite:///{disk}/mlflow.db"
    train = ("train", *SMALL, "--run_dir", "run", "--tracking_uri", uri)
    ended = command(*train, moment="validation:2", fill=disk / "filler")

    assert ended.code == 1, ended.said
    # Above it, MLflow's own logger may have printed what SQLAlchemy said.
    last = ended.said.splitlines()[-1]
    assert last.startswith("histo-mlflow: ")
    assert last.endswith("histo-mlflow runs sync run")
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["ending"] == "finished"

    (disk / "filler").unlink()
    assert command("runs", "sync", "run").code == 0
    assert found(uri).ended == ("FINISHED", "finished")
    assert [step for step, _ in found(uri).curves["val/loss"]] == [1, 2, 3]
