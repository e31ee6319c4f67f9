"""Optuna's own command line and its dashboard open a study of ours."""

import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import made_studies
from histo_mlflow.tuning.shared import attributes

TOOLS = Path(sys.executable).parent
START_SECONDS = 60.0


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """13 trials of which one is out of memory and one has diverged, and three slots that wait."""
    path = tmp_path_factory.mktemp("optuna") / "optuna.db"
    made = made_studies.made_study(13, storage=f"sqlite:///{path}")
    made.set_user_attr(attributes.KIND, "search")
    made.set_user_attr(attributes.DEFINITION, json.dumps({"metric": "val/auc"}))
    made.set_user_attr(attributes.TRIALS, 16)
    made.url = f"sqlite:///{path}"
    return made


def optuna(*words, url):
    command = [TOOLS / "optuna", *words, "--storage", url, "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_optuna_lists_the_study_its_trials_and_the_best_one(study):
    (listed,) = optuna("studies", url=study.url)
    trials = optuna("trials", "--study-name", "demo", url=study.url)
    best = optuna("best-trial", "--study-name", "demo", url=study.url)

    assert (listed["name"], listed["n_trials"]) == ("demo", 16)
    assert [one["number"] for one in trials] == list(range(16))
    expected = [one.state.name for one in study.get_trials()]
    assert [one["state"] for one in trials] == expected
    assert {"COMPLETE", "PRUNED", "WAITING"} <= set(expected)
    assert (best["number"], best["value"]) == (study.best_trial.number, study.best_value)


@pytest.fixture(scope="module")
def dashboard(study, tmp_path_factory):
    """The port of a real optuna-dashboard of the study."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        TOOLS / "optuna-dashboard", study.url, "--host", "127.0.0.1", "--port", str(port),
        "--server", "wsgiref", "--quiet",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("dashboard") / "log"
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        until = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, log.read_text()
            try:
                asked(port, "/api/meta")
                break
            except OSError:  # not up yet
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
        yield port
        process.terminate()


def asked(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())
    finally:
        connection.close()


def test_the_dashboard_lists_the_study_and_shows_all_its_trials(study, dashboard):
    (listed,) = asked(dashboard, "/api/studies")["study_summaries"]
    shown = asked(dashboard, f"/api/studies/{listed['study_id']}")

    assert (listed["study_name"], listed["directions"]) == ("demo", ["maximize"])
    attrs = {entry["key"] for entry in shown["user_attrs"]}
    assert {attributes.KIND, attributes.DEFINITION, attributes.TRIALS} <= attrs
    for one, trial in zip(shown["trials"], study.get_trials(), strict=True):
        assert one["number"] == trial.number
        assert one["state"].upper() == trial.state.name
        assert {axis["name"] for axis in one["params"]} == set(trial.params)
        assert len(one.get("intermediate_values", [])) == len(trial.intermediate_values)
        noted = {entry["key"]: entry["value"] for entry in one["user_attrs"]}
        if trial.state.is_finished():
            assert noted[attributes.STATE] == trial.user_attrs[attributes.STATE]
    assert [one["number"] for one in shown["best_trials"]] == [study.best_trial.number]
