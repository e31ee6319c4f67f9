"""Every recipe field as an option, and a help page that shows them section by section.

`mlflow run . -P batch_size=64` passes `--batch_size 64` on, so underscores and dashes mean the same
in every option (`normalise`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import click

from histo_mlflow.recipe import RecipeField, fields

Command = Callable[..., Any]


def normalise(token: str) -> str:
    """`--batch_size` is `--batch-size`."""
    return token.replace("_", "-")


class RecipeCommand(click.Command):
    """A command whose recipe options are listed under the names of their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then a block for each section."""
        blocks: dict[str, list[tuple[str, str]]] = {}
        section_of = {field.name: field.section for field in fields()}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                block = section_of.get(parameter.name or "", "")
                blocks.setdefault(f"Recipe, {block}" if block else "Options", []).append(record)
        for title in sorted(blocks, key=lambda title: title != "Options"):
            with formatter.section(title):
                formatter.write_dl(blocks[title])


def recipe_options(
    sections: Collection[str] | None = None, *, without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Add an option for each field of the given sections (all of them by default) but some.

    Values stay text: the recipe converts and judges them, so that all mistakes are told at once.
    An option that was not given is None and leaves the recipe's own value.
    """

    def decorate(command: Command) -> Command:
        for field in reversed(fields()):
            if (sections is None or field.section in sections) and field.name not in without:
                command = _option(field)(command)
        return command

    return decorate


def finished_run_options(result: str) -> Callable[[Command], Command]:
    """Add what every command asks that reads finished runs: store, folders, quiet, JSON.

    Args:
        result: what is printed as JSON, for the help.
    """
    return _reading_options("[where a run was begun, or MLFLOW_TRACKING_URI, or", result)


def model_options(result: str) -> Callable[[Command], Command]:
    """Add what every command asks that puts a model to work: store, folders, quiet, JSON.

    Args:
        result: what is printed as JSON, for the help.
    """
    return _reading_options("[MLFLOW_TRACKING_URI, or", result)


def engine_options(command: Command) -> Command:
    """Add what computes a model's answers, and where."""
    return _decorated(
        command,
        click.option(
            "--engine",
            default="torch",
            show_default=True,
            type=click.Choice(["torch", "onnx"]),
            help="What computes. onnx: ONNX Runtime on the CPU, checked against the model (needs "
            "the extra onnx).",
        ),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."
        ),
    )


def _reading_options(default_store: str, result: str) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        return _decorated(
            command,
            click.option(
                "--tracking-uri",
                default=None,
                help=f"MLflow store. {default_store} sqlite:///mlflow.db]",
            ),
            click.option(
                "--runs-dir",
                default="runs",
                show_default=True,
                callback=not_empty,
                help="Folder where the files of runs are looked for before the store is asked.",
            ),
            click.option("--quiet", is_flag=True, help="No talk on stderr."),
            click.option(
                "--json", "as_json", is_flag=True, help=f"Print {result} as JSON on stdout."
            ),
        )

    return decorate


def _decorated(command: Command, *options: Callable[[Command], Command]) -> Command:
    """A command with options in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty value, which an unset variable of a shell gives, instead of the default.

    Raises:
        click.BadParameter: it is empty.
    """
    if value is not None and not value.strip():
        raise click.BadParameter("is empty (an unset variable?); leave it out, or give a value")
    return value


def given(options: dict[str, str | None]) -> dict[str, str]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _option(field: RecipeField) -> Callable[[Command], Command]:
    return click.option(
        f"--{normalise(field.name)}",
        field.name,
        default=None,
        metavar=field.kind,
        help=f"{field.description} [{_default(field)}]",
    )


def _default(field: RecipeField) -> str:
    if field.default is None or field.default == {}:
        return "unset"
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
