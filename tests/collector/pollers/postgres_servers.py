"""PostgreSQL and pgbouncer as ordinary processes; both refuse to run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from typing_extensions import override

from tests.collector.pollers.servers import Server
from tests.e2e.service import free_port, needs

PASSWORD = "p0ll-s3cret"


def _binary(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else needs(name)


def _user() -> int | None:
    """The account of Debian's package where this process is root, else its own."""
    return pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None


def owned(directory: Path) -> Path:
    """A directory that the server may use; pytest's own is closed to other accounts."""
    directory.mkdir(parents=True, exist_ok=True)
    user = _user()
    if user is not None:
        os.chown(directory, user, pwd.getpwuid(user).pw_gid)
        for parent in (directory, *directory.parents):
            if parent.stat().st_uid == 0 and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    return directory


def _run(*command: str) -> None:
    user = _user()
    group = None if user is None else pwd.getpwuid(user).pw_gid
    subprocess.run(
        command, check=True, capture_output=True, timeout=120, user=user, group=group, cwd="/"
    )


class PostgresServer(Server):
    """One cluster. `primary` makes it a streaming replica of another."""

    def __init__(self, directory: Path, primary: PostgresServer | None = None) -> None:
        super().__init__(owned(directory), free_port())
        self.data = directory / "data"
        if primary is None:
            options = ["-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-sync"]
            _run(_binary("initdb"), *options)
        else:
            source = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres"]
            _run(_binary("pg_basebackup"), *source, "-R", "-c", "fast", "-D", str(self.data))
        settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={directory}"]
        settings += ["fsync=off", "wal_receiver_status_interval=1", "max_connections=30"]
        command = [_binary("postgres"), "-D", str(self.data), "-p", str(self.port)]
        self._command = command + [part for setting in settings for part in ("-c", setting)]
        self.start()

    def start(self) -> None:
        """Start, or start again after `stop`."""
        # Another test run on this machine closes the directories above to other accounts.
        owned(self.directory)
        self.launch(self._command, user=_user())
        self.wait_for(self._answers)

    @override
    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            # By SIGTERM alone it would wait for its clients to go.
            self.process.send_signal(signal.SIGINT)
        super().stop()

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.Error):
            self.sql("SELECT 1")
            return True
        return False

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        given = {"user": "postgres", "dbname": "postgres", **more}
        return psycopg.connect(host="127.0.0.1", port=self.port, autocommit=True, **given)

    def sql(self, *statements: str) -> list[Any]:
        rows: list[Any] = []
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows


@dataclass
class PostgresPair:
    """A primary and its streaming replica."""

    primary: PostgresServer
    replica: PostgresServer


@contextlib.contextmanager
def postgres_alone(directory: Path) -> Iterator[PostgresServer]:
    """A server without any other; its directory is gone afterwards."""
    if not Path("/usr/lib/postgresql").exists():
        needs("postgres")
    with contextlib.ExitStack() as opened:
        opened.callback(shutil.rmtree, directory, ignore_errors=True)
        server = PostgresServer(directory)
        opened.callback(server.stop)
        yield server


@contextlib.contextmanager
def postgres_pair(directory: Path) -> Iterator[PostgresPair]:
    with contextlib.ExitStack() as opened:
        primary = opened.enter_context(postgres_alone(directory / "primary"))
        opened.callback(shutil.rmtree, directory / "replica", ignore_errors=True)
        primary.sql(
            f"CREATE ROLE warroom LOGIN PASSWORD '{PASSWORD}'",
            "GRANT pg_monitor TO warroom",
            "CREATE TABLE product (id serial PRIMARY KEY, name text)",
            "INSERT INTO product (name) SELECT 'p' || n FROM generate_series(1, 500) n",
        )
        replica = PostgresServer(directory / "replica", primary)
        opened.callback(replica.stop)
        yield PostgresPair(primary, replica)


class Pgbouncer(Server):
    """A pooler with two connections to the server behind it."""

    def __init__(self, directory: Path, server: PostgresServer) -> None:
        super().__init__(owned(directory), free_port())
        program = needs("pgbouncer")
        users = directory / "users.txt"
        users.write_text(f'"postgres" ""\n"warroom" "{PASSWORD}"\n')
        users.chmod(0o644)
        file = directory / "pgbouncer.ini"
        file.write_text(
            "[databases]\n"
            f"shop = host=127.0.0.1 port={server.port} dbname=postgres user=postgres pool_size=2\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
            "stats_users = warroom\n"
        )
        file.chmod(0o644)
        self.launch([program, str(file)], user=_user())
        self.wait_for(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.Error), self.connect() as connection:
            connection.execute("SELECT 1")
            return True
        return False

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            dbname="shop",
            autocommit=True,
            prepare_threshold=None,
        )
