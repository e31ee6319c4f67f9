import json
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from histo_mlflow.tracking import provenance
from histo_mlflow.tracking.provenance import collect


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-b", "main")
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "add", "code.py")
    git(folder, "commit", "-m", "first")
    return folder


def test_a_clean_work_tree_gives_commit_and_branch_and_no_patch(repository: Path) -> None:
    facts = collect(repository, ["histo-mlflow", "train"])
    assert facts.commit == git(repository, "rev-parse", "HEAD").strip()
    assert (facts.branch, facts.dirty, facts.patch) == ("main", False, "")
    assert facts.tags()["mlflow.source.git.commit"] == facts.commit
    assert facts.tags()["histo.git.dirty"] == "false"


def test_the_patch_of_a_dirty_tree_brings_the_commit_to_the_same_content(repository: Path) -> None:
    (repository / "code.py").write_text("a = 2  # ä\n")
    facts = collect(repository, ["x"])
    facts.write(repository / "out")
    git(repository, "checkout", "code.py")
    git(repository, "apply", "out/changes.patch")
    assert (repository / "code.py").read_text() == "a = 2  # ä\n"
    assert facts.tags()["histo.git.dirty"] == "true"


def test_a_subfolder_sees_the_whole_work_tree(repository: Path) -> None:
    (repository / "deep").mkdir()
    (repository / "code.py").write_text("a = 3\n")
    assert "code.py" in collect(repository / "deep", ["x"]).patch


def test_untracked_files_are_named_and_never_read(repository: Path) -> None:
    (repository / ".env").write_text("PASSWORD=hunter2\n")
    (repository / "ä b.txt").write_text("x")
    facts = collect(repository, ["x"])
    assert facts.untracked == (".env", "ä b.txt")
    assert facts.dirty is True
    facts.write(repository / "out")
    assert "hunter2" not in "".join(p.read_text() for p in (repository / "out").iterdir())


def test_credentials_in_the_patch_are_blotted_out_and_it_says_so(repository: Path) -> None:
    (repository / "code.py").write_text('a = 1\npassword = "hunter2"\n')
    facts = collect(repository, ["x"])
    assert "hunter2" not in facts.patch
    assert "credential" in facts.patch_note


def test_a_large_patch_is_cut_at_a_line_and_it_says_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "MAX_PATCH_BYTES", 1_000)
    (repository / "code.py").write_text("".join(f"line_{i} = {i}\n" for i in range(500)))
    facts = collect(repository, ["x"])
    assert len(facts.patch) <= 1_000
    assert facts.patch.endswith("\n")
    assert facts.patch_note.startswith("cut to ")


def test_a_folder_outside_of_git_says_why_there_is_no_commit(tmp_path: Path) -> None:
    facts = collect(tmp_path, ["x"])
    assert (facts.commit, facts.dirty) == (None, None)
    assert "not a git repository" in (facts.git_problem or "")
    assert "histo.git.commit" not in facts.tags()


def test_a_machine_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert collect(tmp_path, ["x"]).git_problem == "git is not installed"


def test_the_json_holds_versions_and_the_command_without_its_secrets(tmp_path: Path) -> None:
    collect(tmp_path, ["histo-mlflow", "--token", "abc", "a b"]).write(tmp_path)
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert facts["command"] == "histo-mlflow --token '[redacted]' 'a b'"
    assert facts["packages"]["torch"] == version("torch")
