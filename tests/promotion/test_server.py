"""The same through a real MLflow server, where every call is a request of its own."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import promotable_runs
from histo_mlflow.errors import OvertakenError
from histo_mlflow.jobs.promote import promote
from histo_mlflow.jobs.roll_back import roll_back, status
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.promotion import aliases, ledger
from histo_mlflow.promotion.transition import Subject, crown
from histo_mlflow.promotion.versions import register, versions
from histo_mlflow.tracking.store import connect

pytestmark = pytest.mark.slow

QUIET = Talk(quiet=True)


def test_of_four_clients_exactly_one_wins_each_time(server):
    store = connect(server.uri)
    read = ledger.find_or_make(store, "race")
    for number in range(1, 10):
        store.client.create_model_version("race", f"s3://nowhere/{number}", await_creation_for=0)
    crown(store, read, Subject(9, None, None), expected=None)
    barrier = threading.Barrier(4)

    def go(me):
        own, won = connect(server.uri), []
        for number in range(5):
            before = ledger.find(own, "race")
            barrier.wait(60)
            try:
                mine = 1 + me + 4 * (number % 2)
                crown(own, before, Subject(mine, None, None), expected=before.champion)
                won.append(number)
            except OvertakenError:
                pass
            barrier.wait(60)
        return won

    with ThreadPoolExecutor(4) as pool:
        won = [number for some in pool.map(go, range(4)) for number in some]

    assert sorted(won) == [0, 1, 2, 3, 4]
    now = ledger.find(store, "race")
    assert aliases.standing(store, now).state == "settled"
    assert aliases.aliases(store, "race").champion == now.champion


@pytest.fixture(scope="module")
def runs(server, tmp_path_factory):
    store, folder = connect(server.uri), tmp_path_factory.mktemp("runs")
    return [
        promotable_runs.made(store, folder / str(seed), skill=skill, seed=seed)
        for seed, skill in enumerate((1.0, 2.0))
    ]


def test_a_model_registered_by_several_at_once_has_one_version(server, runs):
    ledger.find_or_make(connect(server.uri), "once")

    def make(_):
        return register(connect(server.uri), "once", runs[0].model_id, runs[0].run_id)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(make, range(4)))) == 1
    assert len(versions(connect(server.uri), "once")) == 1


def test_promote_refuse_and_roll_back(server, runs):
    where = {"tracking_uri": server.uri, "talk": QUIET}
    weak, strong = (run.run_id for run in runs)
    assert promote(weak, name="histo", replicates=100, **where).promoted
    assert promote(strong, name="histo", replicates=100, **where).promoted
    refused = promote(weak, name="histo", replicates=100, **where)
    assert not refused.promoted
    assert "it is worse" in refused.reasons[0]
    assert roll_back("histo", **where).champion == 1

    found = status("histo", tracking_uri=server.uri)
    assert [entry.decision for entry in found.ledger.entries] == [
        "promoted", "promoted", "refused", "rolled back",
    ]  # fmt: skip
    assert (found.champion, found.challenger, found.warning) == (1, None, None)
    client = connect(server.uri).client
    files = {entry.path for entry in client.list_artifacts(found.ledger.run_id, "promotions")}
    assert files == {
        "promotions/000001-promoted.json",
        "promotions/000002-promoted.json",
        "promotions/000002-promoted.png",
        "promotions/000003-refused.json",
        "promotions/000003-refused.png",
        "promotions/000004-rolled-back.json",
    }
    # MLflow's own page of the model links to the version
    model = client.get_logged_model(runs[1].model_id)
    assert '"histo"' in model.tags["mlflow.modelVersions"]
