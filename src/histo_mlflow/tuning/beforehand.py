"""What would end a study before its first trial, found out before anything of it is made."""

from __future__ import annotations

from collections.abc import Iterable

from histo_mlflow.errors import SplitError, StudyError
from histo_mlflow.jobs.development import Division, develop_fold
from histo_mlflow.jobs.prepare import Prepared
from histo_mlflow.jobs.trainable import settle
from histo_mlflow.recipe import Recipe
from histo_mlflow.tuning.confirming import fresh_replicates
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.samplers import make_sampler
from histo_mlflow.tuning.study.study_file import Confirm, StudyFile


def refuse_unable(file: StudyFile, base: Recipe) -> None:
    """What this machine lacks, or knows no such name of; no image is read for it.

    Raises:
        HistoMlflowError: the device, the model or the sampler's package is not there.
    """
    settle(base)
    make_sampler(file.sampler, file.space, seed=file.seed, number=0)


def refuse_undividable(prepared: Prepared, definition: Definition, confirm: Confirm | None) -> None:
    """Try every division of the development images that trials and confirmation will be given.

    Args:
        prepared: the images.
        definition: of the study.
        confirm: how its best trials are trained again; None: not at all.

    Raises:
        StudyError: one cannot be made; it names the option to change.
    """
    if definition.folds is not None:
        seed = definition.base().split.split_seed
        folds = (Division(definition.folds, fold, seed) for fold in range(definition.folds))
        _try(prepared, folds, f"each trial is trained on ({definition.folds})", "--folds")
    if confirm is not None:
        fresh = (one.division for one in fresh_replicates(definition, confirm.replicates))
        _try(prepared, fresh, f"--confirm trains on ({confirm.replicates})", "--replicates")


def _try(prepared: Prepared, divisions: Iterable[Division], whose: str, option: str) -> None:
    try:
        for division in divisions:
            develop_fold(prepared, division)
    except SplitError as error:
        raise StudyError(
            f"the group folds that {whose} cannot be made of the development images, so nothing "
            f"was begun: give a lower {option}. {error}"
        ) from error
