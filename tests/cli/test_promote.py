"""`histo-mlflow promote`: data on stdout, talk on stderr, a refusal is exit code 1."""

import json

import pytest
from click.testing import CliRunner

import promotable_runs
from histo_mlflow.cli import cli
from histo_mlflow.errors import PromotionError
from histo_mlflow.tracking.store import connect


@pytest.fixture
def runs(store_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    monkeypatch.chdir(tmp_path)
    store = connect(store_uri)
    return [
        promotable_runs.made(store, tmp_path / f"run{n}", skill=1.0 + n, seed=n) for n in range(2)
    ]


def promote(*arguments):
    return CliRunner().invoke(cli, ["promote", "--name", "histo-x", *map(str, arguments)])


def test_from_the_first_champion_to_the_history(runs):
    weak, strong = runs
    first, better, worse = promote(weak.run_id), promote(strong.model_id), promote(weak.run_id)
    back, history = promote("--rollback"), promote("--status")

    assert [one.exit_code for one in (first, better, worse, back, history)] == [0, 0, 1, 0, 0]
    last = [one.stdout.splitlines()[-1] for one in (first, better, worse, back)]
    assert last == [
        "champion histo-x v1 (was none)",
        "champion histo-x v2 (was v1)",
        "champion histo-x v2 stays; v1 is the challenger",
        "champion histo-x v1 (was v2)",
    ]
    assert "AUC" in better.stdout
    assert "<- decides" in better.stdout
    assert "REFUSED  no worse" in worse.stdout
    assert isinstance(worse.exception, PromotionError)
    assert "it is worse: auc" in str(worse.exception)
    assert "--force would let it through" in str(worse.exception)
    assert "\n" not in str(worse.exception)
    assert history.stdout.splitlines()[0] == "histo-x  @champion v1  @challenger none"
    decisions = [line.split()[3] for line in history.stdout.splitlines()[3:]]
    assert decisions == ["rolled", "refused", "promoted", "promoted"]


def test_json_is_the_decision_and_quiet_says_nothing(runs):
    found = promote(runs[0].run_id, "--json", "--quiet")
    said = json.loads(found.stdout)

    assert found.stderr == ""
    assert (said["decision"], said["champion"], said["was"]) == ("promoted", 1, None)
    assert all(check["passed"] for check in said["gate"]["checks"])
    refused = promote(runs[0].run_id, "--json", "--quiet")
    assert "champion already" in str(refused.exception)
    assert json.loads(refused.stdout)["reasons"] == [
        f"it is the champion already ({runs[0].model_id})"
    ]
    status = json.loads(promote("--status", "--json").stdout)
    assert [entry["decision"] for entry in status["entries"]] == ["promoted", "refused"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--rollback", "--status"),
        ("abc", "--rollback"),
        ("abc", "--to", "1"),
        ("abc", "--expect", ""),
    ],
)
def test_commands_that_say_two_things_or_nothing_are_told(arguments):
    done = promote(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
