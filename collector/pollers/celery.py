"""Celery's queues in a Redis broker, by the names of celery-exporter."""

from __future__ import annotations

from dataclasses import dataclass, replace

from collector.polling.contract import Reading
from collector.polling.fields import Fields
from collector.polling.redis_client import Account, RedisClient, read_account

MAX_QUEUES = 100
MAX_DATABASE = 1_000
# kombu keeps each priority of a queue in a list of its own: the name, these two, the priority.
PRIORITY_SEPARATOR = "\x06\x16"
PRIORITIES = ("3", "6", "9")  # priority 0 has the plain name
_UNACKED = "unacked"


@dataclass(frozen=True, slots=True)
class CelerySettings:
    """The broker and its queues; `prefix` is kombu's `global_keyprefix`."""

    account: Account
    queues: tuple[str, ...] = ("celery",)
    prefix: str = ""


def read_celery(fields: Fields) -> CelerySettings:
    """The fields of a `celery` entry."""
    database = fields.count("database", 0, most=MAX_DATABASE)
    queues = fields.texts("queues") or ("celery",)
    if len(queues) > MAX_QUEUES:
        raise fields.error("queues", f"at most {MAX_QUEUES} are expected")
    account = replace(read_account(fields), database=database)
    return CelerySettings(account, queues, fields.text("prefix", ""))


class CeleryPoller:
    """Counts what waits, and what was fetched and is not acknowledged yet."""

    def __init__(self, settings: CelerySettings, timeout_s: float) -> None:
        self._settings = settings
        self._client = RedisClient(settings.account, timeout_s)

    async def poll(self, now_ms: int) -> Reading:
        del now_ms
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
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()


def _lists(queue: str) -> tuple[str, ...]:
    return (queue, *(f"{queue}{PRIORITY_SEPARATOR}{priority}" for priority in PRIORITIES))
