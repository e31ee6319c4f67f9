"""The command's job, where it is ended before a study is begun."""

import os
import signal
from contextlib import contextmanager

import pytest

from histo_mlflow.errors import Interrupted
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import tune as module
from histo_mlflow.tuning.study.study_file import load_study


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
        module.tune(load_study("demo"), tracking_uri=store_uri, talk=Talk(quiet=True))

    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("KILLED", "interrupted")
