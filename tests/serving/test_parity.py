"""The same images by every route: the same probabilities and the same class.

Routes: the loader that training judges with (pack, batches, network in memory, temperature),
`Predictor`, the engines torch and ONNX, `histo-mlflow predict`, `mlflow models serve` and
`histo-mlflow serve`. All in float32.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hostility import servers
from hostility.case import rows, text
from hostility.model import CLASSES, Champion, champion
from hostility.wire import exchange_until_served, request
from PIL import Image

from histo_mlflow.cli import cli
from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.data.pack import Item, pack_images
from histo_mlflow.device import plan_device
from histo_mlflow.inference.engine import engine_probabilities, make_engine
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.training.judging import predict_logits
from histo_mlflow.vision.decode import DecodeRule, decode

BOUND = 1e-3
RULES = {
    "cover": DecodeRule(64, "cover"),
    "squash": DecodeRule(64, "squash"),
    "crop": DecodeRule(64, "crop", crop_px=96),
}
Probabilities = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def folder(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images: 600 x 450 JPEG, 96 x 96 TIFF, both as PNG, and JPEG of 1,120 pixels."""
    made = tmp_path_factory.mktemp("images")
    found = {
        "ham": sorted((realdata / "ham10000" / "HAM10000_images_part_1").glob("*.jpg"))[:6],
        "pcam": sorted((realdata / "pcam_kaggle" / "train").glob("*.tif"))[:6],
        "he": sorted((realdata / "he_tissue_1120" / "cmu1").glob("*.jpg"))[:3],
    }
    for kind, paths in found.items():
        assert len(paths) >= 3, kind
        for path in paths:
            (made / f"{kind}_{path.name}").write_bytes(path.read_bytes())
        for path in paths[:2]:
            file = io.BytesIO()
            Image.open(path).save(file, "PNG")
            (made / f"{kind}_{path.stem}.png").write_bytes(file.getvalue())
    sizes = {Image.open(path).size for path in made.iterdir()}
    assert {(600, 450), (96, 96)} <= sizes
    assert max(max(size) for size in sizes) >= 1120
    return made


@pytest.fixture(scope="module")
def models(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Champion]:
    example = min(folder.iterdir()).read_bytes()
    where = tmp_path_factory.mktemp("parity")
    return {
        fit: champion(where / fit, rule, example, f"sqlite:///{where / 'mlflow.db'}", name=fit)
        for fit, rule in RULES.items()
    }


def by_training(model: Champion, paths: list[Path], rule: DecodeRule, cache: Path) -> Probabilities:
    """Pack, batches and network as a training judges them; the temperature comes last."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    items = [Item(path.name, path) for path in paths]
    pack = pack_images(items, digests, rule, cache, progress=False)
    labels = np.zeros(len(paths), dtype=np.int64)
    dataset = PackedDataset(pack.path, np.arange(len(paths)), labels)
    loaded = read_model_folder(model.folder)
    plan = plan_device("cpu", "fp32", "channels_last")
    member = loaded.members[0].to(memory_format=plan.memory_format)
    logits = predict_logits(member, dataset, batch_size=8, plan=plan)
    return torch.softmax(torch.from_numpy(logits / loaded.temperature), dim=1).numpy()


def by_engine(model: Champion, paths: list[Path], kind: str) -> Probabilities:
    loaded = read_model_folder(model.folder)
    engine = make_engine(loaded, kind)  # type: ignore[arg-type]
    pixels = np.stack([_decoded(path, loaded.rule) for path in paths])
    return engine_probabilities(engine.logits(pixels), engine.output)


def _decoded(path: Path, rule: DecodeRule) -> npt.NDArray[np.uint8]:
    return decode(path.read_bytes(), rule)


def by_predict(
    model: Champion, paths: list[Path], out: Path, *options: str
) -> tuple[Probabilities, list[str]]:
    """`histo-mlflow predict` over the folder."""
    arguments = ["predict", str(paths[0].parent), "--model", model.reference, "--out", str(out)]
    arguments += ["--tracking-uri", model.uri, "--device", "cpu", "--quiet", *options]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(out).set_index("id").loc[[path.name for path in paths]]
    return table[[f"p_{name}" for name in CLASSES]].to_numpy(), table["class"].tolist()


def by_server(port: int, paths: list[Path]) -> tuple[Probabilities, list[str]]:
    body = json.dumps(rows(*[text(path.read_bytes()) for path in paths])).encode()
    answer = exchange_until_served(port, request(body))
    assert answer.status == 200, answer.body[:500]
    found = answer.json()["predictions"]
    return np.array([[row[f"p_{n}"] for n in CLASSES] for row in found]), [
        row["class"] for row in found
    ]


def assert_alike(
    routes: Mapping[str, Probabilities], said: Mapping[str, list[str]], fit: str
) -> None:
    training = routes["training"]
    # Images that all look alike to the network would make the comparison say nothing.
    assert np.ptp(training, axis=0).max() > 0.05
    classes = [CLASSES[k] for k in training.argmax(axis=1)]
    for name, found in routes.items():
        print(f"{fit}: {name} differs from training by {np.abs(found - training).max():.2g}")
        assert np.abs(found - training).max() <= BOUND, name
        assert [CLASSES[k] for k in found.argmax(axis=1)] == classes, name
    for name, told in said.items():
        assert told == classes, name


@pytest.mark.parametrize("fit", list(RULES))
def test_a_model_says_the_same_in_training_and_by_every_engine(
    models: Mapping[str, Champion], folder: Path, tmp_path: Path, fit: str
) -> None:
    paths = sorted(folder.iterdir())
    model = models[fit]
    predicted, classes = by_predict(model, paths, tmp_path / "torch.parquet")
    routes = {
        "training": by_training(model, paths, RULES[fit], tmp_path),
        "Predictor": Predictor(model.folder).predict_bytes([p.read_bytes() for p in paths]),
        "engine torch": by_engine(model, paths, "torch"),
        "predict": predicted,
    }
    said = {"predict": classes}
    assert_alike(routes, said, fit)


@pytest.mark.slow
@pytest.mark.parametrize("fit", list(RULES))
def test_onnx_says_what_training_said(
    models: Mapping[str, Champion], folder: Path, tmp_path: Path, fit: str
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    paths = sorted(folder.iterdir())
    model = models[fit]
    out = tmp_path / "onnx.parquet"
    predicted, classes = by_predict(model, paths, out, "--engine", "onnx")
    routes = {
        "training": by_training(model, paths, RULES[fit], tmp_path),
        "engine ONNX": by_engine(model, paths, "onnx"),
        "predict --engine onnx": predicted,
    }
    assert_alike(routes, {"predict --engine onnx": classes}, fit)


@pytest.mark.slow
@pytest.mark.parametrize("fit", list(RULES))
def test_both_servers_say_what_training_said(
    models: Mapping[str, Champion], folder: Path, tmp_path: Path, fit: str
) -> None:
    paths = sorted(folder.iterdir())
    model = models[fit]
    with ExitStack() as stack:
        started = {
            "mlflow models serve": servers.plain(model.reference, model.uri, tmp_path / "plain"),
            "histo-mlflow serve": servers.histo(model.reference, model.uri, tmp_path / "histo"),
        }
        answers = {
            name: by_server(stack.enter_context(server).port, paths)
            for name, server in started.items()
        }
    routes = {name: found for name, (found, _) in answers.items()}
    routes["training"] = by_training(model, paths, RULES[fit], tmp_path)
    assert_alike(routes, {name: classes for name, (_, classes) in answers.items()}, fit)
