"""The loop of the command, with a real queue and workers that are only told of."""

import pytest

from histo_mlflow.errors import Interrupted, StudyError
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tuning import supervise as module
from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.supervise import supervise
from histo_mlflow.tuning.team import Death


class FakeTeam:
    """Dies as its script says: at each look the deaths of the next entry, or what it does."""

    def __init__(self, *script, size=2, at_stop=()):
        self.script, self.alive, self.at_stop = list(script), size, list(at_stop)
        self.refilled, self.stopped, self.started, self.ended = [], False, False, []

    def start(self):
        self.started = True

    def __len__(self):
        return self.alive

    def buried(self):
        assert self.script, "the loop should have ended"
        found = self.script.pop(0)
        deaths = found() if callable(found) else found
        self.alive -= len(deaths or ())
        return list(deaths or ())

    def refill(self, lost, *, progress):
        self.refilled.append((lost, progress))
        self.alive += lost

    def end(self, worker):
        self.ended.append(worker)

    def stop(self):
        self.stopped = True
        return self.at_stop


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)


@pytest.fixture
def bench(one_bench):
    return one_bench


def supervised(queue, team, *, retries=2, wall_seconds=None, looks=None, failed=None):
    queue._study.set_user_attr(attributes.WALL_SECONDS, wall_seconds)
    supervise(
        queue,
        team,
        retries=retries,
        on_look=lambda trials: looks is not None and looks.append([t.state.name for t in trials]),
        on_failed=lambda reaped: failed is not None and failed.append(reaped),
        talk=Talk(),
    )


def ending(queue):
    """Take what waits and end it."""

    def act():
        while (trial := queue.claim()) is not None:
            queue.finish(trial._trial_id, "complete", 1.0)

    return act


def test_the_trial_of_a_dead_worker_is_taken_up_again_and_the_team_is_filled(bench, capsys):
    boss, dead, other = bench.queue("boss"), bench.queue("dead"), bench.queue("other")
    boss.fill(2, [])
    held = dead.claim()
    held.report(0.5, 1)
    team = FakeTeam([Death("dead", -9, "")], ending(other))
    looks = []
    supervised(boss, team, looks=looks)

    assert looks == [["WAITING", "WAITING"], ["COMPLETE", "COMPLETE"]]
    assert "a worker was killed by SIGKILL: trial 0 will be taken up again" in (
        capsys.readouterr().err
    )
    assert team.refilled == [(1, 1)]
    assert team.stopped
    assert boss.trials()[0].user_attrs[attributes.LIVES_LOST] == 1


def test_no_process_is_started_for_a_study_that_is_over(bench):
    boss = bench.queue("boss")
    boss.fill(1, [])
    ending(bench.queue("other"))()
    team = FakeTeam()
    supervised(boss, team)

    assert not team.started


def test_no_process_is_started_when_time_is_up_and_nobody_is_at_work(bench):
    boss = bench.queue("boss")
    boss.fill(1, [])
    team = FakeTeam()
    supervised(boss, team, wall_seconds=0.0)

    assert not team.started
    assert boss.counts().waiting == 1


def test_a_trial_that_lost_too_many_lives_is_told(bench):
    boss = bench.queue("boss")
    boss.fill(1, [])
    bench.queue("dead").claim()
    failed = []
    supervised(boss, FakeTeam([Death("dead", -9, "")]), retries=0, failed=failed)

    assert [(one.number, one.ending) for one in failed] == [(0, "failed")]


def test_a_worker_that_says_why_it_cannot_go_on_costs_its_trial_no_life_and_a_bug_does(bench):
    """As when the storage is away for so long that it cannot give its trial back."""
    boss = bench.queue("boss")
    boss.fill(1, [])
    lives = []
    for name, blameless in (("a", True), ("b", True), ("bug", False)):
        bench.queue(name).claim()
        team = FakeTeam([Death(name, 1, "away", blameless=blameless)], size=1)
        with pytest.raises(StudyError):
            supervised(boss, team, retries=1)
        lives.append(boss.trials()[0].user_attrs[attributes.LIVES_LOST])

    assert lives == [0, 0, 1]
    assert [one.state.name for one in boss.trials()] == ["WAITING"]


