"""Real servers as ordinary processes on free ports of the loopback address."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import redis
from typing_extensions import override

from tests.e2e.service import free_port, needs, until

GRANTS = (
    "CREATE USER warroom@'%' IDENTIFIED BY 'p0ll-s3cret'",
    "GRANT PROCESS, SLAVE MONITOR, CONNECTION ADMIN ON *.* TO warroom@'%'",
    "GRANT SELECT ON performance_schema.* TO warroom@'%'",
    "GRANT SELECT, EXECUTE ON sys.* TO warroom@'%'",
    "GRANT SELECT ON shop.* TO warroom@'%'",
)
PASSWORD = "p0ll-s3cret"


class Server:
    """A child process with its log; `port` answers when it is ready."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def launch(self, command: Sequence[str], *, user: int | None = None) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            # What tests of the Django shop set is no business of a server's.
            environment = {k: v for k, v in os.environ.items() if not k.startswith("DJANGO_")}
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=user,
                group=user,
                env=environment,
            )

    def wait_for(self, answers: Callable[[], bool]) -> None:
        try:
            until(lambda: self._alive() and answers(), f"ready, see {self.directory / 'log'}", 90)
        except BaseException:
            # Whoever waited in vain has nothing to stop it by.
            self.stop()
            raise

    def _alive(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, (self.directory / "log").read_text(errors="replace")[-3000:]
        return True

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(20)
            finally:
                # Also when the wait itself is broken off: nothing is left running or unread.
                self.process.kill()
                self.process.wait()


def mariadb_template(directory: Path) -> Path:
    """A fresh data directory, made once and copied for each server."""
    needs("mariadbd")
    subprocess.run(
        [
            needs("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={directory}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            f"--user={getpass.getuser()}",
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return directory


class MariaDb(Server):
    """One mariadbd; `sql` runs statements as its root."""

    def __init__(self, directory: Path, template: Path, number: int, *options: str) -> None:
        super().__init__(directory, free_port())
        data = directory / "data"
        shutil.copytree(template, data)
        self.launch(
            [
                needs("mariadbd"),
                "--no-defaults",
                f"--datadir={data}",
                f"--socket={directory / 's'}",
                f"--port={self.port}",
                f"--pid-file={directory / 'pid'}",
                "--bind-address=127.0.0.1",
                f"--server-id={number}",
                f"--log-bin={directory / 'binlog'}",
                "--log-slave-updates=1",
                "--gtid-strict-mode=1",
                "--binlog-format=ROW",
                f"--relay-log={directory / 'relay'}",
                "--innodb-buffer-pool-size=16M",
                "--innodb-log-file-size=8M",
                "--innodb-flush-log-at-trx-commit=0",
                "--sync-binlog=0",
                "--skip-name-resolve",
                f"--user={getpass.getuser()}",
                *options,
            ]
        )
        self.wait_for(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.err.MySQLError):
            self.sql("SELECT 1")
            return True
        return False

    def connect(self, user: str = "root", password: str = "") -> Any:
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password=password,
            autocommit=True,
            ssl_disabled=True,
        )

    def sql(self, *statements: str) -> list[dict[str, Any]]:
        """Rows of the last statement."""
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.cursor(pymysql.cursors.DictCursor)
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall() or ())


@dataclass
class Pair:
    """A primary and its GTID replica."""

    primary: MariaDb
    replica: MariaDb

    def caught_up(self) -> bool:
        (ahead,) = self.primary.sql("SELECT @@gtid_binlog_pos AS p")
        (behind,) = self.replica.sql("SELECT @@gtid_slave_pos AS p")
        return bool(ahead["p"] == behind["p"])


@contextlib.contextmanager
def mariadb_pair(directory: Path, template: Path) -> Iterator[Pair]:
    """Replication runs, the shop's table and the poller's account are on both."""
    schema = (
        "--performance-schema=ON",
        "--performance-schema-consumer-events-statements-current=ON",
        "--performance-schema-consumer-events-statements-history=ON",
        "--performance-schema-digests-size=500",
        "--max-connections=60",
    )
    primary = MariaDb(directory / "primary", template, 1, *schema)
    replica = MariaDb(directory / "replica", template, 2)
    try:
        replica.sql(
            "SET GLOBAL gtid_slave_pos=''",
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', "
            f"MASTER_PORT={primary.port}, MASTER_USER='root', MASTER_USE_GTID=slave_pos, "
            "MASTER_CONNECT_RETRY=1",
            "START SLAVE",
        )
        primary.sql(
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE shop.product (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50), "
            "category INT, KEY by_category (category), KEY also_by_category (category, name))",
            "CREATE TABLE shop.heartbeat (ts VARCHAR(26) NOT NULL, server_id INT UNSIGNED "
            "PRIMARY KEY)",
            "INSERT INTO shop.product (name, category) SELECT CONCAT('p', seq), seq % 10 "
            "FROM seq_1_to_2000",
            *GRANTS,
        )
        pair = Pair(primary, replica)
        until(pair.caught_up, "the replica has everything", 60)
        yield pair
    finally:
        replica.stop()
        primary.stop()


class RedisServer(Server):
    """One redis-server without persistence."""

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory, free_port())
        self.launch(
            [
                needs("redis-server"),
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--repl-diskless-sync-delay",
                "0",
                "--dir",
                str(self._made()),
                *options,
            ]
        )
        self.client = redis.Redis(port=self.port, decode_responses=True)
        self.wait_for(self._answers)

    def _made(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory

    def _answers(self) -> bool:
        with contextlib.suppress(redis.exceptions.AuthenticationError):
            with contextlib.suppress(redis.exceptions.ConnectionError):
                return bool(self.client.ping())
            return False
        return True

    def fill(self, first: int, count: int) -> None:
        """Keys of 1 kB, a few at a time: what waits in the server's buffers counts as used, too."""
        for start in range(first, first + count, 50):
            pipe = self.client.pipeline(transaction=False)
            for number in range(start, start + 50):
                pipe.set(f"k{number}", "x" * 1_000)
            pipe.execute(raise_on_error=False)

    def run(self, *command: str) -> Any:
        """A command that the client has no method for."""
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's

    @override
    def stop(self) -> None:
        self.client.close()
        super().stop()


class TcpPath:
    """Carries connections to a port, until it is told to carry nothing, and says nothing of it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.flows = threading.Event()
        self.flows.set()
        self._closed = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def close(self) -> None:
        self._closed = True
        self.flows.set()
        for each in (self.listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.flows.wait()
                sink.sendall(data)


@dataclass
class SilentServer:
    """Takes connections and never says a word."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self) -> None:
        self.listener.close()
