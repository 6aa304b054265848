"""Business events of the past, so that a demo has something to compare its orders with.

They carry the source `demo-history` and go through `POST /events` like any others. Every minute's
events follow from the minute alone, so a second run posts the same ids, which count once.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import httpx

from store.errors import WarroomError

SOURCE = "demo-history"
WEEKS = 4
# Each recent minute needs its counterpart in every week, or this day looks like a busy one.
RECENT_MINUTES = 180
AHEAD_MINUTES = 90
# The last sale, around the time of day of the demo, was busier than a day of its rehearsal.
SALE_BEFORE_MINUTES = 10
SALE_AFTER_MINUTES = 60
SALE_MULTIPLE = 1.5
BATCH_EVENTS = 2_000
GIVE_UP_S = 120.0
BAD_REQUEST = 400
_MINUTE_S = 60
_WEEK_MINUTES = 7 * 24 * 60
_DEVICES = ("mobile", "mobile", "mobile", "desktop", "desktop")
_CHANNELS = ("direct", "email", "search", "social", "affiliate")
_COUNTRIES = ("DE", "DE", "DE", "AT", "CH", "NL", "FR", "PL")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the traffic generator is expected to do.

    Attributes:
        orders_per_minute: Completed orders.
        completed_share: The share of checkouts that end in an order, from 0 to 1.
        currency: Of every amount.
    """

    orders_per_minute: float = 60.0
    completed_share: float = 0.75
    currency: str = "EUR"


def minutes_of_sale(now_s: float, first: date, zone: ZoneInfo) -> list[int]:
    """Around this time of the store's day on a sale's first day: what the wall compares with."""
    wall = datetime.fromtimestamp(now_s, zone).time()
    middle = int(datetime.combine(first, wall, zone).timestamp() // _MINUTE_S)
    return list(range(middle - SALE_BEFORE_MINUTES, middle + SALE_AFTER_MINUTES))


def minutes_of_history(now_s: float) -> list[int]:
    """The minutes to fill, since the epoch, in the order to fill them.

    First the last hours with the running minute, then around this time in each of the last weeks,
    the oldest first. A baseline that is half there must never promise more orders than there are:
    today is complete before any week is, and each week's past before its present.
    """
    now = int(now_s // _MINUTE_S)
    minutes = list(range(now - RECENT_MINUTES, now + 1))
    for week in range(WEEKS, 0, -1):
        middle = now - week * _WEEK_MINUTES
        minutes.extend(range(middle - RECENT_MINUTES, middle + AHEAD_MINUTES))
    return minutes


def events_of_minute(minute: int, traffic: Traffic) -> Iterator[dict[str, object]]:
    """The checkouts that began in one minute, and their purchases."""
    # Not for secrets: the same minute must give the same events.
    draw = random.Random(f"{SOURCE} {minute}")  # noqa: S311
    started = _poisson(draw, traffic.orders_per_minute / traffic.completed_share)
    for number in range(started):
        key = f"{minute}-{number}"
        at_s = minute * _MINUTE_S + draw.random() * _MINUTE_S
        quantity = sum(draw.randint(1, 3) for _ in range(draw.choice((1, 1, 2))))
        cents = sum(draw.randint(900, 14_900) for _ in range(quantity))
        data: dict[str, object] = {
            "session_id": f"h-s-{key}",
            "checkout_id": f"h-c-{key}",
            "device": draw.choice(_DEVICES),
            "channel": draw.choice(_CHANNELS),
            "country": draw.choice(_COUNTRIES),
            "value": f"{cents // 100}.{cents % 100:02d}",
            "currency": traffic.currency,
        }
        yield _event("begin_checkout", key, at_s, data)
        if draw.random() < traffic.completed_share:
            order = {**data, "transaction_id": f"h-o-{key}", "order_id": f"h-o-{key}"}
            yield _event("purchase", key, at_s + draw.uniform(2, 20), order)


def _event(event_type: str, key: str, at_s: float, data: dict[str, object]) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": f"{SOURCE}-{event_type}-{key}",
        "source": SOURCE,
        "type": event_type,
        "time": _rfc3339(at_s),
        "datacontenttype": "application/json",
        "data": data,
    }


def _rfc3339(at_s: float) -> str:
    at = datetime.fromtimestamp(at_s, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _poisson(draw: random.Random, expected: float) -> int:
    """Knuth's method, in steps small enough for e^-x to be a number."""
    count = 0
    while expected > 0:
        step = min(expected, 500.0)
        expected -= step
        floor, product = math.exp(-step), draw.random()
        while product > floor:
            count += 1
            product *= draw.random()
    return count


def backfill(
    client: httpx.Client,
    now_s: float,
    traffic: Traffic,
    sale: Sequence[int],
    report: Callable[[int, int], None],
) -> int:
    """Post the history; the number of events.

    Args:
        client: Its base address is Warroom's.
        now_s: When live orders begin, in unix seconds; no event of history is later.
        traffic: What live traffic will be.
        sale: Minutes of an earlier sale, from `minutes_of_sale`.
        report: Called after each batch with minutes done and minutes in all.

    Raises:
        WarroomError: Warroom refused a batch, or shed load for two minutes.
    """
    busy = replace(traffic, orders_per_minute=traffic.orders_per_minute * SALE_MULTIPLE)
    minutes = [(minute, traffic) for minute in minutes_of_history(now_s)]
    minutes += [(minute, busy) for minute in sale]
    until = _rfc3339(now_s)
    posted = 0
    batch: list[str] = []
    for done, (minute, expected) in enumerate(minutes, start=1):
        events = events_of_minute(minute, expected)
        batch.extend(json.dumps(event) for event in events if str(event["time"]) <= until)
        if len(batch) >= BATCH_EVENTS or done == len(minutes):
            posted += _post(client, "\n".join(batch).encode())
            batch.clear()
            report(done, len(minutes))
    if not posted:
        raise WarroomError("none of the history was taken", hint="see warroom.log")
    return posted


def _post(client: httpx.Client, body: bytes) -> int:
    """Events that were taken. Those older than Warroom's retention are not, which is no error."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        answer = client.post(
            "/events", content=body, headers={"Content-Type": "application/x-ndjson"}
        )
        if answer.is_success or answer.status_code == BAD_REQUEST:
            return int(answer.json().get("accepted", 0))
        busy = answer.status_code in {429, 503}
        if not busy or time.monotonic() > deadline:
            raise WarroomError(
                f"POST /events answered {answer.status_code}: {answer.text[:300]}",
                hint="see warroom.log in the demo's data directory",
            )
        wait = answer.headers.get("Retry-After", "1")
        time.sleep(min(float(wait) if wait.isdigit() else 1.0, 10.0))
