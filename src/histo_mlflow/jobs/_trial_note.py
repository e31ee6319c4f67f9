"""trial.json: that the folder of a run is that of a study's trial, and on which images.

It keeps the folder from being taken for that of an ordinary training, and says when its checkpoints
were removed, so that it cannot be gone on with.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from histo_mlflow import files
from histo_mlflow.errors import ResumeError
from histo_mlflow.jobs.development import Development
from histo_mlflow.jobs.run_folder import RunFolder

FORMAT = 1


@dataclass(frozen=True)
class TrialNote:
    """What is noted of a trial.

    Attributes:
        data: digest of the data set.
        division: digest of which image is trained on and which chooses.
        dropped: its checkpoints were removed, or are just being removed.
    """

    data: str
    division: str
    dropped: bool = False


def note_of(development: Development) -> TrialNote:
    """The note of a trial that begins."""
    return TrialNote(development.data_digest, development.division_digest)


def read_note(folder: RunFolder) -> TrialNote | None:
    """The note in a folder; None where there is none.

    Raises:
        ResumeError: it is not as it was written.
    """
    if not folder.trial.is_file():
        return None
    try:
        found = json.loads(folder.trial.read_text("utf-8"))
        if found.pop("format") != FORMAT:
            raise ValueError(f"format {FORMAT} was expected")
        return TrialNote(**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResumeError(
            f"{folder.trial} is not as it was written ({error}): take the version of histo-mlflow "
            "that began the study"
        ) from error


def write_note(folder: RunFolder, note: TrialNote) -> None:
    """Write the note, whole and safe on disk."""
    files.write_json(folder.trial, {"format": FORMAT, **asdict(note)})


def refuse_other_data(folder: RunFolder, note: TrialNote, development: Development) -> None:
    """A trial goes on with the images that it was begun with.

    Raises:
        ResumeError: they are others.
    """
    now = note_of(development)
    different = [
        what
        for what, begun, given in (
            ("the data set", note.data, now.data),
            ("the division into train and val", note.division, now.division),
        )
        if begun != given
    ]
    if different:
        raise ResumeError(
            f"the trial in {folder.path} was begun with other images: {' and '.join(different)} "
            f"changed. Give what the study was begun with, or start a new study"
        )
