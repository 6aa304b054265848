"""One kept connection to a Redis, for the pollers that need one: as text, without retries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from collector.polling.contract import Denied, PollFailed, Reading
from collector.polling.fields import Address, Fields, Secret

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

_AS_THE_SERVER_SAYS = ("INFO", "CONFIG GET", "SLOWLOG LEN", "SLOWLOG GET", "LATENCY LATEST")
_AT_ONCE = 100  # messages between two chances of others


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
        self._heard: PubSub | None = None

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

    async def published(self, pattern: str, most: int) -> list[str]:
        """What was published to channels of a pattern since the last call, at most so many.

        The first call subscribes, over a connection of its own, and hears nothing yet.

        Raises:
            Denied: The account may not subscribe.
            PollFailed: The subscription ended; the next call starts another.
        """
        import redis.exceptions as failures  # noqa: PLC0415  # an optional extra

        found: list[str] = []
        whole = False
        try:
            heard = self._heard or await self._subscribe(pattern)
            while len(found) < most and (message := await heard.get_message(timeout=0)):
                if message["type"] == "pmessage":
                    found.append(str(message["data"]))
                if len(found) % _AT_ONCE == _AT_ONCE - 1:
                    await anyio.lowlevel.checkpoint()
            whole = True
        except failures.NoPermissionError as error:
            raise Denied(str(error)) from error
        except (failures.RedisError, OSError) as error:
            raise PollFailed(f"the subscription ended: {error}") from error
        finally:
            if not whole:
                await self._unsubscribe()
        return found

    async def _subscribe(self, pattern: str) -> PubSub:
        if self._raw is None:
            self._raw = _open(self._account, self._timeout_s)
        heard = self._heard = self._raw.pubsub()
        await heard.psubscribe(pattern)
        await heard.get_message(timeout=self._timeout_s)
        return heard

    async def _unsubscribe(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            await heard.aclose()  # type: ignore[no-untyped-call]  # theirs

    async def aclose(self) -> None:
        await self._unsubscribe()
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
        # Anybody may publish anything; what is no text is refused by whoever reads it.
        encoding_errors="replace",
        client_name="warroom",
        protocol=2,
    )
    for command in _AS_THE_SERVER_SAYS:
        client.set_response_callback(command, _as_it_is)  # type: ignore[arg-type]  # as its own are
    return client


def _as_it_is(answer: Any, **_options: Any) -> Any:  # redis-py calls it with options
    return answer
