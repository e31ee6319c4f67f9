"""The command line: `histo-mlflow`. It wires the parts together and holds no logic.

Data goes to stdout, talk to stderr. Every mistake of a user is one plain sentence and exit code 1.
"""

from __future__ import annotations

import atexit
import gc
import sys
from typing import NoReturn

import click

import histo_mlflow
from histo_mlflow.cli import _streams
from histo_mlflow.cli.crossval import crossval
from histo_mlflow.cli.data import data
from histo_mlflow.cli.doctor import doctor
from histo_mlflow.cli.evaluate import evaluate
from histo_mlflow.cli.options import normalise
from histo_mlflow.cli.predict import predict
from histo_mlflow.cli.promote import promote
from histo_mlflow.cli.recipe import recipe
from histo_mlflow.cli.review import review
from histo_mlflow.cli.runs import runs
from histo_mlflow.cli.serve import serve
from histo_mlflow.cli.submit import submit
from histo_mlflow.cli.train import train
from histo_mlflow.cli.tune import tune
from histo_mlflow.errors import HistoMlflowError, Interrupted


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": normalise,
    }
)
@click.version_option(histo_mlflow.__version__, prog_name="histo-mlflow")
def cli() -> None:
    """Train, compare and serve classifiers of medical image patches with MLflow."""


cli.add_command(train)
cli.add_command(crossval)
cli.add_command(tune)
cli.add_command(data)
cli.add_command(doctor)
cli.add_command(evaluate)
cli.add_command(review)
cli.add_command(runs)
cli.add_command(promote)
cli.add_command(predict)
cli.add_command(submit)
cli.add_command(serve)
cli.add_command(recipe)


def main() -> None:
    """Run the command line and turn every ending into an exit code."""
    _streams.guard()
    # Nothing is garbage any more when the process ends; looking through it takes seconds.
    atexit.register(gc.freeze)
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except HistoMlflowError as error:
        _leave(_told(error), 1)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx and _is_help(error, error.ctx):
            error.show()
            sys.exit(error.exit_code)
        _leave(error.format_message(), 1)
    except click.Abort as abort:
        # click turns every KeyboardInterrupt, and so our `Interrupted`, into this.
        ended = abort.__cause__
        if isinstance(ended, Interrupted):
            _leave(_told(ended), ended.exit_code)
        _leave("interrupted", 130)


def _is_help(error: click.UsageError, context: click.Context) -> bool:
    """Whether click only shows the help, as it does of a group without a command.

    Newer versions of click raise an error of a class of its own for it.
    """
    return error.message == context.get_help()


def _told(error: BaseException) -> str:
    """The error with what became known on the way out, as one sentence."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def _leave(sentence: str, code: int) -> NoReturn:
    click.echo(f"histo-mlflow: {sentence}", err=True)
    sys.exit(code)
