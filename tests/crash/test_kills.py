"""Real trainings, killed with SIGKILL at random moments, end as if nothing had happened."""

import shutil
from dataclasses import replace

import pytest
from harness import trials
from harness.compare import differences, facts
from harness.zygote import Order

pytestmark = pytest.mark.alone


def test_two_undisturbed_runs_are_the_same_run(lab):
    """Otherwise no comparison below would say anything."""
    place = lab.place()
    order = Order(str(place.root))

    report = lab.zygote.run(order)

    assert report.ending == "finished", report.said
    assert lab.judge(place, report, order) == []


def test_a_finished_run_stays_as_it_is(lab):
    place = lab.place()
    order = Order(str(place.root))
    lab.zygote.run(order)
    before = facts(place, stored=True)

    again = lab.zygote.run(order)

    assert again.ending == "finished"
    assert differences(before, facts(place, stored=True)) == []
    assert "> starting the run" not in [text for _, text in again.marks]
    shutil.rmtree(place.root)


def test_kills_at_random_moments_leave_no_trace(lab):
    tally = trials.random_kills(lab, kills=6, seed=0)

    assert tally.tried == 6
    assert tally.failures == []


@pytest.mark.parametrize(
    ("phase", "nth"),
    [("making the run", 1), ("noting the run", 2), ("noting delivery", 3), ("closing the run", 1)],
)
def test_a_kill_between_the_store_and_the_note_leaves_one_run_and_one_model(lab, phase, nth):
    place = lab.place()
    order = Order(str(place.root))

    assert lab.zygote.run(replace(order, die_in=(phase, nth))).ending == "killed"

    assert lab.judge(place, lab.zygote.run(order), order) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("recipe", ["adamw", "sgd"])
def test_many_kills_at_random_moments_leave_no_trace(lab, recipe):
    tally = trials.random_kills(lab, kills=30, seed=1, recipe=recipe)

    assert tally.tried == 30
    assert tally.failures == []
