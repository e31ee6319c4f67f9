"""Many images in threads: in order, each with its answer or its reason."""

import threading
import time
import zipfile

import numpy as np
import pytest
import torch

from histo_mlflow.errors import DataError, EngineError
from histo_mlflow.inference.engine import make_engine
from histo_mlflow.inference.pipeline import NOT_FINITE, decode_and_predict
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule, decode


@pytest.fixture(scope="module")
def loaded(folders):
    return {kind: read_model_folder(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def engines(loaded):
    return {kind: make_engine(model) for kind, model in loaded.items()}


def items(images):
    return [(number, lambda data=data: data) for number, data in enumerate(images)]


def rows(answered):
    return np.stack([one.probabilities for one in answered])


@pytest.mark.parametrize("kind", ["one", "folds", "sigmoid"])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 140])
def test_the_answers_are_the_predictors(folders, loaded, engines, many_images, kind, count):
    expected = Predictor(folders[kind]).predict_bytes(many_images[:count])
    members = [(engines[kind], loaded[kind].rule)]

    answered = list(decode_and_predict(members, items(many_images[:count]), threads=2))

    assert [one.key for one in answered] == list(range(count))
    assert {one.reason for one in answered} == {None}
    np.testing.assert_allclose(rows(answered), expected, atol=1e-4)
    assert (rows(answered).argmax(axis=1) == expected.argmax(axis=1)).all()


def test_no_images_have_no_answers(loaded, engines):
    assert list(decode_and_predict([(engines["one"], loaded["one"].rule)], [], threads=2)) == []


def test_bad_images_are_answers_with_a_reason_in_their_place(loaded, engines, many_images):
    def fails(error):
        def read():
            raise error

        return read

    good = items(many_images[:70])
    bad = {
        0: ("empty", lambda: b""),
        33: ("gif", lambda: b"GIF89a" + bytes(50)),
        34: ("cut", lambda: many_images[0][:200]),
        35: ("gone", fails(FileNotFoundError(2, "No such file or directory", "/some/where"))),
        36: ("zip", fails(zipfile.BadZipFile("Bad CRC-32 for file 'a'"))),
        37: ("ours", fails(DataError("the row names no image"))),
        38: ("end", fails(EOFError())),
        69: ("last", lambda: b"II*\0"),
    }
    mixed = [bad.get(number, one) for number, one in enumerate(good)]
    members = [(engines["one"], loaded["one"].rule)]

    answered = list(decode_and_predict(members, mixed, batch=32, threads=3))

    assert [one.key for one in answered] == [key for key, _ in mixed]
    assert {n for n, one in enumerate(answered) if one.probabilities is None} == set(bad)
    reasons = {str(answered[n].key): answered[n].reason for n in bad}
    assert reasons["empty"] == "empty file"
    assert reasons["gone"] == "cannot be read: No such file or directory"
    assert reasons["ours"] == "the row names no image"
    assert reasons["end"] == "EOFError"
    assert "CRC" in str(reasons["zip"])
    assert all(reasons.values())
    kept = [one for one in answered if one.reason is None]
    alone = list(decode_and_predict(members, good, batch=32, threads=1))
    expected = [one for one in alone if one.key not in bad]
    np.testing.assert_allclose(rows(kept), rows(expected), atol=1e-6)


def test_a_chunk_of_bad_images_only_is_answered(loaded, engines):
    members = [(engines["one"], loaded["one"].rule)]
    answered = list(decode_and_predict(members, items([b""] * 9), batch=4, threads=2))

    assert [one.reason for one in answered] == ["empty file"] * 9


def test_the_order_is_kept_when_early_images_are_slow(loaded, engines, many_images):
    def slow(number):
        def read():
            time.sleep(0.03 * (number % 4 == 0))
            return many_images[number]

        return read

    members = [(engines["one"], loaded["one"].rule)]
    some = [(f"id-{n}", slow(n)) for n in range(60)]
    answered = list(decode_and_predict(members, some, batch=3, threads=8))

    assert [one.key for one in answered] == [key for key, _ in some]
    expected = list(decode_and_predict(members, some, batch=3, threads=1))
    assert (rows(answered) == rows(expected)).all()


def test_items_are_asked_for_only_a_little_ahead(loaded, engines, many_images):
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield asked[-1], lambda: many_images[0]

    members = [(engines["one"], loaded["one"].rule)]
    answers = decode_and_predict(members, endless(), batch=4, threads=2)
    first = [next(answers).key for _ in range(10)]
    answers.close()

    assert first == list(range(10))
    assert len(asked) <= 10 + 4 * 5


