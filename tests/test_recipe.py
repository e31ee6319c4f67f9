"""Recipes: what loads, what is refused, and in which words."""

import math
import os

import pytest
import yaml

from histo_mlflow import recipe
from histo_mlflow.errors import RecipeError


def file_of(tmp_path, content):
    """A recipe file's path."""
    path = tmp_path / "r.yaml"
    path.write_text(content, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(recipe.shipped()))
def test_a_shipped_recipe_survives_being_written_and_read(name, tmp_path):
    """What `recipe show` prints loads to an equal recipe."""
    loaded = recipe.load(name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(loaded.to_yaml(), encoding="utf-8")

    assert recipe.load(str(path)) == loaded


@pytest.mark.parametrize("name", sorted(recipe.shipped()))
def test_a_shipped_recipe_says_where_its_numbers_come_from(name):
    """Each file begins with a header."""
    text = recipe.shipped()[name].read_text(encoding="utf-8")

    assert text.startswith("# ")
    assert recipe.load(name).summary


def test_leaf_names_are_unique_over_all_sections():
    """One name is the YAML key, the option, the -P parameter and the MLflow param."""
    names = [field.name for field in recipe.fields()]

    assert len(set(names)) == len(names)
    assert not {"dataset", "experiment", "run_name", "tracking_uri", "runs_dir"} & set(names)


def test_flatten_holds_every_leaf_and_the_name():
    flat = recipe.load("ham10000", {"lr": "3e-4"}).flatten()

    assert set(flat) == {"recipe", *(field.name for field in recipe.fields())}
    assert (flat["recipe"], flat["lr"], flat["source"]) == ("ham10000", 3e-4, "ham10000")


@pytest.mark.parametrize(
    ("given", "section", "expected"),
    [
        ({"lr": "3e-4"}, "optimisation", 3e-4),
        ({"clip_norm": "1"}, "optimisation", 1.0),
        ({"clip_norm": "null"}, "optimisation", None),
        ({"group_lrs": "head=1e-2, rest=1e-4"}, "optimisation", {"head": 1e-2, "rest": 1e-4}),
        ({"scale": "0.8,1.2"}, "augment", (0.8, 1.2)),
        ({"quarter_turns": "true"}, "augment", True),
        ({"folds": "5"}, "split", 5),
    ],
)
def test_text_becomes_the_value_it_says(given, section, expected):
    loaded = recipe.load("ham10000", given)

    assert getattr(getattr(loaded, section), next(iter(given))) == expected


def test_all_mistakes_are_told_at_once():
    with pytest.raises(RecipeError) as told:
        recipe.load("demo", {"epcohs": "3", "lr": "fast", "batch_size": "0"})

    sentence = str(told.value)
    assert "unknown field epcohs (did you mean epochs?)" in sentence
    assert "lr should be a valid number, got 'fast'" in sentence
    assert "batch_size should be greater than or equal to 2, got '0'" in sentence


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": "nan"}, "lr should be a finite number"),
        ({"lr": "inf"}, "lr should be a finite number"),
        ({"lr": "0"}, "lr should be greater than 0"),
        ({"scale": "0.8"}, "scale should be two numbers"),
        ({"group_lrs": "head"}, "should be written stage=rate"),
        ({"group_lrs": "head=-1"}, "above 0 for every stage, not so for head"),
        ({"device": "gpu"}, "should be auto, cpu, mps, cuda or cuda:N"),
        ({"crop_px": "50"}, "crop_px belongs to fit=crop"),
        ({"fit": "crop"}, "crop_px belongs to fit=crop"),
        ({"val_fraction": "0.6", "test_fraction": "0.4"}, "leave nothing to train on"),
        ({"folds": "3", "fold": "3"}, "should be below folds=3"),
        ({"fold": "1"}, "needs folds"),
        ({"frozen_epochs": "6"}, "the whole model would never train"),
        ({"warmup_epochs": "1"}, "has its own warm-up"),
        ({"momentum": "0.9"}, "momentum belongs to optimiser=sgd"),
        ({"monitor": "test/auc"}, "monitor should be 'val/auc'"),
        ({"source": "spider_skin"}, "needs metadata_csv, image_column"),
        ({"data_dir": "here"}, "leave data_dir at auto"),
    ],
)
def test_a_wrong_value_is_named(given, said):
    with pytest.raises(RecipeError, match=said.replace("(", r"\(").replace("|", r"\|")):
        recipe.load("demo", given)


def test_the_test_split_can_never_stop_or_choose():
    assert all(name.startswith("val/") for name in recipe.MONITORS)
    offered = next(field for field in recipe.fields() if field.name == "monitor").kind.split("|")
    assert tuple(offered) == recipe.MONITORS


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match="did you mean ham10000"):
        recipe.load("ham1000")


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", ""])
def test_a_file_that_is_no_recipe_is_refused(content, tmp_path):
    path = file_of(tmp_path, content)

    with pytest.raises(RecipeError, match=r"r\.yaml"):
        recipe.load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "summary: 2024-13-45",
            r"summary cannot be read: '2024-13-45'; put text .* in quotes .line 1",
        ),
        ("training: {epochs: " + "9" * 5000 + "}", "epochs cannot be read: '9{60}'; put text"),
        (
            "training: {epochs: -0x" + "9" * 5000 + "}",
            "epochs cannot be read: '-0x9{57}'; put text",
        ),
        ("a: " + "[" * 2000, "is nested too deeply to be read"),
        ("a: !!bool perhaps", "a cannot be read: 'perhaps'"),
        ("# nothing", "should hold the sections of a recipe, it is empty"),
    ],
)
def test_a_value_that_python_cannot_make_is_told_in_one_sentence(content, said, tmp_path):
    path = file_of(tmp_path, content)

    with pytest.raises(RecipeError, match=rf"r\.yaml.*{said}"):
        recipe.load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("training:\n  epochs: 010", "epochs is 8 to YAML, .*: write 10 .or 8. .line 2."),
        ("training:\n  epochs: 1:30", "epochs is 90 to YAML, .* in sixties: write 90.*.line 2."),
        ("optimisation:\n  lr: 1\n  lr: 2", "lr is given twice, in lines 2 and 3 .line 2."),
        ("model: &m {dropout: 0.1}\naugment: *m", "augment should be written out: aliases"),
        ("model: !!python/object/new:os.system [true]", "model has the tag .*, which is not read"),
    ],
)
def test_what_yaml_would_read_in_a_surprising_way_is_refused(content, said, tmp_path):
    path = file_of(tmp_path, content)

    with pytest.raises(RecipeError, match=rf"r\.yaml: {said}"):
        recipe.load(path)


