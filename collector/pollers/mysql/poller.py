"""The poller of one MySQL or MariaDB server: its parts, of which one may lack without the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import anyio.to_thread

from collector.pollers.mysql.explain import Explained, explain_worst, read_plans
from collector.pollers.mysql.indexes import read_indexes
from collector.pollers.mysql.replication import (
    Heartbeat,
    quoted_table,
    read_heartbeat,
    read_positions,
    read_replicas,
)
from collector.pollers.mysql.slow_log import SlowLog
from collector.pollers.mysql.statements import read_digests
from collector.pollers.mysql.status import read_processes, read_status, read_variables
from collector.polling.contract import Absent, Denied, PollFailed, Reading, Sample, TimedOut
from collector.polling.fields import Fields
from collector.polling.mysql_client import (
    STATEMENT_SHARE,
    Account,
    Connection,
    MysqlClient,
    read_account,
)
from store.model import MetricMetadata

INDEXES_EVERY_MS = 300_000
PLANS_EVERY_MS = 60_000
_SEE = "See docs/sources/mysql.md."
_REPLICATION = "GRANT SLAVE MONITOR (MySQL: REPLICATION CLIENT) ON *.* to the account."
_STATEMENTS = "GRANT SELECT ON performance_schema.* to the account."
# What each part needs beside PROCESS, as an administrator would write it.
_GRANTS = {
    "replication": _REPLICATION,
    "GTID positions": _REPLICATION,
    "heartbeat": "GRANT SELECT ON the table of heartbeat_table to the account.",
    "digests": _STATEMENTS,
    "plans": _STATEMENTS,
    "connections": "GRANT PROCESS ON *.* to the account.",
    "slow log": "GRANT SELECT ON mysql.slow_log to the account.",
    "indexes": "GRANT SELECT, EXECUTE ON sys.* and SELECT ON performance_schema.* to the account.",
}

Part = Callable[[Connection, Reading], None]


@dataclass(frozen=True, slots=True)
class MysqlSettings:
    """What is asked of one server.

    Attributes:
        account: Where and as whom.
        heartbeat: Where pt-heartbeat writes, if anywhere.
        digests: So many digests are read; 0 is none.
        digest_text_length: Characters of their text.
        explain: The dearest statements that read without an index are explained each minute.
        indexes: Unused and redundant indexes are looked for.
        processes: Connections are counted by state and user.
        slow_log: The table mysql.slow_log is read.
    """

    account: Account
    heartbeat: Heartbeat | None = None
    digests: int = 100
    digest_text_length: int = 1024
    explain: bool = True
    indexes: bool = True
    processes: bool = True
    slow_log: bool = False


def read_mysql(fields: Fields) -> MysqlSettings:
    """The fields of a `mysql` entry."""
    return MysqlSettings(
        account=read_account(fields, port=3306),
        heartbeat=_heartbeat(fields),
        digests=fields.count("digests", 100, most=500),
        digest_text_length=fields.count("digest_text_length", 1024, most=1024),
        explain=fields.flag("explain", default=True),
        indexes=fields.flag("indexes", default=True),
        processes=fields.flag("processes", default=True),
        slow_log=fields.flag("slow_log", default=False),
    )


def _heartbeat(fields: Fields) -> Heartbeat | None:
    table = fields.get("heartbeat_table", lambda text: quoted_table(str(text)), "")
    utc = fields.flag("heartbeat_utc", default=False)
    server_id = fields.count("heartbeat_server_id", 0, most=2**32 - 1)
    return Heartbeat(table, utc, server_id) if table else None


class MysqlPoller:
    """Keeps one connection, so that it still reads a server that takes no new one."""

    def __init__(self, settings: MysqlSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._client = MysqlClient(settings.account, timeout_s)
        self._indexes = _Kept(INDEXES_EVERY_MS)
        self._plans = _Kept(PLANS_EVERY_MS)
        self._slow_log = SlowLog()

    async def poll(self, now_ms: int) -> Reading:
        return await self._client.run(partial(self._read, now_ms=now_ms))

    async def explain(self, limit: int = 5) -> tuple[Explained, ...]:
        """Plans of the dearest SELECTs, over a connection of its own.

        Raises:
            PollFailed: The digests cannot be read.
        """
        connection = Connection(self._settings.account, self._timeout_s)
        try:
            return await anyio.to_thread.run_sync(explain_worst, connection, limit)
        finally:
            connection.leave()

    async def aclose(self) -> None:
        await self._client.aclose()

    def _read(self, connection: Connection, *, now_ms: int) -> Reading:
        started = time.perf_counter()
        reading = Reading()
        read_status(connection, reading)
        read_variables(connection, reading)
        gave_up = False
        for name, part in self._parts(now_ms):
            passed_s = time.perf_counter() - started
            if gave_up and passed_s > self._timeout_s * (1 - STATEMENT_SHARE):
                # Another that is given up would end after the poll, and nothing would be told.
                reading.lacks(name, "the poll had no time left for it", f"Raise timeout. {_SEE}")
            else:
                gave_up |= _try(name, part, connection, reading)
        return reading

    def _parts(self, now_ms: int) -> list[tuple[str, Part]]:
        wanted = self._settings
        parts: list[tuple[str, Part]] = [
            ("replication", read_replicas),
            ("GTID positions", read_positions),
        ]
        if wanted.heartbeat:
            parts.append(("heartbeat", partial(read_heartbeat, heartbeat=wanted.heartbeat)))
        if wanted.digests:
            digests = partial(read_digests, limit=wanted.digests, length=wanted.digest_text_length)
            parts.append(("digests", digests))
        if wanted.digests and wanted.explain:
            plans = partial(self._plans.part, self._read_plans, now_ms=now_ms)
            parts.append(("plans", plans))
        if wanted.processes:
            parts.append(("connections", read_processes))
        if wanted.slow_log:
            parts.append(("slow log", self._slow_log.read))
        if wanted.indexes:
            indexes = partial(self._indexes.part, read_indexes, now_ms=now_ms)
            parts.append(("indexes", indexes))
        return parts

    def _read_plans(self, kept: Connection, reading: Reading) -> None:
        """Over a connection of its own, for EXPLAIN needs the statement's database."""
        apart = Connection(self._settings.account, self._timeout_s / 4)
        try:
            read_plans(kept, apart, reading)
        finally:
            apart.leave()


