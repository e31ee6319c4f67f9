"""The gate: each thing that speaks against a model refuses it, alone and with all others."""

from dataclasses import replace

import pytest

from histo_mlflow.errors import PromotionError
from histo_mlflow.promotion.evidence import Gain, ModelFacts
from histo_mlflow.promotion.gate import CANDIDATE, COMPARED, OVERRIDES, Rules, decide

GOOD = ModelFacts(
    "demo bbbbbb", "b" * 32, "m-b", model_run_id="b" * 32, test_groups=60, test_rows=120
)
CHAMPION = ModelFacts("demo aaaaaa", "a" * 32, "m-a", version=3, model_run_id="a" * 32)
BETTER = Gain(
    "auc", champion=0.90, challenger=0.92, gain=0.02, low=0.004, high=0.036, rows=120, groups=60,
    seen={"demo aaaaaa": 0, "demo bbbbbb": 0},
)  # fmt: skip

AGAINST_MODEL = {
    "no ending": ({"ending": None}, "run", "no tag histo.ending"),
    "failed": ({"status": "FAILED", "ending": "failed"}, "run", "FAILED and ended as failed"),
    "killed": ({"status": "KILLED", "ending": "interrupted"}, "run", "ended as interrupted"),
    "pruned": ({"status": "KILLED", "ending": "pruned"}, "run", "ended as pruned"),
    "running": ({"status": "RUNNING"}, "run", "is RUNNING"),
    "overwritten": ({"status": "FAILED"}, "run", "FAILED and ended as finished"),
    "altered": ({"model_problem": "weights were altered"}, "model", "weights were altered"),
    "another's": ({"model_run_id": "c" * 32}, "origin", f"made by run {'c' * 32}"),
    "no origin": ({"model_run_id": None}, "origin", "made by run None"),
    "placeholder": ({"label_source": "placeholder"}, "labels", "the labels are placeholder"),
    "synthetic": ({"label_source": "synthetic"}, "labels", "the labels are synthetic"),
    "no source": ({"label_source": None}, "labels", "is not known"),
    "row split": ({"leaking": True, "split_kind": "row"}, "split", "by row) leaks"),
    "split unknown": ({"leaking": None}, "split", "is not known"),
    "look-alikes": ({"crossing": 7}, "look-alikes", "7 images look like others"),
    "not audited": ({"crossing": None}, "look-alikes", "not looked at"),
    "tagged": ({"promotable": False}, "look-alikes", "tagged as not promotable"),
    "dirty": ({"dirty": True}, "code", "there is no patch"),
    "cut": ({"dirty": True, "patch_note": "cut to 9 bytes"}, "code", "cut to 9 bytes"),
    "uncalibrated": ({"calibrated": False}, "calibration", "no calibration"),
    "ensemble": ({"calibrated": False, "folds": 5}, "calibration", "mean of 5 folds"),
    "no results": ({"results_problem": "no predictions"}, "results", "no predictions"),
}
AGAINST_COMPARISON = {
    "worse": ({"gain": -0.02, "low": -0.03, "high": -0.01}, {"no worse", "margin"}, "it is worse"),
    "a little worse": ({"gain": -0.001, "low": -0.003, "high": 0.001}, {"no worse"}, "it is worse"),
    "unsure": ({"low": -0.006}, {"margin"}, "not above minus the margin of 0.005"),
    "undefined": ({"gain": None, "low": None, "why": "one class"}, {"no worse"}, ": one class"),
    "no interval": ({"low": None, "why": "one group"}, {"margin"}, "no interval: one group"),
    "few groups": ({"groups": 29}, {"groups"}, "fewer than the 30"),
    "seen": ({"seen": {"demo aaaaaa": 4}}, {"unseen"}, "4 of the compared images"),
    "perhaps seen": ({"seen": {"demo bbbbbb": None}}, {"unseen"}, "demo bbbbbb was trained on is"),
    "nothing in common": ({"problem": "no image"}, {"comparable"}, "cannot be compared"),
}  # fmt: skip


def refusing(decision):
    return {check.name for check in decision.checks if check.refuses}


def test_a_better_model_with_nothing_against_it_is_promoted():
    decision = decide(GOOD, CHAMPION, BETTER, Rules())

    assert decision.promoted
    assert decision.registered
    assert (decision.reasons, decision.forced, decision.advice()) == ((), (), "")
    assert {check.name for check in decision.checks} == set(OVERRIDES) - {"rolled back"}


@pytest.mark.parametrize("case", AGAINST_MODEL)
def test_what_speaks_against_a_model_refuses_it_and_it_is_not_registered(case):
    facts, check, told = AGAINST_MODEL[case]
    decision = decide(replace(GOOD, **facts), CHAMPION, BETTER, Rules())

    assert refusing(decision) == {check}
    assert check in CANDIDATE
    assert not decision.promoted
    assert not decision.registered
    assert told in "; ".join(decision.reasons)


