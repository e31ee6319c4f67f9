"""Which run a command goes on with, and what it refuses."""

import fcntl
import os
import threading

import pytest

from histo_mlflow import files
from histo_mlflow.errors import BusyError, ResumeError
from histo_mlflow.jobs.resume import (
    other_machine,
    refuse_other_recipe,
    run_folder,
    wanted_recipe,
)
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder, locked
from histo_mlflow.recipe import load

PLAN = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "threads": 1}
MACHINE = {"torch": "2.15.0", "device_name": "a CPU", "cpu_capability": "AVX2"}


@pytest.fixture
def begun(tmp_path):
    """The folder of a begun run `abc` in `runs`."""
    folder = RunFolder(tmp_path / "runs" / "abc")
    folder.path.mkdir(parents=True)
    folder.write_facts(RunFacts("key", "abc", "sqlite:///mlflow.db", "demo", PLAN, MACHINE))
    folder.recipe.write_text(load("demo", {"lr": "3e-4"}).to_yaml())
    return folder


def where(tmp_path, *, resume=None, run_dir=None):
    return run_folder(resume=resume, run_dir=run_dir, runs_dir=tmp_path / "runs")


def test_a_new_run_has_no_folder_yet(tmp_path):
    assert where(tmp_path) is None


def test_a_run_is_found_by_id_by_folder_and_by_mlflow_run(begun, tmp_path, monkeypatch):
    assert where(tmp_path, resume="abc") == begun
    assert where(tmp_path, run_dir=begun.path) == begun
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    assert where(tmp_path) == begun
    assert where(tmp_path, resume="abc", run_dir=begun.path) == begun


def test_a_folder_that_is_not_there_yet_is_for_a_new_run(tmp_path, monkeypatch):
    assert where(tmp_path, run_dir=tmp_path / "mine").facts() is None
    monkeypatch.setenv("MLFLOW_RUN_ID", "new")
    assert where(tmp_path).path == tmp_path / "runs" / "new"


def test_a_run_without_files_here_cannot_be_resumed(tmp_path):
    with pytest.raises(ResumeError, match=r"run xyz cannot be resumed: .*runs/xyz.*--runs-dir"):
        where(tmp_path, resume="xyz")


def test_a_child_run_is_never_the_one_of_mlflow_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "parent")
    runs_dir = tmp_path / "runs"
    assert run_folder(resume=None, run_dir=None, runs_dir=runs_dir, follow_project=False) is None


def test_two_that_name_different_runs_are_refused(begun, tmp_path, monkeypatch):
    with pytest.raises(ResumeError, match="holds run abc, not xyz"):
        where(tmp_path, resume="xyz", run_dir=begun.path)
    monkeypatch.setenv("MLFLOW_RUN_ID", "xyz")
    with pytest.raises(ResumeError, match="holds run abc, not xyz"):
        where(tmp_path, run_dir=begun.path)
    with pytest.raises(
        ResumeError, match=r"run abc is to be resumed, but `mlflow run` made run xyz"
    ):
        where(tmp_path, resume="abc")


def test_without_a_recipe_the_runs_own_is_taken(begun, tmp_path):
    def wanted(dataset, overrides, resume):
        return wanted_recipe(dataset, overrides, resume=resume, runs_dir=tmp_path / "runs")

    assert wanted(None, {}, "abc") == load("demo", {"lr": "3e-4"})
    assert wanted(None, {"lr": "1"}, "abc") == load("demo", {"lr": "1"})
    assert wanted("demo", {}, "abc") == load("demo", {})
    assert wanted(None, {}, None) == load("demo", {})


def test_a_run_whose_recipe_is_lost_is_told(begun, tmp_path):
    begun.recipe.unlink()
    with pytest.raises(ResumeError, match=r"the recipe of the run is missing: .*recipe.yaml"):
        wanted_recipe(None, {}, resume="abc", runs_dir=tmp_path / "runs")


def test_another_recipe_is_refused_with_every_difference(begun):
    refuse_other_recipe(begun, load("demo", {"lr": "3e-4"}))
    with pytest.raises(ResumeError) as caught:
        refuse_other_recipe(begun, load("demo", {"lr": "1e-3", "patience": "3"}))

    assert "lr was 0.0003, 0.001 is given; patience was unset, 3 is given" in str(caught.value)


