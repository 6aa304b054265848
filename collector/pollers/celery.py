"""Celery's queues, tasks and workers in a Redis broker, by the names of celery-exporter."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import anyio.lowlevel

from collector.polling.celery_events import EventTally, decode
from collector.polling.contract import Denied, PollFailed, Reading
from collector.polling.fields import Fields
from collector.polling.redis_client import Account, RedisClient, read_account

MAX_QUEUES = 100
MAX_DATABASE = 1_000
# kombu keeps each priority of a queue in a list of its own: the name, these two, the priority.
PRIORITY_SEPARATOR = "\x06\x16"
PRIORITIES = ("3", "6", "9")  # priority 0 has the plain name
MAX_MESSAGES = 5_000
_UNACKED = "unacked"
_EXCHANGE = re.compile(r"[\w.-]{1,100}")
_PATTERN = re.compile(r"([*?\[\]\\])")
_DENIED = "Allow the account psubscribe and the channels of docs/sources/celery.md."
_SLOW = "Poll more often, or let celery-exporter count so many events."
_ENDED = "Events in between are lost; raise client-output-buffer-limit pubsub, or poll more often."


@dataclass(frozen=True, slots=True)
class CelerySettings:
    """The broker and its queues.

    Attributes:
        account: Where and as whom.
        queues: Whose length is told.
        prefix: kombu's `global_keyprefix`.
        events: What workers tell of tasks is counted, too.
        event_exchange: Celery's setting of that name.
    """

    account: Account
    queues: tuple[str, ...] = ("celery",)
    prefix: str = ""
    events: bool = True
    event_exchange: str = "celeryev"

    @property
    def event_channels(self) -> str:
        """A pattern of the channels to which kombu's fan-out publishes events."""
        prefix = _PATTERN.sub(r"\\\1", self.prefix)
        return f"{prefix}/{self.account.database}.{self.event_exchange}*"


def read_celery(fields: Fields) -> CelerySettings:
    """The fields of a `celery` entry."""
    database = fields.count("database", 0, most=MAX_DATABASE)
    queues = fields.texts("queues") or ("celery",)
    if len(queues) > MAX_QUEUES:
        raise fields.error("queues", f"at most {MAX_QUEUES} are expected")
    account = replace(read_account(fields), database=database)
    exchange = fields.text("event_exchange", "celeryev")
    if not _EXCHANGE.fullmatch(exchange):
        raise fields.error("event_exchange", f"{exchange[:60]!r} is no name of an exchange")
    prefix, events = fields.text("prefix", ""), fields.flag("events", default=True)
    return CelerySettings(account, queues, prefix, events, exchange)


class CeleryPoller:
    """Counts what waits, what was fetched and is not acknowledged yet, and what became of tasks."""

    def __init__(self, settings: CelerySettings, timeout_s: float) -> None:
        self._settings = settings
        self._client = RedisClient(settings.account, timeout_s)
        only = settings.queues[0] if len(settings.queues) == 1 else ""
        self._tally = EventTally(only)

    async def poll(self, now_ms: int) -> Reading:
        reading = Reading()
        prefix = self._settings.prefix
        async with self._client.session():
            for queue in self._settings.queues:
                waiting = 0
                for name in _lists(queue):
                    waiting += int(await self._client.ask("LLEN", prefix + name))
                reading.gauge("celery_queue_length", waiting, {"queue_name": queue})
            unacked = int(await self._client.ask("HLEN", prefix + _UNACKED))
            reading.gauge("celery_unacked_messages", unacked)
            if self._settings.events:
                await self._events(reading, now_ms)
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _events(self, reading: Reading, now_ms: int) -> None:
        """What was published since the last poll; what workers tell in between waits in Redis."""
        try:
            published = await self._client.published(self._settings.event_channels, MAX_MESSAGES)
        except Denied as error:
            reading.lacks("events", error.message, _DENIED)
            return
        except PollFailed as error:
            published = []
            reading.lacks("events", error.message, _ENDED)
        if len(published) >= MAX_MESSAGES:
            reading.lacks("events", "more than one poll reads", _SLOW)
        for place, message in enumerate(published):
            for event in decode(message):
                self._tally.observe(event, now_ms)
            if place % 100 == 99:
                await anyio.lowlevel.checkpoint()
        self._tally.tell(reading, now_ms)


def _lists(queue: str) -> tuple[str, ...]:
    return (queue, *(f"{queue}{PRIORITY_SEPARATOR}{priority}" for priority in PRIORITIES))
