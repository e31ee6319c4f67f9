"""docs/cli.md is the commands' own help."""

from pathlib import Path

import click

from histo_mlflow.cli import cli
from histo_mlflow.cli.reference import reference

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_reference_is_up_to_date():
    """If this fails: python -m histo_mlflow.cli.reference > docs/cli.md"""
    assert DOCS.read_text(encoding="utf-8") == reference()


def walk(command, path="histo-mlflow"):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{path} {name}")


def test_every_command_and_option_explains_itself():
    for path, command in walk(cli):
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.opts}"