@dataclass(slots=True)
class _Kept:
    """What changes seldom or costs much is read now and then, and told at every poll."""

    every_ms: int
    _told: tuple[tuple[MetricMetadata, Sample], ...] = ()
    _lack: PollFailed | None = None
    _due_ms: int = 0

    def part(self, read: Part, connection: Connection, reading: Reading, *, now_ms: int) -> None:
        """Add what `read` said last; it is asked again when that is old.

        Raises:
            Absent, Denied, TimedOut: As when it was asked, at every poll until it is asked again.
        """
        if now_ms >= self._due_ms:
            # Also what fails waits for its time: it may be what costs too much.
            self._due_ms = now_ms + self.every_ms
            self._ask(read, connection)
        for family, sample in self._told:
            reading.add(family, sample)
        if self._lack is not None:
            raise self._lack.with_traceback(None)

    def _ask(self, read: Part, connection: Connection) -> None:
        fresh = Reading()
        self._lack = None
        try:
            read(connection, fresh)
        except TimedOut as error:
            # What it said last is still the best that is known.
            self._lack = error
            return
        except (Absent, Denied) as error:
            self._lack = error
        self._told = tuple((fresh.families[item.name], item) for item in fresh.samples)


def _try(name: str, part: Part, connection: Connection, reading: Reading) -> bool:
    """Read one part; whether it was given up for its time."""
    try:
        part(connection, reading)
    except TimedOut as error:
        reading.lacks(name, error.message, f"Raise timeout, or turn this part off. {_SEE}")
        return True
    except Absent as error:
        reading.lacks(name, error.message, _SEE)
    except Denied as error:
        reading.lacks(name, error.message, f"{_GRANTS[name]} {_SEE}")
    return False
