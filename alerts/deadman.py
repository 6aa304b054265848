"""The dead-man's switch: a ping to another system while Warroom pages; silence is the alarm."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import httpx

from alerts.fields import Fields
from alerts.http_delivery import failure, post
from alerts.receiver_fields import SecretReader, http_url, secret
from alerts.route_tree import Secret

_DEFAULT_INTERVAL_MS = 60_000
_MIN_INTERVAL_MS = 5_000


@dataclass(frozen=True, slots=True)
class Deadman:
    """Where to ping, and how often."""

    url: Secret
    interval_ms: int


class Ping(StrEnum):
    """Why a ping goes out, or does not."""

    ALIVE = "alive"
    NO_TICK_YET = "no_tick_yet"
    TICKS_STOPPED = "ticks_stopped"
    ALERTS_NOT_EVALUATED = "alerts_not_evaluated"
    DELIVERY_STUCK = "delivery_stuck"


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the pipeline fares: the last tick, whether alerting ran in it, the oldest message."""

    last_tick_ms: int
    tick_interval_ms: int
    alerting_ok: bool
    oldest_due_ms: int | None


def parse_deadman(fields: Fields, read: SecretReader) -> Deadman:
    """The section `deadman: {url, interval}`; `url_file` and `url_env` hold the address, too.

    Raises:
        ConfigError: A field is wrong.
    """
    url = secret(fields, "url", read)
    if url is None:
        raise fields.error("url", "a deadman needs a url", hint="url, url_file or url_env")
    http_url(fields, "url", url.value)
    interval_ms = fields.duration_ms("interval", _DEFAULT_INTERVAL_MS)
    if interval_ms < _MIN_INTERVAL_MS:
        raise fields.error("interval", f"interval must be at least {_MIN_INTERVAL_MS // 1000}s")
    fields.done()
    return Deadman(url, interval_ms)


def decide(pulse: Pulse, now_ms: int, *, stuck_ms: int = 300_000) -> Ping:
    """Whether Warroom would page now. Three ticks may be missed, a message wait five minutes."""
    if pulse.last_tick_ms == 0:
        return Ping.NO_TICK_YET
    if now_ms - pulse.last_tick_ms > max(3 * pulse.tick_interval_ms, 15_000):
        return Ping.TICKS_STOPPED
    if not pulse.alerting_ok:
        return Ping.ALERTS_NOT_EVALUATED
    if pulse.oldest_due_ms is not None and now_ms - pulse.oldest_due_ms > stuck_ms:
        return Ping.DELIVERY_STUCK
    return Ping.ALIVE


async def ping(deadman: Deadman, client: httpx.AsyncClient, now_ms: int) -> None:
    """Post once.

    Raises:
        DeliveryError: It was not taken; the address is not in the message.
    """
    headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "Warroom"}
    answer = await post(client, deadman.url.value, b"Warroom is alive.\n", headers, now_ms)
    if not 200 <= answer.status < 300:
        raise failure(answer, "the dead-man's switch")
