"""A throw-away PostgreSQL server of its own folder and port; Debian's package `postgresql`."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

USER = "tuner"


@dataclass(frozen=True)
class Server:
    """A running server; `url` names a database in it."""

    port: int
    password: str

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        return f"postgresql://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; its URL."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)


def binaries() -> Path | None:
    """The folder of the newest server that is installed; None without one."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Make a cluster under /tmp (PostgreSQL refuses to run as root and long socket paths), run it.

    Args:
        folder: of the server binaries.
    """
    data = Path(tempfile.mkdtemp(prefix="histo-pg-"))
    who: dict[str, object] = {"cwd": "/"}
    if os.getuid() == 0:
        user = next((u for u in pwd.getpwall() if u.pw_name == "postgres"), pwd.getpwnam("nobody"))
        os.chown(data, user.pw_uid, user.pw_gid)
        who |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    password = secrets.token_hex(8)

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(folder / program), *arguments],
            stdout=subprocess.DEVNULL,  # a server that inherits a pipe keeps it open
            stderr=(data.parent / f"{data.name}.err").open("w"),
            timeout=60,
            **who,
        )
        said = (data.parent / f"{data.name}.err").read_text()
        assert done.returncode == 0, f"{program}: {said}"

    secret = data.parent / f"{data.name}.secret"
    secret.write_text(password)
    secret.chmod(0o644)
    cluster = str(data / "cluster")
    try:
        call("initdb", "-D", cluster, "-U", USER, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8",
             "--no-locale", "--pwfile", str(secret))  # fmt: skip
        server = Server(free_port(), password)  # the port only now, while nobody else has it
        options = (
            f"-p {server.port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off "
            "-c max_connections=60"
        )
        call("pg_ctl", "-D", cluster, "-w", "-l", str(data / "log"), "-o", options, "start")
        try:
            yield server
        finally:
            call("pg_ctl", "-D", cluster, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data, ignore_errors=True)
        for leftover in data.parent.glob(f"{data.name}.*"):
            leftover.unlink()
