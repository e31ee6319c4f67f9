"""When a model says nothing: chosen on validation, told of the split that is judged."""

import numpy as np
import pytest

from finished_runs import cases
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import abstain
from histo_mlflow.evaluation.evaluate import evaluate


def test_at_most_a_tenth_of_the_rows_is_below_the_cut():
    values = np.random.default_rng(0).uniform(0.3, 1, 157)
    below = abstain.choose(values)
    assert (values < below).sum() == 15
    assert below in values


def test_equally_sure_rows_are_never_torn_apart():
    assert abstain.choose([0.5] * 40 + [0.9] * 60) == 0.5  # none is below it
    assert abstain.choose([1.0] * 10) == 1.0
    assert abstain.choose([0.7]) == 0.7
    assert abstain.choose([0.4, 0.9], share=0.5) == 0.9


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [0.0, 0.5], [0.5, 1.1], [[0.5]]])
def test_what_is_no_confidence_is_refused(values):
    with pytest.raises(DataError, match="Expected the confidence"):
        abstain.choose(values)


def test_a_cut_is_told_by_how_right_the_kept_and_the_others_are():
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55], [0.2, 0.8]])
    found = abstain.kept([0, 0, 1, 1], probs, 0.7)
    assert found == abstain.Kept(4, 0.5, 1.0, 0.5)
    assert abstain.kept([0, 0, 1, 1], probs, 0.1) == abstain.Kept(4, 0.0, 0.75, None)
    assert abstain.kept([0, 0, 1, 1], probs, 1.0) == abstain.Kept(4, 1.0, None, 0.75)


def test_the_rule_of_an_evaluation_is_chosen_on_validation_alone():
    table = cases(400)
    found = evaluate(table, replicates=100)
    val = table[table["split"] == "val"]
    other = table.copy()
    test = other["split"] == "test"
    other.loc[test, "label"] = other.loc[test, "label"].to_numpy()[::-1]
    assert found.abstain is not None
    assert found.abstain.validation.rows == len(val)
    assert 0.05 < found.abstain.validation.abstained <= abstain.SHARE
    assert evaluate(other, replicates=100).abstain.below == found.abstain.below
    assert evaluate(table[test], replicates=100).abstain is None
    assert found.to_dict()["abstain"]["judged"]["rows"] == int(test.sum())
