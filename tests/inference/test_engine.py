"""Each engine against the plain `Predictor`, and against models that are computed by hand."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from histo_mlflow.errors import DataError, DeviceError, EngineError
from histo_mlflow.inference import _torch_engine, engine
from histo_mlflow.inference._parity import difference
from histo_mlflow.inference.engine import engine_probabilities, make_engine
from histo_mlflow.models.build import build
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.registry.predictor import Predictor

KINDS = ("one", "folds", "sigmoid", "batch norms")


@pytest.fixture(scope="module")
def made(folders):
    """Engines by kind of model and name, each made once: exporting takes seconds."""
    engines = {}

    def get(kind, name):
        if (kind, name) not in engines:
            engines[kind, name] = make_engine(read_model_folder(folders[kind]), name)
        return engines[kind, name]

    return get


def pixels(count: int, px: int = 32) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, px, px, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*(("torch", kind) for kind in KINDS), ("onnx", "folds"), ("onnx", "sigmoid")],
)
def test_an_engine_says_what_the_predictor_says(folders, made, kind, name):
    images = pixels(65)
    plain = Predictor(folders[kind])
    fast = made(kind, name)

    logits = fast.logits(images)

    assert (fast.name, fast.classes, fast.notes) == (name, plain.classes, ())
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, plain.logits_pixels(images), rtol=1e-4, atol=1e-4)
    answers = engine_probabilities(logits, fast.output)
    expected = plain.predict_pixels(images)
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    assert (answers.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_the_members_logits_are_averaged_and_divided_by_the_temperature(folders):
    images = pixels(5)
    model = read_model_folder(folders["folds"])
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        each = [build(model.spec, seed=seed).eval()(batch).double().numpy() for seed in (1, 2)]

    logits = make_engine(model).logits(images)

    np.testing.assert_allclose(logits, sum(each) / 2 / 1.7, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_any_number_of_images_has_the_answers_of_each_alone(made, name):
    images = pixels(65)
    fast = made("one", name)
    alone = np.concatenate([fast.logits(images[n : n + 1]) for n in range(65)])

    for count in (0, 1, 63, 64, 65):
        logits = fast.logits(images[:count])
        assert logits.shape == (count, 3)
        np.testing.assert_allclose(logits, alone[:count], rtol=1e-4, atol=1e-4)


def test_the_same_images_have_the_same_answers_bit_by_bit(folders):
    images = pixels(64)
    one, other = (make_engine(read_model_folder(folders["batch norms"])) for _ in range(2))
    first = one.logits(images)
    other.logits(images[:7])

    assert all((one.logits(images) == first).all() for _ in range(3))
    assert (other.logits(images) == first).all()


def eight_views(images):
    return [
        np.ascontiguousarray(np.rot90(seen, quarters, (1, 2)))
        for seen in (images, images[:, :, ::-1])
        for quarters in range(4)
    ]


@pytest.mark.parametrize(("kind", "name"), [("folds", "torch"), ("one", "onnx")])
def test_test_time_augmentation_is_the_mean_of_the_eight_views(folders, kind, name):
    images = pixels(3)
    plain = Predictor(folders[kind])
    expected = np.mean([plain.logits_pixels(seen) for seen in eight_views(images)], axis=0)
    fast = make_engine(read_model_folder(folders[kind]), name, tta=True)

    logits = fast.logits(images)

    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    for seen in eight_views(images):
        np.testing.assert_allclose(fast.logits(seen), logits, rtol=1e-4, atol=1e-4)


def test_an_optimisation_that_changes_the_answers_is_dropped_and_told(folders, monkeypatch):
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))

    def broken(module):
        return lambda images: wrong(images.float())

    monkeypatch.setattr(torch.jit, "optimize_for_inference", broken)
    fast = make_engine(read_model_folder(folders["folds"]))
    images = pixels(9)

    assert len(fast.notes) == 2
    assert fast.notes[0].startswith("member 0 of the model is computed plainly, not optimised")
    expected = Predictor(folders["folds"]).logits_pixels(images)
    np.testing.assert_allclose(fast.logits(images), expected, rtol=1e-4, atol=1e-4)


def test_a_model_that_cannot_be_traced_is_computed_plainly_and_told(folders, monkeypatch):
    def fails(*_args, **_kwargs):
        raise RuntimeError("torch.jit is not supported here\nand more")

    monkeypatch.setattr(torch.jit, "trace", fails)
    fast = make_engine(read_model_folder(folders["one"]))
    images = pixels(9)

    assert fast.notes == (
        "the model is computed plainly, not optimised: "
        "RuntimeError: torch.jit is not supported here",
    )
    expected = Predictor(folders["one"]).logits_pixels(images)
    np.testing.assert_allclose(fast.logits(images), expected, rtol=1e-4, atol=1e-4)


def test_onnx_that_says_something_else_is_refused(folders, monkeypatch):
    monkeypatch.setattr(
        engine,
        "onnx_forwards",
        lambda *_: [lambda images: torch.eye(3)[torch.zeros(len(images), dtype=torch.long)]],
    )
    with pytest.raises(EngineError, match=r"Expected ONNX Runtime to answer as torch does"):
        make_engine(read_model_folder(folders["one"]), "onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_one_plain_sentence(folders, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(EngineError, match=r"pip install 'histo-mlflow\[onnx\]'"):
        make_engine(read_model_folder(folders["one"]), "onnx")


def test_a_model_that_cannot_be_exported_is_refused_in_plain_words(folders, monkeypatch):
    def fails(*_args, **_kwargs):
        raise TypeError("no such operator\nand a page more")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(EngineError, match=r"cannot \(no such operator\); use the engine torch"):
        make_engine(read_model_folder(folders["one"]), "onnx")


def test_making_an_onnx_engine_prints_nothing(folders, capfd):
    make_engine(read_model_folder(folders["one"]), "onnx")

    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_torch_engine_needs_no_onnx():
    code = (
        "import sys, histo_mlflow.inference.pipeline; "
        "print(sorted({'onnx', 'onnxscript', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_what_cannot_be_is_refused(folders):
    model = read_model_folder(folders["one"])
    with pytest.raises(EngineError, match="torch or onnx, got 'tensorrt'"):
        make_engine(model, "tensorrt")
    with pytest.raises(EngineError, match="device cpu"):
        make_engine(model, "onnx", device="cuda")
    with pytest.raises(EngineError, match="1 thread or more"):
        make_engine(model, threads=0)
    with pytest.raises(DeviceError, match="'nowhere'"):
        make_engine(model, device="nowhere")
    fast = make_engine(model)
    for wrong in (pixels(2).astype(np.float32), pixels(2, 31), pixels(2)[0]):
        with pytest.raises(DataError, match=r"uint8 pixels of shape \(n, 32, 32, 3\)"):
            fast.logits(wrong)


def test_the_loaded_model_stays_as_it_was(folders):
    model = read_model_folder(folders["batch norms"])
    before = {key: value.clone() for key, value in model.members[0].state_dict().items()}
    make_engine(model)

    after = model.members[0].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_read_only_pixels_are_taken_without_a_warning(folders, recwarn):
    images = pixels(2)
    images.flags.writeable = False
    make_engine(read_model_folder(folders["one"])).logits(images)

    assert [str(one.message) for one in recwarn if "writable" in str(one.message)] == []


@pytest.mark.parametrize(
    ("fast", "expected"),
    [
        ([[2.0, 0.0]], None),
        ([[2.0005, 0.0]], None),
        ([[2.1, 0.0]], "probabilities that differ by up to 0.01"),
        ([[float("nan"), 0.0]], "probabilities that differ by up to nan"),
        ([[2.0, 0.0, 0.0]], "logits of shape (1, 3) in place of (1, 2)"),
    ],
    ids=["equal", "rounding", "different", "nan", "shape"],
)
def test_a_difference_is_said_in_words(fast, expected):
    said = difference(torch.tensor([[2.0, 0.0]]), torch.tensor(fast), "softmax", 1.0)

    assert said is None if expected is None else str(said).startswith(expected)


def test_a_near_tie_may_turn_but_no_clear_class():
    one, other = torch.tensor([[0.0004, 0.0]]), torch.tensor([[0.0, 0.0004]])
    tie, turned = torch.tensor([[0.00001, 0.0]]), torch.tensor([[0.0, 0.00001]])

    assert difference(one, other, "softmax", 1.0) == "another likeliest class"
    assert difference(tie, turned, "softmax", 1.0) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "image_px"),
    [("resnet18", 96), ("timm/efficientnet_lite0", 96), ("timm/vit_tiny_patch16_224", 96)],
    ids=["resnet18", "efficientnet_lite0", "vit_tiny"],
)
def test_usual_architectures_can_be_optimised_and_exported(
    tmp_path: Path, write_model: Callable[..., Path], model: str, image_px: int
):
    folder = write_model(tmp_path / "m", model=model, image_px=image_px)
    loaded = read_model_folder(folder)
    images = pixels(33, image_px)
    expected = Predictor(folder).predict_pixels(images)

    for name in engine.KINDS:
        fast = make_engine(loaded, name)
        assert fast.notes == ()
        answers = engine_probabilities(fast.logits(images), fast.output)
        np.testing.assert_allclose(answers, expected, atol=1e-4)


def test_a_trace_that_fits_one_size_of_a_batch_is_found_out():
    class CountsImages(nn.Module):
        def forward(self, images):
            mean = images.float().mean((1, 2, 3)) / 255
            return torch.stack([mean * int(images.shape[0]), mean], dim=1)

    model = CountsImages().eval()
    (forward,), notes = _torch_engine.torch_forwards([model], 32, "softmax", 1.0, "cpu")
    images = torch.from_numpy(pixels(3)).permute(0, 3, 1, 2)

    assert len(notes) == 1
    assert "optimised it gives probabilities that differ" in notes[0]
    torch.testing.assert_close(forward(images), model(images))
