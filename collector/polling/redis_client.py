"""One kept connection to a Redis, for the pollers that need one: as text, without retries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.polling.contract import PollFailed, Reading
from collector.polling.fields import Address, Fields, Secret

if TYPE_CHECKING:
    from redis.asyncio import Redis

_AS_THE_SERVER_SAYS = ("INFO", "CONFIG GET", "SLOWLOG LEN", "SLOWLOG GET", "LATENCY LATEST")


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to ask."""

    address: Address
    user: str = ""
    password: Secret | None = None
    tls: bool = False
    tls_ca_file: str = ""
    database: int = 0


def read_account(fields: Fields) -> Account:
    """The fields that every poller of a Redis has."""
    return Account(
        address=fields.address("address", port=6379),
        user=fields.text("user", ""),
        password=fields.secret("password"),
        tls=fields.flag("tls", default=False),
        tls_ca_file=fields.text("tls_ca_file", ""),
    )


class RedisClient:
    """Opened by the first command. What breaks or is cancelled inside `session` closes it."""

    def __init__(self, account: Account, timeout_s: float) -> None:
        self._account = account
        self._timeout_s = timeout_s
        self._raw: Redis | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Around the commands of one poll.

        Raises:
            PollFailed: No connection, it broke, or the account may not.
        """
        import redis.exceptions as failures  # noqa: PLC0415  # an optional extra

        done = False
        try:
            yield
            done = True
        except (failures.AuthenticationError, failures.NoPermissionError) as error:
            raise PollFailed(str(error), hint="check user, password and the ACL") from error
        except (failures.RedisError, OSError) as error:
            raise PollFailed(
                f"no answer from {self._account.address}: {error}",
                hint="check the address, and that the server runs",
            ) from error
        finally:
            # Also when cancelled: half an answer may wait in the connection.
            if not done:
                await self.aclose()

    async def ask(self, *command: str) -> Any:
        """The server's own answer to a command, with texts decoded."""
        if self._raw is None:
            self._raw = _open(self._account, self._timeout_s)
        return await self._raw.execute_command(*command)  # type: ignore[no-untyped-call]  # theirs

    async def allowed(self, reading: Reading, remedy: str, *command: str) -> Any:
        """As `ask`, or None where the server has no such command or the account may not."""
        import redis.exceptions as failures  # noqa: PLC0415  # an optional extra

        try:
            return await self.ask(*command)
        except failures.NoPermissionError as error:
            reading.lacks(command[0], str(error), remedy)
        except failures.ResponseError:
            # Renamed or left out, as managed services do: there is nothing to mend.
            pass
        return None

    async def aclose(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            await raw.aclose()


def _open(account: Account, timeout_s: float) -> Redis:
    from redis.asyncio import Redis  # noqa: PLC0415  # an optional extra
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    address = account.address
    client = Redis(
        host=address.host or "localhost",
        port=address.port,
        db=account.database,
        unix_socket_path=address.socket or None,
        username=account.user or None,
        password=None if account.password is None else account.password.value,
        ssl=account.tls,
        ssl_ca_certs=account.tls_ca_file or None,
        single_connection_client=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # The runner backs off; the client's own retries would only delay the news.
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        client_name="warroom",
        protocol=2,
    )
    for command in _AS_THE_SERVER_SAYS:
        client.set_response_callback(command, _as_it_is)  # type: ignore[arg-type]  # as its own are
    return client


def _as_it_is(answer: Any, **_options: Any) -> Any:  # redis-py calls it with options
    return answer
