"""A study made or joined: whoever gives the same command works on the same one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from time import monotonic, sleep

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.storage import asked
from histo_mlflow.tuning.study.definition import Definition, changes, differences

MAKING_SECONDS = 10.0
"""The longest that a study is waited for whose maker has not written down what it is."""
HEIRS_SECONDS = 1.0
"""How far apart two can be that give up that wait at once and write it down in its place."""


@dataclass(frozen=True)
class Joined:
    """A study that this command works on.

    Attributes:
        study: as Optuna has it.
        key: finds the parent run; the keys of child runs begin with it.
        new: this command made it.
        told: what is different from when it was begun, and allowed.
    """

    study: optuna.Study
    key: str
    new: bool
    told: tuple[str, ...] = ()


def make_or_join(
    storage: BaseStorage,
    study_name: str,
    definition: Definition,
    *,
    kind: str,
    experiment: str,
) -> Joined:
    """Make the study, or join the one of that name if it is the same.

    Args:
        storage: Optuna's.
        study_name: in it.
        definition: what the study is; of one that was begun, what may differ is this command's.
        kind: "search" or "confirm".
        experiment: where the parent run of a study that is new goes.

    Raises:
        StudyError: there is one of that name that is another, naming every difference; or the
            storage failed.
    """
    inherited = False
    try:
        study = asked(
            f"making the study {study_name}",
            lambda: optuna.create_study(
                storage=storage, study_name=study_name, direction=definition.direction
            ),
        )
    except DuplicatedStudyError:
        study = asked(
            f"opening the study {study_name}",
            lambda: optuna.load_study(study_name=study_name, storage=storage),
        )
        if (begun := _definition_of(study, study_name)) is not None:
            return _joined(study, begun, definition)
        inherited = True  # its maker was killed before it could write down what it is
    key = uuid.uuid4().hex
    _write(study, definition, key, kind=kind, experiment=experiment)
    if inherited:
        sleep(HEIRS_SECONDS)
        kept = study.user_attrs
        if (kept[name.KEY], kept[name.DEFINITION]) != (key, definition.to_json()):
            # Another wrote, too: it was made by whose key is there.
            joined = _joined(study, Definition.from_json(kept[name.DEFINITION]), definition)
            return replace(joined, new=kept[name.KEY] == key)
    return Joined(study, key, new=True)


def find(storage: BaseStorage, study_name: str) -> optuna.Study | None:
    """The study of that name; None where there is none.

    Raises:
        StudyError: the storage failed.
    """
    names = asked("listing the studies", lambda: optuna.get_all_study_names(storage))
    if study_name not in names:
        return None
    return asked(
        f"opening the study {study_name}",
        lambda: optuna.load_study(study_name=study_name, storage=storage),
    )


def refuse_other(storage: BaseStorage, study_name: str, definition: Definition) -> None:
    """Compare with the study of that name, if there is one, before anything is made ready.

    Raises:
        StudyError: it is another one, naming every difference; or the storage failed.
    """
    study = find(storage, study_name)
    text = None if study is None else study.user_attrs.get(name.DEFINITION)
    if text is not None:
        _refuse(study_name, Definition.from_json(text), definition)


def _refuse(study_name: str, begun: Definition, definition: Definition) -> None:
    if different := differences(begun, definition):
        raise StudyError(
            f"the study {study_name} was begun otherwise: {'; '.join(different)}. Its trials would "
            "not be comparable: give what it was begun with, or give the new study another --name"
        )


def _joined(study: optuna.Study, begun: Definition, definition: Definition) -> Joined:
    _refuse(study.study_name, begun, definition)
    return Joined(
        study, study.user_attrs[name.KEY], new=False, told=tuple(changes(begun, definition))
    )


def _definition_of(study: optuna.Study, study_name: str) -> Definition | None:
    """What the study says that it is; None where its maker did not come to say it.

    Raises:
        StudyError: it is another program's.
    """
    deadline = monotonic() + MAKING_SECONDS
    while (text := study.user_attrs.get(name.DEFINITION)) is None:
        # It is written before the first trial is made, maybe since the look a moment ago.
        if study.get_trials(deepcopy=False) and name.DEFINITION not in study.user_attrs:
            raise StudyError(
                f"the study {study_name} in this storage has trials and does not say what it is: "
                "another program made it. Give another --name"
            )
        if monotonic() > deadline:
            return None
        sleep(0.2)
    return Definition.from_json(text)


def _write(
    study: optuna.Study,
    definition: Definition,
    key: str,
    *,
    kind: str,
    experiment: str,
) -> None:
    """The definition is last: a study that has one has everything."""
    entries = {
        name.KIND: kind,
        name.KEY: key,
        name.EXPERIMENT: experiment,
        name.DEFINITION: definition.to_json(),
    }
    for attribute, value in entries.items():
        study.set_user_attr(attribute, value)
