"""Study files: what loads, what is refused, with which words, and at which place."""

import re
from pathlib import Path

import pytest
import yaml

from histo_mlflow import recipe
from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.study._part import seconds_of
from histo_mlflow.tuning.study.pruners import Hyperband, Median, NoPruner, Wilcoxon
from histo_mlflow.tuning.study.space import assignment, conditions, meet, trial_recipe
from histo_mlflow.tuning.study.study_file import load_study, shipped_studies

RIGHT = {
    "recipe": "demo",
    "metric": "val/auc",
    "space": {
        "optimiser": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "momentum": {"type": "float", "low": 0.5, "high": 0.9, "when": {"optimiser": "sgd"}},
    },
    "trials": 10,
}


def written(folder: Path, content: object, name: str = "mine.yaml") -> str:
    path = folder / name
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(folder: Path, content: object, overrides: dict[str, object] | None = None) -> str:
    with pytest.raises(StudyError) as told:
        load_study(written(folder, content), overrides)
    return str(told.value)


def ends_of(axis) -> list[object]:
    return list(axis.choices) if axis.type == "categorical" else [axis.low, axis.high]


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_every_end_and_choice_of_a_shipped_study_is_a_recipe(name):
    study = load_study(name)
    base = study.base()
    for axis_name, axis in study.space.items():
        for end in ends_of(axis):
            wanted = meet(conditions(study.space, axis_name), {axis_name: (end,)})
            values = assignment(
                study.space, lambda other, a, wanted=wanted: wanted.get(other, ends_of(a))[0]
            )
            assert axis_name in values
            built = trial_recipe(base, values, name="x")
            assert built.flatten()[axis_name] == end


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_a_shipped_study_says_why_its_ranges_are_what_they_are(name):
    text = shipped_studies()[name].read_text(encoding="utf-8")

    assert text.startswith("# ")
    assert "Ranges:" in text
    assert load_study(name).summary


def test_a_path_loads_as_the_name_does():
    """`mlflow run` passes experiments/studies/demo.yaml."""
    assert load_study(str(shipped_studies()["demo"])) == load_study("demo")


def test_what_is_left_out_has_a_default(tmp_path):
    study = load_study(written(tmp_path, RIGHT))

    assert (study.name, study.direction, study.seed, study.retries) == ("mine", "maximize", 0, 2)
    assert (study.sampler.name, study.pruner, study.slots) == ("tpe", Median(), 10)


def test_the_base_recipe_has_what_is_set_and_watches_the_metric(tmp_path):
    study = load_study(written(tmp_path, {**RIGHT, "metric": "val/loss", "set": {"epochs": 3}}))

    assert study.direction == "minimize"
    assert study.base() == recipe.load("demo", {"epochs": 3, "monitor": "val/loss"})


def test_a_recipe_is_found_beside_the_study_file(tmp_path, monkeypatch):
    (tmp_path / "r.yaml").write_text(recipe.load("demo").to_yaml(), encoding="utf-8")
    path = written(tmp_path, {**RIGHT, "recipe": "r.yaml"})
    monkeypatch.chdir("/")

    assert load_study(path).base().model.model == "resnet18"


def test_text_becomes_what_the_recipe_makes_of_it(tmp_path):
    """YAML 1.1 reads 1e-3 as text."""
    text = """
recipe: demo
metric: val/auc
set: {epochs: "3"}
space:
  lr: {type: categorical, choices: [1e-3, 1e-2]}
  scale: {type: categorical, choices: ["0.8,1.2", [0.9, 1.1]], when: {lr: 1e-3}}
trials: 3
wall_time: 1h30m
enqueue: [{lr: 1e-3, scale: "0.8, 1.2"}]
"""
    study = load_study(written(tmp_path, text))

    assert study.space["lr"].choices == (0.001, 0.01)
    assert study.space["scale"].choices == ([0.8, 1.2], [0.9, 1.1])
    assert study.space["scale"].when == {"lr": (0.001,)}
    assert study.enqueue == ({"lr": 0.001, "scale": [0.8, 1.2]},)
    assert (study.set, study.wall_time) == ({"epochs": 3}, 5400.0)


