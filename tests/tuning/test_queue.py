"""The queue's contract, the same over every storage of Optuna."""

import json
import threading
import time
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.shared import _holding, attributes
from histo_mlflow.tuning.shared import queue as queues_of_studies
from histo_mlflow.tuning.shared._lease import Lease
from histo_mlflow.tuning.shared._reaper import Observer
from histo_mlflow.tuning.shared._spans import union_seconds
from histo_mlflow.tuning.shared.queue import LostTrialError, Queue, Worker

GUESSES = [{"x": 0.25}, {"x": 0.5, "c": "b"}]


def suggested(trial):
    return trial.suggest_float("x", 0, 1), trial.suggest_categorical("c", ["a", "b"])


def states(queue):
    return [trial.state.name for trial in queue.trials()]


def attrs(queue, number):
    return queue.trials()[number].user_attrs


# Slots


def test_a_study_has_as_many_slots_as_trials_however_often_it_is_filled(bench):
    queue = bench.queue()
    queue.fill(3, [])
    bench.queue("b").fill(3, [])

    assert states(queue) == ["WAITING"] * 3


def test_more_trials_than_before_add_slots(bench):
    queue = bench.queue()
    queue.fill(2, [])
    queue.fill(4, [])

    assert (len(queue.trials()), queue.limit()) == (4, 4)


def test_of_fewer_trials_than_before_those_above_are_never_taken(bench):
    queue = bench.queue()
    queue.fill(3, [])
    queue.fill(1, [])
    first = queue.claim()

    assert (first.number, queue.claim(), queue.counts().waiting) == (0, None, 0)


def test_slots_that_a_killed_filler_did_not_make_are_made_by_those_who_take(bench):
    queue = bench.queue()
    queue.fill(1, [])
    bench.opened.storage.set_study_user_attr(bench.study._study_id, attributes.TRIALS, 3)
    missing = queue.counts().waiting
    numbers = [queue.claim().number for _ in range(3)]

    assert (missing, numbers, queue.claim()) == (3, [0, 1, 2], None)


def test_few_slots_are_made_ahead_and_the_others_as_they_are_taken(bench, monkeypatch):
    """Optuna reads every open trial anew at each look: a thousand would slow every report."""
    monkeypatch.setattr(queues_of_studies, "SLOTS_AHEAD", 2)
    queue, other = bench.queue(), bench.queue("b")
    queue.fill(5, GUESSES)
    ahead, waiting = states(queue), queue.counts().waiting
    numbers = [one.claim().number for one in (queue, other, queue, other, queue)]

    assert (ahead, waiting) == (["WAITING"] * 2, 5)
    assert (numbers, queue.claim(), other.claim()) == ([0, 1, 2, 3, 4], None, None)
    assert states(queue) == ["RUNNING"] * 5


def test_a_study_that_goes_on_has_slots_ahead_again(bench, monkeypatch):
    monkeypatch.setattr(queues_of_studies, "SLOTS_AHEAD", 2)
    queue = bench.queue()
    queue.fill(5, [])
    queue.finish(queue.claim()._trial_id, "failed", None)
    queue.fill(5, [])

    assert (states(queue), queue.counts().waiting) == (["FAIL", "WAITING", "WAITING"], 4)


