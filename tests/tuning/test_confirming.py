"""The recipe of a confirmation's winner, ready for `histo-mlflow train --dataset`."""

from types import SimpleNamespace

import pytest

from histo_mlflow.recipe import load
from histo_mlflow.tuning.confirm.confirm_plan import Candidate
from histo_mlflow.tuning.confirming import _winner_recipe


def judged(candidate):
    winner = None if candidate is None else SimpleNamespace(candidate=candidate)
    return SimpleNamespace(winner=winner, reason="the best confirmed mean")


@pytest.mark.parametrize(("dataset", "folder"), [("ham10000", "data/ham10000"), ("demo", "auto")])
def test_the_winner_is_trained_on_the_images_of_its_base_recipe(dataset, folder):
    winner = Candidate(7, {"lr": 0.003}, 0.9, "r" * 32)

    recipe = _winner_recipe(judged(winner), load(dataset), "my study-winner")

    assert (recipe.name, recipe.data.data_dir) == ("my_study-winner", folder)
    assert recipe.optimisation.lr == 0.003
    assert recipe.summary == "winner of a confirmed search: trial 7; the best confirmed mean"


def test_without_a_winner_there_is_no_recipe():
    assert _winner_recipe(judged(None), load("demo"), "x-winner") is None
