"""The logged model: in a process without this package, and behind a real `mlflow models serve`."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from histo_mlflow.errors import ImageError, TrackingError
from histo_mlflow.registry.log_model import bundle, log, requirements
from histo_mlflow.registry.predictor import BadImagesError, Predictor
from histo_mlflow.registry.serving_model import answer, images_of
from histo_mlflow.tracking.run import TrackedRun
from ports import free_port

MLFLOW = Path(sys.executable).parent / "mlflow"
P = ["p_a", "p_b&c", "p_d e"]
COLUMNS = ["class", *P, "abstain", "model_version", "model_digest"]
BELOW = 0.5


@pytest.fixture(scope="module")
def served_folder(
    tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]
) -> Path:
    """A calibrated ensemble with a card: all that a folder can hold."""
    return write_folder(
        tmp_path_factory.mktemp("served") / "model",
        seeds=(1, 2),
        calibration={"temperature": 0.25, "thresholds": {}},
        abstain={"below": BELOW, "share": 0.5, "rows": 100},
        card="# Card",
    )


@pytest.fixture(scope="module")
def model_id(run: TrackedRun, served_folder: Path, images: list[bytes]) -> str:
    return log(run, served_folder, images[0], step=1, tags={"kind": "test"})


def test_the_model_belongs_to_the_run_and_has_the_metrics_of_its_epoch(
    run: TrackedRun, model_id: str
) -> None:
    client = MlflowClient(tracking_uri=run.tracking_uri)
    model = client.get_logged_model(model_id)
    assert (model.source_run_id, model.experiment_id) == (run.run_id, run.experiment_id)
    assert model.status == "READY"
    assert model.tags["kind"] == "test"
    assert [(m.key, m.value) for m in model.metrics or []] == [("val/auc", 0.8)]
    outputs = client.get_run(run.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model_id]


def test_logging_a_model_leaves_mlflows_global_settings_alone(model_id: str) -> None:
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "MLFLOW_UV_AUTO_DETECT" not in os.environ


def logged_files(run: TrackedRun, model_id: str) -> Path:
    location = MlflowClient(tracking_uri=run.tracking_uri).get_logged_model(model_id)
    return Path(location.artifact_location.removeprefix("file://"))


def test_the_model_holds_no_pickle_and_only_the_code_it_needs(
    run: TrackedRun, model_id: str
) -> None:
    folder = logged_files(run, model_id)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    # a test that loads the model in this process may have come first, and MLflow compiles this file
    files = {name for name in files if not name.startswith("__pycache__/serving_model.")}
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".pth", ".pyc"))]
    held = {"model.json", "weights_0.safetensors", "weights_1.safetensors", "MODEL_CARD.md"}
    assert {"serving_model.py", *(f"artifacts/model_folder/{name}" for name in held)} <= files
    parts = {name.split("/")[2] for name in files if name.startswith("code/")}
    assert parts == {"__init__.py", "errors.py", "randomness.py", "vision", "models", "registry"}
    assert (folder / "requirements.txt").read_text().split() == requirements()


def test_requirements_are_exact_and_known_to_the_package_index() -> None:
    assert all("==" in line and "+" not in line for line in requirements())


LOAD_ALONE = """
import importlib.util, os, sys
# An editable install of any checkout is a folder on the path.
sys.path = [p for p in sys.path if not os.path.isfile(f"{p}/histo_mlflow/__init__.py")]
found = importlib.util.find_spec("histo_mlflow")
# A folder of recipes may stay behind in site-packages; it holds no code.
assert found is None or found.origin is None, "still installed, so this test says nothing"
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
data = open(sys.argv[2], "rb").read()
print(model.predict(pd.DataFrame({"image": [data]})).to_json(orient="records"))
import histo_mlflow
assert histo_mlflow.__file__.startswith(sys.argv[1]), histo_mlflow.__file__
ours = {name.split(".")[1] for name in sys.modules if name.startswith("histo_mlflow.")}
assert ours <= {"errors", "randomness", "vision", "models", "registry"}, ours
"""


def test_the_model_works_where_this_package_is_not_installed(
    run: TrackedRun, model_id: str, served_folder: Path, images: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "image").write_bytes(images[0])
    arguments = [str(logged_files(run, model_id)), str(tmp_path / "image")]
    # -I keeps the environment's PYTHONPATH and the current folder out.
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD_ALONE, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])[0]
    predictor = Predictor(served_folder)
    expected = predictor.predict_bytes(images[:1])[0]
    assert list(found) == COLUMNS
    np.testing.assert_allclose([found[name] for name in P], expected, atol=1e-6)
    assert found["abstain"] == bool(expected.max() < BELOW)
    assert (found["model_version"], found["model_digest"]) == (model_id, predictor.digest)


def test_the_bundle_holds_no_compiled_files(tmp_path: Path) -> None:
    suffixes = {path.suffix for path in bundle(tmp_path).rglob("*") if path.is_file()}
    assert suffixes == {".py"}


def test_a_store_that_refuses_the_model_is_a_plain_error(
    run: TrackedRun, model_folder: Path, images: list[bytes]
) -> None:
    @dataclass
    class Gone:
        run_id: str = "0" * 32
        experiment_id: str = "999"
        tracking_uri: str = run.tracking_uri

    with pytest.raises(TrackingError, match="could not be logged to run 000"):
        log(Gone(), model_folder, images[0])


def test_an_example_that_is_no_image_is_refused_before_anything_is_logged(
    run: TrackedRun, model_folder: Path
) -> None:
    with pytest.raises(ImageError, match="image 0: not a JPEG"):
        log(run, model_folder, b"nothing")


def test_a_table_takes_bytes_and_base64_and_answers_in_order(
    model_folder: Path, images: list[bytes]
) -> None:
    text = base64.b64encode(images[1])
    mixed = [images[0], text.decode(), bytearray(images[2]), text]
    predictor = Predictor(model_folder)
    found = answer(predictor, images_of(pd.DataFrame({"image": mixed})), "v")
    assert list(found.columns) == COLUMNS
    expected = predictor.predict_bytes([*images[:3], images[1]])
    np.testing.assert_array_equal(found[P].to_numpy(), expected)
    assert found["class"].tolist() == [predictor.classes[k] for k in expected.argmax(axis=1)]


def test_an_empty_table_has_an_empty_answer(model_folder: Path) -> None:
    found = answer(Predictor(model_folder), images_of(pd.DataFrame({"image": []})), "v")
    assert (len(found), list(found.columns)) == (0, COLUMNS)


def test_values_that_cannot_be_images_are_named_by_row(images: list[bytes]) -> None:
    table = pd.DataFrame({"image": [images[0], None, float("nan"), 7, "%%%"]}, dtype=object)
    with pytest.raises(BadImagesError) as caught:
        images_of(table)
    assert dict(caught.value.problems) == {
        1: "bytes or base64 text was expected, got nothing",
        2: "bytes or base64 text was expected, got nothing",
        3: "bytes or base64 text was expected, got int",
        4: "the text is not base64",
    }
    with pytest.raises(ImageError, match="the column 'image' was expected"):
        images_of(pd.DataFrame({"picture": [1]}))


@pytest.fixture(scope="module")
def address(
    run: TrackedRun, model_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    port = free_port()
    folder = tmp_path_factory.mktemp("serve")
    command = [str(MLFLOW), "models", "serve", "-m", f"models:/{model_id}", "--port", str(port)]
    with (folder / "log").open("wb") as talk:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--env-manager", "local"],
            # MLflow starts `uvicorn` by its name, so the environment must be an activated one.
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": run.tracking_uri,
                "PATH": f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}",
            },
            cwd=folder,
            stdout=talk,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def ask(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def bodies(texts: list[str]) -> dict[str, dict[str, Any]]:
    return {
        "dataframe_split": {
            "dataframe_split": {"columns": ["image"], "data": [[t] for t in texts]}
        },
        "dataframe_records": {"dataframe_records": [{"image": text} for text in texts]},
        "inputs": {"inputs": {"image": texts}},
        "instances": {"instances": [{"image": text} for text in texts]},
    }


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_a_server_answers_the_probabilities_of_base64_images(
    address: str, served_folder: Path, images: list[bytes], form: str
) -> None:
    texts = [base64.b64encode(data).decode() for data in images]
    status, answer = ask(address, bodies(texts)[form])
    assert status == 200, answer
    rows = answer["predictions"]
    assert list(rows[0]) == COLUMNS
    predictor = Predictor(served_folder)
    expected = predictor.predict_bytes(images)
    found = [[row["p_a"], row["p_b&c"], row["p_d e"]] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [row["class"] for row in rows] == [predictor.classes[k] for k in expected.argmax(axis=1)]
    assert [row["abstain"] for row in rows] == (expected.max(axis=1) < BELOW).tolist()


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_a_bad_row_is_a_clean_400_with_its_number_and_without_a_path(
    address: str, images: list[bytes], form: str
) -> None:
    good = base64.b64encode(images[0]).decode()
    texts = [good, base64.b64encode(b"no image at all").decode(), base64.b64encode(b"").decode()]
    status, answer = ask(address, bodies(texts)[form])
    assert status == 400
    assert "image 1: not a JPEG, PNG or TIFF; image 2: empty file" in answer["message"]
    assert "Traceback" not in json.dumps(answer)
    assert ".py" not in json.dumps(answer)


def test_a_request_without_the_column_is_a_400_without_a_path(address: str) -> None:
    status, answer = ask(address, {"dataframe_records": [{"picture": "x"}]})
    assert status == 400
    assert "image" in answer["message"]
    assert ".py" not in json.dumps(answer)
