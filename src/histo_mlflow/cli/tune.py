"""`histo-mlflow tune`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from typing import Literal

import click

from histo_mlflow.cli.options import RecipeCommand, given, not_empty, recipe_options


@click.command(cls=RecipeCommand)
@click.option(
    "--study",
    default="demo",
    show_default=True,
    callback=not_empty,
    help="What is searched: a shipped study's name, or a .yaml file.",
)
@click.option(
    "--name", default=None, callback=not_empty, help="Name of the study. [that of the file]"
)
@click.option(
    "--workers",
    default="auto",
    show_default=True,
    callback=not_empty,
    help="Trainings at once on this machine. auto: one a GPU; two on a CPU, which share its cores.",
)
@click.option(
    "--storage",
    default="sqlite:///optuna.db",
    show_default=True,
    callback=not_empty,
    help="Optuna's storage: sqlite:///FILE, postgresql://..., journal:///FILE or grpc://HOST:PORT. "
    "Further machines join with the same command, if they share this storage and --tracking-uri.",
)
@click.option("--trials", default=None, metavar="N", help="Trials in all. [the study's]")
@click.option(
    "--wall-time",
    default=None,
    metavar="TIME",
    help="Begin no trial after so long at work in all, such as 90m or 6h. [the study's]",
)
@click.option(
    "--seed", "study_seed", default=None, metavar="N", help="Of what is proposed. [the study's]"
)
@click.option(
    "--folds",
    "trial_folds",
    default=None,
    metavar="K",
    help="Train each trial on K group folds of the development images. [the study's]",
)
@click.option(
    "--retries",
    default=None,
    metavar="N",
    help="How often a trial is taken up again whose worker died. [the study's]",
)
@click.option(
    "--keep", default=None, metavar="N", help="Best trials whose checkpoints stay. [the study's]"
)
@click.option(
    "--confirm",
    default=None,
    is_flag=False,
    flag_value="study",
    callback=not_empty,
    metavar="[K]",
    help="After the search, beyond --trials and --wall-time, train the best K and the base recipe "
    "again on fresh seeds and group folds, say how far the search flattered itself, and train the "
    "winner. [no K: the study's, or 3]",
)
@click.option(
    "--replicates",
    default=None,
    callback=not_empty,
    metavar="R",
    help="With --confirm: how often each is trained again. [the study's, or 5]",
)
@click.option("--experiment", default=None, help="MLflow experiment. [the recipe's name]")
@click.option(
    "--tracking-uri",
    default=None,
    help="MLflow store. [MLFLOW_TRACKING_URI, or sqlite:///mlflow.db]",
)
@click.option(
    "--runs-dir",
    default="runs",
    show_default=True,
    callback=not_empty,
    help="Folder for the local files of study and trials.",
)
@click.option(
    "--doctor",
    "doctor_level",
    default="quick",
    show_default=True,
    type=click.Choice(["off", "quick", "full"]),
    help="What is examined before the first trial.",
)
@click.option("--started-by", default=None, hidden=True, help="Process that this one ends with.")
@click.option("--quiet", is_flag=True, help="No talk and no table of trials on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@recipe_options(without=("seed", "folds", "fold", "monitor"))
def tune(
    study: str,
    name: str | None,
    workers: str,
    storage: str,
    trials: str | None,
    wall_time: str | None,
    study_seed: str | None,
    trial_folds: str | None,
    retries: str | None,
    keep: str | None,
    confirm: str | None,
    replicates: str | None,
    experiment: str | None,
    tracking_uri: str | None,
    runs_dir: str,
    doctor_level: Literal["off", "quick", "full"],
    started_by: str | None,
    quiet: bool,
    as_json: bool,
    **overrides: str | None,
) -> None:
    """Search a recipe's fields with Optuna, by several processes, through kills.

    Every trial is an ordinary training in a child run of the study's run, and sees training and
    validation images only. Whatever ended it, the same command goes on: trials that were being
    trained continue at their last epoch, in the same runs. The budget holds for all workers and
    all times together.

    The options below of the recipe change the study's base recipe for all trials; in brackets is
    the value where neither study, recipe nor option gives one. A field that the study searches
    cannot be given, unless its axis has `when`.
    """
    from histo_mlflow.jobs.parent import ending_with_parent
    from histo_mlflow.jobs.signals import ending_at_once

    with ending_with_parent(started_by=started_by):  # before the imports, which take seconds
        with ending_at_once():
            from histo_mlflow.jobs.talk import Talk
            from histo_mlflow.tuning.study.confirm_asked import confirm_asked
            from histo_mlflow.tuning.study.study_file import load_study
            from histo_mlflow.tuning.tune import tune as run_study

        keys = {
            "trials": trials,
            "wall_time": wall_time,
            "seed": study_seed,
            "folds": trial_folds,
            "retries": retries,
            "keep": keep,
        }
        talk = Talk(quiet=quiet)
        file = load_study(study, given({**keys, **overrides}), say=talk.say)
        result = run_study(
            file,
            study_name=name,
            workers=workers,
            storage=storage,
            confirm=confirm_asked(file.confirm, confirm, replicates),
            experiment=experiment,
            tracking_uri=tracking_uri,
            runs_dir=runs_dir,
            doctor_level=None if doctor_level == "off" else doctor_level,
            again=_again(sys.argv[1:]),
            talk=talk,
        )
    click.echo(json.dumps(result.to_dict(), indent=2) if as_json else result.text())


def _again(words: Sequence[str]) -> str:
    """The command that goes on: the same one, but for passwords and whose process it was."""
    from histo_mlflow.tracking.redaction import redact_own_command

    kept, skipped = ["histo-mlflow"], False
    for word in words:
        if skipped or word.replace("_", "-") == "--started-by":
            skipped = not skipped
        else:
            kept.append(word)
    return shlex.join(redact_own_command(kept))