def test_the_command_line_comes_before_the_file(tmp_path):
    given = {"trials": "4", "wall_time": "90s", "seed": "7", "image_px": "48", "keep": "0"}
    study = load_study(written(tmp_path, {**RIGHT, "set": {"epochs": 3}}), given)

    assert (study.trials, study.wall_time, study.seed, study.keep) == (4, 90.0, 7, 0)
    assert study.set == {"epochs": 3, "image_px": 48}
    assert study.base().training.seed == 0


def test_a_limit_can_be_taken_away_on_the_command_line(tmp_path):
    study = load_study(written(tmp_path, {**RIGHT, "wall_time": "1h"}), {"trials": "null"})

    assert (study.trials, study.slots) == (None, None)


def test_a_grid_is_as_long_as_its_points(tmp_path):
    space = {
        "optimiser": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "momentum": {
            "type": "float", "low": 0.5, "high": 0.9, "step": 0.2, "when": {"optimiser": "sgd"}
        },
    }  # fmt: skip
    content = {"recipe": "demo", "metric": "val/auc", "space": space, "sampler": "grid"}

    assert load_study(written(tmp_path, content)).slots == 4


def test_all_mistakes_are_told_at_once_each_with_its_line(tmp_path):
    text = """\
recipe: demo
metric: test/auc
direktion: maximize
space:
  lr: {type: float, low: 0.01, high: 0.001, log: true}
  batch_size:
    type: categorical
    choices: [32, 1]
  seed: {type: int, low: 0, high: 9}
  droput: {type: float, low: 0, high: 0.5}
sampler: {name: tpee}
wall_time: soon
enqueue:
  - {lr: 1}
  - 3
"""
    lines = refusal(tmp_path, text).splitlines()
    told = [line.removeprefix(f"{tmp_path}/mine.yaml, line ") for line in lines]

    assert [line.split(":")[0] for line in told] == [
        "2, metric",
        "3, direktion",
        "5, space.lr",
        "8, space.batch_size.choices.1",
        "9, space.seed",
        "10, space.droput",
        "11, sampler",
        "12, wall_time",
        "15, enqueue.1",
    ]
    assert "by validation alone" in told[0]
    assert "did you mean direction?" in told[1]
    assert "low should be below high, got low 0.01 and high 0.001" in told[2]
    assert "luckiest seed" in told[4]
    assert "did you mean dropout?" in told[5]


