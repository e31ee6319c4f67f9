"""Real predictions, killed: what is gone on with is the undisturbed output byte for byte."""

import os
import random
import signal
import time

import pandas as pd
import pytest

from tiny_models import image_bytes, write_images, write_model

SMALL = ("--batch_size", "4", "--chunk_images", "4", "--device", "cpu", "--threads", "2")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "images", 60)
    (tmp_path / "images" / "bad.png").write_bytes(image_bytes(0)[:99])
    return tmp_path / "images"


@pytest.fixture
def predict(start, model, images):
    def begin(out, *more, **options):
        return start(
            *("predict", images, "--model", model, "--out", out, "--on-error", "skip"),
            *(*SMALL, *more),
            **options,
        )

    return begin


def chunks(folder, out="p.parquet"):
    return len(list((folder / f".{out}.work").glob("chunk-*")))


def assert_same_bytes(folder):
    for suffix in ("", ".bad.csv"):
        killed, whole = (folder / f"{name}.parquet{suffix}" for name in ("p", "whole"))
        assert killed.read_bytes() == whole.read_bytes()
    left = {path.name for path in folder.iterdir() if "parquet" in path.name}
    assert left == {"p.parquet", "p.parquet.bad.csv", "whole.parquet", "whole.parquet.bad.csv"}


def test_a_kill_and_a_sigterm_change_no_byte(predict, tmp_path):
    assert predict("whole.parquet").wait().code == 0
    ended = predict("p.parquet", moment="chunk:4", signals=[(signal.SIGKILL, 0.0)]).wait()
    assert ended.code == -signal.SIGKILL
    assert chunks(tmp_path) == 3
    assert not (tmp_path / "p.parquet").exists()
    ended = predict("p.parquet", moment="chunk:7", signals=[(signal.SIGTERM, 0.0)]).wait()
    assert ended.code == 143
    assert chunks(tmp_path) == 9
    assert "36 of 61 images are kept in" in ended.sentence
    assert "give the same command again to go on" in ended.sentence

    ended = predict("p.parquet").wait()

    assert ended.code == 0, ended.said
    assert "36 of 61 images are done already" in ended.said
    assert_same_bytes(tmp_path)
    assert len(pd.read_parquet(tmp_path / "p.parquet")) == 60


@pytest.mark.slow
def test_two_at_once_are_refused_plainly(predict, tmp_path):
    gate = tmp_path / "gate"
    first = predict("p.parquet", moment="chunk:2", signals=[(0, 0.0)], gate=gate)
    deadline = time.monotonic() + 60
    while chunks(tmp_path) < 1:
        assert time.monotonic() < deadline, first.said()
        time.sleep(0.01)

    second = predict("p.parquet").wait()

    assert second.code == 1, second.said
    assert "another process is predicting into p.parquet" in second.sentence
    gate.touch()
    assert first.wait().code == 0


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte(predict, tmp_path):
    begun = time.monotonic()
    assert predict("whole.parquet").wait().code == 0
    seconds = time.monotonic() - begun
    moments = random.Random(5)
    kills = 0
    for _ in range(60):
        moment = time.monotonic() + moments.uniform(0, seconds)
        process = predict("p.parquet", *(("--restart",) if kills == 0 else ()))
        time.sleep(max(0.0, moment - time.monotonic()))
        os.kill(process.pid, signal.SIGKILL)
        kills += process.wait().code == -signal.SIGKILL
        if kills == 10:
            break
        if (tmp_path / "p.parquet").exists():  # whole too soon: the same again
            (tmp_path / "p.parquet").unlink()

    assert kills == 10
    assert predict("p.parquet").wait().code == 0
    assert_same_bytes(tmp_path)
