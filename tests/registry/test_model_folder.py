import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from histo_mlflow.errors import ModelFolderError
from histo_mlflow.models.build import build, specify
from histo_mlflow.registry.model_folder import read_model_folder, write_model_folder
from histo_mlflow.vision.decode import DecodeRule


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def test_what_was_written_is_read(model_folder: Path) -> None:
    assert sorted(p.name for p in model_folder.iterdir()) == ["model.json", "weights.safetensors"]
    model = read_model_folder(model_folder)
    expected = build(model.spec, seed=1).state_dict()
    (member,) = model.members
    read = member.state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[key], expected[key]) for key in expected)
    assert not member.training
    assert model.spec.classes == ("a", "b&c", "d e")
    assert model.rule == DecodeRule(32)
    assert model.facts["metrics"] == {"test/auc": 0.9}
    assert (model.calibration, model.temperature) == (None, 1.0)


def edit(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return apply


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)


def link_the_weights(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder.parent / "elsewhere")
    (folder / "weights.safetensors").symlink_to(folder.parent / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "altered weights": (flip_a_bit, "weights.safetensors was altered"),
    "a linked file": (link_the_weights, "is a link"),
    "an added file": (
        lambda f: (f / "extra.py").write_text("x"),
        "does not belong there: extra.py",
    ),
    "weights gone": (lambda f: (f / "weights.safetensors").unlink(), "lacks weights.safetensors"),
    "description gone": (lambda f: (f / "model.json").unlink(), "lacks model.json"),
    "folder gone": (shutil.rmtree, "no model folder at"),
    "no JSON": (lambda f: (f / "model.json").write_text("{"), "is not JSON"),
    "no text": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe"), "is not JSON"),
    "another JSON": (lambda f: (f / "model.json").write_text("[1]"), "does not describe a model"),
    "a later version": (edit(format_version=4), "format version 4, version 3 or an earlier"),
    "a version that is no number": (edit(format_version=[2]), r"format version \[2\], version 3"),
    "a version without its field": (edit(format_version=1), "must hold"),
    "provenance that is no mapping": (edit(provenance=[]), "must hold"),
    "a digest of another file": (edit(files={"../secret": "0" * 64}), "must hold"),
    "digests of an ensemble of one": (edit(files={"weights_0.safetensors": "0" * 64}), "must hold"),
    "an unknown field": (edit(loader="x"), "must hold"),
    "no digest": (edit(files={}), "must hold"),
    "an unknown architecture": (edit(spec={"name": "x"}), "cannot be built"),
    "an unknown rule": (edit(rule={"rule_version": 9}), "cannot be built"),
    "another size": (edit(rule=DecodeRule(48).to_dict()), "contradicts itself"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_folder_that_is_not_as_it_was_written_is_refused(copy: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    damage(copy)
    with pytest.raises(ModelFolderError, match=words):
        read_model_folder(copy)


def test_weights_of_another_architecture_are_refused(copy: Path) -> None:
    spec = specify("resnet18", ("a", "b"), image_px=32)
    edit(spec=spec.to_dict())(copy)
    with pytest.raises(ModelFolderError, match="cannot be built"):
        read_model_folder(copy)


def test_a_folder_is_never_overwritten_and_a_failed_write_leaves_nothing(
    model_folder: Path, tmp_path: Path
) -> None:
    model = read_model_folder(model_folder)
    weights = model_folder / "weights.safetensors"

    def write(folder: Path, px: int = 32, **provenance: object) -> None:
        write_model_folder(
            folder,
            spec=model.spec,
            rule=DecodeRule(px),
            weights_paths=[weights],
            calibration=None,
            provenance=provenance,
        )

    with pytest.raises(ModelFolderError, match="is there already"):
        write(model_folder)
    with pytest.raises(ModelFolderError, match="takes images of 32 px"):
        write(tmp_path / "m", px=48)
    with pytest.raises(ModelFolderError, match="as JSON"):
        write(tmp_path / "m", auc=float("nan"))
    with pytest.raises(ModelFolderError, match="as JSON"):
        write(tmp_path / "m", where=tmp_path)
    assert list(tmp_path.iterdir()) == []