def axis(**changed: object) -> dict[str, object]:
    return {"type": "float", "low": 0.1, "high": 0.5, **changed}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "val/f1"}, "metric: should be one of val/auc"),
        ({"direction": "minimize"}, "direction: should be maximize for val/auc"),
        ({"recipe": "ham1000"}, "did you mean ham10000"),
        ({"recipe": "no.yaml"}, "no recipe file at"),
        ({"recipe": "a\0b.yaml"}, "recipe: .* cannot be a recipe file: embedded null byte"),
        ({"set": {"epcohs": 3}}, r"set.epcohs: unknown field epcohs \(did you mean epochs"),
        ({"set": {"epochs": 0}}, "set.epochs: epochs should be greater than or equal to 1"),
        ({"set": {"monitor": "val/loss"}}, "set.monitor: is the study's metric"),
        ({"set": {"folds": 3}}, "set.folds: belongs to the study here"),
        ({"set": {"lr": 0.1}}, "space.lr: is searched and in set"),
        ({"set": {"model": ".nan", "lr": 0.1}}, "space.lr"),
        ({"set": [1]}, "set: should be keys with values"),
        ({"name": "other"}, "name: is not a key"),
        ({"trials": None}, "trials: is missing: give trials or wall_time"),
        ({"trials": 0}, "trials: should be greater than or equal to 1, got 0"),
        ({"trials": True}, "trials: should be a number, got True"),
        ({"wall_time": -1}, "wall_time: should be a duration above 0"),
        ({"wall_time": float("nan")}, "wall_time: should be a duration above 0"),
        ({"space": {}}, "space: is empty"),
        ({"space": None}, "space: should be keys with values"),
        ({"space": {"lr": axis(type="flaot")}}, "did you mean float"),
        ({"space": {"lr": {"low": 0}}}, "space.lr: needs type"),
        ({"space": {"lr": axis(hihg=1)}}, "space.lr.hihg: is no key .*did you mean high"),
        ({"space": {"lr": {"type": "float", "low": 1}}}, "space.lr.high: is missing"),
        ({"space": {"lr": axis(low=float("inf"))}}, "space.lr.low: should be a finite number"),
        ({"space": {"lr": axis(low=0, log=True)}}, "space.lr.low: should be above 0 with log"),
        ({"space": {"lr": axis(low=0)}}, "space.lr.low: lr should be greater than 0"),
        ({"space": {"lr": axis(log=True, step=0.1)}}, "space.lr.step: does not go with log"),
        ({"space": {"lr": axis(step=0.3)}}, "space.lr.high: .* such as 0.4 or 0.7, got 0.5"),
        ({"space": {"dropout": axis(high=1)}}, "space.dropout.high: dropout should be less than 1"),
        ({"space": {"epochs": axis(low=1, high=2)}}, "space.epochs.type: should be int"),
        ({"space": {"policy": axis()}}, "space.policy: has values of the kind text"),
        ({"space": {"quarter_turns": axis(type="int", low=0, high=1)}}, "take type categorical"),
        ({"space": {"data_dir": {"type": "categorical", "choices": ["a", "b"]}}}, "another task"),
        ({"space": {"val_fraction": axis()}}, "the easiest would win"),
        ({"space": {"threads": axis(type="int", low=1, high=2)}}, "where a training runs"),
        ({"space": {"monitor": {"type": "categorical", "choices": ["a", "b"]}}}, "study's metric"),
        ({"space": {"lr": {"type": "categorical", "choices": [0.1]}}}, "two or more"),
        ({"space": {"lr": {"type": "categorical", "choices": [0.1, "1e-1"]}}}, "same as choice 0"),
        ({"space": {"policy": {"type": "categorical", "choices": ["none", "histolgy"]}}},
         "choices.1: no augmentation is called 'histolgy', did you mean 'histology'"),
        ({"space": {"model": {"type": "categorical", "choices": ["resnet18", "resnet_18"]}}},
         "choices.1: Neither torchvision nor timm has a classifier called 'resnet_18'"),
        ({"space": {"weights": {"type": "categorical", "choices": ["none", "no.pt", "imagenet"]}}},
         "choices.1: weights should be imagenet, none or a file: no weights file at no.pt$"),
        ({"space": {"weights": {"type": "categorical", "choices": ["none", "~no-such-user/w.pt"]}}},
         "choices.1: weights should be .* no weights file at ~no-such-user/w.pt$"),
        ({"space": {"momentum": axis()}}, "space.momentum: momentum belongs to optimiser=sgd"),
        ({"space": {"frozen_epochs": {"type": "int", "low": 0, "high": 6}}},
         "space.frozen_epochs: 6 is refused: frozen_epochs should be below epochs=6, got 6"),
        ({"space": {"epochs": {"type": "int", "low": 2, "high": 9},
                    "frozen_epochs": {"type": "int", "low": 0, "high": 3}}},
         "space.frozen_epochs: 3 does not go with epochs=2: frozen_epochs should be below"),
        ({"sampler": {"name": "tpe", "startup": 3}}, "sampler.startup: is no key of tpe"),
        ({"sampler": {"startup_trials": 3}}, "sampler: needs name: one of tpe, gp"),
        ({"sampler": "cmaes"}, "sampler: cmaes needs at least 2 numeric axes without when, got 1"),
        ({"sampler": "cmaes"}, "space.momentum.when: does not go with sampler cmaes"),
        ({"sampler": "cmaes", "space": {"lr": axis(), "dropout": axis()},
          "enqueue": [{"lr": 0.2}, {"lr": 0.3}]}, "startup_trials of cmaes .* guesses, 2, got 1"),
        ({"sampler": "grid"}, "space.lr: needs step"),
        ({"sampler": "gp", "space": {"lr": {"type": "categorical", "choices": [0.1, 0.2]}}},
         "sampler: gp needs at least 1 numeric axis"),
        ({"sampler": "grid", "space": {"dropout": axis(step=0.1)}}, "trials: should be at most 5"),
        ({"sampler": "grid", "space": {"hidden": {"type": "int", "low": 1, "high": 10**9}}},
         "grid of more than 10,000 points"),
        ({"space": {"lr": {"type": "categorical", "choices": [1, 2], "low": 0}}},
         "space.lr.low: is no key of categorical"),
        ({"space": {"lr": axis(high=10**400)}}, "space.lr.high: "),
        ({"space": {"epochs": {"type": "int", "low": 10**400, "high": 2}}}, "space.epochs.low: "),
        ({"space": {"scale": {"type": "categorical", "choices": [[0.8], [0.9, 1.1]]}}},
         "space.scale.choices.0: scale should be two numbers, low,high, got"),
        ({"space": {"scale": {"type": "categorical", "choices": [[1.2, 0.8], [0.9, 1.1]]}}},
         "space.scale.choices.0: scale must be .least, most. above 0, got"),
        ({"space": {"lr": {"type": "categorical", "choices": 2}}}, "choices: should be a list"),
        ({"pruner": {"name": "patient", "wraps": "wilcoxon"}},
         "pruner.wraps: name should be one of median, hyperband, none, got 'wilcoxon'$"),
        ({"pruner": {"name": "patient", "wraps": {"name": "hyperband", "min_epochs": 500}}},
         "pruner.wraps.min_epochs: should be at most epochs=6, got 500"),
        ({"pruner": {"name": "patient", "wraps": 3}},
         r"pruner.wraps: should be a name \(median, hyperband, none\) or keys with values, got 3"),
        ({"pruner": False},
         r"pruner: should be a name \(median, .*, none\) or keys with values, got False "
         r"\(YAML reads off and no as false; write none\)"),
        ({"pruner": {"name": False}}, "name should be one of .*, got False .YAML reads off"),
        ({"pruner": None}, "pruner: should be a name .*, got nothing: leave it out"),
        ({"sampler": 3}, r"sampler: should be a name \(tpe, .*, qmc\) or keys with values, got 3$"),
        ({"sampler": True}, "sampler: .*, got True .YAML reads on and yes as true.$"),
        ({"pruner": "wilcoxon"}, "pruner: wilcoxon compares folds"),
        ({"pruner": "median", "folds": 5}, "pruner: median compares epochs"),
        ({"pruner": {"name": "patient"}, "folds": 5}, "pruner: patient compares epochs"),
        ({"pruner": "wilcoxon", "folds": 3}, "could end no trial before its last fold"),
        ({"pruner": {"name": "hyperband", "min_epochs": 7}}, "pruner.min_epochs: .* epochs=6"),
        ({"folds": 1}, "folds: should be greater than or equal to 2"),
        ({"folds": 5, "pruner": "none", "set": {"split": "row"}}, "folds: .*need split=group"),
        ({"enqueue": [{"lr": 1.0}]}, "enqueue.0.lr: should be 0.0001 to 0.01, got 1.0"),
        ({"enqueue": [{"lr": 0.001}, {"lr": 0.001}]}, "enqueue.1: is the same as an earlier"),
        ({"enqueue": [{"lr": 10**400}]}, "enqueue.0.lr: should be 0.0001 to 0.01, got 1000"),
        ({"wall_time": 10**400}, "wall_time: should be a duration above 0"),
        ({"enqueue": [{}]}, "enqueue.0: names no axis"),
        ({"enqueue": [{"momntum": 1}]}, "enqueue.0.momntum: is no axis .*did you mean momentum"),
        ({"enqueue": [{"momentum": 0.6}]}, "only where optimiser is 'sgd': give optimiser as well"),
        ({"enqueue": [{"momentum": 0.6, "optimiser": "adamw"}]}, "only where .*, got 'adamw'"),
        ({"enqueue": [{"optimiser": "adam"}]}, "should be one of 'adamw', 'sgd', got 'adam'"),
        ({"trials": 1, "enqueue": [{"lr": 0.001}, {"lr": 0.002}]}, "2 guesses for 1 trials"),
        ({"seed": -1}, "seed: should be greater than or equal to 0"),
        ({"confirm": {"replicates": 1}}, "confirm.replicates: should be greater than or"),
        ({"confirm": {"candidate": 1}}, "confirm.candidate: .*did you mean candidates"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_at_its_place(changes, said, tmp_path):
    told = refusal(tmp_path, {**RIGHT, **changes})

    assert re.search(said, told), told
    assert re.match(rf"{re.escape(str(tmp_path))}/mine.yaml(, line \d+)?, ", told), told


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (
            {"optimizer": "sgd"},
            r"when.optimizer: is no axis of this study \(did you mean optimiser",
        ),
        ({"momentum": 0.5}, "when.momentum: is the axis itself"),
        ({"head": "hidden"}, "when.head: stands later in the file: move it before momentum"),
        ({"lr": 0.01}, "when.lr: is continuous"),
        ({"optimiser": "adam"}, "when.optimiser: never has the value 'adam'"),
        ({"optimiser": []}, "when.optimiser: names no value"),
        ({"optimiser": "sgd", "ema_decay": 0.9}, "when: can never be met"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(when, said, tmp_path):
    space = {
        "optimiser": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "ema_decay": {
            "type": "categorical", "choices": [0.0, 0.9], "when": {"optimiser": "adamw"}
        },
        "lr": {"type": "float", "low": 1e-4, "high": 1e-2},
        "momentum": {"type": "float", "low": 0.5, "high": 0.9, "when": when},
        "head": {"type": "categorical", "choices": ["linear", "hidden"]},
    }  # fmt: skip

    assert re.search(f"space.momentum.{said}", refusal(tmp_path, {**RIGHT, "space": space}))


def test_a_field_may_have_a_value_for_where_it_is_not_searched(tmp_path):
    """The shipped recipe has momentum 0.9, which adamw refuses."""
    content = {**RIGHT, "recipe": "pcam_resnet50_onecycle"}
    assert "momentum belongs to optimiser=sgd" in refusal(tmp_path, content)
    content["set"] = {"momentum": None}

    assert load_study(written(tmp_path, content)).base().optimisation.momentum is None


def test_a_recipe_that_is_one_fold_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text(recipe.load("demo", {"folds": 3}).to_yaml(), encoding="utf-8")

    assert "r.yaml has folds=3 itself" in refusal(tmp_path, {**RIGHT, "recipe": "r.yaml"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "should hold the keys of a study .*, it is empty"),
        ("trials: 010\n", "trials: is 8 to YAML, which reads 010 as an octal number: write 10 "),
        (
            "wall_time: 1:30:00\n",
            "line 1, wall_time: is 5400 to YAML, .* in sixties: write 1h30m\n",
        ),
        ("wall_time: 6:00\n", "wall_time: is 360 to YAML, .* in sixties: write 6h or 6m\n"),
        ("seed: 1:30\n", 'seed: is 90 to YAML, .*: write 90, or "1:30" in quotes if it is text'),
        ("enqueue: [{lr: 1:30.5}]\n", "enqueue.0.lr: is 90.5 to YAML, which reads 1:30.5 as"),
        ("seed: !!bool perhaps\n", "seed: cannot be read"),
        ("seed: 0x" + "9" * 5000 + "\n", "seed: cannot be read"),
        ("- a\n- b\n", "should hold the keys of a study"),
        ("a: [1\n", "is not a YAML file"),
        ("a: 1\n---\nb: 2\n", "is not a YAML file"),
        ("a: " + "[" * 900, "nested too deeply|is not a YAML file"),
        ("#" * 300_000, "too large"),
        (
            "trials: 1\ntrials: 2\n",
            "line 2, trials: is given twice, in lines 1 and 2|lines 1 and 2",
        ),
        ("space:\n  lr: 1\n  lr: 2\n", "space.lr: is given twice, in lines 2 and 3"),
        ("space: &a {lr: 1}\nset: *a\n", "set: should be written out"),
        ("set: &a [*a]\n", "should be written out"),
        ("set: !!python/object/apply:os.system [ls]\n", "has the tag"),
        ("summary: !!python/name:os.system\n", "cannot be read"),
        ("summary: 2026-13-45\n", "cannot be read"),
        ("? [1, 2]\n: 3\n", "a key in line 1 that is no text"),
        ("\x00", "is not a YAML file"),
    ],
)
def test_a_file_that_is_read_in_a_surprising_way_is_refused(content, said, tmp_path):
    told = refusal(tmp_path, content)

    assert re.search(said, told), told
    assert f"{tmp_path}/mine.yaml" in told


def test_numbers_that_yaml_reads_as_everybody_does_are_taken(tmp_path):
    text = yaml.safe_dump({**RIGHT, "trials": None}, sort_keys=False).replace("null", "007")
    study = load_study(written(tmp_path, f'{text}wall_time: 1_800\nsummary: "6:00"\nretries: 0\n'))

    assert (study.trials, study.wall_time, study.summary) == (7, 1800.0, "6:00")


def test_a_choice_of_weights_that_are_there_is_taken(tmp_path):
    (tmp_path / "w.pt").touch()
    axis = {"type": "categorical", "choices": ["none", str(tmp_path / "w.pt")]}

    assert load_study(written(tmp_path, {**RIGHT, "space": {"weights": axis}})).slots == 10


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"recipe: \xff\xfe")

    with pytest.raises(StudyError, match="not a text file"):
        load_study(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StudyError, match="no study file at"):
        load_study(str(tmp_path / "x.yaml"))
    with pytest.raises(StudyError, match="did you mean demo"):
        load_study("dmeo")


