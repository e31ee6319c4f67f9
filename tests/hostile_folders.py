"""Model folders that somebody has prepared, and a process that reads them under a watch.

Each case takes a sound model folder, or a sound MLflow model around one, and makes it hostile. What
code could do shows in three ways: a file that it would make, an event of Python's audit hook, and
what the reading gave.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

CANARY = "canary"
WEIGHTS = "weights.safetensors"


class Bomb:
    """Unpickled, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.canary}",))


def code(canary: Path) -> str:
    """A module that makes the canary when it is imported."""
    return f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n"


def reseal(folder: Path) -> None:
    """Write the digests of the files as they are: an attacker can do so as well."""
    held = [path for path in folder.iterdir() if path.name != "model.json" and path.is_file()]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in held}
    edit(folder, ("files",), digests)


def edit(folder: Path, keys: tuple[str, ...], value: object) -> None:
    path = folder / "model.json"
    description = json.loads(path.read_text())
    place = description
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(description))


Make = Callable[[Path, Path], object]


def spec(key: str, value: object) -> Make:
    return lambda folder, canary: edit(folder, ("spec", key), value)


def top(key: str, value: object) -> Make:
    return lambda folder, canary: edit(folder, (key,), value)


def weights(data: Callable[[Path], bytes]) -> Make:
    def make(folder: Path, canary: Path) -> None:
        (folder / WEIGHTS).write_bytes(data(canary))
        reseal(folder)

    return make


def torch_zip(folder: Path, canary: Path) -> None:
    torch.save({"state": Bomb(canary)}, folder / WEIGHTS)
    reseal(folder)


def header(text: bytes, data: bytes = b"", length: int | None = None) -> Make:
    size = struct.pack("<Q", len(text) if length is None else length)
    return weights(lambda canary: size + text + data)


def tensors(**entries: tuple[list[int], list[int]]) -> bytes:
    return json.dumps(
        {
            name: {"dtype": "F32", "shape": shape, "data_offsets": offsets}
            for name, (shape, offsets) in entries.items()
        }
    ).encode()


def changed_weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Make:
    def make(folder: Path, canary: Path) -> None:
        state = load_file(folder / WEIGHTS)
        name = max(state, key=lambda key: state[key].numel())
        state[name] = change(state[name]).contiguous()
        save_file(state, folder / WEIGHTS)
        reseal(folder)

    return make


def with_nan(values: torch.Tensor) -> torch.Tensor:
    values.view(-1)[7] = float("nan")
    return values


def moved_away(folder: Path, name: str) -> Path:
    outside = folder.parent / f"outside-{name}"
    shutil.move(folder / name, outside)
    return outside


def link(name: str) -> Make:
    return lambda folder, canary: (folder / name).symlink_to(moved_away(folder, name))


