"""docs/cli.md, made from the commands' own `--help`.

`python -m histo_mlflow.cli.reference > docs/cli.md` writes it again; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from histo_mlflow.cli import cli

HEADER = """# The command line

Made by `python -m histo_mlflow.cli.reference > docs/cli.md`; do not edit by hand.

Every option may be written with dashes or underscores. Mistakes are one sentence on stderr and exit
code 1; SIGHUP ends with 129, SIGINT with 130 and SIGTERM with 143, a server that takes
requests with 0.
"""


def reference() -> str:
    """The whole reference as Markdown."""
    blocks = [
        f"## `{path}`\n\n```text\n{text.rstrip()}\n```\n"
        for path, text in _helps(cli, "histo-mlflow")
    ]
    return "\n".join([HEADER, *blocks])


def _helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    context = click.Context(
        command,
        info_name=path,
        terminal_width=100,
        max_content_width=100,
        help_option_names=["-h", "--help"],
    )
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _helps(child, f"{path} {name}")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