def test_what_is_no_file_is_told_as_what_it_is(tmp_path):
    (tmp_path / "folder.yaml").mkdir()

    with pytest.raises(StudyError, match=r"folder\.yaml is a folder, and should be a study file"):
        load_study(str(tmp_path / "folder.yaml"))
    with pytest.raises(StudyError, match="cannot be a study file: File name too long"):
        load_study("x" * 300 + ".yaml")


def test_a_name_is_answered_with_the_file_beside_it(tmp_path, monkeypatch):
    written(tmp_path, RIGHT, "ok.yaml")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        StudyError, match=r"no study is called 'ok' .did you mean the file ok\.yaml"
    ):
        load_study("ok")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, RIGHT)
    monkeypatch.setattr(Path, "read_text", refuse)

    with pytest.raises(StudyError, match=r"mine\.yaml cannot be read: Permission denied"):
        load_study(path)


@pytest.mark.parametrize("name", ["a b.yaml", ".hidden.yaml", "x" * 101 + ".yaml"])
def test_a_name_that_cannot_be_a_studys_is_refused(name, tmp_path):
    with pytest.raises(StudyError, match="should be made of at most 100 letters"):
        load_study(written(tmp_path, RIGHT, name))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trials": "many"}, "command line, --trials: should be a valid integer"),
        ({"wall_time": "soon"}, "command line, --wall-time: should be a duration"),
        ({"lr": "0.1"}, "command line, --lr|space.lr: is searched and in set"),
        ({"epochs": "0"}, "command line, --epochs: epochs should be greater"),
        ({"epcohs": "1"}, "command line, --epcohs: is no key .*did you mean epochs"),
    ],
)
def test_a_mistake_on_the_command_line_is_said_to_be_there(given, said, tmp_path):
    assert re.search(said, refusal(tmp_path, RIGHT, given))


