"""The parent run of a study, in a real store: made once, found again, whoever asks."""

import pytest

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import parent_run
from histo_mlflow.tuning.parent_run import open_command, open_parent
from histo_mlflow.tuning.shared import attributes

PARAMS = {"lr": 0.1}


@pytest.fixture
def store(store_uri):
    return connect(store_uri)


@pytest.fixture
def study(one_bench, monkeypatch):
    monkeypatch.setattr(parent_run, "OTHERS_SECONDS", 0.1)
    one_bench.study.set_user_attr(attributes.EXPERIMENT, "e")
    return one_bench.study


def opened(study, store, *, new, params=PARAMS):
    return open_parent(
        study,
        store,
        new=new,
        key="k",
        run_name="study s",
        params=params,
        tags={"histo.study": "s"},
    )


def runs(store):
    experiments = [one.experiment_id for one in store.client.search_experiments()]
    return store.client.search_runs(experiments)


def test_a_new_study_has_a_new_run_and_whoever_joins_goes_on_with_it(study, store):
    with opened(study, store, new=True) as first:
        first.end("finished")
    with opened(study, store, new=False, params={"lr": 0.2}) as second:
        (running,) = runs(store)

    assert first.run_id == second.run_id == study.user_attrs[attributes.PARENT]
    assert study.user_attrs[attributes.EXPERIMENT] == "e"
    assert running.data.params == {"lr": "0.1"}
    assert running.info.status == "RUNNING"
    assert running.data.tags["histo.study"] == "s"


def test_a_run_that_was_made_by_a_command_that_was_killed_then_is_found_by_its_key(study, store):
    with start_run(store, "e", "study s", PARAMS, {}, follow_project=False, key="k") as made:
        pass
    with opened(study, store, new=False) as found:
        pass

    assert found.run_id == made.run_id == study.user_attrs[attributes.PARENT]
    assert len(runs(store)) == 1


def test_under_mlflow_run_its_run_is_the_parent_of_a_new_study(study, store, monkeypatch):
    where = store.client.create_experiment("of mlflow run")
    given = store.client.create_run(where)
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    with opened(study, store, new=True) as parent, open_command(store, parent, "s"):
        pass

    assert parent.run_id == given.info.run_id
    assert study.user_attrs[attributes.EXPERIMENT] == "of mlflow run"
    assert "histo.study.parent" not in store.client.get_run(parent.run_id).data.tags


def test_the_parent_is_not_told_before_the_place_where_it_lies(study, store, monkeypatch):
    where = store.client.create_experiment("of mlflow run")
    monkeypatch.setenv("MLFLOW_RUN_ID", store.client.create_run(where).info.run_id)
    told = []
    monkeypatch.setattr(study, "set_user_attr", lambda key, value: told.append(key))
    with opened(study, store, new=True):
        pass

    # a kill between the two leaves no parent that others would begin children for elsewhere
    assert told == [attributes.EXPERIMENT, attributes.PARENT]


def test_an_mlflow_run_that_goes_on_with_a_study_says_in_its_own_run_where_to_look(
    study, store, monkeypatch
):
    with opened(study, store, new=True) as parent:
        pass
    own = store.client.create_run(store.client.create_experiment("of mlflow run")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    with opened(study, store, new=False) as again, open_command(store, again, "s"):
        pass

    told = store.client.get_run(own)
    assert again.run_id == parent.run_id
    assert told.info.status == "FINISHED"
    assert told.data.tags["histo.study.parent"] == parent.run_id
    assert parent.run_id in told.data.tags["mlflow.note.content"]


def test_the_own_run_of_an_mlflow_run_that_fails_is_failed(study, store, monkeypatch):
    with opened(study, store, new=True) as parent:
        pass
    own = store.client.create_run(store.client.create_experiment("of mlflow run")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    with pytest.raises(ZeroDivisionError), open_command(store, parent, "s"):
        raise ZeroDivisionError

    assert store.client.get_run(own).info.status == "FAILED"


def test_another_store_than_the_study_was_begun_with_is_refused_naming_the_run(study, store):
    study.set_user_attr(attributes.PARENT, "0" * 32)

    with pytest.raises(TrackingError) as caught:
        opened(study, store, new=False)
    assert "--tracking-uri" in " ".join(caught.value.__notes__)
    assert "0" * 32 in " ".join(caught.value.__notes__)
    assert runs(store) == []
