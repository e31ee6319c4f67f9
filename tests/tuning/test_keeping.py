"""Which checkpoints are left of a study."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from histo_mlflow.jobs._trial_note import TrialNote, read_note, write_note
from histo_mlflow.jobs.run_folder import RunFolder, locked
from histo_mlflow.tuning.keeping import keep_best
from histo_mlflow.tuning.shared import attributes
from made_studies import ended_trial


@pytest.fixture
def lay(tmp_path):
    """A folder with checkpoints of a run."""

    def laid(run_id):
        folder = RunFolder(tmp_path / run_id)
        (folder.checkpoints / "epoch-0001").mkdir(parents=True)
        (folder.checkpoints / "epoch-0001" / "state").write_text("numbers")
        write_note(folder, TrialNote("d", "s"))
        return folder

    return laid


def kept(tmp_path):
    return {path.name for path in tmp_path.iterdir() if (path / "checkpoints").exists()}


def trials(values, direction="maximize"):
    """A complete trial for each number, one that ended otherwise for each name of a state."""
    study = optuna.create_study(direction=direction)
    for number, value in enumerate(values):
        state = "complete" if isinstance(value, float) else value
        reports = [value if isinstance(value, float) else 0.1]
        study.add_trial(
            ended_trial(number, {"lr": 1e-3}, reports, state=state, direction=direction)
        )
    return study.trials


@pytest.mark.parametrize(
    ("direction", "keep", "expected"),
    [("maximize", 2, {1, 4}), ("minimize", 2, {0, 3}), ("maximize", 0, set())],
)
def test_exactly_the_best_keep_their_checkpoints(direction, keep, expected, lay, tmp_path):
    found = trials([0.1, 0.9, "pruned", 0.3, 0.8, "failed"], direction)
    for trial in found:
        lay(trial.user_attrs[attributes.RUN_ID])
    for _ in range(2):
        keep_best(found, tmp_path, keep=keep, direction=direction)

    assert kept(tmp_path) == {found[number].user_attrs[attributes.RUN_ID] for number in expected}


def test_a_trial_that_has_not_ended_keeps_its_own(lay, tmp_path):
    waiting = create_trial(
        state=TrialState.WAITING, user_attrs={attributes.RUN_ID: lay("waiting").path.name}
    )
    keep_best([waiting], tmp_path, keep=0, direction="maximize")

    assert kept(tmp_path) == {"waiting"}


def test_the_checkpoints_of_folds_go_with_their_trial(lay, tmp_path):
    found = trials([0.1, 0.9])
    for trial in found:
        trial.user_attrs[attributes.FOLD_RUNS] = [
            lay(f"{trial.number}-{fold}").path.name for fold in range(2)
        ]
    keep_best(found, tmp_path, keep=1, direction="maximize")

    assert kept(tmp_path) == {"1-0", "1-1"}
    assert read_note(RunFolder(tmp_path / "0-0")).dropped


def test_a_folder_that_another_process_has_its_hands_on_is_left_for_the_next_time(lay, tmp_path):
    (trial,) = trials(["pruned"])
    folder = lay(trial.user_attrs[attributes.RUN_ID])
    with locked(folder):
        keep_best([trial], tmp_path, keep=0, direction="maximize")
        before = kept(tmp_path)
    keep_best([trial], tmp_path, keep=0, direction="maximize")

    assert (before, kept(tmp_path)) == ({folder.path.name}, set())
