"""Promotions at the same moment: one wins, the others are told, and nobody is without champion."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RACE = Path(__file__).with_name("race.py")


def race(*arguments):
    done = subprocess.run(
        [sys.executable, str(RACE), *map(str, arguments)],
        capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def assert_one_winner_each(found, rounds):
    *workers, watched = sorted(found["results"], key=lambda one: "looks" in one)
    won = [number for one in workers for number in one["won"]]
    assert sorted(won) == list(range(rounds))
    assert [wrong for one in workers for wrong in one["wrong"]] == []
    assert watched["absent"] == 0
    assert watched["looks"] > rounds


@pytest.fixture
def database(store_uri):
    return store_uri.removeprefix("sqlite:///")


def test_of_four_processes_exactly_one_wins_each_time(database):
    assert_one_winner_each(race("race", database, 10), 10)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_four_processes_exactly_one_wins_each_of_200_times(database):
    assert_one_winner_each(race("race", database, 200), 200)


def test_a_winner_killed_before_it_moved_the_alias_is_healed(database):
    found = race("kill", database)
    assert found == {"code": -signal.SIGKILL, "before": 9, "after": 2}
