"""One kept connection that speaks MySQL's protocol: as text, bounded in time and rows.

The driver blocks, so `MysqlClient` runs a whole poll in a thread of its own.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from collector.polling.contract import Absent, Denied, PollFailed, Reading, TimedOut
from collector.polling.fields import Address, Fields, Secret

MAX_ROWS = 20_000
# Of the time of a poll, what one statement may take.
STATEMENT_SHARE = 0.5
_DENIED = frozenset({1044, 1045, 1142, 1143, 1227, 1370})
_TOO_MANY = frozenset({1040, 1203, 1226})
_TABLE_AWAY = frozenset({1049, 1054, 1109, 1146, 1193, 1356})
_SYNTAX = frozenset({1064, 1149})
# Ended for its time (MariaDB, MySQL), a lock that was waited for, or by somebody's KILL QUERY.
_OUT_OF_TIME = frozenset({1969, 3024, 1205, 1317})

Row = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to connect."""

    address: Address
    user: str
    password: Secret | None
    tls: bool = False
    tls_ca_file: str = ""


@dataclass(slots=True)
class Connection:
    """Opened by the first query and kept: a server without a free slot keeps answering it.

    `console` is a server that speaks the protocol and is none, such as ProxySQL's: it knows no
    session variables.
    """

    account: Account
    timeout_s: float
    console: bool = False
    _raw: Any = field(default=None, repr=False)

    def query(self, sql: str, values: tuple[str | int | float, ...] = ()) -> list[Row]:
        """The rows of a statement, every value as the server's text.

        Raises:
            Denied: The account lacks a right.
            Absent: The server knows no such table, variable or statement.
            TimedOut: The server ended the statement; the connection is whole.
            PollFailed: No connection, or it broke; the next query opens another.
        """
        import pymysql  # noqa: PLC0415  # an optional extra

        try:
            with self._open().cursor() as cursor:
                cursor.execute(sql, values or None)
                names = [column[0] for column in cursor.description or ()]
                rows = cursor.fetchmany(MAX_ROWS)
                return [dict(zip(names, map(_text, row), strict=True)) for row in rows]
        except pymysql.err.MySQLError as error:
            raise self._explained(error) from error
        except (OSError, ssl.SSLError) as error:
            self.close()
            raise PollFailed(f"the connection broke: {error}") from error

    def leave(self) -> None:
        """Say goodbye, else the server logs a client that aborted; never waits for an answer."""
        if self._raw is not None:
            with contextlib.suppress(Exception):
                self._raw.close()
        self.close()

    def close(self) -> None:
        """Drop the connection without asking the server."""
        raw, self._raw = self._raw, None
        if raw is not None:
            with contextlib.suppress(Exception):
                raw._force_close()  # noqa: SLF001  # close() would wait for a server that is silent

    def _open(self) -> Any:
        if self._raw is None:
            import pymysql  # noqa: PLC0415  # an optional extra

            account = self.account
            address = account.address
            self._raw = pymysql.connect(
                host=address.host or None,
                port=address.port,
                unix_socket=address.socket or None,
                user=account.user,
                password="" if account.password is None else account.password.value,
                charset="utf8mb4",
                conv={},
                autocommit=True,
                connect_timeout=max(1, int(self.timeout_s)),
                read_timeout=self.timeout_s,
                write_timeout=self.timeout_s,
                program_name="warroom",
                max_allowed_packet=16 * 1024 * 1024,
                **_tls(account),
            )
            if not self.console:
                self._bound()
        return self._raw

    def _bound(self) -> None:
        """The server itself ends a statement of ours that takes too long, and a wait for a lock.

        After half of the time: so what was read before it can still be told in time.
        """
        import pymysql  # noqa: PLC0415  # an optional extra

        longest_s = self.timeout_s * STATEMENT_SHARE
        bounds = (
            f"SET SESSION max_statement_time={longest_s:g}",  # MariaDB
            f"SET SESSION max_execution_time={round(longest_s * 1000)}",  # MySQL
            f"SET SESSION lock_wait_timeout={max(1, int(longest_s))}",
        )
        for statement in bounds:
            with self._raw.cursor() as cursor, contextlib.suppress(pymysql.err.MySQLError):
                cursor.execute(statement)

    def _explained(self, error: Exception) -> PollFailed:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[-1]) if error.args else type(error).__name__
        if self._raw is not None and code in _DENIED:
            return Denied(text, hint="grant the rights of docs/sources/mysql.md")
        if self._raw is not None and code in _TABLE_AWAY | _SYNTAX:
            return Absent(text)
        if self._raw is not None and code in _OUT_OF_TIME:
            return TimedOut(text, hint="raise timeout, or look at what the server is busy with")
        self.close()
        if code in _TOO_MANY:
            return PollFailed(
                f"the server has no free connection: {text}",
                hint="grant CONNECTION ADMIN, which has a slot of its own, or raise the limit",
            )
        if code in _DENIED:
            return PollFailed(text, hint="check user and password, and the rights of the account")
        return PollFailed(
            f"no answer from {self.account.address}: {text}",
            hint="check the address, and that the server runs",
        )


def read_account(fields: Fields, *, port: int) -> Account:
    """The fields that every poller of this protocol has."""
    account = Account(
        address=fields.address("address", port=port),
        user=fields.text("user"),
        password=fields.secret("password"),
        tls=fields.flag("tls", default=False),
        tls_ca_file=fields.text("tls_ca_file", ""),
    )
    if account.tls_ca_file and not account.tls:
        raise fields.error("tls_ca_file", "it is only used with tls: true")
    return account


class MysqlClient:
    """A connection and the one thread that may use it at a time."""

    def __init__(self, account: Account, timeout_s: float, *, console: bool = False) -> None:
        self._make = partial(Connection, account, timeout_s, console)
        self._connection = self._make()
        self._one_at_a_time: anyio.CapacityLimiter | None = None

    async def run(self, read: Callable[[Connection], Reading]) -> Reading:
        """What `read` makes of the connection, in a thread."""
        if self._one_at_a_time is None:
            # A thread that hangs until its socket times out holds up this server's polls alone.
            self._one_at_a_time = anyio.CapacityLimiter(1)
        try:
            return await anyio.to_thread.run_sync(
                read, self._connection, limiter=self._one_at_a_time, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            # The thread may still wait on its socket: leave it that connection, and take another.
            self._connection = self._make()
            raise

    async def aclose(self) -> None:
        self._connection.leave()


def _tls(account: Account) -> dict[str, Any]:
    if not account.tls:
        return {"ssl_disabled": True}
    return {"ssl": ssl.create_default_context(cafile=account.tls_ca_file or None)}


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
