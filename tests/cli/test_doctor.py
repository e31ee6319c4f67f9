"""`histo-mlflow doctor`: its lines, its JSON, its exit code, and that it makes no run."""

import json

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from histo_mlflow.cli import cli

SMALL = ["--demo-images", "120", "--image-px", "32", "--weights", "none", "--threads", "1"]


@pytest.fixture
def say(monkeypatch, tmp_path, store_uri):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        return CliRunner().invoke(
            cli, ["doctor", "--quiet", "--tracking_uri", store_uri, *SMALL, *words]
        )

    return run


def test_a_line_a_check_and_no_run(say, store_uri, tmp_path):
    done = say()

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("PASS  python")
    assert any(line.startswith("WARN  label-source") for line in lines)
    assert lines[-1].endswith(", 0 FAIL")
    client = MlflowClient(store_uri)
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []
    assert not (tmp_path / "runs").exists()


def test_json_is_one_document_and_full_also_overfits(say):
    done = say("--json", "--doctor", "full")

    found = {finding["check"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
    assert found["overfit"] in ("PASS", "WARN")
    assert {"python", "store", "disk-cache", "optimiser-coverage"} <= set(found)


def test_a_failure_is_exit_code_1_beside_all_other_findings(say):
    done = say("--tracking-uri", "http://127.0.0.1:9")

    assert done.exit_code == 1
    assert "FAIL  store" in done.stdout
    assert "PASS  optimiser-coverage" in done.stdout