def test_a_mistake_in_the_file_is_said_to_be_there_though_an_option_replaces_it(tmp_path):
    text = yaml.safe_dump(RIGHT, sort_keys=False) + "wall_time: 6:00\n"

    told = refusal(tmp_path, text, {"wall_time": "6h"})
    assert re.search(r"mine\.yaml, line \d+, wall_time: is 360 to YAML", told), told


def test_what_cannot_be_read_brings_no_mistakes_along(tmp_path):
    """A condition on a broken axis and a guess for it are not mistakes of their own."""
    content = {
        **RIGHT,
        "recipe": "nowhere",
        "space": {**RIGHT["space"], "optimiser": {"type": "categorical"}},
        "enqueue": [{"optimiser": "sgd", "momentum": 0.6}],
    }

    assert len(refusal(tmp_path, content).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("6h", 21600), ("1h30m", 5400), ("2d", 172800), (7, 7), ("7", 7)],
)
def test_a_duration_is_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "6 h", "30m1h", "-5s", "0", "1e400", True, None, "9999d"]
)
def test_a_duration_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="should be a duration"):
        seconds_of(text)


@pytest.mark.parametrize("name", sorted(shipped_studies()))
@pytest.mark.parametrize(
    ("folds", "pruner"), [("3", NoPruner()), ("4", NoPruner()), (5, Wilcoxon())]
)
def test_every_shipped_study_can_be_given_folds(name, folds, pruner):
    said = []
    study = load_study(name, {"folds": folds}, say=lambda *told: said.append(told))

    was = load_study(name).pruner.name
    assert (study.folds, study.pruner) == (int(folds), pruner)
    assert said == [
        (
            "changed",
            f"pruner was {was}, {pruner.name} is taken: {was} compares epochs, and a study with "
            "folds reports once a fold",
        )
    ]


