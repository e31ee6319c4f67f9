"""The harness notices what it is there to notice: code that is broken on purpose."""

import pytest
from harness import trials
from harness.compare import differences
from harness.variants import VARIANTS
from harness.zygote import Order

FAST = (
    "dropout from the global generator",
    "step cursor one too far",
    "waiting forgotten",
    "torn write accepted",
    "points sent twice",
)


def _assert_caught(lab, name):
    caught = trials.try_variant(lab, name)

    assert caught.found, f"{name} was not noticed"
    assert caught.missed == frozenset(), f"{name} was noticed by {sorted(caught.kinds)} only"
    assert caught.wrong == frozenset(), f"{name} failed for another reason: {caught.found[:3]}"


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_variant_breaks_is_there_to_be_broken(lab, name):
    """A variant that names what has moved is found at once, and not by the slow tests alone."""
    report = lab.zygote.run(Order(str(lab.place().root), "break", broken=name))

    assert report.ending == "finished", report.said


@pytest.mark.parametrize("name", FAST)
def test_a_broken_training_is_caught_for_its_reason(lab, name):
    _assert_caught(lab, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in FAST])
def test_every_broken_training_is_caught_for_its_reason(lab, name):
    _assert_caught(lab, name)


def test_there_are_enough_variants():
    assert len(VARIANTS) >= 12


def test_what_one_run_lacks_and_another_has_too_much_are_differences():
    a = {"files": {"x": "there"}, "runs": {"n": 1}}
    b = {"files": {"y": "there"}, "runs": {"n": 2}}

    found = differences(a, b)

    assert sorted((d.kind, d.text.partition(":")[0]) for d in found) == [
        ("files", "x"),
        ("files", "y"),
        ("runs", "n"),
    ]