@pytest.mark.parametrize("case", AGAINST_COMPARISON)
def test_what_speaks_against_a_comparison_leaves_a_challenger(case):
    found, checks, told = AGAINST_COMPARISON[case]
    decision = decide(GOOD, CHAMPION, replace(BETTER, **found), Rules())

    assert refusing(decision) == checks
    assert checks <= COMPARED
    assert not decision.promoted
    assert decision.registered
    assert told in "; ".join(decision.reasons)


def test_the_first_champion_is_held_against_nobody_but_all_else_holds():
    assert decide(GOOD, None, None, Rules()).promoted
    few = decide(replace(GOOD, test_groups=5), None, None, Rules())
    assert refusing(few) == {"groups"}
    for facts, check, _ in AGAINST_MODEL.values():
        assert refusing(decide(replace(GOOD, **facts), None, None, Rules())) == {check}


def test_all_reasons_are_told_at_once_in_the_same_order():
    bad = replace(
        GOOD, status="FAILED", label_source="synthetic", leaking=True, crossing=2, dirty=True,
        calibrated=False,
    )  # fmt: skip
    worse = replace(BETTER, gain=-0.1, low=-0.2, high=-0.05, groups=3)
    decision = decide(bad, CHAMPION, worse, Rules(), rolled_back="yesterday")

    assert [check.name for check in decision.checks if check.refuses] == [
        "run", "labels", "split", "look-alikes", "code", "calibration", "rolled back", "groups",
        "no worse", "margin",
    ]  # fmt: skip
    assert len(decision.reasons) == 10


@pytest.mark.parametrize("case", [*AGAINST_MODEL, *AGAINST_COMPARISON])
def test_force_overrides_judgements_and_is_recorded(case):
    if case in AGAINST_MODEL:
        facts, check, _ = AGAINST_MODEL[case]
        args, checks = (replace(GOOD, **facts), CHAMPION, BETTER), {check}
    else:
        found, checks, _ = AGAINST_COMPARISON[case]
        args = (GOOD, CHAMPION, replace(BETTER, **found))
    plain, forced = decide(*args, Rules()), decide(*args, Rules(force=True))

    ways = {OVERRIDES[name] for name in checks}
    assert forced.promoted == (ways == {"--force"})
    assert set(forced.forced) == (checks if ways == {"--force"} else set())
    assert ("--force" in plain.advice()) == (ways == {"--force"})


def test_synthetic_labels_have_a_switch_of_their_own():
    made_up = replace(GOOD, label_source="synthetic")

    assert not decide(made_up, CHAMPION, BETTER, Rules(force=True)).promoted
    allowed = decide(made_up, CHAMPION, BETTER, Rules(allow_synthetic=True))
    assert allowed.promoted
    assert allowed.forced == ("labels",)
    assert "--allow-synthetic would" in decide(made_up, CHAMPION, BETTER, Rules()).advice()
    # the tag that follows from the labels is no second reason
    tagged = replace(made_up, promotable=False)
    assert decide(tagged, CHAMPION, BETTER, Rules(allow_synthetic=True)).promoted


def test_nothing_gets_past_the_champion_itself():
    same = replace(GOOD, model_id="m-a")
    for rules in (Rules(), Rules(force=True, allow_synthetic=True)):
        decision = decide(same, CHAMPION, None, rules)
        assert refusing(decision) == {"new"}
        assert decision.advice() == ""


def test_models_that_say_the_same_pass_and_a_margin_of_0_asks_for_more():
    same = replace(BETTER, gain=0.0, low=0.0, high=0.0)
    assert decide(GOOD, CHAMPION, same, Rules()).promoted
    assert decide(GOOD, CHAMPION, replace(same, gain=-1e-15), Rules()).promoted
    assert refusing(decide(GOOD, CHAMPION, same, Rules(margin=0.0))) == {"margin"}
    assert decide(GOOD, CHAMPION, BETTER, Rules(margin=0.0)).promoted


def test_a_model_that_was_rolled_back_comes_back_only_by_force():
    assert refusing(decide(GOOD, CHAMPION, BETTER, Rules(), rolled_back="today")) == {"rolled back"}
    assert decide(GOOD, CHAMPION, BETTER, Rules(force=True), rolled_back="today").promoted


def test_a_patch_makes_a_dirty_tree_good_enough():
    kept = replace(GOOD, dirty=True, patch=True)
    assert decide(kept, CHAMPION, BETTER, Rules()).promoted
    assert decide(replace(GOOD, dirty=None), CHAMPION, BETTER, Rules()).promoted


def test_what_refuses_nothing_is_noted():
    found = replace(BETTER, left_out={"demo aaaaaa": 12, "demo bbbbbb": 0}, same_data=False)
    decision = decide(replace(GOOD, folds=5), CHAMPION, found, Rules())

    assert decision.promoted
    assert len(decision.notes) == 3
    assert "out-of-fold" in decision.notes[0]
    assert "12 test images of demo aaaaaa" in decision.notes[1]


@pytest.mark.parametrize("rules", [{"margin": -0.1}, {"margin": float("nan")}, {"min_groups": 0}])
def test_rules_that_mean_nothing_are_refused(rules):
    with pytest.raises(PromotionError, match="Expected"):
        Rules(**rules)
