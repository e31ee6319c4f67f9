"""Pictures of a study: nothing cut off or covered, what cannot be drawn is told, no warnings."""

import warnings

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from PIL import Image

import made_studies
from figures import assert_nothing_is_cut_off_or_covered, texts
from histo_mlflow.tuning.report import _figure_axes, _figure_history, _figure_parallel
from histo_mlflow.tuning.report._axis import Axis, axis_of
from histo_mlflow.tuning.report._figure_view import value_range, view
from histo_mlflow.tuning.report.figures import FIGURES, draw_study


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def shown_of(study, metric="val/auc"):
    direction = study.direction.name.lower()
    return view(study.study_name, study.get_trials(), direction, metric=metric, step="epoch")


DRAWERS = {
    "history": _figure_history.history,
    "intermediate": _figure_history.intermediate_values,
    "parallel": _figure_parallel.parallel_coordinates,
    "slices": _figure_axes.slices,
    "rank": _figure_axes.rank,
}


@pytest.fixture(scope="module")
def six_axes():
    return made_studies.made_study(40, tuple(made_studies.FIXED))


@pytest.mark.parametrize("name", DRAWERS)
def test_six_axes_and_forty_trials_are_legible(name, six_axes):
    fig = DRAWERS[name](shown_of(six_axes))
    if name == "parallel":  # ticks stand among the lines by design; only its edges are held
        assert {"lr", "momentum", "dermoscopy", "not\nactive"} <= set(texts(fig))
    else:
        assert_nothing_is_cut_off_or_covered(fig)
    facts = "demo · val AUC, higher is better · 40 trials: 30 complete, 5 pruned, 3 out of memory"
    assert any(text.startswith(facts) for text in texts(fig))


def test_the_importances_are_legible_and_name_the_axis_that_matters(six_axes):
    shown = shown_of(six_axes)
    shares = _figure_axes.shares(six_axes, shown)
    fig = _figure_axes.importances(shown, shares)
    assert_nothing_is_cut_off_or_covered(fig)

    assert next(iter(shares)) == "lr"
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == {*made_studies.FIXED, "momentum"}


def test_all_six_are_written_and_waiting_trials_change_nothing(tmp_path, capfd):
    with_waiting = made_studies.made_study(12, waiting=9)
    without = made_studies.made_study(12, waiting=0)

    assert draw_study(with_waiting, tmp_path / "a", metric="val/auc") == {}
    assert draw_study(without, tmp_path / "b", metric="val/auc") == {}
    for name in FIGURES:
        same = [np.asarray(Image.open(tmp_path / folder / name)) for folder in ("a", "b")]
        assert np.array_equal(*same), name
    assert capfd.readouterr() == ("", "")


def test_a_single_trial_has_all_pictures_but_the_importances(tmp_path):
    undrawn = draw_study(made_studies.made_study(1), tmp_path, metric="val/auc")

    assert undrawn == {"importances.png": "importances need 6 complete trials, there are 1"}
    assert len(list(tmp_path.iterdir())) == 5


def test_without_a_complete_trial_there_are_pictures_over_time_alone(tmp_path):
    study = optuna.create_study(direction="maximize")
    study.add_trial(made_studies.ended_trial(0, {"lr": 1e-3}, [0.5, 0.6], state="pruned"))
    study.add_trial(made_studies.ended_trial(1, {"lr": 1e-3}, [], state="failed"))
    undrawn = draw_study(study, tmp_path, metric="val/auc")

    assert {path.name for path in tmp_path.iterdir()} == {"history.png", "intermediate_values.png"}
    assert undrawn.keys() == set(FIGURES) - {"history.png", "intermediate_values.png"}


@pytest.mark.parametrize("states", [[], ["waiting"], ["running"]])
def test_nothing_is_drawn_before_a_trial_has_ended(states, tmp_path):
    study = optuna.create_study(direction="minimize")
    for state in states:
        study.add_trial(create_trial(state=TrialState[state.upper()]))

    undrawn = draw_study(study, tmp_path, metric="val/loss")
    assert undrawn == dict.fromkeys(FIGURES, "no trial has ended")


