"""What is logged must say what was trained."""

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from histo_mlflow.errors import DataError, ParityError
from histo_mlflow.registry import log_model, parity
from histo_mlflow.registry.parity import Sample, check, evenly
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.tracking.start import start_run

CLASSES = ("a", "b&c", "d e")


def sample_of(folder, images, shift=0.0):
    probabilities = Predictor(folder).predict_bytes(images)
    probabilities[1] += [shift, -shift, 0]
    return Sample(tuple(f"image {k}" for k in range(len(images))), tuple(images), probabilities)


@pytest.fixture
def other(run):
    started = start_run(run.store, "demo", "parity", {}, {}, system_metrics=False)
    yield started
    started.end("finished")


def models_of(run):
    return MlflowClient(run.tracking_uri).search_logged_models(
        experiment_ids=[run.experiment_id], filter_string=f"source_run_id = '{run.run_id}'"
    )


def test_a_model_that_agrees_is_tagged_with_the_largest_difference_and_asked_once(
    other, model_folder, images, monkeypatch
):
    sample = sample_of(model_folder, images)
    model_id = log_model.log_once(other, model_folder, images[0], sample=sample)

    [model] = models_of(other)
    assert float(model.tags[log_model.PARITY_TAG]) <= 1e-6
    monkeypatch.setattr(log_model, "check", lambda *_: pytest.fail("asked again"))
    assert log_model.log_once(other, model_folder, images[0], sample=sample) == model_id


def test_a_model_that_says_something_else_is_an_error_and_stays_nowhere(
    other, model_folder, images
):
    sample = sample_of(model_folder, images, shift=2e-3)
    with pytest.raises(
        ParityError, match=r"0\.002 apart for image 1, at most 0\.001 is allowed; 1"
    ):
        log_model.log_once(other, model_folder, images[0], sample=sample)
    assert models_of(other) == []


def test_a_model_whose_parity_was_not_asked_before_a_kill_is_asked_later(
    other, model_folder, images
):
    model_id = log_model.log_once(other, model_folder, images[0])
    bad = sample_of(model_folder, images, shift=0.1)
    with pytest.raises(ParityError):
        log_model.log_once(other, model_folder, images[0], sample=bad)
    assert model_id not in [model.model_id for model in models_of(other)]


def answering(probabilities, classes):
    def answer(table: pd.DataFrame) -> pd.DataFrame:
        found = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASSES])
        return found.assign(**{"class": classes})

    return answer


def test_a_wrong_class_column_nan_and_missing_rows_do_not_pass(images):
    true = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    sample = Sample(("x", "y"), tuple(images[:2]), true)
    assert check(answering(true + np.array([5e-4, -5e-4, 0]), ["b&c", "a"]), CLASSES, sample) < 6e-4
    with pytest.raises(ParityError, match="class is not the one of its greatest"):
        check(answering(true, ["b&c", "b&c"]), CLASSES, sample)
    with pytest.raises(ParityError, match="with 1 that are not finite"):
        check(answering(np.where(true == 0.1, np.nan, true), ["b&c", "a"]), CLASSES, sample)
    with pytest.raises(ParityError, match=r"shape \(2, 3\) from the logged model, got \(1, 3\)"):
        check(answering(true[:1], ["b&c"]), CLASSES, sample)


def test_a_sample_is_read_as_it_was_written(images):
    sample = Sample(("x", "ü"), tuple(images[:2]), np.array([[0.1, 0.9], [1 / 3, 2 / 3]]))
    again = parity.from_bytes(parity.to_bytes(sample))
    assert (again.ids, again.images) == (sample.ids, sample.images)
    np.testing.assert_array_equal(again.probabilities, sample.probabilities)
    with pytest.raises(DataError, match="Expected images to compare"):
        parity.from_bytes(b"PAR1 and no more")


@pytest.mark.parametrize(("rows", "picked"), [(1, 1), (5, 5), (32, 32), (1000, 32)])
def test_a_sample_is_spread_over_the_table(rows, picked):
    found = evenly(rows)
    assert (len(found), found[0], found[-1]) == (picked, 0, rows - 1)
