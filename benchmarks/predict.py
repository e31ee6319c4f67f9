"""Predicting many images: the engines against the plain inference loop of the sources.

The plain loop is what the sources write: a Dataset that asks whether the file exists, opens it with
Pillow and converts it, torchvision's Resize, CenterCrop, ToTensor and Normalize, a DataLoader of
64 images, eval mode, no_grad, softmax, and NumPy a batch. Ours is `decode_and_predict` from the
same files. Claim: >= 2x on a CPU in fp32, and no probability is off by more than 1e-3 from
`Predictor`.

Two models with random heads: EfficientNet-Lite0 at 96 px (ImageNet weights where they are there)
on HAM10000 JPEGs of 200x150, ResNet-18 at 96 px (random weights) on TIFFs of 96x96. All ways run in
turn, `--repeats` times; shown are the wall clock and the processor time of this process and of
loader processes, since another process on the machine changes the first more than the second.

    HISTO_MLFLOW_REALDATA=... python benchmarks/predict.py [--images N] [--repeats N] [--threads N]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchvision.transforms as T
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from _timing import Row, report
from histo_mlflow.device import available_cores
from histo_mlflow.inference.engine import make_engine
from histo_mlflow.inference.pipeline import decode_and_predict
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import load_pretrained, save_weights
from histo_mlflow.registry.model_folder import read_model_folder, write_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule

BATCH, PX = 64, 96
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
Answers = npt.NDArray[np.float64]
Way = Callable[[], Answers]


class PlainDataset(Dataset[torch.Tensor]):
    """The data set of the sources: a file is looked for and decoded when it is asked for."""

    def __init__(self, paths: list[Path], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.paths = paths
        self.transform = T.Compose(
            [T.Resize(PX), T.CenterCrop(PX), T.ToTensor(), T.Normalize(mean, std)]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        path = self.paths[index]
        if not os.path.exists(path):  # noqa: PTH110 -- as the sources do
            raise FileNotFoundError(path)
        tensor: torch.Tensor = self.transform(Image.open(path).convert("RGB"))
        return tensor


class PlainModel(nn.Module):
    """Backbone and head without the normalisation, which the plain data set does."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # noqa: D102
        logits: torch.Tensor = self.head(self.backbone(images))
        return logits


def plain(model: nn.Module, dataset: PlainDataset, workers: int) -> Answers:
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=workers)
    answers = []
    model.eval()
    with torch.no_grad():
        for images in loader:
            answers.append(torch.softmax(model(images), dim=1).cpu().numpy())
    return np.concatenate(answers).astype(np.float64)


def ours(members: Any, paths: list[Path], threads: int) -> Answers:
    items = [(path.stem, path.read_bytes) for path in paths]
    answered = list(decode_and_predict(members, items, threads=threads))
    return np.stack([one.probabilities for one in answered if one.probabilities is not None])


def model_folder(name: str, weights: Path | None, folder: Path) -> Path:
    spec = specify(name, CLASSES, image_px=PX)
    model = build(spec, seed=1)
    if weights is not None:
        load_pretrained(model, str(weights))
    save_weights(model, folder / "weights.safetensors")
    write_model_folder(
        folder / "model",
        spec=spec,
        rule=DecodeRule(PX),
        weights_paths=[folder / "weights.safetensors"],
        calibration=None,
        provenance={},
    )
    return folder / "model"


def ways_of(folder: Path, paths: list[Path], threads: int) -> dict[str, Way]:
    """Every way to be timed, ours first; ONNX only where it is installed."""
    loaded = read_model_folder(folder)
    member, spec = loaded.members[0], loaded.spec
    model = PlainModel(member.backbone, member.head)
    dataset = PlainDataset(paths, spec.mean, spec.std)
    torch_threads = torch.get_num_threads()
    ways: dict[str, Way] = {}
    for kind in ("torch", "onnx"):
        started = time.perf_counter()
        engine = make_engine(loaded, "torch" if kind == "torch" else "onnx", threads=1)
        print(f"{kind} engine made in {time.perf_counter() - started:.1f} s", *engine.notes)
        ways[kind] = partial(ours, [(engine, loaded.rule)], paths, threads)
    torch.set_num_threads(torch_threads)
    for workers in (0, 2):
        ways[f"plain, num_workers={workers}"] = partial(plain, model, dataset, workers)
    return ways


def in_turn(ways: Mapping[str, Way], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds on the clock, seconds of processors) of each way, a round of all at a time."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            cpu, wall = sum(os.times()[:4]), time.perf_counter()
            way()
            taken[name].append((time.perf_counter() - wall, sum(os.times()[:4]) - cpu))
    return taken


def measure(
    title: str, folder: Path, paths: list[Path], repeats: int, threads: int
) -> tuple[str, str]:
    """A table, and what is said of parity."""
    ways = ways_of(folder, paths, threads)
    expected = Predictor(folder).predict_bytes([path.read_bytes() for path in paths])
    parity = []
    for name, way in ways.items():  # also warms each up
        answers = way()
        off = float(np.abs(answers - expected).max())
        same = int((answers.argmax(axis=1) == expected.argmax(axis=1)).sum())
        parity.append(f"{name}: |dp| <= {off:.1e}, same class {same} of {len(paths)}")
    taken = in_turn(ways, repeats)
    rows = []
    for mine in ("torch", "onnx"):
        for theirs in ("plain, num_workers=0", "plain, num_workers=2"):
            both = list(zip(taken[mine], taken[theirs], strict=True))
            for clock, index, target in (("clock", 0, ">= 2x"), ("processor", 1, "(shown)")):
                timed = [(a[index], b[index]) for a, b in both]
                rows.append(Row(f"{mine} ({clock})", theirs, timed, len(paths), target))
    return report(title, rows), "Against `Predictor`: " + "; ".join(parity) + "."


def first(paths: list[Path], count: int) -> list[Path]:
    """`count` images, evenly over all; fewer are repeated."""
    if not paths:
        raise SystemExit("Expected images below HISTO_MLFLOW_REALDATA, got none.")
    paths = paths[:: max(1, len(paths) // count)]
    return (paths * (count // len(paths) + 1))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_cores(), help="of our engines")
    parser.add_argument("--only", choices=("lite0", "resnet18"), help="one of the two models")
    options = parser.parse_args()
    data = Path(os.environ["HISTO_MLFLOW_REALDATA"])
    weights = data / "weights" / "tf_efficientnet_lite0-2d6c2e0f.pth"
    jpegs = first(sorted(data.glob("ham10000_all_200x150/*/*.jpg")), options.images)
    tiffs = first(sorted(data.glob("pcam_kaggle*/**/*.tif")), options.images)
    cases = {
        "lite0": ("timm/tf_efficientnet_lite0", weights if weights.is_file() else None, jpegs),
        "resnet18": ("torchvision/resnet18", None, tiffs),
    }
    for short, (name, file, paths) in cases.items():
        if options.only in (None, short):
            with tempfile.TemporaryDirectory() as temporary:
                folder = model_folder(name, file, Path(temporary))
                title = f"{name}, {PX} px, {len(set(paths))} different {paths[0].suffix} files"
                table, parity = measure(title, folder, paths, options.repeats, options.threads)
            print(table, parity, "", sep="\n")


if __name__ == "__main__":
    main()
