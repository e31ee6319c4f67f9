"""`histo-mlflow serve` as a process: address, answers, token, signals."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule
from serving_client import png

COMMAND = [sys.executable, "-m", "histo_mlflow.cli", "serve"]
TOKEN = "correct-horse-battery"


@dataclass
class Served:
    process: subprocess.Popen[str]
    url: str
    talk: Path

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def start(folder: Path, model: Path, *options: str, **environment: str) -> Served:
    talk = folder / "talk"
    with talk.open("w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "--model", str(model), "--port", "0", "--threads", "1", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=folder,
            env={**os.environ, **environment},
        )
    assert process.stdout is not None
    watch = threading.Timer(60, process.kill)
    watch.start()
    line = process.stdout.readline().strip()
    watch.cancel()
    assert line, talk.read_text()
    return Served(process, line.rstrip("/"), talk)


def stop(served: Served) -> None:
    if served.process.poll() is None:
        served.process.kill()
    served.process.wait(10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    spec = specify("squeezenet1_1", ("benign", "malignant"), image_px=64)
    save_weights(build(spec, seed=1), folder / "weights.safetensors")
    write_model_folder(
        folder / "model",
        spec=spec,
        rule=DecodeRule(64),
        weights_paths=[folder / "weights.safetensors"],
        calibration={"temperature": 0.5, "thresholds": {}},
        provenance={"run_id": "abc"},
    )
    return folder / "model"


@pytest.fixture(scope="module")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = start(tmp_path_factory.mktemp("plain"), model)
    yield one
    stop(one)


def test_it_says_what_it_serves_where_and_with_which_limits(served: Served) -> None:
    talk = served.talk.read_text()
    assert served.url + "/" in talk
    assert "squeezenet1_1, 64 px, 2 classes" in talk
    assert "32 MiB a body, 1,000 images a request" in talk
    assert "no token is needed" in talk
    assert served.url.startswith("http://127.0.0.1:")
    assert served.ask("/ready")[0] == 200


def test_eight_clients_get_the_probabilities_of_the_predictor(served: Served, model: Path) -> None:
    images = [png(seed, 100 + seed, 80, "JPEG") for seed in range(8)]
    expected = Predictor(model).predict_bytes(images)

    def ask(index: int) -> list[float]:
        text = base64.b64encode(images[index]).decode()
        body = json.dumps({"dataframe_records": [{"image": text}]}).encode()
        status, answer = served.ask("/invocations", body, Content_Type="application/json")
        assert status == 200, answer
        row = json.loads(answer)["predictions"][0]
        return [row["p_benign"], row["p_malignant"]]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_mistakes_are_one_sentence_without_a_path(served: Served, model: Path) -> None:
    answers = [
        served.ask("/invocations", b"no image", Content_Type="image/png"),
        served.ask("/invocations", b"{", Content_Type="application/json"),
        served.ask("/invocations", b"x" * 40_000_000, Content_Type="image/png"),
        served.ask("/nothing"),
        served.ask("/health", Host="evil.test"),
    ]
    assert [status for status, _ in answers] == [400, 400, 413, 404, 400]
    for _, body in answers:
        assert set(json.loads(body)) == {"error_code", "message"}
        assert str(model.parent) not in body.decode()
        assert ".py" not in body.decode()


def test_the_second_server_of_a_port_is_told_so(served: Served, model: Path) -> None:
    port = served.url.rpartition(":")[2]
    done = subprocess.run(
        [*COMMAND, "--model", str(model), "--port", port],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"histo-mlflow: Port {port} of 127.0.0.1 cannot be served on")
    assert "Traceback" not in done.stderr


def test_others_may_not_reach_it_without_a_token(model: Path, tmp_path: Path) -> None:
    tried = [
        [*COMMAND, "--model", str(model), "--host", "0.0.0.0", "--port", "0"],
        [*COMMAND, "--model", str(model), "--token-file", str(tmp_path / "none")],
    ]
    environment = {k: v for k, v in os.environ.items() if k != "HISTO_MLFLOW_TOKEN"}
    said = []
    for command in tried:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )
        assert done.returncode == 1
        assert done.stdout == ""
        said.append(done.stderr.splitlines()[-1])
    assert "Expected a token, since others can reach 0.0.0.0" in said[0]
    assert "Expected a file with a token" in said[1]


@pytest.mark.slow  # a server of its own
def test_with_a_token_it_answers_who_has_it_and_ends_in_order(model: Path, tmp_path: Path) -> None:
    one = start(tmp_path, model, "--host", "0.0.0.0", "--json", HISTO_MLFLOW_TOKEN=TOKEN)
    try:
        facts = json.loads(one.url)
        one.url = f"http://127.0.0.1:{facts['port']}"
        assert set(facts) == {"url", "port", "model", "digest"}
        assert one.ask("/ready")[0] == 200
        assert one.ask("/about")[0] == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert one.ask("/about", **bearer)[0] == 200
        assert TOKEN not in one.talk.read_text()

        # a request that runs when the signal comes is answered
        texts = [base64.b64encode(png(seed, 150, 150)).decode() for seed in range(4)] * 50
        body = json.dumps({"inputs": texts}).encode()
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(
                one.ask, "/invocations", body, Content_Type="application/json", **bearer
            )
            while b"histo_running 1.0" not in one.ask("/metrics", **bearer)[1]:
                assert not begun.done()
                time.sleep(0.005)
            one.process.send_signal(signal.SIGTERM)
            status, answer = begun.result(60)
        assert (status, len(json.loads(answer)["predictions"])) == (200, 200)
        assert one.process.wait(20) == 0
        talk = one.talk.read_text()
        assert "SIGTERM: ending when" in talk
        assert "requests were answered" in talk
        assert "Traceback" not in talk
    finally:
        stop(one)
