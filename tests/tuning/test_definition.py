"""What makes two studies one, and what is said where they are not."""

import json

import pytest
import yaml

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.study.definition import Definition, changes, differences
from histo_mlflow.tuning.study.study_file import load_study, shipped_studies

CONTENT = {
    "recipe": "demo",
    "metric": "val/auc",
    "space": {
        "lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": {"type": "categorical", "choices": [32, 64]},
        "scale": {"type": "categorical", "choices": [[0.8, 1.2], [0.9, 1.1]]},
    },
    "trials": 10,
}


@pytest.fixture
def define(tmp_path):
    def made(data="d1", overrides=None, **changed):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**CONTENT, **changed}, sort_keys=False), encoding="utf-8")
        return Definition.of(load_study(str(path), overrides), data=data)

    return made


def space(**changed):
    return {**CONTENT["space"], **changed}


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_a_definition_is_read_back_equal_and_builds_what_the_file_builds(name):
    study = load_study(name)
    definition = Definition.of(study, data="d")
    again = Definition.from_json(definition.to_json())

    assert again == definition
    assert dict(again.axes()) == study.space
    assert (again.sampler_spec(), again.pruner_spec()) == (study.sampler, study.pruner)
    base = study.base()
    assert again.base() == base.model_copy(update={"summary": ""})


def test_the_same_file_is_the_same_study(define):
    assert differences(define(), define()) == changes(define(), define()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": "val/loss"}, ["metric was val/auc, val/loss is given",
                                  "direction was maximize, minimize is given"]),
        ({"folds": 5}, ["folds was unset, 5 is given"]),
        ({"set": {"epochs": 3}}, ["epochs was 6, 3 is given"]),
        ({"set": {"seed": 3, "image_px": 32}}, ["image_px was 64, 32 is given",
                                                "seed was 0, 3 is given"]),
        ({"space": space(lr={**CONTENT["space"]["lr"], "low": 1e-3})},
         ["space.lr: low was 0.0001, 0.001 is given"]),
        ({"space": space(batch_size={"type": "categorical", "choices": [32, 128]})},
         ["space.batch_size: choices was [32, 64], [32, 128] is given"]),
        ({"space": space(dropout={"type": "float", "low": 0, "high": 0.5})},
         ["space.dropout was not searched and is now"]),
        ({"space": {"lr": CONTENT["space"]["lr"]}},
         ["space.batch_size was searched and is not any more",
          "space.scale was searched and is not any more"]),
        ({"space": dict(reversed(CONTENT["space"].items()))},
         ["the order of space was lr, batch_size, scale, scale, batch_size, lr is given"]),
        ({"data": "d2"}, ["the images or their division into training and validation are others"]),
    ],
)  # fmt: skip
def test_what_makes_trials_incomparable_is_named(define, changed, said):
    assert differences(define(), define(**changed)) == said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sampler": "random"}, "sampler.name was tpe, random is given"),
        ({"sampler": {"name": "tpe", "startup_trials": 3}},
         "sampler.startup_trials was 10, 3 is given"),
        ({"retries": 5}, "retries was 2, 5 is given"),
        ({"seed": 5}, "seed was 0, 5 is given"),
        ({"set": {"threads": 2}}, "threads was 0, 2 is given"),
        ({"enqueue": [{"lr": 1e-3}]}, "the first guesses were 0, 1 others are given"),
    ],
)  # fmt: skip
def test_what_may_change_is_named_and_is_no_difference(define, changed, said):
    assert differences(define(), define(**changed)) == []
    assert said in changes(define(), define(**changed))


def test_another_pruner_is_a_change(define):
    assert changes(define(), define(pruner="none"))[0] == "pruner.name was median, none is given"


def counted_space():
    return {"batch_size": CONTENT["space"]["batch_size"]}


WHY = " (a grid keeps its sampler and seed, or it would miss points)"


@pytest.mark.parametrize(
    ("begun", "now", "said"),
    [
        ({"sampler": "grid"}, {"sampler": "grid", "seed": 2}, "seed was 0, 2 is given"),
        ({"sampler": "random"}, {"sampler": "grid"}, "sampler was random, grid is given"),
        ({"sampler": "tpe", "seed": 1}, {"sampler": "grid"}, "sampler was tpe, grid is given"),
        ({"sampler": "grid"}, {"sampler": "qmc", "seed": 2}, "sampler was grid, qmc is given"),
    ],
)
def test_a_grid_keeps_its_sampler_and_seed(define, begun, now, said):
    """The points of the second sitting would not be those that the first left."""
    begun, now = ({"space": counted_space(), "trials": 2} | keys for keys in (begun, now))

    assert differences(define(**begun), define(**now)) == [said + WHY]


def test_a_grid_goes_on_with_more_trials_and_another_pruner(define):
    grid = {"space": counted_space(), "sampler": "grid", "seed": 2, "trials": 1}

    assert differences(define(**grid), define(**grid | {"trials": 2, "pruner": "none"})) == []


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_every_other_sampler_may_have_another_seed(define, sampler):
    assert differences(define(sampler=sampler), define(sampler=sampler, seed=2)) == []


def test_budgets_are_no_part_of_a_definition(define):
    assert define() == define(trials=99, wall_time="1h", confirm={"candidates": 9})


def test_data_that_is_not_known_yet_is_not_compared(define):
    assert differences(define(data=None), define()) == []


def test_the_folder_of_the_data_may_differ_between_machines(tmp_path):
    made = []
    for folder in ("a", "b"):
        path = tmp_path / "mine.yaml"
        content = {**CONTENT, "recipe": "ham10000", "set": {"data_dir": folder}}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        made.append(Definition.of(load_study(str(path))))

    assert differences(*made) == []
    assert changes(*made) == ["data_dir was a, b is given"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"format": 2}', '{"format": 1, "metric": "val/auc"}'],
)
def test_what_is_no_definition_is_refused(text):
    with pytest.raises(StudyError, match="another version"):
        Definition.from_json(text)


def test_a_definition_with_a_broken_space_is_refused(define):
    raw = json.loads(define().to_json())
    raw["space"]["lr"]["type"] = "normal"

    with pytest.raises(StudyError, match="another version"):
        Definition.from_json(json.dumps(raw))
