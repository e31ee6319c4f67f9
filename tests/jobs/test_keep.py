"""Checkpoints of trials that are not among the best are removed, and nothing else is lost."""

import shutil

import pytest

from histo_mlflow.errors import Interrupted, ResumeError
from histo_mlflow.jobs.development import Developments
from histo_mlflow.jobs.keep import drop_checkpoints
from histo_mlflow.jobs.run_folder import RunFolder, locked
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import load
from killed_trials import RECIPE, trial


@pytest.fixture(scope="module")
def development(session_cache):
    return Developments(talk=Talk(quiet=True)).of(load("demo", {**RECIPE, "epochs": "1"}))


@pytest.fixture(scope="module")
def trained(development, fresh_database, tmp_path_factory):
    """A folder with a store and a trial that is finished; copied before it is changed."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copy(fresh_database, root / "mlflow.db")
    trial(development, root, "key", recipe=load("demo", {**RECIPE, "epochs": "1"}))
    return root


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    (path,) = (tmp_path / "copy" / "runs").iterdir()
    return RunFolder(path)


def again(development, folder):
    root = folder.path.parent.parent
    return trial(development, root, "key", recipe=load("demo", {**RECIPE, "epochs": "1"}))


def test_checkpoints_go_and_the_result_stays(development, folder):
    before = {path.name for path in folder.path.iterdir()}
    assert len(list(folder.checkpoints.iterdir())) > 0
    for _ in range(2):  # a second time changes nothing
        drop_checkpoints(folder.path)
        assert {path.name for path in folder.path.iterdir()} == before - {"checkpoints"}

    assert again(development, folder).ending == "finished"


def test_a_kill_on_the_way_leaves_what_a_second_call_removes(folder):
    doomed = folder.checkpoints.with_name(".checkpoints.removed.partial")
    folder.checkpoints.rename(doomed)
    drop_checkpoints(folder.path)

    assert not doomed.exists()


def test_a_trial_that_somebody_trains_keeps_them(folder):
    with locked(folder), pytest.raises(ResumeError, match="another process is training"):
        drop_checkpoints(folder.path)

    assert len(list(folder.checkpoints.iterdir())) > 0


def test_a_folder_of_something_else_is_left_alone(folder):
    folder.trial.unlink()
    with pytest.raises(ResumeError, match="holds no trial of a study"):
        drop_checkpoints(folder.path)
    drop_checkpoints(folder.path.parent / "not there")

    assert len(list(folder.checkpoints.iterdir())) > 0
    assert not (folder.path.parent / "not there").exists()


def test_an_unfinished_trial_without_them_cannot_be_gone_on_with(
    development, fresh_database, tmp_path
):
    shutil.copy(fresh_database, tmp_path / "mlflow.db")

    def interrupted(epoch, value):
        raise Interrupted(2)

    with pytest.raises(Interrupted):
        trial(development, tmp_path, "key", go_on=interrupted)
    (path,) = (tmp_path / "runs").iterdir()
    drop_checkpoints(path)

    with pytest.raises(ResumeError, match="cannot be gone on with: it had not come to its end"):
        trial(development, tmp_path, "key")
