"""What `--confirm` and `--replicates` ask for: the study's `confirm`, with what was given instead.

>>> confirm_asked(Confirm(candidates=2, replicates=3), "5", None)
Confirm(candidates=5, replicates=3)
"""

from __future__ import annotations

from pydantic import ValidationError

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.study._study_words import sentences
from histo_mlflow.tuning.study.study_file import Confirm

AS_THE_STUDY = "study"
"""What `--confirm` without a number stands for; it can be written out, too."""
_OPTIONS = {"candidates": "confirm", "replicates": "replicates"}


def confirm_asked(study: Confirm, confirm: str | None, replicates: str | None) -> Confirm | None:
    """How the best trials are trained again; None: not at all.

    Args:
        study: what the study file says.
        confirm: of the command line: how many trials, or `AS_THE_STUDY`; None: it was not given.
        replicates: of the command line: how often each; None: it was not given.

    Raises:
        StudyError: `--replicates` without `--confirm`, or a number that a study file cannot have.
    """
    if confirm is None:
        if replicates is not None:
            raise StudyError(
                "Expected --confirm beside --replicates, which is how often --confirm trains each "
                f"recipe, got --replicates {replicates} alone: add --confirm, or leave "
                "--replicates out"
            )
        return None
    given = {"candidates": None if confirm == AS_THE_STUDY else confirm, "replicates": replicates}
    raw = {**study.model_dump(), **{key: one for key, one in given.items() if one is not None}}
    try:
        return Confirm.model_validate(raw)
    except ValidationError as error:
        told = [
            f"command line, {_OPTIONS[str(mistake.path[0])]}: {mistake.message}"
            for mistake, _ in sentences(error, raw)
        ]
        raise StudyError("\n".join(told)) from error
