"""A number that is none stops the training, with the right step and the right images."""

import numpy as np
import pytest
import torch

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.errors import NotANumberError
from histo_mlflow.training.numbers import NumberWatch, expect_finite

INDEX = np.array([4, 7, 9, 2])
NAN, INF = torch.tensor(float("nan")), torch.tensor(float("inf"))
FINE = torch.tensor(0.5)


def names(index):
    return tuple(f"image_{i}" for i in index)


def watch(*, at_once=True, scaled=False):
    return NumberWatch(2, at_once, scaled, names)


def logits(*rows):
    found = torch.zeros(4, 3)
    found[list(rows), 1] = float("nan")
    return found


def test_finite_numbers_pass():
    for at_once in (True, False):
        watching = watch(at_once=at_once)
        for what in ("the loss", "the gradient", "the norm of the weights"):
            watching.expect(0, what, FINE, INDEX, logits())
        watching.look()


def test_the_image_whose_logits_broke_is_blamed_alone():
    with pytest.raises(NotANumberError) as caught:
        watch().expect(5, "the loss", NAN, INDEX, logits(2))

    assert caught.value.sample_ids == ("image_9",)
    message = str(caught.value)
    assert message.startswith(
        "the loss became nan in epoch 3, step 6, because of the images image_9:"
    )
    assert "lower lr" in message


@pytest.mark.parametrize("shown", [None, logits(), logits(0, 1, 2, 3)], ids=["none", "fine", "all"])
def test_where_nothing_singles_one_out_all_images_of_the_step_are_named(shown):
    with pytest.raises(NotANumberError, match="inf in epoch 3, step 1, with the images") as caught:
        watch().expect(0, "the loss", INF, INDEX, shown)

    assert caught.value.sample_ids == names(INDEX)


def test_many_images_are_counted_in_the_message_and_all_are_in_the_error():
    index = np.arange(20)
    with pytest.raises(NotANumberError, match="image_7 and 12 more:") as caught:
        watch().expect(0, "the gradient", INF, index)

    assert caught.value.sample_ids == names(index)


def test_a_delayed_look_names_the_first_step_concerned():
    watching = watch(at_once=False)
    watching.expect(0, "the loss", FINE, INDEX, logits())
    watching.expect(1, "the gradient", INF, INDEX)
    watching.expect(2, "the loss", NAN, INDEX, logits(0))

    with pytest.raises(NotANumberError, match="the gradient became inf in epoch 3, step 2"):
        watching.look()
    watching.look()  # looked at once, they are done with


def test_loss_scaling_is_allowed_its_infinite_gradients_but_no_other_number():
    watching = watch(scaled=True)
    watching.expect(0, "the gradient", INF, INDEX)

    with pytest.raises(NotANumberError, match="the norm of the weights"):
        watching.expect(0, "the norm of the weights", NAN, INDEX)


def test_a_validation_without_numbers_names_its_images(packed_noise):
    path, labels = packed_noise(6, 16)
    val = PackedDataset(path, np.array([5, 0, 3]), labels[[5, 0, 3]])
    expect_finite(np.zeros((3, 2)), 0, val)
    with pytest.raises(NotANumberError) as caught:
        expect_finite(np.array([[0.0, 1.0], [np.nan, 0.0], [0.0, np.inf]]), 4, val)

    assert caught.value.sample_ids == ("0", "3")
    assert str(caught.value).startswith(
        "validation after epoch 5 gave no numbers for 2 of 3 images (0, 3): lower lr"
    )