def in_place_of(name: str, make: Callable[[Path], object]) -> Make:
    def apply(folder: Path, canary: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return apply


def large_description(folder: Path, canary: Path) -> None:
    """A gigabyte that takes no room on the disk."""
    with (folder / "model.json").open("r+b") as file:
        file.truncate(2**30)


def deep(text: str) -> Make:
    return lambda folder, canary: (folder / "model.json").write_text(text)


def deep_provenance(folder: Path, canary: Path) -> None:
    edit(folder, ("provenance",), "DEEP")
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"DEEP"', "[" * 5000 + "]" * 5000))


def added(name: str, content: Callable[[Path], bytes]) -> Make:
    def make(folder: Path, canary: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(canary))

    return make


def pickled(canary: Path) -> bytes:
    return pickle.dumps(Bomb(canary))


def zip_bomb(canary: Path) -> bytes:
    import io
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    return file.getvalue()


REFUSED: dict[str, tuple[Make, str]] = {
    "a pickle called safetensors": (weights(pickled), "header too large"),
    "a torch file called safetensors": (torch_zip, "header too large"),
    "a zip bomb called safetensors": (weights(zip_bomb), "header too large"),
    "an added pickle": (added("data.pkl", pickled), "does not belong there: data.pkl"),
    "added code": (
        added("__init__.py", lambda c: code(c).encode()),
        "does not belong there: __init__.py",
    ),
    "an added folder of code": (
        added("code/sitecustomize.py", lambda c: code(c).encode()),
        "is a link or no plain file",
    ),
    "a header of 2^60 bytes": (header(b"{}", length=2**60), "header too large"),
    "a header longer than the file": (header(b"{}", length=90_000_000), "invalid header length"),
    "a header nested 100,000 deep": (header(b"[" * 100_000), "cannot be read as weights"),
    "tensors that share their bytes": (
        header(tensors(a=([1], [0, 4]), b=([1], [0, 4])), b"0000"),
        "invalid offset",
    ),
    "a tensor beyond the file": (
        header(tensors(a=([9], [0, 36])), b"0000"),
        "cannot be read as weights",
    ),
    "a tensor of 2^70 numbers": (
        header(tensors(a=([2**40, 2**30], [0, 4])), b"0000"),
        "cannot be read as weights",
    ),
    "a name of two tensors": (
        header(
            tensors(a=([1], [0, 4]))[:-1] + b',"a":' + tensors(b=([1], [4, 8]))[6:], b"00000000"
        ),
        "invalid offset",
    ),
    "weights of another shape": (changed_weights(lambda t: t[:1]), "1 of another shape"),
    "weights that are not there": (header(b"{}"), "missing"),
    "NaN among the weights": (changed_weights(with_nan), "numbers that are none: 1 with NaN"),
    "a linked file of weights": (link(WEIGHTS), "is a link or no plain file"),
    "a linked description": (link("model.json"), "is a link or no plain file"),
    "a linked card": (link("MODEL_CARD.md"), "is a link or no plain file"),
    "a pipe for the weights": (in_place_of(WEIGHTS, os.mkfifo), "is a link or no plain file"),
    "a pipe for the description": (
        in_place_of("model.json", os.mkfifo),
        "holds neither model.json",
    ),
    "a link to a device without an end": (
        in_place_of(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
        "is a link or no plain file",
    ),
    "a folder for the weights": (in_place_of(WEIGHTS, Path.mkdir), "is a link or no plain file"),
    "a file outside": (top("files", {"../outside": "0" * 64}), "must hold"),
    "an absolute path": (top("files", {"/etc/passwd": "0" * 64}), "must hold"),
    "a backslash": (top("files", {"..\\outside": "0" * 64}), "must hold"),
    "a digest of nothing": (top("files", {}), "must hold"),
    "a digest that is no text": (top("files", {WEIGHTS: 0}), "must hold"),
    "a description of a gigabyte": (large_description, "at most 67,108,864 were expected"),
    "a description nested 200,000 deep": (deep("[" * 200_000), "is not JSON"),
    "mappings nested 200,000 deep": (deep('{"a":' * 200_000), "is not JSON"),
    "provenance nested 5,000 deep": (deep_provenance, "is not JSON"),
    "a number of 100,000 digits": (deep('{"format": ' + "9" * 100_000 + "}"), "is not JSON"),
    "an unknown field": (top("loader_module", "os"), "must hold"),
    "a temperature of NaN": (
        top("calibration", {"temperature": float("nan"), "thresholds": {}}),
        "Expected a temperature above 0",
    ),
    "a threshold of infinity": (
        top(
            "calibration",
            {"temperature": 1.0, "thresholds": {"cost": {"a": {"value": float("inf")}}}},
        ),
        "Expected a probability",
    ),
    "a rule that never answers": (
        top("abstain", {"below": float("nan"), "share": 0.1, "rows": 1}),
        "Expected below of the rule to abstain",
    ),
    "a rule to decode by a function": (top("rule", {"eval": "os.system"}), "decode rule"),
    "a function as the architecture": (spec("name", "os.system"), "Neither torchvision nor timm"),
    "a function of torchvision": (spec("name", "torchvision/get_model"), "Neither torchvision"),
    "an architecture of the hub": (spec("name", "timm/hf-hub:evil/model"), "Neither torchvision"),
    "the hub after a known name": (spec("name", "timm/resnet18.hf-hub:evil/x"), "Neither"),
    "an architecture in a folder": (spec("name", "timm/local-dir:/tmp/evil"), "Neither"),
    "an architecture in a module": (spec("name", "module:canary"), "Neither torchvision"),
    "an expression as the head": (spec("head", "__import__('os').system('id')"), "head must be"),
    "10^12 hidden units": (spec("hidden", 10**12), "at most 65,536 were expected"),
    "10^9 pixels a side": (top("rule", {"image_px": 10**9}), "decode rule|image_px"),
    "a million classes": (
        spec("classes", [str(k) for k in range(10**6)]),
        "at most 65,536 were expected",
    ),
    "a class with a line break": (spec("classes", ["a", "b\nWARN"]), "without control characters"),
    "a class that moves the cursor": (spec("classes", ["a", "\x1b[2J"]), "without control"),
    "classes that are no names": (spec("classes", [["a"], "b"]), "lists the names"),
    "classes that are one text": (spec("classes", "ab"), "lists the names"),
    "a mean of NaN": (spec("mean", [float("nan")] * 3), "finite"),
    "a description gone": (lambda f, c: (f / "model.json").unlink(), "holds neither model.json"),
    "weights gone": (lambda f, c: (f / WEIGHTS).unlink(), f"lacks {WEIGHTS}"),
    "a card altered": (
        lambda f, c: (f / "MODEL_CARD.md").write_bytes(b"# Safe"),
        "MODEL_CARD.md was altered",
    ),
}
"""What makes a model folder hostile, and what is said of it."""


def mlmodel(**flavor: object) -> Callable[[Path, Path], None]:
    """Put something into the `python_function` of an MLmodel."""

    def make(model: Path, canary: Path) -> None:
        path = model / "MLmodel"
        held = yaml.safe_load(path.read_text())
        held["flavors"]["python_function"].update(flavor)
        path.write_text(yaml.safe_dump(held))

    return make


def with_code(*names: str, loader: str | None = None) -> Make:
    def make(model: Path, canary: Path) -> None:
        for name in names:
            (model / name).parent.mkdir(parents=True, exist_ok=True)
            (model / name).write_text(code(canary))
        if loader is not None:
            mlmodel(loader_module=loader, code="code")(model, canary)

    return make


def with_pickle(model: Path, canary: Path) -> None:
    (model / "python_model.pkl").write_bytes(pickled(canary))
    (model / "artifacts" / "python_model.pkl").write_bytes(pickled(canary))
    mlmodel(python_model="python_model.pkl", cloudpickle_version="3.0.0")(model, canary)


def yaml_tag(model: Path, canary: Path) -> None:
    (model / "MLmodel").write_text(f"x: !!python/object/apply:os.system ['touch {canary}']\n")


def hostile_requirements(model: Path, canary: Path) -> None:
    (model / "requirements.txt").write_text("--index-url http://127.0.0.1:9/\nevil @ file:///x\n")
    (model / "setup.py").write_text(code(canary))


def linked_folder(model: Path, canary: Path) -> None:
    outside = model.parent / "outside"
    shutil.move(model / "artifacts" / "model_folder", outside)
    (model / "artifacts" / "model_folder").symlink_to(outside)


def linked_artifacts(model: Path, canary: Path) -> None:
    outside = model.parent / "outside"
    shutil.move(model / "artifacts", outside)
    (model / "artifacts").symlink_to(outside)


def inside(make: Make) -> Make:
    return lambda model, canary: make(model / "artifacts" / "model_folder", canary)


LOGGED: dict[str, tuple[Make, str | None]] = {
    "loader_module: os": (mlmodel(loader_module="os"), None),
    "a loader_module of its own code": (with_code("code/canary.py", loader="canary"), None),
    "code in place of ours": (
        with_code("code/histo_mlflow/__init__.py", "code/histo_mlflow/errors.py"),
        None,
    ),
    "code in place of the standard library's": (
        with_code("code/json.py", "json.py", "code/sitecustomize.py", "usercustomize.py"),
        None,
    ),
    "another serving model": (with_code("serving_model.py"), None),
    "a python_model to unpickle": (with_pickle, None),
    "an MLmodel with a YAML tag": (yaml_tag, None),
    "requirements from elsewhere": (hostile_requirements, None),
    "no MLmodel": (lambda model, canary: (model / "MLmodel").unlink(), None),
    "a linked model folder": (linked_folder, "is a link; the folder of a model holds none"),
    "linked artifacts": (linked_artifacts, "is a link; the folder of a model holds none"),
    "a pickle called safetensors inside": (inside(weights(pickled)), "header too large"),
    "a pipe for the description inside": (
        inside(in_place_of("model.json", os.mkfifo)),
        "is a link or no plain file",
    ),
    "a model folder gone": (
        lambda model, canary: shutil.rmtree(model / "artifacts" / "model_folder"),
        "holds neither",
    ),
}
"""What makes an MLflow model hostile; None where its model folder is sound and is what is read."""

TOLD = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "socket.getaddrinfo",
    "urllib.Request",
    "ctypes.dlopen",
)


def watch(root: Path, events: list[str]) -> None:
    """Note what would be code of a folder below `root` at work, or a way out of the process."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in TOLD:
            events.append(f"{event} {arguments!r}"[:200])
        elif event == "exec" and str(root) in getattr(arguments[0], "co_filename", ""):
            events.append(f"exec {arguments[0].co_filename}")
        elif event == "import" and arguments[1] and str(root) in str(arguments[1]):
            events.append(f"import {arguments[0]} {arguments[1]}")

    sys.addaudithook(hook)


def main() -> None:
    """Read every folder below the first argument; print what came of each as JSON."""
    import resource
    import signal

    from histo_mlflow.errors import HistoMlflowError
    from histo_mlflow.jobs.find_model import find_model
    from histo_mlflow.registry.predictor import Predictor

    root = Path(sys.argv[1])
    Predictor(root / "sound")  # whatever is imported late is imported now
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    events: list[str] = []
    watch(root, events)
    results = {}
    for folder in sorted((root / "cases").iterdir()):
        events.clear()
        before = time.monotonic()
        signal.alarm(30)  # a pipe that is waited for ends the process
        try:
            with find_model(str(folder / "model"), runs_dir=root / "none") as found:
                outcome = f"read {Predictor(found.folder).digest}"
        except HistoMlflowError as error:
            outcome = f"refused {error}"
        except Exception as error:  # noqa: BLE001 -- to be seen in the results
            outcome = f"{type(error).__name__} {error}"
        results[folder.name] = {
            "outcome": outcome,
            "events": list(events),
            "seconds": time.monotonic() - before,
        }
        signal.alarm(0)
    print(json.dumps({"cases": results, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """The most memory that this process has had.

    Not `ru_maxrss`: a process inherits that from the one that started it, which may be a worker of
    pytest with gigabytes.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main()
