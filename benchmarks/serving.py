"""What HTTP costs: `histo-mlflow serve` and `mlflow models serve` beside the direct call.

EfficientNet-Lite0 at 96 px with a random head (its ImageNet weights where HISTO_MLFLOW_REALDATA has
them; the time does not depend on them), 96 px JPEGs of noise smoothed to the size of real ones.
Three servers, each a process of its own: `histo-mlflow serve`, `mlflow models serve` of the logged
model, and MLflow's own way, a pt2 export with a tensor signature, which gets the pixels that its
client has decoded as JSON floats. The direct call is `Predictor.predict_bytes` in this process.
All in turn, medians; then 8 clients at once against each server. Every process computes with one
thread: with more, they wait for each other's cores, and the direct call most of all.

    python benchmarks/serving.py [seconds for each measure of throughput]
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from _timing import duration, machine
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.log_model import log
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.vision.decode import DecodeRule, decode

PX, CLASSES = 96, ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
RULE = DecodeRule(PX)
REPEATS = {1: 60, 64: 6}
CLIENTS = 8
BIN = Path(sys.executable).parent


def jpeg(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (PX, PX, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.2)).save(file, "JPEG", quality=90)
    return file.getvalue()


IMAGES = [jpeg(seed) for seed in range(64)]


def make_model(folder: Path) -> Classifier:
    model = build(specify("tf_efficientnet_lite0", CLASSES, image_px=PX), seed=0)
    named = os.environ.get("HISTO_MLFLOW_REALDATA")
    path = Path(named or ".") / "weights" / "tf_efficientnet_lite0-2d6c2e0f.pth"
    if path.is_file():
        state = torch.load(path, weights_only=True)
        known = model.backbone.state_dict()
        model.backbone.load_state_dict({key: state[key] for key in known})
    save_weights(model, folder / "weights.safetensors")
    write_model_folder(
        folder / "model",
        spec=model.spec,
        rule=RULE,
        weights_paths=[folder / "weights.safetensors"],
        calibration={"temperature": 1.0, "thresholds": {}},
        provenance={"made by": "benchmarks/serving.py"},
    )
    return model.eval()


class Tensors(torch.nn.Module):
    """The classifier as MLflow's own tensor model."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        scale, shift = model.normalise.scale, model.normalise.shift
        self.register_buffer("scale", torch.as_tensor(scale).detach().clone())
        self.register_buffer("shift", torch.as_tensor(shift).detach().clone())

    def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
        """Float NHWC pixels from 0 to 255 -> probabilities (n, K)."""
        images = images_NHWC.permute(0, 3, 1, 2) * self.scale + self.shift
        return torch.softmax(self.head(self.backbone(images)), dim=1)


def log_tensors(model: Classifier, folder: Path, uri: str) -> str:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    mlflow.set_tracking_uri(uri)
    example = np.stack([decode(data, RULE) for data in IMAGES[:2]]).astype(np.float32)
    shape = (-1, PX, PX, 3)
    schema = ModelSignature(
        Schema([TensorSpec(np.dtype("float32"), shape)]),
        Schema([TensorSpec(np.dtype("float32"), (-1, len(CLASSES)))]),
    )
    with mlflow.start_run():
        logged = mlflow.pytorch.log_model(
            Tensors(model).eval(),
            name="tensors",
            export_model=True,
            input_example=example,
            signature=schema,
            pip_requirements=["torch"],
        )
    return str(logged.model_id)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], port: int, folder: Path, uri: str) -> Iterator[int]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    with (folder / f"{port}.log").open("wb") as talk:
        one = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "PATH": path,
                "MLFLOW_TRACKING_URI": uri,
                "OMP_NUM_THREADS": "1",
            },
            stdout=talk,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), None)[0] == 200:
                    break
            except OSError as error:
                if one.poll() is not None or time.monotonic() > deadline:
                    said = (folder / f"{port}.log").read_text()[-2000:]
                    raise SystemExit(f"the server did not start: {said}") from error
                time.sleep(0.2)
        yield port
    finally:
        os.killpg(one.pid, signal.SIGTERM)
        one.wait(20)