def test_a_mistake_in_a_file_is_told_once_with_its_line(tmp_path):
    path = tmp_path / "r.yaml"
    lines = ["optimisation:", "  lr: 0", "  clip_nrm: 1", "training:", "  epochs: 010", "  seed: x"]
    path.write_text("\n".join(lines), encoding="utf-8")

    with pytest.raises(RecipeError) as told:
        recipe.load(str(path), {"lr": "fast", "batch_size": "0"})

    assert str(told.value) == (
        f"recipe {path}: epochs is 8 to YAML, which reads 010 as an octal number: write 10 (or 8) "
        "(line 5); lr should be a valid number, got 'fast'; unknown field optimisation.clip_nrm "
        "(did you mean clip_norm?) (line 3); batch_size should be greater than or equal to 2, "
        "got '0'; seed should be a valid integer, got 'x' (line 6)"
    )


def test_whether_fields_agree_is_said_when_all_of_them_can_be_read(tmp_path):
    path = file_of(tmp_path, "pixels:\n  fit: crop\n  crop_px: 2001-13-01\n")

    with pytest.raises(RecipeError, match=r"crop_px cannot be read: .* \(line 3\)$"):
        recipe.load(path)


def test_fields_that_disagree_stand_in_no_one_line(tmp_path):
    path = file_of(tmp_path, "summary: s\npixels:\n  fit: crop\n")

    with pytest.raises(
        RecipeError, match=r"crop_px belongs to .*give both or neither; fold=2 needs"
    ):
        recipe.load(path, {"fold": "2"})
    with pytest.raises(RecipeError) as told:
        recipe.load(path, {"fold": "2"})
    assert "line" not in str(told.value)


@pytest.mark.parametrize(
    "of_file", ["? [a]: 1\ndata: {source: no}", "data: {? [a] : 1, source: no}"]
)
def test_a_key_that_is_no_text_hides_no_other_mistake(of_file, tmp_path):
    path = file_of(tmp_path, f"{of_file}\ntraining: {{epochs: 0}}\n")

    with pytest.raises(RecipeError, match=r"has a key in line . that is no text") as told:
        recipe.load(path)

    assert "source should be 'ham10000'" in str(told.value)
    assert "epochs should be greater than or equal to 1, got 0 (line" in str(told.value)


@pytest.mark.parametrize("epochs", ["010", "x", "2\n  epochs: 3", "*ten"])
def test_an_override_replaces_what_is_wrong_in_the_file(epochs, tmp_path):
    path = file_of(tmp_path, f"summary: &ten s\ntraining:\n  epochs: {epochs}\n")

    assert recipe.load(path, {"epochs": "7"}).training.epochs == 7
    with pytest.raises(RecipeError, match="epochs "):
        recipe.load(path, {"seed": "7"})


def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path):
    large, binary = tmp_path / "large.yaml", tmp_path / "binary.yaml"
    large.write_text("# " + "x" * (256 * 1024), encoding="utf-8")
    binary.write_bytes(b"\xff\xfe")

    with pytest.raises(RecipeError, match=r"large\.yaml should be a recipe file, and is too large"):
        recipe.load(str(large))
    with pytest.raises(RecipeError, match=r"binary\.yaml is not a text file in UTF-8"):
        recipe.load(str(binary))


def test_a_count_beyond_all_floats_is_compared_with_the_warm_up(tmp_path):
    path = file_of(tmp_path, f"training: {{epochs: 1{'0' * 400}}}")

    assert recipe.load(path).training.epochs == 10**400


def test_what_is_no_file_is_told_as_what_it_is(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")

    for name, said in {
        "none.yaml": "no recipe file at ",
        "folder.yaml": r"folder\.yaml is a folder, and should be a recipe file",
        "pipe.yaml": r"pipe\.yaml is no ordinary file, and should be a recipe file",
        "x" * 300 + ".yaml": "cannot be a recipe file: File name too long",
        "a\0b.yaml": "cannot be a recipe file: embedded null byte",
    }.items():
        with pytest.raises(RecipeError, match=said):
            recipe.load(str(tmp_path / name))


def test_an_unknown_section_is_refused(tmp_path):
    path = file_of(tmp_path, yaml.safe_dump({"optimizer": {"lr": 1}}))

    with pytest.raises(RecipeError, match="unknown field optimizer"):
        recipe.load(path)


def test_a_recipe_cannot_be_changed():
    loaded = recipe.load("demo")

    with pytest.raises(ValueError, match="frozen"):
        loaded.optimisation.lr = math.pi