def test_torch_gets_its_number_of_threads_back_and_no_thread_stays(loaded, engines, many_images):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        members = [(engines["one"], loaded["one"].rule)]
        answers = decode_and_predict(members, items(many_images), batch=8, threads=2)
        next(answers)
        assert [t for t in threading.enumerate() if t.name.startswith("predict")]
        answers.close()
        assert torch.get_num_threads() == 2
        seen = []
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert seen == [2]
        assert not [t for t in threading.enumerate() if t.name.startswith("predict")]
    finally:
        torch.set_num_threads(before)


def test_a_bug_in_what_reads_is_raised(loaded, engines):
    def broken():
        raise KeyError("no such column")

    members = [(engines["one"], loaded["one"].rule)]
    with pytest.raises(KeyError):
        list(decode_and_predict(members, [(0, broken)], threads=2))


def test_several_models_see_an_image_by_their_own_rules(
    tmp_path, write_model, loaded, engines, many_images
):
    other = read_model_folder(write_model(tmp_path / "m", seeds=(7,), image_px=48, fit="squash"))
    members = [
        (engines["folds"], loaded["folds"].rule),
        (engines["one"], loaded["one"].rule),
        (make_engine(other), other.rule),
    ]
    plain = [(Predictor(tmp_path / "m"), DecodeRule(48, "squash"))]
    logits = []
    for model, rule in [(loaded["folds"], DecodeRule(32)), (loaded["one"], DecodeRule(32))]:
        batch = torch.from_numpy(np.stack([decode(one, rule) for one in many_images[:9]]))
        with torch.no_grad():
            said = [one(batch.permute(0, 3, 1, 2)).double().numpy() for one in model.members]
        logits.append(np.mean(said, axis=0) / model.temperature)
    for predictor, rule in plain:
        logits.append(
            predictor.logits_pixels(np.stack([decode(one, rule) for one in many_images[:9]]))
        )
    mean = np.mean(logits, axis=0)
    expected = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)

    answered = list(decode_and_predict(members, items(many_images[:9]), threads=2))

    np.testing.assert_allclose(rows(answered), expected, atol=1e-4)


def test_an_image_is_decoded_once_for_each_different_rule(
    monkeypatch, loaded, engines, many_images
):
    seen = []

    def counted(data, rule):
        seen.append(rule)
        return decode(data, rule)

    monkeypatch.setattr("histo_mlflow.inference.pipeline.decode", counted)
    members = [(engines[kind], loaded[kind].rule) for kind in ("one", "folds")]
    list(decode_and_predict(members, items(many_images[:5]), threads=2))

    assert len(seen) == 5


def test_a_sigmoid_and_a_softmax_of_the_same_two_classes_can_be_averaged(
    tmp_path, write_model, loaded, engines, many_images
):
    softmax = read_model_folder(write_model(tmp_path / "m", ("benign", "malignant"), seeds=(4,)))
    members = [
        (engines["sigmoid"], loaded["sigmoid"].rule),
        (make_engine(softmax), softmax.rule),
    ]
    images = np.stack([decode(one, DecodeRule(32)) for one in many_images[:6]])
    odds = engines["sigmoid"].logits(images)[:, 0]
    two = members[1][0].logits(images)
    malignant = 1 / (1 + np.exp(-(odds + two[:, 1] - two[:, 0]) / 2))

    answered = list(decode_and_predict(members, items(many_images[:6]), threads=2))

    np.testing.assert_allclose(rows(answered)[:, 1], malignant, atol=1e-9)


def test_models_that_do_not_fit_together_are_refused_at_once(loaded, engines):
    one = (engines["one"], loaded["one"].rule)
    with pytest.raises(EngineError, match="one model or more"):
        decode_and_predict([], [], threads=1)
    with pytest.raises(EngineError, match="same classes"):
        decode_and_predict([one, (engines["sigmoid"], loaded["sigmoid"].rule)], [], threads=1)
    with pytest.raises(EngineError, match="32 px, got one of 40 px"):
        decode_and_predict([(engines["one"], DecodeRule(40))], [], threads=1)
    with pytest.raises(EngineError, match="batch and threads"):
        decode_and_predict([one], [], threads=0)


def test_an_answer_that_is_no_number_is_a_bad_image(loaded, engines, many_images):
    class Broken:
        name, classes, output, image_px, notes = "torch", ("a", "b", "c"), "softmax", 32, ()

        def logits(self, images_NHWC):
            logits = np.zeros((len(images_NHWC), 3))
            logits[1, 2] = np.nan
            return logits

    members = [(Broken(), loaded["one"].rule)]
    answered = list(decode_and_predict(members, items(many_images[:3]), threads=1))

    assert [one.reason for one in answered] == [None, NOT_FINITE, None]


def test_onnx_answers_in_threads_too(folders, loaded, many_images):
    fast = make_engine(loaded["one"], "onnx", threads=1)
    expected = Predictor(folders["one"]).predict_bytes(many_images)

    answered = list(decode_and_predict([(fast, loaded["one"].rule)], items(many_images), threads=4))

    np.testing.assert_allclose(rows(answered), expected, atol=1e-4)
