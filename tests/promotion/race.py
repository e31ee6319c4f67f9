"""Processes that promote at the same moment, forked from one that has imported everything.

    python race.py race DATABASE ROUNDS    one line of JSON: what came of it
    python race.py kill DATABASE           the champion's writer is killed before it moves the alias

It stands alone, since a process that has threads, as pytest's may, should not fork.
"""

import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

from histo_mlflow.errors import OvertakenError
from histo_mlflow.promotion import aliases, ledger, transition
from histo_mlflow.promotion.transition import Subject, crown, opened
from histo_mlflow.tracking.store import connect

NAME, WORKERS, VERSIONS = "histo-x", 4, 8
ALIAS = "SELECT version FROM registered_model_aliases WHERE alias = 'champion'"
FORK = multiprocessing.get_context("fork")


def prepare(database):
    """Make the model with its first champion; in a process of its own, as no engine is forked."""
    store = connect(f"sqlite:///{database}")
    made = ledger.find_or_make(store, NAME)
    for _ in range(VERSIONS + 1):
        store.client.create_model_version(NAME, "/nowhere", await_creation_for=0)
    crown(store, made, Subject(VERSIONS + 1, None, None), expected=None)


def watch(database, stop, out):
    """Look at the alias without pause, as a server would that loads the champion."""
    seen, absent = 0, 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)
    while not stop.is_set():
        absent += connection.execute(ALIAS).fetchone() is None
        seen += 1
        time.sleep(0.0005)
    out.put({"looks": seen, "absent": absent})


def promote(me, database, rounds, barrier, out):
    """Promote in each round a version of one's own, expecting the champion that all have read."""
    store = connect(f"sqlite:///{database}")
    won, wrong = [], []
    for number in range(rounds):
        read = ledger.find(store, NAME)
        barrier.wait(120)
        mine = 1 + me + WORKERS * (number % 2)
        try:
            crown(store, read, Subject(mine, None, None), expected=read.champion)
            won.append(number)
        except OvertakenError:
            pass
        barrier.wait(120)
        if me == 0:
            now, alias = ledger.find(store, NAME), aliases.aliases(store, NAME).champion
            state = aliases.standing(store, now).state
            if alias != now.champion or state != "settled":
                wrong.append([number, alias, now.champion, state])
        barrier.wait(120)
    out.put({"me": me, "won": won, "wrong": wrong})


def race(database, rounds):
    run(prepare, database)
    stop, out, barrier = FORK.Event(), FORK.Queue(), FORK.Barrier(WORKERS)
    watcher = FORK.Process(target=watch, args=(database, stop, out))
    workers = [
        FORK.Process(target=promote, args=(me, database, rounds, barrier, out))
        for me in range(WORKERS)
    ]
    started = time.monotonic()
    for process in (watcher, *workers):
        process.start()
    results = [out.get(timeout=500) for _ in workers]
    seconds = time.monotonic() - started
    stop.set()
    results.append(out.get(timeout=60))
    for process in (watcher, *workers):
        process.join(60)
    print(json.dumps({"seconds": seconds, "results": results}))


def kill(database):
    run(prepare, database)
    code = run(die_before_the_alias, database)
    connection = sqlite3.connect(database)
    before = connection.execute(ALIAS).fetchone()[0]
    run(heal, database)
    after = connection.execute(ALIAS).fetchone()[0]
    print(json.dumps({"code": code, "before": before, "after": after}))


def die_before_the_alias(database):
    transition.aliases.settle = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    store = connect(f"sqlite:///{database}")
    crown(store, ledger.find(store, NAME), Subject(2, None, None), expected=VERSIONS + 1)


def heal(database):
    assert opened(connect(f"sqlite:///{database}"), NAME, expect="2").champion == 2


def run(what, database):
    process = FORK.Process(target=what, args=(database,))
    process.start()
    process.join(120)
    return process.exitcode


if __name__ == "__main__":
    if sys.argv[1] == "race":
        race(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        kill(Path(sys.argv[2]))