def ask(connection: http.client.HTTPConnection, body: bytes | None) -> tuple[int, bytes]:
    if body is None:
        connection.request("GET", "/ping")
    else:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def as_base64(images: list[bytes]) -> bytes:
    rows = [[base64.b64encode(data).decode()] for data in images]
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()


def as_floats(images: list[bytes]) -> bytes:
    pixels = np.stack([decode(data, RULE) for data in images])
    return json.dumps({"inputs": pixels.tolist()}).encode()


Encode = Callable[[list[bytes]], bytes]


def through(connection: http.client.HTTPConnection, encode: Encode, images: list[bytes]) -> bytes:
    """One request, from images to an answer that is parsed."""
    status, answer = ask(connection, encode(images))
    assert status == 200, answer[:300]
    json.loads(answer)
    return answer


def latencies(
    predictor: Predictor, servers: dict[str, tuple[int, Encode]], n: int
) -> dict[str, float]:
    images = IMAGES[:n]
    ways: dict[str, Callable[[], object]] = {"direct": lambda: predictor.predict_bytes(images)}
    connections = {}
    for name, (port, encode) in servers.items():
        connections[name] = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        ways[name] = partial(through, connections[name], encode, images)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(REPEATS[n] + 2):
        for name, way in ways.items():
            if name in connections:  # a server closes what is idle for as long as the others take
                connections[name].close()
                connections[name].connect()
            started = time.perf_counter()
            way()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def throughput(port: int, encode: Encode, n: int, seconds: float) -> float:
    """Images a second of 8 clients that send one request after another."""
    until = time.perf_counter() + seconds
    done = [0] * CLIENTS
    bodies = [encode(IMAGES[:n])] if n > 1 else [encode([data]) for data in IMAGES[:CLIENTS]]

    def client(index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < until:
            status, answer = ask(connection, bodies[index % len(bodies)])
            assert status == 200, answer[:300]
            done[index] += n

    started = time.perf_counter()
    threads = [threading.Thread(target=client, args=(index,)) for index in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - started)


def main(seconds: float = 4.0) -> None:
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        model = make_model(folder)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        store = connect(uri)
        with start_run(store, "serving", "one", {}, {}, system_metrics=False) as run:
            ours = log(run, folder / "model", IMAGES[0])
        tensors = log_tensors(model, folder, uri)
        predictor = Predictor(folder / "model")
        serve = [str(BIN / "mlflow"), "models", "serve", "--env-manager", "local"]
        cli = [sys.executable, "-m", "histo_mlflow.cli", "serve", "--model", str(folder / "model")]
        commands: dict[str, tuple[list[str], Encode]] = {
            "histo-mlflow serve": (cli, as_base64),
            "mlflow models serve": ([*serve, "-m", f"models:/{ours}"], as_base64),
            "mlflow, pt2 tensors": ([*serve, "-m", f"models:/{tensors}"], as_floats),
        }
        servers = {}
        for name, (command, encode) in commands.items():
            port = free_port()
            stack.enter_context(process([*command, "--port", str(port)], port, folder, uri))
            servers[name] = (port, encode)
        print("## `serving.py`\n")
        print(machine() + "\n")
        median = {n: latencies(predictor, servers, n) for n in (1, 64)}
        print(
            "| | p50, 1 image | to direct | p50, 64 images | to direct | 8 clients of 1 image "
            "| 8 clients of 64 | body of 1 image |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for name in median[1]:
            cells = [
                cell
                for n in (1, 64)
                for cell in (
                    duration(median[n][name]),
                    f"{median[n][name] / median[n]['direct']:.2f}x",
                )
            ]
            if name in servers:
                port, encode = servers[name]
                for n in (1, 64):
                    cells.append(f"{throughput(port, encode, n, seconds):.0f} images/s")
                cells.append(f"{len(encode(IMAGES[:1])) / 1000:.1f} kB")
            else:
                cells += ["", "", f"{len(IMAGES[0]) / 1000:.1f} kB"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*(float(text) for text in sys.argv[1:]))