def test_two_that_fill_at_once_do_not_make_more_trials(bench):
    queues = [bench.queue(name) for name in "ab"]
    threads = [threading.Thread(target=queue.fill, args=(6, GUESSES)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = []
    while (trial := queues[0].claim()) is not None:
        taken.append((trial.number, suggested(trial)))

    assert [number for number, _ in taken] == list(range(6))
    assert [sum(x == guess["x"] for _, (x, _) in taken) for guess in GUESSES] == [1, 1]


def test_the_lowest_slot_is_taken_first_and_each_once(bench):
    queue, other = bench.queue(), bench.queue("b")
    queue.fill(4, [])
    numbers = [one.claim().number for one in (queue, other, queue, other)]

    assert (numbers, queue.claim(), other.claim()) == ([0, 1, 2, 3], None, None)


def test_without_a_limit_there_is_always_another_trial(bench):
    queue = bench.queue()
    queue.fill(None, [GUESSES[0]])
    first = queue.claim()
    found = [suggested(first)[0], queue.claim().number, queue.claim().number]

    assert found == [0.25, 1, 2]
    assert (queue.over(), queue.counts().waiting) == (False, 0)


def test_guesses_come_first_and_what_they_leave_open_is_sampled(bench):
    queue = bench.queue()
    queue.fill(3, GUESSES)
    found = [suggested(queue.claim()) for _ in range(3)]

    assert [x for x, _ in found][:2] == [0.25, 0.5]
    assert (found[0][1] in ("a", "b"), found[1][1]) == (True, "b")
    assert found[2][0] not in (0.25, 0.5)


def test_a_new_guess_goes_to_the_lowest_slot_that_nobody_took(bench):
    queue = bench.queue()
    queue.fill(4, [GUESSES[0]])
    suggested(queue.claim())
    suggested(queue.claim())
    queue.fill(4, [GUESSES[0], {"x": 0.75}])
    queue.fill(4, [GUESSES[0], {"x": 0.75}])

    assert suggested(queue.claim())[0] == 0.75
    assert suggested(queue.claim())[0] not in (0.25, 0.75)


def test_a_guess_that_is_not_given_any_more_is_tried_only_where_it_was_taken(bench):
    queue = bench.queue()
    queue.fill(6, [{"x": 0.25}, {"x": 0.5}])
    suggested(queue.claim())
    queue.fill(6, [{"x": 0.75}])
    kept = json.loads(bench.study.user_attrs[attributes.GUESSES])
    tried = [suggested(queue.claim())[0] for _ in range(5)]

    assert kept == {"0": {"x": 0.25}, "1": {"x": 0.75}}
    assert tried[0] == 0.75
    assert 0.5 not in tried


def test_the_guess_of_a_trial_that_was_given_back_stays_its_own(bench):
    queue = bench.queue()
    queue.fill(2, [{"x": 0.25}])
    queue.give_back(queue.claim()._trial_id)
    queue.fill(2, [{"x": 0.75}])

    assert [suggested(queue.claim())[0] for _ in range(2)] == [0.25, 0.75]


# Giving back


def test_a_trial_that_was_given_back_is_taken_up_with_its_params_and_reports(bench):
    queue, other = bench.queue(), bench.queue("b")
    queue.fill(2, [])
    first = queue.claim()
    params = suggested(first)
    first.report(0.5, 0)
    queue.give_back(first._trial_id)
    again = other.claim()
    then = suggested(again)
    again.report(0.75, 1)

    assert (again.number, then) == (0, params)
    stored = queue.trials()[0]
    assert stored.intermediate_values == {0: 0.5, 1: 0.75}
    assert stored.user_attrs[attributes.TAKES] == 2
    assert attributes.LIVES_LOST not in stored.user_attrs
    with pytest.raises(LostTrialError):
        queue.check(first._trial_id)


def test_what_another_has_taken_or_ended_is_not_given_back(bench):
    queue, other = bench.queue(), bench.queue("b")
    queue.fill(1, [])
    trial = queue.claim()
    other.reap(dead=["a"], retries=2)
    other.finish(other.claim()._trial_id, "complete", 1.0)
    queue.give_back(trial._trial_id)

    assert states(queue) == ["COMPLETE"]


def failing(monkeypatch, queue, times):
    """The storage fails so many times to set a trial's state; those that were wanted."""
    storage, asked = queue._storage, []
    inner = storage.set_trial_state_values

    def set_state(trial_id, state, values=None):
        asked.append(state)
        if len(asked) <= times:
            raise StudyError("the storage is away")
        return inner(trial_id, state, values)

    monkeypatch.setattr(storage, "set_trial_state_values", set_state)
    return asked


def test_a_storage_that_fails_as_a_trial_is_given_back_is_tried_again(one_bench, monkeypatch):
    monkeypatch.setattr(_holding, "_PAUSE_SECONDS", 0.0)
    queue = one_bench.queue()
    queue.fill(1, [])
    trial = queue.claim()
    asked = failing(monkeypatch, queue, 2)
    queue.give_back(trial._trial_id)

    assert asked == [TrialState.WAITING] * 3
    assert states(queue) == ["WAITING"]
    assert attrs(queue, 0)[attributes.LEASE] is None
    with pytest.raises(LostTrialError):
        queue.check(trial._trial_id)


def test_a_trial_that_could_not_be_given_back_is_held_still(one_bench, monkeypatch):
    monkeypatch.setattr(_holding, "GIVE_BACK_SECONDS", 0.0)
    queue = one_bench.queue()
    queue.fill(1, [])
    trial = queue.claim()
    failing(monkeypatch, queue, 1)
    with pytest.raises(StudyError):
        queue.give_back(trial._trial_id)
    queue.check(trial._trial_id)
    held = states(queue)
    queue.let_go()

    assert (held, states(queue)) == (["RUNNING"], ["WAITING"])


# Workers that die


def test_the_trial_of_a_worker_known_to_be_dead_is_waiting_at_once(bench):
    queue, observer = bench.queue(), bench.queue("o")
    queue.fill(2, [])
    params = suggested(queue.claim())
    alive = bench.queue("b").claim()
    (reaped,) = observer.reap(dead=["a"], retries=2)

    assert (reaped.number, reaped.ending, reaped.lives_lost) == (0, "waiting", 1)
    assert (reaped.worker, reaped.cause) == (
        Worker("a", "here", 1),
        "its worker died: process 1 on here",
    )
    assert states(queue) == ["WAITING", "RUNNING"]
    assert alive.number == 1
    again = observer.claim()
    assert (again.number, suggested(again)) == (0, params)


def test_a_trial_that_lost_more_lives_than_are_forgiven_fails_and_says_why(bench):
    observer = bench.queue("o")
    observer.fill(1, [])
    endings = []
    for name in ("a", "b", "c"):
        bench.queue(name).claim()
        endings += [one.ending for one in observer.reap(dead=[name], retries=2)]

    assert endings == ["waiting", "waiting", "failed"]
    (trial,) = observer.trials()
    assert (trial.state, trial.user_attrs[attributes.STATE]) == (TrialState.FAIL, "failed")
    assert trial.user_attrs[attributes.CAUSE] == (
        "its worker died 3 times, the last was process 1 on here"
    )
    assert (observer.over(), observer.counts().failed) == (True, 1)


def test_the_end_of_a_worker_that_its_trial_has_no_part_in_costs_no_life(one_bench):
    observer = one_bench.queue("o")
    observer.fill(1, [])
    endings = []
    for name, blameless in (("a", ["a"]), ("b", []), ("c", ["b", "c"])):
        one_bench.queue(name).claim()
        (one,) = observer.reap(dead=[name], blameless=blameless, retries=1)
        endings.append((one.ending, one.lives_lost))

    assert endings == [("waiting", 0), ("waiting", 1), ("waiting", 1)]


def test_a_lease_that_stands_still_for_the_grace_period_is_stale(bench):
    queue, observer = bench.queue(), bench.queue("o", grace_seconds=0.2)
    queue.fill(1, [])
    queue.claim()
    looks = []
    deadline = time.monotonic() + 10
    while not (looks and looks[-1]) and time.monotonic() < deadline:
        looks.append(observer.reap(retries=2))
        time.sleep(0.05)

    assert looks[0] == []
    assert [one.lives_lost for one in looks[-1]] == [1]
    assert len(looks) >= 5


def test_a_lease_that_is_renewed_is_never_stale(bench):
    """By the observer's clock the grace period passes from each beat to the next look."""
    queue = bench.queue(beat_seconds=0.01)
    observer, now = bench.queue("o", grace_seconds=0.4), [0.0]
    observer._observer = Observer(0.4, clock=lambda: now[0])
    queue.fill(1, [])
    trial = queue.claim()
    reaped = []
    with queue.beating(trial):
        for _ in range(8):
            reaped += observer.reap(retries=2)
            beat = Lease.of(attrs(queue, 0)).beat
            deadline = time.monotonic() + 30
            while Lease.of(attrs(queue, 0)).beat == beat:
                assert time.monotonic() < deadline, f"no beat after {beat}"
                time.sleep(0.01)
            now[0] += 0.4
        queue.check(trial._trial_id)

    assert reaped == []


def test_a_worker_that_died_before_it_could_sign_costs_no_life(bench):
    observer = bench.queue("o", grace_seconds=0.1)
    observer.fill(1, [])
    bench.opened.storage.set_trial_state_values(observer.trials()[0]._trial_id, TrialState.RUNNING)
    reaped = []
    deadline = time.monotonic() + 10
    while not reaped and time.monotonic() < deadline:
        reaped = observer.reap(retries=0)
        time.sleep(0.03)

    assert [(one.worker, one.lives_lost, one.ending) for one in reaped] == [(None, 0, "waiting")]
    assert observer.claim().number == 0


def test_nobody_reaps_what_it_works_on_itself(bench):
    queue = bench.queue(grace_seconds=0.0)
    queue.fill(1, [])
    queue.claim()

    assert [queue.reap(retries=0) for _ in range(6)] == [[]] * 6


# Two that think that they hold one trial


def test_who_was_thought_dead_finds_out_and_cannot_end_the_trial(bench):
    slow, next_one = bench.queue("slow"), bench.queue("next")
    slow.fill(1, [])
    trial = slow.claim()
    next_one.reap(dead=["slow"], retries=2)
    taken = next_one.claim()

    with pytest.raises(LostTrialError, match="process 1 on here, which took it up"):
        slow.check(trial._trial_id)
    with pytest.raises(LostTrialError):
        slow.finish(trial._trial_id, "complete", 1.0)
    next_one.finish(taken._trial_id, "complete", 2.0)
    assert slow.trials()[0].value == 2.0


def test_who_was_thought_dead_goes_on_if_nobody_took_the_trial(bench):
    slow, other = bench.queue("slow"), bench.queue("o")
    slow.fill(1, [])
    trial = slow.claim()
    other.reap(dead=["slow"], retries=2)
    slow.check(trial._trial_id)

    assert (states(slow), other.claim()) == (["RUNNING"], None)
    slow.finish(trial._trial_id, "complete", 1.0)
    assert states(slow) == ["COMPLETE"]


def test_a_lease_that_is_written_late_does_not_win_over_a_later_take(bench):
    slow, next_one = bench.queue("slow"), bench.queue("next")
    slow.fill(1, [])
    trial = slow.claim()
    late = attrs(slow, 0)[attributes.LEASE]
    next_one.reap(dead=["slow"], retries=2)
    taken = next_one.claim()
    bench.opened.storage.set_trial_user_attr(trial._trial_id, attributes.LEASE, late)
    next_one.check(taken._trial_id)

    assert Lease.of(attrs(slow, 0)).worker.id == "next"
    with pytest.raises(LostTrialError):
        slow.check(trial._trial_id)


def test_a_reaper_that_comes_late_does_not_rob_who_took_the_trial_meanwhile(bench):
    first, second = bench.queue("r1"), bench.queue("r2")
    first.fill(1, [])
    bench.queue("dead").claim()
    storage = bench.opened.storage
    stale = first.trials()
    first.reap(dead=["dead"], retries=2)
    taker = bench.queue("taker")
    trial = taker.claim()
    second.trials = lambda: stale  # what it saw before the first one acted

    assert second.reap(dead=["dead"], retries=2) == []
    # Even one that had compared already and only changes the state now.
    storage.set_trial_user_attr(trial._trial_id, attributes.LEASE, None)
    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    taker.check(trial._trial_id)
    assert (states(first), Lease.of(attrs(first, 0)).worker.id) == (["RUNNING"], "taker")


def test_a_trial_that_was_ended_by_hand_is_lost_to_its_worker(bench):
    queue = bench.queue()
    queue.fill(1, [])
    trial = queue.claim()
    bench.study.tell(trial.number, state=TrialState.FAIL)

    with pytest.raises(LostTrialError, match="trial 0 was ended by another process"):
        queue.finish(trial._trial_id, "complete", 1.0)
    assert queue.counts().failed == 1


def test_a_beat_that_finds_the_trial_lost_tells_at_the_next_check(bench):
    queue, other = bench.queue(beat_seconds=0.01), bench.queue("b")
    queue.fill(1, [])
    trial = queue.claim()
    other.reap(dead=["a"], retries=2)
    other.claim()
    with queue.beating(trial):
        time.sleep(0.3)
    lease = Lease.of(attrs(queue, 0))

    assert lease.worker.id == "b"
    with pytest.raises(LostTrialError):
        queue.check(trial._trial_id)


def test_beats_and_the_trial_share_the_storage(bench):
    queue = bench.queue(beat_seconds=0.001)
    queue.fill(1, [])
    trial = queue.claim()
    beats, steps = 0, 0
    deadline = time.monotonic() + 30
    with queue.beating(trial):
        while steps < 12 or (beats == 0 and time.monotonic() < deadline):
            trial.report(float(steps), steps)
            queue.check(trial._trial_id)
            steps += 1
            beats = Lease.of(attrs(queue, 0)).beat
        queue.finish(trial._trial_id, "complete", 1.0)

    assert beats > 0
    assert queue.trials()[0].intermediate_values == {step: float(step) for step in range(steps)}


# Endings


@pytest.mark.parametrize(
    ("state", "value", "in_optuna"),
    [
        ("complete", 0.5, TrialState.COMPLETE),
        ("pruned", None, TrialState.PRUNED),
        ("failed", None, TrialState.FAIL),
        ("out_of_memory", None, TrialState.PRUNED),
        ("diverged", None, TrialState.PRUNED),
    ],
)
def test_each_ending_is_told_to_optuna_and_counted_by_its_name(bench, state, value, in_optuna):
    queue = bench.queue()
    queue.fill(1, [])
    trial = queue.claim()
    trial.report(0.25, 0)
    queue.finish(trial._trial_id, state, value, cause="so it was", attrs={"histo.epochs": 3})
    queue.finish(trial._trial_id, state, value, cause="once more", attrs={"histo.epochs": 4})
    (stored,) = queue.trials()
    counts = queue.counts()

    assert (stored.state, stored.value) == (in_optuna, value)
    assert {name: getattr(counts, name) for name in attributes.TRIAL_STATES} == {
        name: int(name == state) for name in attributes.TRIAL_STATES
    }
    assert (counts.ended, queue.over()) == (1, True)
    kept = stored.user_attrs
    assert [kept[attributes.STATE], kept[attributes.CAUSE], kept[attributes.EPOCHS]] == [
        state,
        "so it was",
        3,
    ]


@pytest.mark.parametrize(
    ("state", "value"),
    [("complete", None), ("complete", float("nan")), ("pruned", 0.5), ("failed", 0.5)],
)
def test_only_a_complete_trial_has_a_value_and_it_is_a_number(open_kind, state, value):
    opened = open_kind("sqlite")
    study = optuna.create_study(storage=opened.storage)
    queue = Queue(study, opened.storage, Worker.here())
    queue.fill(1, [])
    trial = queue.claim()

    with pytest.raises(ValueError, match=state):
        queue.finish(trial._trial_id, state, value)
    assert states(queue) == ["RUNNING"]


def test_counts_add_up_to_the_limit(bench):
    queue = bench.queue()
    queue.fill(5, [])
    first, second = queue.claim(), queue.claim()
    queue.claim()
    queue.finish(first._trial_id, "complete", 0.5)
    queue.finish(second._trial_id, "diverged", None)
    counts = queue.counts()

    assert (counts.complete, counts.diverged, counts.running, counts.waiting) == (1, 1, 1, 2)
    assert counts.ended + counts.running + counts.waiting == counts.limit == 5
    assert not queue.over()


# Time at work


def test_the_time_at_work_is_that_of_beats_and_takes(bench):
    queue = bench.queue(beat_seconds=0.02)
    queue.fill(1, [])
    before = time.time()
    trial = queue.claim()
    with queue.beating(trial):
        time.sleep(0.15)
    queue.give_back(trial._trial_id)
    middle = queue.active_seconds()
    time.sleep(0.3)
    queue.finish(queue.claim()._trial_id, "complete", 1.0)
    spans = json.loads(attrs(queue, 0)[attributes.SPANS])

    assert len(spans) == 2
    assert 0.1 < middle < time.time() - before - 0.3
    assert queue.active_seconds() < time.time() - before - 0.3


def test_the_sleep_of_a_machine_is_no_time_at_work(one_bench, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(_holding, "time", SimpleNamespace(time=lambda: clock.now))
    queue = one_bench.queue(grace_seconds=60.0)
    queue.fill(1, [])
    trial = queue.claim()
    for clock.now in (1010.0, 1050.0, 5000.0, 5010.0):
        queue._held[trial._trial_id].beat()
    clock.now = 9000.0
    queue.finish(trial._trial_id, "complete", 1.0)
    spans = json.loads(attrs(queue, 0)[attributes.SPANS])

    assert spans == [[1000.0, 1050.0], [5000.0, 5010.0], [9000.0, 9000.0]]
    assert queue.active_seconds() == 60.0


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(0.0, 1.0), (2.0, 3.5)], 2.5),
        ([(2.0, 5.0), (0.0, 3.0), (1.0, 2.0)], 5.0),
        ([(0.0, 10.0), (1.0, 2.0), (10.0, 11.0)], 11.0),
        ([(3.0, 2.0)], 0.0),
    ],
)
def test_spans_that_overlap_count_once(spans, seconds):
    covered = {tick for begin, end in spans for tick in range(int(begin * 2), int(end * 2))}

    assert union_seconds(spans) == seconds == len(covered) / 2