@pytest.mark.parametrize("pruner", ["median", {"name": "hyperband"}, {"name": "patient"}])
def test_a_pruner_of_epochs_gives_way_to_folds_of_the_command_line(tmp_path, pruner):
    path = written(tmp_path, {**RIGHT, "pruner": pruner})

    assert load_study(path, {"folds": "5"}).pruner == Wilcoxon()


@pytest.mark.parametrize("pruner", [None, "none", {"name": "wilcoxon", "p": 0.3}])
def test_a_pruner_that_goes_with_folds_stays(tmp_path, pruner):
    said = []
    content = RIGHT if pruner is None else {**RIGHT, "pruner": pruner}
    study = load_study(
        written(tmp_path, content), {"folds": 3}, say=lambda *told: said.append(told)
    )

    assert study.pruner == (Wilcoxon(p=0.3) if isinstance(pruner, dict) else NoPruner())
    assert said == []


def test_no_folds_of_the_command_line_change_no_pruner(tmp_path):
    said = []
    path = written(tmp_path, {**RIGHT, "pruner": "hyperband"})

    assert load_study(path, {"folds": "none"}, say=said.append).pruner == Hyperband()
    assert said == []


def test_a_file_that_is_mistaken_itself_stays_so_with_other_folds(tmp_path):
    told = refusal(tmp_path, {**RIGHT, "pruner": "median", "folds": 5}, {"folds": 3})

    assert "pruner: median compares epochs" in told


def test_a_pruner_that_gives_way_has_its_mistakes_told(tmp_path):
    told = refusal(tmp_path, {**RIGHT, "pruner": {"name": "median", "warmpu": 1}}, {"folds": 3})

    assert "warmpu" in told


def test_a_study_with_folds_prunes_nothing_unless_it_is_asked_to(tmp_path):
    assert load_study(written(tmp_path, {**RIGHT, "folds": 3})).pruner == NoPruner()