def test_equal_values_have_no_importances_and_one_axis_no_rank(tmp_path):
    study = optuna.create_study(direction="minimize")
    for i in range(7):
        study.add_trial(made_studies.ended_trial(i, {"lr": 10 ** (-3 - i / 10)}, [0.25]))

    assert draw_study(study, tmp_path, metric="val/loss") == {
        "importances.png": "all 7 values are equal: no axis makes a difference",
        "rank.png": "ranks over two axes need two axes, there is one",
    }


def test_a_trial_far_worse_than_all_others_does_not_stretch_the_axis():
    study = made_studies.made_study(20, direction="minimize")
    study.add_trial(made_studies.ended_trial(23, {"lr": 1e-2}, [900.0], direction="minimize"))
    shown = shown_of(study, "val/loss")
    fig = _figure_history.history(shown)

    assert fig.axes[0].get_ylim()[1] < 2
    legend = fig.legends[0].get_texts()
    assert "beyond the picture" in [text.get_text() for text in legend]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", -1), ("minimize", 1)])
def test_only_the_worse_end_of_the_range_is_cut_at_three_interquartile_ranges(direction, sign):
    values = np.random.default_rng(0).normal(0.8, 0.02, 50)
    values[:2] = 0.8 + 5 * sign, 0.8 - 5 * sign
    quarter, most = np.quantile(values, (0.25, 0.75))
    ends = {"maximize": quarter - 3 * (most - quarter), "minimize": most + 3 * (most - quarter)}
    worse, better = value_range(values, direction)[::-sign]

    assert sign * (worse - ends[direction]) == pytest.approx(
        0.06 * abs(0.8 - 5 * sign - ends[direction])
    )
    assert sign * better < sign * (0.8 - 5 * sign)


def test_values_without_an_outlier_are_all_within_the_range():
    values = np.random.default_rng(0).normal(0.8, 0.02, 50)
    for direction in ("maximize", "minimize"):
        low, high = value_range(values, direction)
        assert low < values.min()
        assert values.max() < high


def test_axes_have_the_scale_that_the_search_draws_on():
    study = made_studies.made_study(6, ("lr", "dropout"), waiting=0)
    fig = _figure_axes.slices(shown_of(study))
    scales = {axes.get_xlabel(): axes.get_xscale() for axes in fig.axes if axes.get_xlabel()}

    assert scales == {"lr": "log", "dropout": "linear"}


def test_places_on_a_log_axis_are_shares_of_the_logarithm():
    axis = axis_of("lr", made_studies.FIXED["lr"])

    assert axis.share({"lr": 1e-3}) == pytest.approx(0.5)
    assert np.isnan(axis.share({}))
    assert [said for _, said in axis.ticks(3)] == ["0.0001", "0.001", "0.01"]


@pytest.mark.parametrize(
    "axis",
    [
        Axis("one", "choices", 0, 0, ("only",)),
        Axis("one", "linear", 3, 3, whole=True),
        Axis("one", "log", 0.1, 0.1),
    ],
)
def test_an_axis_of_one_place_is_drawn_in_the_middle(axis):
    value = "only" if axis.choices else axis.low

    assert axis.share({"one": value}) == 0.5
    assert len(axis.ticks()) == 1


def test_long_names_and_texts_with_dollars_are_drawn_as_they_are(tmp_path):
    long = "a_rather_long_name_of_an_axis_of_the_search"
    space = {
        long: optuna.distributions.CategoricalDistribution(("$x$", '["0.8", "1.2"]' * 3, None)),
        "b": optuna.distributions.IntDistribution(1, 1000, log=True),
    }
    study = optuna.create_study(direction="maximize", study_name="$" + "name " * 30)
    for i in range(8):
        params = {long: space[long].choices[i % 3], "b": 1 + 99 * i}
        study.add_trial(made_studies.ended_trial(i, params, [0.5 + i / 100], distributions=space))
    undrawn = draw_study(study, tmp_path, metric="val/balanced_accuracy")

    assert undrawn == {}
    assert_nothing_is_cut_off_or_covered(_figure_axes.rank(shown_of(study)))
    assert_nothing_is_cut_off_or_covered(_figure_axes.slices(shown_of(study)))