def test_of_two_at_one_folder_the_second_is_refused_until_the_first_is_gone(begun):
    with locked(begun):
        refused = []

        def second():
            try:
                with locked(begun):
                    pass
            except ResumeError as error:
                refused.append(str(error))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert refused == [
            f"another process is training or delivering {begun.path}: wait for it, or end it"
        ]
    with locked(begun):
        pass


def test_who_comes_second_to_a_new_folder_leaves_it_to_the_first(tmp_path, monkeypatch):
    """The first has written nothing but the lock yet."""
    folder, make, descriptors = RunFolder(tmp_path / "new"), files.make_folder, []

    def first(path):
        make(path)
        descriptors.append(os.open(path / "lock", os.O_RDWR | os.O_CREAT))
        fcntl.flock(descriptors[0], fcntl.LOCK_EX)

    monkeypatch.setattr(files, "make_folder", first)
    with pytest.raises(BusyError), locked(folder):
        pass

    assert (folder.path / "lock").exists()
    os.close(descriptors[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "should be JSON"), ("[]", "should hold a mapping"), ('{"format": 9}', "format 1")],
)
def test_a_damaged_note_of_the_run_is_told(text, problem, begun):
    (begun.path / "run.json").write_text(text)
    with pytest.raises(ResumeError, match=problem):
        begun.facts()


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(begun):
    kept = {path.name for path in begun.path.iterdir()}
    (begun.path / ".run.json.partial").write_text("half")
    (begun.path / ".model.123.new").mkdir()
    (begun.path / ".model.123.new" / "weights.safetensors").write_text("half")
    (begun.path / "checkpoints" / ".epoch.partial").mkdir(parents=True)
    begun.remove_leftovers()

    assert {path.name for path in begun.path.iterdir()} == kept | {"checkpoints"}
    assert list(begun.checkpoints.iterdir()) == []


def test_a_mistake_leaves_no_folder_and_a_begun_run_keeps_its_own(begun, tmp_path):
    with pytest.raises(ResumeError, match="wrong"), locked(RunFolder(tmp_path / "new")):
        raise ResumeError("wrong")
    with locked(begun):
        pass

    assert not (tmp_path / "new").exists()
    assert begun.facts() is not None


def test_another_machine_is_told():
    assert other_machine(MACHINE, MACHINE) is None
    told = other_machine(MACHINE, {**MACHINE, "torch": "2.16.0"})
    assert told is not None
    assert told.startswith(
        "the run was begun with torch 2.15.0, now 2.16.0: it goes on, but not bit"
    )


def test_a_folder_with_other_files_is_no_place_for_a_run(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "design.md").write_text("# Design")
    with pytest.raises(ResumeError, match=r"docs holds no run, and other files \(design.md\)"):
        where(tmp_path, run_dir=tmp_path / "docs")


def test_what_a_kill_at_the_very_beginning_leaves_is_gone_on_with(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("lock", "recipe.yaml", ".run.json.partial", "journal.jsonl"):
        (folder / name).write_text("")
    assert where(tmp_path, run_dir=folder).facts() is None


def test_without_a_recipe_that_of_the_run_in_the_folder_is_taken(begun, tmp_path):
    def wanted(dataset, run_dir):
        return wanted_recipe(dataset, {}, resume=None, runs_dir=tmp_path / "runs", run_dir=run_dir)

    assert wanted(None, begun.path) == load("demo", {"lr": "3e-4"})
    assert wanted("demo", begun.path) == load("demo", {})
    assert wanted(None, tmp_path / "new") == load("demo", {})


@pytest.mark.parametrize("text", ["{}", '{"ending": "finished", "cause": null, "result": null}'])
def test_an_outcome_that_is_not_as_it_was_written_says_what_to_do(text, begun):
    (begun.path / "outcome.json").write_text(text)
    with pytest.raises(ResumeError, match=r"outcome.json is not as it was written: delete it"):
        begun.outcome()


def test_a_machine_that_another_version_noted_otherwise_is_told():
    told = other_machine({"torch": "2.15.0", "colour": "grey"}, MACHINE)
    assert "device_name unknown, now a CPU" in told
    assert "torch" not in told
