"""What the command line of `tune` says of itself."""

import os
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from mlflow.projects import _project_spec

from histo_mlflow.cli import cli
from histo_mlflow.cli.tune import _again
from histo_mlflow.tuning import tune as job
from histo_mlflow.tuning.study.study_file import Confirm

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asked(monkeypatch):
    """What the job is asked to confirm by the words of a command line."""

    def run(*words):
        given = []

        def tune(file, **more):
            given.append(more["confirm"])
            return SimpleNamespace(text=lambda: "")

        monkeypatch.setattr(job, "tune", tune)
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (done.output, done.exception)
        return given[0]

    return run


def test_the_command_that_goes_on_is_the_same_without_password_and_process():
    words = ["tune", "--study", "my study.yaml", "--started-by", "77", "--storage"]
    again = _again([*words, "postgresql://me:hunter2@host/optuna"])

    assert again == (
        "histo-mlflow tune --study 'my study.yaml' "
        "--storage 'postgresql://me:[redacted]@host/optuna'"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--confirm"], Confirm(candidates=2, replicates=3)),
        (["--confirm", "--quiet"], Confirm(candidates=2, replicates=3)),
        (["--confirm", "5"], Confirm(candidates=5, replicates=3)),
        (["--confirm=5", "--replicates", "4"], Confirm(candidates=5, replicates=4)),
    ],
)
def test_a_confirmation_without_a_number_is_the_one_of_the_study(words, expected, asked):
    assert asked("tune", *words) == expected


@pytest.mark.parametrize(("given", "candidates"), [("study", 2), ("1", 1)])
def test_mlflow_run_can_ask_for_a_confirmation(given, candidates, asked):
    entry = _project_spec.load_project(str(ROOT)).get_entry_point("tune")
    command = entry.compute_command({"confirm": given}, None)
    words = shlex.split(command.replace("$PPID", str(os.getppid())))

    assert asked(*words[1:]) == Confirm(candidates=candidates, replicates=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds", "3"], "changed  pruner was median, none is taken: "),
        (["--folds", "6"], "changed  pruner was median, wilcoxon is taken: "),
        (["--folds", "3", "--quiet"], ""),
        ([], ""),
    ],
)
def test_a_pruner_that_gives_way_to_folds_is_said(monkeypatch, words, said):
    monkeypatch.setattr(job, "tune", lambda file, **_: SimpleNamespace(text=lambda: ""))
    done = CliRunner().invoke(cli, ["tune", *words])

    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(said) if said else done.stderr == ""
