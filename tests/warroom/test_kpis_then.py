"""Orders and revenue of an earlier instant, counted from the events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from store.timestamps import rfc3339
from tests.warroom.world import NOW_MS, World, open_world
from warroom.looking_back import KpisThen

WEEK_MS = 7 * 86_400_000
BOARD = """
name: shop
title: Shop
rows:
  - panels:
      - {id: orders, kind: stat, kpi: orders_per_minute, unit: orders/min}
      - {id: success, kind: stat, kpi: payment_success, unit: ratio}
"""
TEXT = "store: {url: 'duckdb:memory'}\nboards_dir: boards\n"


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    files = {"boards/shop.yaml": BOARD}
    with open_world(tmp_path_factory.mktemp("then"), TEXT, files) as opened:
        yield opened


def sell(world: World, at_ms: int, count: int) -> None:
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    events = [
        {
            "specversion": "1.0",
            "id": f"{at_ms}-{number}",
            "source": "till",
            "type": "purchase",
            "time": (at + timedelta(milliseconds=number)).isoformat(),
            "data": {"transaction_id": f"{at_ms}-{number}", "value": "10.00", "currency": "EUR"},
        }
        for number in range(count)
    ]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert world.ask("POST", "/events", json=events, headers=headers).is_success


def order(number: int) -> dict[str, str]:
    return {"transaction_id": f"o{number}", "value": "10.00", "currency": "EUR"}


def tell(world: World, at_ms: int, kind: str, number: int, **data: str) -> None:
    event = {
        "specversion": "1.0",
        "id": f"{kind}-{number}",
        "source": "till",
        "type": kind,
        "time": rfc3339(at_ms),
        "data": data,
    }
    assert world.ask("POST", "/events", json=event).is_success


def test_it_is_the_mean_of_the_minutes_around_the_instant(world: World) -> None:
    then = KpisThen(world.service.sight.business)
    assert then("orders_per_minute", NOW_MS - WEEK_MS) is None
    sell(world, NOW_MS - WEEK_MS - 90_000, 12)
    sell(world, NOW_MS - WEEK_MS + 90_000, 8)
    sell(world, NOW_MS - WEEK_MS + 10 * 60_000, 99)
    assert then("orders_per_minute", NOW_MS - WEEK_MS) == pytest.approx(4.0)
    assert then("revenue_per_minute", NOW_MS - WEEK_MS) == pytest.approx(40.0)
    assert then("conversion", NOW_MS - WEEK_MS) is None


def test_payments_and_abandonment_are_those_that_were_known_then(world: World) -> None:
    week_ms = NOW_MS - WEEK_MS
    # Of 30 matured checkouts 18 are bought in time, and the others an hour after the instant.
    for number in range(30):
        begun_ms = week_ms - 80 * 60_000 + number * 60_000
        tell(world, begun_ms, "begin_checkout", number, checkout_id=f"c{number}")
        paid_ms = begun_ms + 60_000 if number % 5 < 3 else week_ms + 60 * 60_000
        tell(world, paid_ms, "purchase", number, checkout_id=f"c{number}", **order(number))
    then = KpisThen(world.service.sight.business)
    assert then("checkout_abandonment", week_ms) == pytest.approx(12 / 30)
    assert then("payment_success", week_ms) is None  # nobody tried in the last 15 minutes
    for number in range(20):
        kind = "payment_failed" if number % 4 == 0 else "purchase"
        tell(world, week_ms - 120_000, kind, 100 + number, **order(100 + number))
    tell(world, week_ms - 120_000, "purchase", 999, **order(101))  # told twice
    assert KpisThen(world.service.sight.business)("payment_success", week_ms) == 0.75
    assert then("checkout_abandonment", week_ms - 4 * WEEK_MS) is None


def test_a_tile_tells_its_change_to_a_week_of_which_only_events_are_known(world: World) -> None:
    sell(world, NOW_MS - WEEK_MS, 50)
    sell(world, NOW_MS - 30_000, 20)
    for _ in range(3):
        world.evaluate()
    world.publish()
    tile = world.get("/boards/shop/snapshot")["panels"]["orders"]
    assert tile["value"] > 0
    assert tile["delta_last_week"] == pytest.approx(tile["value"] / 10.0 - 1)
