"""From which code, with which packages, by which command a run came."""

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from histo_mlflow.tracking.redaction import redact, redact_command

GIT_SECONDS = 10.0
MAX_PATCH_BYTES = 1_000_000
MAX_UNTRACKED = 200


@dataclass(frozen=True)
class Provenance:
    """What is known about the code of a run.

    `commit`, `branch`, `dirty` are None when the folder is no git work tree, or git is not there;
    `git_problem` then says why. `branch` is also None on a detached head. `patch` is the difference
    to `commit` without untracked files, with credentials blotted out, cut at 1 MB: `patch_note`
    says what keeps it from being applied as it is. `untracked` names files only, at most 200.
    """

    commit: str | None
    branch: str | None
    dirty: bool | None
    git_problem: str | None
    patch: str
    patch_note: str
    untracked: tuple[str, ...]
    untracked_count: int
    command: str
    python: str
    packages: Mapping[str, str]

    def tags(self) -> dict[str, str]:
        """Tags of a run. The first is the one MLflow's own pages show as the version."""
        tags = {"histo.command": self.command}
        if self.commit is not None:
            tags["mlflow.source.git.commit"] = self.commit
            tags["histo.git.commit"] = self.commit
            tags["histo.git.dirty"] = str(self.dirty).lower()
        if self.branch is not None:
            tags["mlflow.source.git.branch"] = self.branch
        if self.git_problem is not None:
            tags["histo.git.problem"] = self.git_problem
        return tags

    def to_dict(self) -> dict[str, object]:
        """JSON-ready facts, without the patch text."""
        return {
            "commit": self.commit,
            "branch": self.branch,
            "dirty": self.dirty,
            "git_problem": self.git_problem,
            "patch_note": self.patch_note,
            "untracked": list(self.untracked),
            "untracked_count": self.untracked_count,
            "command": self.command,
            "python": self.python,
            "packages": dict(self.packages),
        }

    def write(self, folder: Path) -> None:
        """Write `provenance.json` and, for a dirty work tree, `changes.patch`."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        (folder / "provenance.json").write_text(text + "\n", encoding="utf-8")
        if self.patch:
            (folder / "changes.patch").write_text(self.patch, encoding="utf-8")


def collect(folder: Path, argv: Sequence[str]) -> Provenance:
    """Look at the git work tree that holds `folder` and at this Python environment.

    Args:
        folder: usually the current folder: under `mlflow run` that is the project.
        argv: `sys.argv`; values that look like credentials are blotted out.
    """
    git = _git_facts(folder)
    patch, patch_note = _shown_patch(git.patch)
    return Provenance(
        commit=git.commit,
        branch=git.branch,
        dirty=None if git.commit is None else bool(git.patch or git.untracked),
        git_problem=git.problem,
        patch=patch,
        patch_note=patch_note,
        untracked=git.untracked[:MAX_UNTRACKED],
        untracked_count=len(git.untracked),
        command=shlex.join(redact_command(argv)),
        python=platform.python_version(),
        packages=installed_packages(),
    )


def installed_packages() -> dict[str, str]:
    """Name to version of every installed distribution, sorted by name."""
    # The first one found on the path is the one that is imported.
    found: dict[str, str] = {}
    for distribution in distributions():
        facts = distribution.metadata  # parses the file, each time that it is asked for
        found.setdefault(facts["Name"] or "unnamed", facts["Version"])
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


@dataclass(frozen=True)
class _Git:
    commit: str | None = None
    branch: str | None = None
    patch: bytes = b""
    untracked: tuple[str, ...] = ()
    problem: str | None = None


class _GitError(Exception):
    pass


def _git_facts(folder: Path) -> _Git:
    try:
        commit = _git(folder, "rev-parse", "--verify", "HEAD").decode().strip()
        branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD").decode().strip()
        # Neither of the two may run a program that the repository's settings name.
        patch = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD")
        listed = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", "-z")
    except _GitError as error:
        return _Git(problem=str(error))
    untracked = tuple(sorted(os.fsdecode(name) for name in listed.split(b"\0") if name))
    return _Git(commit, None if branch == "HEAD" else branch, patch, untracked)


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=GIT_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise _GitError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise _GitError(f"git {arguments[0]} took more than {GIT_SECONDS:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _GitError(redact(lines[0])[:300] if lines else f"git {arguments[0]} failed")
    return done.stdout


def _shown_patch(patch: bytes) -> tuple[str, str]:
    """The patch as it is stored, and what was done to it ("" when nothing)."""
    notes = []
    kept = patch[:MAX_PATCH_BYTES]
    if len(kept) < len(patch):
        kept = kept[: kept.rfind(b"\n") + 1]
        notes.append(f"cut to {len(kept):,} of {len(patch):,} bytes")
    text = kept.decode("utf-8", errors="replace")
    shown = redact(text)
    if shown != text:
        notes.append("what looks like a credential was blotted out")
    return shown, "; ".join(notes)
