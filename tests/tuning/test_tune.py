"""The command's job: what ends it before a study is begun, and what it says at the end."""

import importlib.util
import os
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import optuna
import pytest
import torch
from mlflow import MlflowClient

import tuned_studies
from histo_mlflow.errors import HistoMlflowError, Interrupted, StudyError
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import tune as module
from histo_mlflow.tuning.report.summary import summary
from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.study.study_file import Confirm, load_study

QUIET = Talk(quiet=True)


def test_the_run_of_an_mlflow_run_that_is_gone_before_the_study_is_begun_is_closed(
    store_uri, monkeypatch, tmp_path
):
    client = connect(store_uri).client
    run_id = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.chdir(tmp_path)
    told = []

    @contextmanager
    def watched(on_gone):
        told.append(on_gone)
        yield

    def gone(url, *, tracking_uri):
        told[0]()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "ending_with_parent", watched)
    monkeypatch.setattr(module, "open_storage", gone)
    with pytest.raises(Interrupted):
        module.tune(load_study("demo"), tracking_uri=store_uri, talk=QUIET)

    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("KILLED", "interrupted")


@pytest.mark.parametrize(
    ("given", "workers", "said"),
    [
        ({}, "abc", "Expected --workers to be a number from 1 to 512, or auto, got 'abc'"),
        ({"device": "cuda"}, "auto", "device=cuda was asked for"),
        ({"model": "resnet19"}, "auto", "resnet19"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_before_there_is_a_database(
    given, workers, said, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HistoMlflowError, match=said):
        module.tune(small(tmp_path, **given), workers=workers, talk=QUIET)

    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_sampler_whose_package_is_missing_is_refused_before_there_is_a_database(
    monkeypatch, tmp_path
):
    path = tuned_studies.write_study(tmp_path, trials=4, epochs=2)
    text = path.read_text().replace("{name: random}", "cmaes")
    axis = "policy: {type: categorical, choices: [none, flips]}"
    path.write_text(text.replace(axis, "weight_decay: {type: float, low: 0.01, high: 0.1}"))
    file = load_study(str(path))
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "cmaes" else found(name)
    )
    with pytest.raises(StudyError, match=r"pip install 'histo-mlflow\[cmaes\]'"):
        module.tune(file, talk=QUIET)

    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("folds", "confirm", "option"),
    [(50, None, "--folds"), (None, Confirm(replicates=50), "--replicates")],
)
def test_folds_that_cannot_be_made_are_refused_before_there_is_a_study(
    folds, confirm, option, store_uri, tmp_path
):
    path = tuned_studies.write_study(tmp_path, trials=4, epochs=2)
    path.write_text(f"{path.read_text().partition('pruner:')[0]}trials: 4\n")
    file = load_study(str(path), {} if folds is None else {"folds": folds})
    storage = f"sqlite:///{tmp_path}/optuna.db"
    with pytest.raises(StudyError, match=rf"\(50\).*give a lower {option}\. Expected"):
        module.tune(
            file,
            storage=storage,
            confirm=confirm,
            tracking_uri=store_uri,
            runs_dir=tmp_path / "runs",
            doctor_level=None,
            talk=QUIET,
        )

    assert optuna.get_all_study_names(storage) == []
    assert MlflowClient(store_uri).search_runs(["0"]) == []


def small(folder, **given):
    return load_study(str(tuned_studies.write_study(folder, trials=4, epochs=2)), given)


@pytest.mark.parametrize(
    ("seconds", "trials", "last", "go_on"),
    [
        (59.0, (3, 0), "go on with: histo-mlflow tune", "histo-mlflow tune"),
        (
            60.0,
            (3, 1),
            "the study's wall time is used up and 4 trials are left: to go on, give the same "
            "command a longer --wall-time",
            None,
        ),
        (60.0, (0, 0), "no trial is complete, so there is no best recipe", None),
    ],
)
def test_a_study_whose_wall_time_is_used_up_says_so_instead_of_the_same_command(
    seconds, trials, last, go_on, monkeypatch, tmp_path
):
    waiting, running = trials
    summed = summary("small", [], metric="val/auc", direction="maximize", axes=())
    report = SimpleNamespace(folder=tmp_path, summary=summed, recipe="best.yaml", undrawn={})
    monkeypatch.setattr(module, "searched", lambda *_: [])
    monkeypatch.setattr(module, "write_report", lambda *_, **__: report)
    file = small(tmp_path, wall_time="60s")
    site = SimpleNamespace(
        definition=module.Definition.of(file),
        folder=tmp_path,
        parent=SimpleNamespace(
            run_id="r", url="", end=lambda _: None, log_artifacts=lambda *_: None
        ),
        talk=QUIET,
        queue=lambda _: SimpleNamespace(
            limit=lambda: 4,
            active_seconds=lambda: seconds,
            counts=lambda: SimpleNamespace(waiting=waiting, running=running),
            time_is_up=lambda: seconds >= file.wall_time,
        ),
    )

    found = module._worked(site, None, file, None, None, "histo-mlflow tune")

    lines = [line for line in found.text().splitlines() if line and not line.startswith("recipe")]
    assert lines[-2:] == [last, "run r"]
    told = found.to_dict()
    assert (told["go_on"], told["trials_left"]) == (go_on, waiting + running)
    assert told["wall_time_used_up"] is (seconds == 60.0)


def test_of_a_study_without_a_complete_trial_only_those_that_ended_are_counted():
    failed = optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL, user_attrs={attributes.CAUSE: "no stage layer9"}
    )
    waiting = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)

    assert module._none_complete("s", [failed, failed, waiting]).startswith(
        "none of the 2 trials of the study s is complete; the first that failed: no stage layer9."
    )