# An observer's clock


def test_a_pause_of_the_observer_is_no_proof_of_a_dead_worker():
    now = [0.0]
    observer = Observer(60.0, clock=lambda: now[0])
    lease = Lease(Worker("a", "here", 1), take=1, beat=7)
    observer.is_stale(1, lease)
    now[0] += 3600.0

    assert observer.is_stale(1, lease) is False


def test_a_lease_is_stale_after_the_grace_period_and_fresh_after_a_beat():
    now = [0.0]
    observer = Observer(60.0, clock=lambda: now[0])
    lease = Lease(Worker("a", "here", 1), take=1, beat=7)
    found = []
    for _ in range(13):
        found.append(observer.is_stale(1, lease))
        now[0] += 5.0
    beaten = observer.is_stale(1, Lease(lease.worker, take=1, beat=8))

    assert found == [False] * 12 + [True]
    assert beaten is False


def test_two_workers_of_one_process_are_not_the_same():
    assert Worker.here().id != Worker.here().id


# Samplers


def conditional(trial):
    if trial.suggest_categorical("kind", ["a", "b"]) == "a":
        return trial.suggest_float("x", 0, 1)
    return trial.suggest_float("y", 0.1, 1, log=True) + trial.suggest_int("n", 1, 3)


def plain(trial):
    return trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1)


