"""A study in a real PostgreSQL; what it shares with other storages is in test_queue.py and
test_queue_processes.py."""

import os
import time

import optuna
import psycopg
import pytest

import queue_workers
from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.shared.storage import open_storage
from queue_workers import CONTEXT


def test_processes_that_open_an_empty_database_at_once_make_one_schema(postgres_server, tmp_path):
    url = postgres_server.create(f"race_{os.getpid()}")
    log, barrier = tmp_path / "log", CONTEXT.Barrier(4)
    crew = [
        CONTEXT.Process(target=queue_workers.open_at_once, args=(url, barrier, str(log)))
        for _ in range(4)
    ]
    for process in crew:
        process.start()
    for process in crew:
        process.join(60)
    with psycopg.connect(url) as connection:
        versions = connection.execute("SELECT count(*) FROM alembic_version").fetchone()

    assert log.read_text().splitlines() == ["opened"] * 4
    assert versions == (1,)


def test_a_plain_url_takes_psycopg_and_optunas_own_tools_open_the_same_study(postgres_server):
    url = postgres_server.create(f"plain_{os.getpid()}")
    opened = open_storage(url)
    optuna.create_study(storage=opened.storage, study_name="s")

    assert opened.url.startswith("postgresql+psycopg://")
    assert postgres_server.password not in opened.shown_url
    assert optuna.get_all_study_names(opened.url) == ["s"]
    assert len(open_storage(opened.url, make=False).storage.get_all_studies()) == 1


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("password", "the user or the password is wrong"),
        ("database", "it has no database of that name; make one with `createdb`"),
        ("empty", "holds no studies"),
    ],
)
def test_what_is_wrong_is_told_without_the_password(postgres_server, part, why):
    urls = {
        "password": postgres_server.url(password="hush-hush"),
        "database": postgres_server.url("nowhere"),
        "empty": postgres_server.url(),
    }
    with pytest.raises(StudyError) as caught:
        open_storage(urls[part], make=False)

    assert why in str(caught.value)
    assert postgres_server.password not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_database_with_mlflows_tables_is_refused(postgres_server):
    url = postgres_server.create(f"mlflow_{os.getpid()}")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")

    with pytest.raises(StudyError, match="is a database in which MLflow keeps its runs"):
        open_storage(url)


def test_a_connection_that_the_server_cuts_is_made_again(postgres_server):
    url = postgres_server.create(f"cut_{os.getpid()}")
    storage = open_storage(url).storage
    study = optuna.create_study(storage=storage, study_name="s")
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        cut = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s",
            (f"cut_{os.getpid()}",),
        ).fetchone()
    begin = time.monotonic()
    study.set_user_attr("after", 1)

    assert cut[0] >= 1
    assert study.user_attrs == {"after": 1}
    assert time.monotonic() - begin < 10
