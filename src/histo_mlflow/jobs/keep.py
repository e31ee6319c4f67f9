"""Which trials of a study keep their checkpoints: the best few, since all would fill the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from histo_mlflow import files
from histo_mlflow.errors import ResumeError
from histo_mlflow.jobs._trial_note import read_note, write_note
from histo_mlflow.jobs.run_folder import RunFolder, locked


def drop_checkpoints(run_dir: str | Path) -> None:
    """Remove the checkpoints of a trial, which is not trained any further; can be done again.

    That they are gone is noted before they go: after a kill at any moment the trial either can be
    gone on with or says that it cannot. Its result, journal and artifacts stay.

    Args:
        run_dir: the folder of a trial's run; nothing happens where there is none.

    Raises:
        ResumeError: a process is training it (nothing is removed), or it is no trial's folder.
        DiskError: the disk refuses.
    """
    folder = RunFolder(Path(run_dir))
    if not folder.path.is_dir():
        return
    if read_note(folder) is None:
        raise ResumeError(
            f"{folder.path} holds no trial of a study (there is no {folder.trial.name}), so its "
            "checkpoints are left alone"
        )
    with locked(folder):
        note = read_note(folder)
        if note is not None and not note.dropped:
            write_note(folder, replace(note, dropped=True))
        if folder.checkpoints.exists():
            files.remove_folder(folder.checkpoints)
        folder.remove_leftovers()
