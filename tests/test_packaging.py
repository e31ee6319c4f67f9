"""pyproject.toml, conda.yaml and MLproject say the same."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import histo_mlflow
from histo_mlflow import recipe
from histo_mlflow.cli import cli

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))


def test_conda_installs_exactly_what_pyproject_lists():
    """The pip part is the project itself, editable; nothing is listed a second time."""
    python, pip, nested = CONDA["dependencies"]

    assert (pip, nested) == ("pip", {"pip": ["-e ."]})
    assert python.startswith("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert CONDA["name"] == PROJECT["name"] == MLPROJECT["name"]


@pytest.mark.parametrize(
    ("package", "floor"), [("torch", "2.10"), ("mlflow", "3.11"), ("pillow", "12.3")]
)
def test_security_floors_stand(package, floor):
    requirement = next(
        Requirement(line) for line in PROJECT["dependencies"] if Requirement(line).name == package
    )
    below = ".".join([*floor.split(".")[:-1], str(int(floor.split(".")[-1]) - 1)])

    assert not requirement.specifier.contains(below)
    assert requirement.specifier.contains(version(package), prereleases=True)


def test_the_version_is_one():
    assert PROJECT["version"] == histo_mlflow.__version__


def test_mlproject_uses_conda_yaml_and_commands_that_exist():
    assert MLPROJECT["conda_env"] == "conda.yaml"
    for entry in MLPROJECT["entry_points"].values():
        words = entry["command"].split()
        command = cli
        assert words[0] == "histo-mlflow"
        for word in words[1:]:
            if word.startswith("--"):
                break
            command = command.commands[word]
        offered = {option for parameter in command.params for option in parameter.opts}
        used = [word.replace("_", "-") for word in words if word.startswith("--")]
        assert set(used) <= offered
        assert set(re.findall(r"{(\w+)}", entry["command"])) == set(entry["parameters"])


_TRAIN = ("main", "check", "explore", "crossval", "tune")
"""Entry points that take recipe fields."""


def test_mlproject_declares_no_recipe_field():
    """A declared default is always passed, so it would beat a recipe's own value in silence."""
    leaves = {field.name for field in recipe.fields()}
    entries = [MLPROJECT["entry_points"][name] for name in _TRAIN]
    assert len(MLPROJECT["entry_points"]) == len(entries) + len({"predict", "submit"})
    for entry in entries:
        assert not leaves & set(entry["parameters"])
        assert all("default" in parameter for parameter in entry["parameters"].values())
