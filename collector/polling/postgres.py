"""One kept connection that speaks PostgreSQL's protocol: to a server, or to pgbouncer's console."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.polling.contract import Absent, Denied, PollFailed, TimedOut
from collector.polling.fields import Address, Fields, Secret

if TYPE_CHECKING:
    from psycopg import AsyncConnection

MAX_ROWS = 20_000
# Of the time of a poll, what one statement may take.
STATEMENT_SHARE = 0.5
_TLS_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to connect. `address.socket` is the directory of the socket."""

    address: Address
    user: str
    password: Secret | None
    database: str
    tls: str = "prefer"
    tls_ca_file: str = ""


def read_account(fields: Fields, *, port: int, database: str) -> Account:
    """The fields that both pollers share."""
    tls = fields.text("tls", "prefer")
    if tls not in _TLS_MODES:
        raise fields.error("tls", f"{tls!r} is unknown", hint=f"one of {', '.join(_TLS_MODES)}")
    return Account(
        address=fields.address("address", port=port),
        user=fields.text("user"),
        password=fields.secret("password"),
        database=database,
        tls=tls,
        tls_ca_file=fields.text("tls_ca_file", ""),
    )


class PostgresClient:
    """Opened by the first query; a query that was cancelled or broke closes it."""

    def __init__(self, account: Account, timeout_s: float, *, console: bool = False) -> None:
        self._account = account
        self._timeout_s = timeout_s
        self._console = console
        self._connection: AsyncConnection[Row] | None = None

    async def query(self, sql: str) -> list[Row]:
        """The rows of a statement, at most `MAX_ROWS`.

        Raises:
            Denied: The account lacks a right.
            Absent: The server knows no such table, column or statement.
            TimedOut: The server ended the statement; the connection is whole.
            PollFailed: No connection, or it broke.
        """
        import psycopg  # noqa: PLC0415  # an optional extra

        whole = False
        try:
            connection = await self._open()
            # In text and without parameters: pgbouncer's console knows the simple protocol alone.
            async with psycopg.AsyncClientCursor(connection) as cursor:
                await cursor.execute(sql.encode())
                rows = await cursor.fetchmany(MAX_ROWS)
            whole = True
        except psycopg.errors.InsufficientPrivilege as error:
            whole = True
            raise Denied(_first_line(error)) from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            whole = True
            raise Absent(_first_line(error)) from error
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
            whole = True
            raise TimedOut(_first_line(error), hint="raise timeout of this poller") from error
        except (psycopg.Error, OSError) as error:
            raise PollFailed(
                f"no answer from {self._account.address}: {_first_line(error)}",
                hint="check address, user, password and pg_hba.conf",
            ) from error
        finally:
            if not whole:
                await self.aclose()
        return rows

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()

    async def _open(self) -> AsyncConnection[Row]:
        if self._connection is None:
            import psycopg  # noqa: PLC0415  # an optional extra
            from psycopg.rows import dict_row  # noqa: PLC0415

            account = self._account
            # Half of the time of a poll: what was read before can still be told in time.
            milliseconds = max(1, round(self._timeout_s * 1000 * STATEMENT_SHARE))
            bounds = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} "
            bounds += "-c default_transaction_read_only=on"
            more: dict[str, Any] = {} if self._console else {"options": bounds}
            if account.tls_ca_file:
                more["sslrootcert"] = account.tls_ca_file
            self._connection = await psycopg.AsyncConnection.connect(
                host=account.address.socket or account.address.host,
                port=account.address.port,
                user=account.user,
                password=None if account.password is None else account.password.value,
                dbname=account.database,
                application_name="warroom",
                connect_timeout=max(2, int(self._timeout_s)),
                sslmode=account.tls,
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
                **more,
            )
        return self._connection


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().split("\n", 1)[0]
