"""What a confirmation concludes, how it is told, and how it is drawn."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from figures import assert_nothing_is_cut_off_or_covered
from histo_mlflow.errors import StudyError
from histo_mlflow.evaluation.predictions import predictions_table
from histo_mlflow.tuning.confirm.conclude import conclude
from histo_mlflow.tuning.confirm.confirm_figure import confirmation
from histo_mlflow.tuning.confirm.confirm_plan import Candidate, Plan
from histo_mlflow.tuning.confirm.confirm_report import Outcome
from histo_mlflow.tuning.confirm.confirm_text import mlflow_metrics, render
from histo_mlflow.tuning.confirm.confirmation import replicates

N_GROUPS, PER_GROUP, ROUNDS = 60, 2, 3
DEFAULT = Candidate(None, {}, None, None, default=True)
CANDIDATES = (
    Candidate(7, {"lr": 1e-3}, 0.97, "run7"),
    Candidate(31, {"lr": 2e-3}, 0.95, "run31"),
    DEFAULT,
)
PLAN = Plan(CANDIDATES, replicates(0, ROUNDS, used=()))
COSTS = ((100.0, 2.0), (100.0, 1.0), (100.0, 2.0))
SIZES = ((80, 40),) * ROUNDS
VALUES = [[0.90, 0.80, 0.85], [0.86, 0.79, 0.84], [0.80, 0.72, 0.79]]


def outcomes(values, tables=None) -> list[Outcome]:
    """A value is None where nothing was trained; text says how a training ended without one."""
    return [
        Outcome(
            place,
            index,
            value if isinstance(value, str) else "complete",
            None if isinstance(value, str) else value,
            f"run-{place}-{index}",
            None if tables is None else tables[place][index],
        )
        for place, row in enumerate(values)
        for index, value in enumerate(row)
        if value is not None
    ]


def concluded(values=VALUES, plan=PLAN, tables=None, direction="maximize", **options):
    return conclude(
        plan, outcomes(values, tables), direction=direction, draws=200,
        **{"metric": "val/auc", "sizes": SIZES, "costs": COSTS, **options},
    )  # fmt: skip


@cache
def table(skill: float, seed: int, fold: int) -> pd.DataFrame:
    """Predictions of the images of one fold, two classes."""
    rows = np.arange(N_GROUPS * PER_GROUP)
    truth = np.random.default_rng(7).integers(0, 2, N_GROUPS)[rows // PER_GROUP]
    noise = np.random.default_rng(seed).normal(0, 1, len(rows))
    mine = rows[rows // PER_GROUP % ROUNDS == fold]
    return predictions_table(
        [f"i{row:03d}" for row in mine], [f"g{row // PER_GROUP}" for row in mine],
        ["val"] * len(mine), truth[mine], (noise + skill * (2 * truth - 1))[mine, None],
        ("benign", "malignant"), "sigmoid",
    )  # fmt: skip


TABLES = [
    [table(skill, seed, fold) for fold in range(ROUNDS)]
    for skill, seed in ((1.2, 1), (1.0, 2), (0.3, 3))
]


def auc(one: pd.DataFrame) -> float:
    return float(roc_auc_score(one["label"] == "malignant", one["logit"]))


AUCS = [[auc(one) for one in row] for row in TABLES]


@cache
def judged():
    """With predictions; nobody changes it."""
    return concluded(AUCS, tables=TABLES, group_kind="lesion")


def test_means_optimism_and_gains_are_those_of_the_replicates():
    found = concluded()
    first, second, default = found.confirmed
    gains = np.subtract(VALUES[0], VALUES[2])
    reach = stats.t.ppf(0.975, 2) * gains.std(ddof=1) * np.sqrt(1 / 3 + 40 / 80)

    assert [one.spread.mean for one in found.confirmed] == pytest.approx([0.85, 0.83, 0.77])
    assert first.optimism.value == pytest.approx(0.12)
    assert found.optimism == first.optimism
    assert first.gain.mean == pytest.approx(gains.mean())
    assert (first.gain.low, first.gain.high) == pytest.approx(
        (gains.mean() - reach, gains.mean() + reach)
    )
    assert second.gain.mean == pytest.approx(0.06)
    assert default.gain is None
    assert default.optimism.value is None


def test_the_simplest_within_one_standard_error_wins_and_the_reason_says_so():
    found = concluded()  # the standard error of 7 is 0.0289

    assert found.winner.candidate.number == 31
    assert found.reason == (
        "trial 31: the simplest of 2 candidates within one standard error (0.0289) of the best "
        "confirmed mean (0.8500, trial 7)"
    )
    assert found.default_within is False


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[0.90, 0.80, 0.85], [0.5, 0.5, 0.4], [0.2, 0.1, 0.1]], "no other candidate is within"),
        ([[0.5, 0.5, 0.4], [0.90, 0.80, 0.85], [0.2, 0.1, 0.1]], "no other candidate is within"),
        ([[0.84, 0.80, 0.85], [0.90, 0.80, 0.85], [0.2, 0.1, 0.1]], "and the simplest of 2"),
    ],
)
def test_the_best_wins_where_no_simpler_one_is_near(values, said):
    found = concluded(values)
    best = max((0, 1), key=lambda place: np.mean(values[place]))

    assert found.winner is found.confirmed[best]
    assert said in found.reason


def test_a_default_within_one_standard_error_means_that_nothing_was_found():
    found = concluded([*VALUES[:2], [0.88, 0.79, 0.82]])

    assert found.default_within is True
    assert "is within one standard error of the best too" in found.verdict
    assert "the search found nothing that the default has not" in found.verdict


def test_a_default_that_is_near_but_worse_in_every_pair_is_told_apart():
    found = concluded([VALUES[0], VALUES[0], [value - 0.0101 for value in [0.9, 0.801, 0.8505]]])

    assert found.default_within is True
    assert "yet pair by pair trial 31 is better" in found.verdict


def test_a_default_that_is_better_than_all_is_told():
    found = concluded([*VALUES[:2], [0.95, 0.85, 0.90]])

    assert "has a better mean than every candidate" in found.verdict


def test_a_difference_that_is_not_clear_is_told():
    found = concluded([[0.95, 0.94, 0.96], [0.95, 0.94, 0.96], [0.6, 0.9, 0.94]])

    assert found.default_within is False
    assert "the difference of trial 31 is not clear" in found.verdict


def test_a_loss_is_judged_the_other_way_round():
    mirrored = [[1 - value for value in row] for row in VALUES]
    plan = Plan(
        tuple(
            Candidate(c.number, c.overrides, c.value and 1 - c.value, c.run_id, c.default)
            for c in CANDIDATES
        ),
        PLAN.replicates,
    )
    loss = concluded(mirrored, plan, direction="minimize", metric="val/loss")
    share = concluded()

    assert loss.choice.chosen == share.choice.chosen
    assert loss.default_within is share.default_within
    for one, other in zip(loss.confirmed, share.confirmed, strict=True):
        assert one.optimism.value == (
            None if other.optimism.value is None else pytest.approx(other.optimism.value)
        )
        if one.gain is not None:
            assert one.gain.low == pytest.approx(other.gain.low)


def test_a_search_that_tried_the_default_is_held_against_that_trial():
    plan = Plan(
        (CANDIDATES[0], Candidate(0, {}, 0.9, "run0", default=True)), replicates(0, 3, used=())
    )
    found = concluded([VALUES[2], VALUES[0]], plan, costs=COSTS[:2])

    assert found.confirmed[1].gain is None
    assert found.winner is found.confirmed[1]
    assert "the default recipe itself" in found.verdict


def test_what_was_stopped_half_way_is_judged_on_whole_replicates():
    found = concluded([[0.90, 0.80, 0.85], [0.86, 0.79, None], [0.80, 0.72, None]])
    whole = concluded(
        [row[:2] for row in VALUES], Plan(CANDIDATES, PLAN.replicates[:2]), sizes=SIZES[:2]
    )

    assert [one.used for one in found.confirmed] == [(0, 1)] * 3
    assert [one.spread for one in found.confirmed] == [one.spread for one in whole.confirmed]
    assert any(note.startswith("2 of 3 replicates have a value of every") for note in found.notes)
    assert "(0.8500)" in render(found)


def test_a_candidate_that_failed_cannot_win_while_another_did_not():
    found = concluded([["diverged", 0.99, 0.99], [0.86, 0.79, 0.84], [0.80, 0.72, 0.79]])

    assert found.compared == (1,)
    assert found.winner.candidate.number == 31
    assert found.confirmed[0].gain.n == 2
    assert found.confirmed[0].used == (1, 2)
    assert "trial 7 ended without a value in 1 of 3 replicates" in found.notes
    assert "diverged" in render(found)


def test_where_all_failed_alike_the_replicates_that_are_left_are_compared():
    found = concluded([["failed", 0.80, 0.85], ["out_of_memory", 0.79, 0.84], VALUES[2]])

    assert found.compared == (0, 1)
    assert [one.used for one in found.confirmed] == [(1, 2)] * 3
    assert found.winner is not None


def test_a_default_that_is_missing_leaves_its_pairs_out():
    found = concluded([*VALUES[:2], [0.80, "diverged", 0.79]])

    assert found.confirmed[0].gain.n == 2
    assert found.default_within is None
    assert found.verdict.startswith("the default has a value on 2 compared replicates alone")
    none = concluded([*VALUES[:2], [None] * 3])
    assert "no value on any compared replicate" in none.verdict
    assert none.winner is not None


@pytest.mark.parametrize(
    "values",
    [[[0.9, None, None], [0.8, None, None], [0.7, None, None]], [[None] * 3] * 3,
     [["failed"] * 3] * 3],
    ids=["one replicate", "nothing yet", "all failed"],
)  # fmt: skip
def test_without_two_replicates_there_is_no_winner(values):
    found = concluded(values)

    assert found.winner is None
    assert found.reason.startswith("no winner: only")
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["winner"] is None
    assert "no winner" in render(found)
    confirmation(found, title="none")


def test_values_that_are_all_equal_have_no_interval_and_a_sure_gain_of_0():
    found = concluded([[0.8] * 3] * 3)

    assert found.confirmed[0].spread.low is None
    assert found.confirmed[0].gain.low == found.confirmed[0].gain.high == 0.0
    assert found.default_within is True
    assert "undefined" in render(found)


def test_intervals_by_group_are_about_the_same_gain():
    found = judged()
    for one, mine in zip(found.confirmed[:2], TABLES[:2], strict=True):
        pooled = auc(pd.concat(mine)) - auc(pd.concat(TABLES[2]))

        assert one.by_group.rows == N_GROUPS * PER_GROUP
        assert one.by_group.groups == N_GROUPS
        assert one.by_group.mean.value == pytest.approx(one.gain.mean, abs=1e-12)
        assert one.by_group.pooled.value == pytest.approx(pooled, abs=1e-12)
        assert one.by_group.mean.low < one.by_group.mean.value < one.by_group.mean.high
    assert found.confirmed[2].by_group is None


def weighted_auc(one: pd.DataFrame, weights: np.ndarray) -> float:
    """By all pairs of a positive and a negative image; NaN without one of them."""
    positive = (one["label"] == "malignant").to_numpy()
    logits = one["logit"].to_numpy()
    wins = np.heaviside(logits[positive][:, None] - logits[~positive][None, :], 0.5)
    of_pair = weights[positive][:, None] * weights[~positive][None, :]
    return float((wins * of_pair).sum() / of_pair.sum()) if of_pair.sum() else np.nan


def test_an_interval_by_group_is_that_of_groups_drawn_by_hand():
    found = judged().confirmed[0].by_group
    rng = np.random.default_rng(11)
    drawn = []
    for _ in range(1000):
        picked = np.bincount(rng.integers(0, N_GROUPS, N_GROUPS), minlength=N_GROUPS)
        gains = [
            weighted_auc(mine, weights) - weighted_auc(default, weights)
            for mine, default in zip(TABLES[0], TABLES[2], strict=True)
            for weights in [picked[mine["group"].str[1:].astype(int)]]
        ]
        drawn.append(np.mean(gains))
    low, high = np.nanquantile(drawn, [0.025, 0.975])

    assert (found.mean.low, found.mean.high) == pytest.approx((low, high), abs=0.025)


def test_a_gain_of_a_loss_by_group_is_positive_where_the_loss_is_less():
    losses = [[log_loss(t["label"], t["p_malignant"]) for t in row] for row in TABLES]
    found = concluded(losses, tables=TABLES, metric="val/loss", direction="minimize")
    one = found.confirmed[0]

    assert one.gain.mean > 0
    assert one.by_group.mean.value == pytest.approx(one.gain.mean, abs=1e-9)
    for by_group in (one.by_group.mean, one.by_group.pooled):
        assert by_group.low < by_group.value < by_group.high


def test_only_replicates_that_both_have_are_drawn_by_group():
    values = [AUCS[0], AUCS[1], [AUCS[2][0], AUCS[2][1], "diverged"]]
    found = concluded(values, tables=TABLES)

    assert found.confirmed[0].by_group.replicates == (0, 1)
    assert found.confirmed[0].by_group.rows == N_GROUPS * PER_GROUP * 2 // 3


def without(*missing: tuple[int, int]):
    """The tables but for those of some places and replicates."""
    return [
        [None if (place, index) in missing else one for index, one in enumerate(row)]
        for place, row in enumerate(TABLES)
    ]


def test_an_interval_by_group_of_other_replicates_than_the_gain_is_left_out_and_told():
    found = concluded(AUCS, tables=without((0, 0), (0, 2)), group_kind="lesion")
    first, second, _ = found.confirmed
    told = [note for note in found.notes if note.startswith("no interval by lesion")]

    assert first.gain.n == 3
    assert first.by_group is None
    assert "gain_by_group_low" not in str(mlflow_metrics(found)[7])
    assert second.by_group == judged().confirmed[1].by_group
    (_, row) = [line for line in render(found).splitlines() if line.startswith("trial 7 *")]
    assert row.split()[-3:] == ["-", "100", "2"]
    assert len(told) == 1
    assert "of trial 7 (its predictions and default's could be read in 1 of 3 repl" in told[0]
    assert "where the files of their runs are" in told[0]


def test_predictions_of_the_default_that_are_missing_leave_out_every_interval_by_group():
    found = concluded(AUCS, tables=without((2, 1)))
    (told,) = [note for note in found.notes if "by group" in note]

    assert [one.by_group for one in found.confirmed] == [None] * 3
    whose = "(its predictions and default's could be read in {} of 3 replicates)"
    assert f"of trial 7 {whose.format(2)}, trial 31 {whose.format(2)}: of fewer" in told

    nowhere = concluded(AUCS, tables=without(*((2, index) for index in range(3))))
    (told,) = [note for note in nowhere.notes if "by group" in note]
    assert f"of trial 7 {whose.format(0)}, trial 31 {whose.format(0)}: of fewer" in told


def test_an_interval_by_group_of_what_cannot_win_is_of_the_pairs_of_its_gain():
    values = [[None, *AUCS[0][1:]], [AUCS[1][0], "diverged", AUCS[1][2]], AUCS[2]]
    second = concluded(values, tables=TABLES).confirmed[1]

    assert second.gain.n == 2
    assert second.by_group.replicates == (0, 2)
    assert second.by_group.mean.value == pytest.approx(second.gain.mean, abs=1e-12)


def test_nothing_is_said_of_missing_predictions_where_every_pair_has_them():
    assert not [note for note in judged().notes if note.startswith("no interval")]


def test_without_predictions_there_is_no_interval_by_group():
    found = concluded()

    assert [one.by_group for one in found.confirmed] == [None] * 3
    assert "no predictions of the replicates, so no intervals by group" in found.notes


def test_replicates_that_judge_an_image_twice_are_refused():
    with pytest.raises(StudyError, match="judged in one replicate, but 40 were in two"):
        concluded(AUCS, tables=[[row[0], row[0], row[2]] for row in TABLES])


def test_recipes_that_were_judged_by_other_images_are_refused():
    swapped = [TABLES[0], TABLES[1], [TABLES[2][1], TABLES[2][0], TABLES[2][2]]]
    with pytest.raises(StudyError, match="same images, groups and labels"):
        concluded(AUCS, tables=swapped)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": SIZES[:2]}, "for 3 replicates"),
        ({"sizes": ((80, 0),) * 3}, "for 3 replicates"),
        ({"costs": COSTS[:2]}, "a cost for each of 3 recipes, got 2"),
    ],
)
def test_sizes_and_costs_that_do_not_fit_are_refused(options, said):
    with pytest.raises(StudyError, match=said):
        concluded(**options)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (Outcome(0, 0, "complete", 0.5), "recipe 0 on replicate 0 twice"),
        (Outcome(3, 0, "complete", 0.5), "recipe 3 on replicate 0"),
        (Outcome(0, 3, "complete", 0.5), "recipe 0 on replicate 3"),
    ],
)
def test_outcomes_that_are_not_of_the_plan_are_refused(extra, said):
    with pytest.raises(StudyError, match=said):
        conclude(
            PLAN, [*outcomes(VALUES), extra], metric="val/auc", direction="maximize", sizes=SIZES,
            costs=COSTS,
        )  # fmt: skip


def test_the_order_of_the_outcomes_does_not_matter():
    shuffled = [*reversed(outcomes(AUCS, TABLES))]
    found = conclude(
        PLAN, shuffled, metric="val/auc", direction="maximize", sizes=SIZES, costs=COSTS, draws=200,
        group_kind="lesion",
    )  # fmt: skip

    assert found.to_dict() == judged().to_dict()


def test_what_the_numbers_do_not_hold_is_noted():
    told = "\n".join(concluded(search_images=100).notes)

    assert "corrected for training sets that overlap" in told
    assert "one data set cannot tell" in told
    assert "some of the judging images are those that the search chose by" in told
    assert "the winner was chosen among 2 by these means" in told
    assert "trained on 80 images and a trial of the search on 100" in told
    assert "3 replicates: intervals over so few are very wide" in told


def test_a_training_as_large_as_the_search_needs_no_note():
    told = "\n".join(concluded(search_images=85).notes)

    assert "a trial of the search on" not in told


def test_json_has_every_number_and_no_nan():
    found = json.loads(json.dumps(judged().to_dict(), allow_nan=False))

    assert found["winner"]["trial"] == 7
    assert found["choice"]["best"] == "trial 7"
    assert [one["name"] for one in found["candidates"]] == ["trial 7", "trial 31", "default"]
    assert found["candidates"][0]["values"] == AUCS[0]
    assert found["candidates"][0]["gain_by_group"]["pooled"]["low"] is not None


def test_the_table_has_a_line_for_each_recipe_and_marks_the_winner():
    lines = render(judged()).splitlines()

    assert lines[0] == "confirmed on 3 replicates: fresh seeds, folds by group"
    assert lines[1].split()[:5] == ["val/auc", "search", "r0", "r1", "r2"]
    assert [line.split("  ")[0] for line in lines[2:5]] == ["trial 7 *", "trial 31", "default"]
    assert any(line.startswith("winner  trial 7: ") for line in lines)
    assert any(line.startswith("NOTE intervals by lesion") for line in lines)


def test_metrics_are_told_at_the_number_of_their_trial():
    found = judged()
    told = mlflow_metrics(found)

    assert sorted(told) == [0, 7, 31]
    assert told[7]["confirm/mean"] == found.confirmed[0].spread.mean
    assert told[7]["confirm/optimism"] == found.confirmed[0].optimism.value
    assert told[0]["confirm_default/mean"] == found.confirmed[2].spread.mean
    assert told[0]["confirm_winner/trial"] == 7.0
    assert told[0]["confirm_search/optimism"] == found.optimism.value
    assert all(np.isfinite(value) for step in told.values() for value in step.values())


def test_trial_0_keeps_its_own_metrics_beside_those_of_the_whole():
    plan = Plan((Candidate(0, {"lr": 1}, 0.9, "run0"), DEFAULT), PLAN.replicates)
    told = mlflow_metrics(concluded(VALUES[1:], plan, costs=COSTS[:2]))

    assert told[0]["confirm/mean"] == told[0]["confirm_winner/mean"]


@pytest.mark.parametrize("case", ["all", "few", "loss"])
def test_the_picture_is_legible(case):
    found = {
        "all": lambda: judged(),
        "few": lambda: concluded([["diverged", 0.9, None], [0.9, 0.8, None], [0.7, None, None]]),
        "loss": lambda: concluded(direction="minimize", metric="val/loss"),
    }[case]()
    fig = confirmation(found, title="ham10000_lr_batch_aug", group_kind="lesion")

    assert_nothing_is_cut_off_or_covered(fig)
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert len(labels) == 3
    assert [label.endswith("winner") for label in labels].count(True) == (found.winner is not None)


def test_of_very_many_recipes_the_first_are_drawn_and_it_says_so():
    many = tuple(Candidate(n, {"lr": n + 1}, 0.9, f"run{n}") for n in range(30))
    values = np.random.default_rng(0).normal(0.8, 0.02, (31, 3)).tolist()
    found = concluded(values, Plan((*many, DEFAULT), PLAN.replicates), costs=((1.0, 1.0),) * 31)
    fig = confirmation(found, title="many")

    assert "11 more recipes not drawn" in fig.texts[1].get_text()
    assert fig.axes[0].get_yticklabels()[-1].get_text() == "default"
