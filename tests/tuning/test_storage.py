"""Opening a study's storage: every mistake is one plain sentence, and MLflow's database is safe."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import postgres
import queue_workers
from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.shared import _sqlite, _steady
from histo_mlflow.tuning.shared.storage import asked, open_storage
from queue_workers import CONTEXT


def refused(url, **options):
    with pytest.raises(StudyError) as caught:
        open_storage(url, **options)
    return str(caught.value)


def inside(path):
    return sorted(one.name for one in path.parent.iterdir())


# SQLite


def test_a_sqlite_file_is_made_whole_with_wal_and_opens_again_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = open_storage("sqlite:///study.db")
    optuna.create_study(storage=opened.storage, study_name="s")
    monkeypatch.chdir("/")
    again = open_storage(opened.url)

    assert opened.url == f"sqlite:///{tmp_path}/study.db"
    assert [one.study_name for one in again.storage.get_all_studies()] == ["s"]
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert [name for name in inside(tmp_path / "study.db") if "new" in name] == []


def test_processes_that_make_one_sqlite_file_at_once_all_open_it(tmp_path):
    log, barrier = tmp_path / "log", CONTEXT.Barrier(4)
    arguments = (f"sqlite:///{tmp_path}/optuna.db", barrier, str(log))
    crew = [CONTEXT.Process(target=queue_workers.open_at_once, args=arguments) for _ in range(4)]
    for process in crew:
        process.start()
    for process in crew:
        process.join(60)

    assert log.read_text().splitlines() == ["opened"] * 4
    assert [name for name in inside(tmp_path / "optuna.db") if "new" in name] == []


def test_a_maker_that_was_killed_leaves_no_half_of_a_database(tmp_path):
    path = tmp_path / "optuna.db"
    code = (
        "import os, sys; from histo_mlflow import files; from pathlib import Path;"
        "files.name_if_free = lambda *_: os.kill(os.getpid(), 9);"
        "from histo_mlflow.tuning.shared import _sqlite; _sqlite.create(Path(sys.argv[1]))"
    )
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(path)], check=False)

    assert (killed.returncode, path.exists()) == (-9, False)
    assert open_storage(f"sqlite:///{path}").storage.get_all_studies() == []


def test_a_file_that_optuna_made_itself_is_opened_and_switched_to_wal(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    optuna.create_study(storage=url, study_name="theirs")
    opened = open_storage(url, make=False)

    assert [one.study_name for one in opened.storage.get_all_studies()] == ["theirs"]
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_braces_spaces_and_percent_signs_in_a_path_are_taken_as_they_are(tmp_path):
    path = tmp_path / "a {b} c%20d" / "optuna.db"
    path.parent.mkdir()
    opened = open_storage(_sqlite.url_of(path))
    optuna.create_study(storage=opened.storage, study_name="s")

    assert [name for name in inside(path) if not name.endswith(("-wal", "-shm"))] == ["optuna.db"]
    assert len(open_storage(opened.url).storage.get_all_studies()) == 1


def test_a_writer_waits_for_another_and_a_reader_does_not(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db").storage
    study = optuna.create_study(storage=storage)
    study.add_trial(create_trial(state=TrialState.WAITING))
    trial_id = study.trials[0]._trial_id
    taken = []
    writer = threading.Thread(
        target=lambda: taken.append(storage.set_trial_state_values(trial_id, TrialState.RUNNING))
    )
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        writer.start()
        writer.join(0.3)
        read, while_locked = storage.get_all_trials(study._study_id), list(taken)
        other.execute("ROLLBACK")
    writer.join(30)
    raw = storage._inner._backend.engine.raw_connection()
    timeout = raw.cursor().execute("PRAGMA busy_timeout").fetchone()[0]
    raw.close()

    assert (while_locked, [one.state for one in read]) == ([], [TrialState.WAITING])
    assert (taken, timeout) == ([True], 60_000)


@pytest.mark.parametrize("link", [False, True])
def test_mlflows_own_file_is_refused_under_whatever_name(tmp_path, monkeypatch, link):
    monkeypatch.chdir(tmp_path)
    named = tmp_path / "mlflow.db"
    if link:
        (tmp_path / "real").mkdir()
        named.symlink_to(tmp_path / "real" / "mlflow.db")
    said = refused("sqlite:///mlflow.db", tracking_uri=f"sqlite:///{named.resolve()}")

    assert said == (
        f"the study's storage {tmp_path}/mlflow.db is a database in which MLflow keeps its runs; "
        "the two cannot share one, so name another with --storage, such as sqlite:///optuna.db "
        "or, on the same server, a database of its own (`createdb optuna`)"
    )
    assert not named.exists()


def test_a_database_with_mlflows_tables_is_refused_and_stays_as_it_was(fresh_database, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(fresh_database.read_bytes())
    before = path.read_bytes()
    said = refused(f"sqlite:///{path}", tracking_uri="http://localhost:5000")

    assert "is a database in which MLflow keeps its runs" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"just some text that is long enough to be read as a header of a file", "not a database"),
        (b"", "is an empty file; remove it"),
    ],
)
def test_what_is_no_sqlite_database_is_refused(tmp_path, content, why):
    path = tmp_path / "optuna.db"
    path.write_bytes(content)

    assert why in refused(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path):
    path = tmp_path / "optuna.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")

    assert "holds tables of another program" in refused(f"sqlite:///{path}")


def test_tables_of_another_version_of_optuna_are_told_with_what_to_do(tmp_path):
    path = tmp_path / "optuna.db"
    open_storage(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
        connection.commit()

    assert refused(f"sqlite:///{path}") == (
        "the study's storage cannot be used: another version of Optuna made its tables; back it up "
        "and run `optuna storage upgrade --storage URL`, or install that version"
    )


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc, which refuses files")
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_folder_that_cannot_be_written_to_is_told(scheme):
    # /proc refuses new files to root too.
    said = refused(f"{scheme}:////proc/optuna.db")

    assert "/proc" in said
    assert "name another with --storage" in said


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_where_nothing_is_to_be_made_a_missing_file_is_told(tmp_path, scheme):
    assert refused(f"{scheme}:///{tmp_path}/o.db", make=False) == (
        f"there is no study's storage {tmp_path}/o.db; name another storage with --storage"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_missing_folder_is_told_with_the_rule_of_slashes(tmp_path, monkeypatch, scheme):
    monkeypatch.chdir(tmp_path)

    assert refused(f"{scheme}:///data/optuna.db") == (
        f"the folder of the study's storage does not exist: {tmp_path}/data (four slashes begin "
        "an absolute path: sqlite:////data/optuna.db)"
    )
    assert "is a folder" in refused(f"{scheme}:///{tmp_path}")


SLASHES = "three slashes begin a relative path, four an absolute one"
OPTIONS = "has options, and a SQLite file takes none: leave out what stands after the ?"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("journal://file.log", SLASHES),
        ("sqlite://data/optuna.db", SLASHES),
        ("sqlite://a:b/x.db", SLASHES),
        ("sqlite://me:hush@host/x.db", SLASHES),
        ("sqlite+foo:///y.db", "names a driver foo, which is not there: begin it with sqlite:///"),
        ("journal+foo:///y.log", "names a driver foo"),
        ("sqlite:///z.db?timeout=abc", OPTIONS),
        ("sqlite:///z.db?mode=ro&uri=true", OPTIONS),
        (f"sqlite:///{'x' * 300}", "cannot be looked into (File name too long)"),
        (f"journal:///{'x' * 300}", "cannot be looked into (File name too long)"),
        ("sqlite:///~nobody-of-this-name/x.db", "in the home folder of a user who is not known"),
    ],
)
def test_a_url_of_a_file_in_another_shape_is_refused_before_anything_is_made(
    tmp_path, monkeypatch, url, why
):
    monkeypatch.chdir(tmp_path)
    said = refused(url)

    assert why in said
    assert "hush" not in said
    assert list(tmp_path.iterdir()) == []


def test_the_driver_of_python_may_be_named(tmp_path):
    opened = open_storage(f"sqlite+pysqlite:///{tmp_path}/a%3Fb.db")

    assert (tmp_path / "a?b.db").is_file()
    assert open_storage(opened.url).storage.get_all_studies() == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "journal:///", "journal://"])
def test_a_storage_that_would_be_lost_is_refused(url):
    assert "names no file, so the study would be lost" in refused(url)


@pytest.mark.parametrize(
    "url", ["optuna.db", "", "redis://localhost", "http://localhost:5000", "file:///x"]
)
def test_what_is_no_storage_we_know_is_refused_with_those_we_do(url):
    assert (
        "should begin with one of sqlite://, postgresql://, mysql://, journal://, grpc://; give "
        "for example sqlite:///optuna.db"
    ) in refused(url)


# Journal


def test_a_journal_is_made_and_opens_again_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = open_storage("journal:///study.log")
    optuna.create_study(storage=opened.storage, study_name="s")
    monkeypatch.chdir("/")

    assert opened.url == f"journal:///{tmp_path}/study.log"
    assert len(open_storage(opened.url).storage.get_all_studies()) == 1


@pytest.mark.parametrize("content", [b"text\n", b'{"a": 1}\n', b"[]\n", b"\x00\xff\n"])
def test_a_file_that_is_no_journal_is_refused_and_stays_as_it_was(tmp_path, content):
    path = tmp_path / "study.log"
    path.write_bytes(content)

    assert "is not one of Optuna's journals" in refused(f"journal:///{path}")
    assert path.read_bytes() == content


def test_a_damaged_journal_is_told(tmp_path):
    path = tmp_path / "study.log"
    optuna.create_study(storage=open_storage(f"journal:///{path}").storage)
    whole = path.read_text()
    path.write_text(whole + '{"op_code": 4, "stu\n' + whole)

    assert f"the study's storage {path} is damaged" in refused(f"journal:///{path}")


# gRPC


@pytest.mark.parametrize(
    "url", ["grpc://", "grpc://host", "grpc://host:0", "grpc://host:99999", "grpc://host:1/x"]
)
def test_a_grpc_url_without_host_or_port_is_refused(url):
    assert "should look like grpc://host:port" in refused(url)


def test_a_grpc_server_that_is_not_there_is_told_within_ten_seconds(monkeypatch):
    pytest.importorskip("grpc", reason="needs `pip install grpcio`")
    monkeypatch.setattr("histo_mlflow.tuning.shared._other_storages.CONNECT_SECONDS", 0.5)
    begin = time.monotonic()
    said = refused(f"grpc://127.0.0.1:{postgres.free_port()}")

    assert said.endswith("start a server there with `optuna.storages.run_grpc_proxy_server`")
    assert time.monotonic() - begin < 10


def test_without_grpcio_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)

    assert refused("grpc://localhost:13000") == (
        "the study's storage grpc://localhost:13000 needs `pip install 'histo-mlflow[grpc]'`"
    )


# Database servers that are not there


def test_a_server_that_is_not_there_is_told_without_the_password():
    pytest.importorskip("psycopg", reason="needs `pip install psycopg[binary]`")
    url = f"postgresql://me:hush@127.0.0.1:{postgres.free_port()}/optuna"
    begin = time.monotonic()
    said = refused(url)

    assert "the connection was refused (is the server running?)" in said
    assert "hush" not in said
    assert time.monotonic() - begin < 10


def test_a_missing_driver_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    said = refused("mysql+pymysql://me:hush@localhost/optuna")

    assert "needs a driver that is not installed" in said
    assert said.endswith("pip install pymysql, and begin the URL with mysql+pymysql://")
    assert "hush" not in said


@pytest.mark.parametrize(
    ("url", "tracking_uri"),
    [
        ("postgresql://a:x@db/optuna", "postgresql://b:y@db:5432/optuna"),
        ("postgresql+psycopg://localhost/optuna", "postgresql://127.0.0.1/optuna"),
        ("mysql+pymysql://db/optuna", "mysql://db:3306/optuna"),
    ],
)
def test_mlflows_database_on_a_server_is_refused_without_asking_it(url, tracking_uri):
    assert "is a database in which MLflow keeps its runs" in refused(url, tracking_uri=tracking_uri)


# Failures that pass


def test_a_passing_failure_is_tried_again_and_others_are_not():
    calls = []

    def locked_twice():
        calls.append(1)
        if len(calls) < 3:
            raise sqlite3.OperationalError("database is locked") from OSError("busy")
        return "done"

    def fails():
        calls.append(1)
        raise OSError("No space left on device")

    def wrapped():
        from sqlalchemy.exc import OperationalError

        try:
            return locked_twice()
        except sqlite3.OperationalError as error:
            raise OperationalError("SELECT 1", {}, error) from error

    assert (asked("asking", wrapped), len(calls)) == ("done", 3)
    calls.clear()
    with pytest.raises(StudyError, match="asking failed: the disk of the study is full"):
        asked("asking", fails)
    assert len(calls) == 1


def test_a_failure_that_does_not_pass_in_time_is_told():
    def locked():
        raise OSError("database is locked")

    with pytest.raises(StudyError, match="asking failed: another program holds the database"):
        asked("asking", locked, patience_seconds=0.2)


def test_a_bug_and_optunas_own_answers_keep_their_type(tmp_path):
    storage = open_storage(f"journal:///{tmp_path}/study.log").storage
    optuna.create_study(storage=storage, study_name="s")

    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=storage, study_name="s")
    with pytest.raises(KeyError):
        storage.get_study_id_from_name("other")
    with pytest.raises(ZeroDivisionError):
        asked("asking", lambda: 1 // 0)


def test_credentials_are_taken_out_of_a_reason():
    error = OSError("cannot reach postgresql://me:hush@db/optuna")

    assert json.dumps(_steady.plain_reason(error)).count("hush") == 0