def gridded(trial):
    return trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 2)


SAMPLERS = {
    "random": (lambda: optuna.samplers.RandomSampler(seed=0), conditional),
    "tpe": (
        lambda: optuna.samplers.TPESampler(
            seed=0, multivariate=True, group=True, constant_liar=True, n_startup_trials=3
        ),
        conditional,
    ),
    "grid": (
        lambda: optuna.samplers.GridSampler({"x": [0.0, 0.25, 0.5, 1.0], "n": [1, 2]}, seed=0),
        gridded,
    ),
    "qmc": (lambda: optuna.samplers.QMCSampler(seed=0, scramble=True), plain),
    "cmaes": (lambda: optuna.samplers.CmaEsSampler(seed=0, n_startup_trials=2), plain),
    "gp": (lambda: optuna.samplers.GPSampler(seed=0, n_startup_trials=6), plain),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_works_on_slots_and_gives_a_retaken_trial_its_params(open_kind, name):
    if name == "cmaes":
        pytest.importorskip("cmaes", reason="needs `pip install cmaes`")
    make, objective = SAMPLERS[name]
    opened = open_kind("sqlite")
    study = optuna.create_study(
        study_name=f"sampler {name}", storage=opened.storage, sampler=make()
    )
    queue = Queue(study, opened.storage, Worker.here())
    queue.fill(8, [])
    values = []
    while (trial := queue.claim()) is not None:
        value = objective(trial)
        if trial.number == 4 and trial.user_attrs[attributes.TAKES] == 1:
            before = value
            queue.give_back(trial._trial_id)
            continue
        if trial.number == 4:
            assert value == before
        values.append(value)
        queue.finish(trial._trial_id, "complete", value)

    assert [one.value for one in queue.trials()] == values
    params = [tuple(one.params.items()) for one in queue.trials()]
    assert len(set(params)) == 8


def test_samplers_see_what_ended_since_the_last_trial(open_kind):
    opened = open_kind("sqlite")
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=1)
    study = optuna.create_study(storage=opened.storage, sampler=sampler)
    queue = Queue(study, opened.storage, Worker.here())
    queue.fill(3, [])
    seen = []
    while (trial := queue.claim()) is not None:
        value = plain(trial)
        known = trial.study._get_trials(deepcopy=False, use_cache=True)
        seen.append(sum(one.state == TrialState.COMPLETE for one in known))
        queue.finish(trial._trial_id, "complete", value)

    assert seen == [0, 1, 2]


def test_the_sampler_can_be_set_for_each_trial_before_it_is_sampled(open_kind):
    opened = open_kind("sqlite")
    study = optuna.create_study(storage=opened.storage)
    queue = Queue(study, opened.storage, Worker.here())
    queue.fill(2, [])

    def by_number(number):
        study.sampler = optuna.samplers.RandomSampler(seed=number)

    found = [queue.claim(by_number).suggest_float("x", 0, 1) for _ in range(2)]
    expected = [
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        .ask()
        .suggest_float("x", 0, 1)
        for seed in range(2)
    ]

    assert found == expected