def test_a_death_that_the_storage_could_not_be_told_of_is_told_at_the_end(bench, monkeypatch):
    boss = bench.queue("boss")
    boss.fill(1, [])
    bench.queue("dead").claim()
    reap, told = boss.reap, []

    def away_once(**named):
        told.append(named["dead"])
        if len(told) == 1:
            raise StudyError("the storage is away")
        return reap(**named)

    monkeypatch.setattr(boss, "reap", away_once)
    with pytest.raises(StudyError, match="the storage is away"):
        supervised(boss, FakeTeam([Death("dead", -9, "")], at_stop=[Death("other", 0, "")]))

    assert told == [["dead"], ["dead", "other"]]
    assert [one.state.name for one in boss.trials()] == ["WAITING"]


def test_without_workers_the_study_ends_with_what_each_said_once(bench):
    boss = bench.queue("boss")
    boss.fill(1, [])
    deaths = [
        Death(name, 1, said) for name, said in zip("abc", ["full", "away", "full"], strict=True)
    ]
    team = FakeTeam(deaths[:1], deaths[1:], size=3)

    with pytest.raises(StudyError, match=r"^no worker can go on: full; away$"):
        supervised(boss, team)
    assert (team.stopped, team.refilled) == (True, [])


def test_one_that_failed_before_does_not_keep_a_killed_one_from_being_replaced(bench):
    boss = bench.queue("boss")
    boss.fill(1, [])
    team = FakeTeam([Death("a", 1, "full")], [Death("b", -9, "")], ending(bench.queue("c")))
    supervised(boss, team)

    assert boss.over()
    assert team.refilled == [(1, 0)]


def test_when_time_is_up_no_worker_is_started_and_the_last_trials_are_waited_for(bench):
    boss, worker = bench.queue("boss"), bench.queue("w")
    boss.fill(3, [])
    trial = worker.claim()

    def end_the_one():
        worker.finish(trial._trial_id, "complete", 1.0)

    team = FakeTeam([Death("gone", 0, "")], end_the_one)
    supervised(boss, team, wall_seconds=0.0)

    assert team.refilled == []
    assert [one.state.name for one in boss.trials()] == ["COMPLETE", "WAITING", "WAITING"]


def test_time_counts_what_was_worked_and_is_never_up_without_a_limit(bench):
    queue = bench.queue()
    queue.fill(1, [])
    found = []
    for wall_seconds in (0.0, 1.0, None):
        queue._study.set_user_attr(attributes.WALL_SECONDS, wall_seconds)
        found.append(queue.time_is_up())

    assert found == [True, False, False]


def test_a_longer_time_of_a_command_that_joins_holds_for_those_that_are_at_work(bench):
    boss, worker = bench.queue("boss"), bench.queue("w")
    boss.fill(2, [])
    trial = worker.claim()

    def give_longer():
        bench.study.set_user_attr(attributes.WALL_SECONDS, 3600.0)
        worker.finish(trial._trial_id, "complete", 1.0)
        return [Death("gone", 0, "")]

    team = FakeTeam(give_longer, ending(worker))
    supervised(boss, team, wall_seconds=0.0)

    assert team.refilled == [(1, 1)]
    assert boss.over()


def test_an_interruption_stops_the_team_and_gives_back_what_it_left(bench):
    boss = bench.queue("boss")
    boss.fill(1, [])
    bench.queue("slow").claim()

    def signalled():
        raise Interrupted(2)

    team = FakeTeam(signalled, at_stop=[Death("slow", -9, "")])
    with pytest.raises(Interrupted):
        supervised(boss, team)

    assert [one.state.name for one in boss.trials()] == ["WAITING"]


def test_an_interruption_that_meets_a_dead_storage_is_an_interruption(bench, monkeypatch):
    boss = bench.queue("boss")
    boss.fill(1, [])
    bench.queue("slow").claim()

    def away(**_):
        raise StudyError("the storage is away")

    def signalled():
        monkeypatch.setattr(boss, "reap", away)
        raise Interrupted(1)

    with pytest.raises(Interrupted) as caught:
        supervised(boss, FakeTeam(signalled, at_stop=[Death("slow", -9, "")]))

    assert caught.value.exit_code == 129
    assert caught.value.__notes__ == ["the storage is away"]


def test_a_worker_that_hangs_is_ended_and_one_that_died_is_not_ended_again(bench, monkeypatch):
    boss, hangs, dead, other = (bench.queue(name) for name in ("boss", "hangs", "dead", "other"))
    boss.fill(3, [])
    hangs.claim(), dead.claim()
    monkeypatch.setattr(
        boss._observer, "is_stale", lambda trial_id, lease: lease.worker.id == "hangs"
    )
    team = FakeTeam([Death("dead", -9, "")], ending(other))
    supervised(boss, team)

    assert team.ended == ["hangs"]
    assert (boss.counts().complete, boss.counts().running) == (3, 0)
