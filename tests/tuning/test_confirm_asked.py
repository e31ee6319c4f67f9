"""`--confirm` and `--replicates` before what the study file says of them."""

import pytest

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.study.confirm_asked import confirm_asked
from histo_mlflow.tuning.study.study_file import Confirm, load_study

STUDY = Confirm(candidates=2, replicates=4)


@pytest.mark.parametrize(
    ("confirm", "replicates", "expected"),
    [
        (None, None, None),
        ("study", None, STUDY),
        ("7", None, Confirm(candidates=7, replicates=4)),
        ("study", "9", Confirm(candidates=2, replicates=9)),
        ("100", "50", Confirm(candidates=100, replicates=50)),
    ],
)
def test_what_is_not_given_is_as_in_the_study(confirm, replicates, expected):
    assert confirm_asked(STUDY, confirm, replicates) == expected


@pytest.mark.parametrize(
    ("key", "confirm", "replicates"),
    [
        ("candidates", "0", None),
        ("candidates", "101", None),
        ("candidates", "few", None),
        ("candidates", "1.5", None),
        ("replicates", "study", "1"),
        ("replicates", "study", "51"),
    ],
)
def test_a_number_is_refused_in_the_words_that_a_study_file_hears(
    key, confirm, replicates, tmp_path
):
    number = confirm if key == "candidates" else replicates
    path = tmp_path / "mine.yaml"
    path.write_text(
        "recipe: demo\nmetric: val/auc\ntrials: 3\n"
        "space: {lr: {type: float, low: 1e-4, high: 1e-2}}\n"
        f"confirm: {{{key}: '{number}'}}\n"
    )
    with pytest.raises(StudyError) as of_file:
        load_study(str(path))
    with pytest.raises(StudyError) as of_options:
        confirm_asked(STUDY, confirm, replicates)

    words = str(of_file.value).partition(f"confirm.{key}: ")[2]
    option = {"candidates": "confirm"}.get(key, key)
    assert words.endswith(f"got '{number}'")
    assert str(of_options.value) == f"command line, {option}: {words}"


def test_replicates_alone_are_refused():
    with pytest.raises(StudyError, match=r"got --replicates 5 alone: add --confirm"):
        confirm_asked(STUDY, None, "5")
