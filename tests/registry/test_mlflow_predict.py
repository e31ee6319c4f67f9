"""`mlflow models predict` to the letter, in a process of its own, with what it takes from files."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histo_mlflow.registry.log_model import log
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.tracking.run import TrackedRun

MLFLOW = Path(sys.executable).parent / "mlflow"


@pytest.fixture(scope="module")
def model_id(run: TrackedRun, model_folder: Path, images: list[bytes]) -> str:
    return log(run, model_folder, images[0])


def predict(run: TrackedRun, model_id: str, path: Path, kind: str) -> list[dict[str, Any]]:
    answer = path.with_suffix(".answer")
    done = subprocess.run(
        [
            *(str(MLFLOW), "models", "predict", "-m", f"models:/{model_id}"),
            *("--env-manager", "local", "-t", kind, "-i", str(path), "-o", str(answer)),
        ],
        # MLflow starts `python` by its name, so the environment must be an activated one.
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": run.tracking_uri,
            "PATH": f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}",
        },
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(answer.read_text())["predictions"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_base64_images_of_a_file_are_answered(
    run: TrackedRun,
    model_id: str,
    model_folder: Path,
    images: list[bytes],
    tmp_path: Path,
    kind: str,
) -> None:
    texts = [base64.b64encode(data).decode() for data in images]
    path = tmp_path / f"request.{kind}"
    if kind == "json":
        table = {"columns": ["image"], "data": [[text] for text in texts]}
        path.write_text(json.dumps({"dataframe_split": table}))
    else:
        path.write_text("\n".join(["image", *texts]) + "\n")
    rows = predict(run, model_id, path, kind)
    predictor = Predictor(model_folder)
    expected = predictor.predict_bytes(images)
    found = [[row[f"p_{name}"] for name in predictor.classes] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [row["class"] for row in rows] == [predictor.classes[k] for k in expected.argmax(axis=1)]
    assert {row["model_version"] for row in rows} == {model_id}
    assert {row["model_digest"] for row in rows} == {predictor.digest}
