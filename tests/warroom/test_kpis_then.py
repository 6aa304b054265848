"""Orders and revenue of an earlier instant, counted from the events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

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


def test_it_is_the_mean_of_the_minutes_around_the_instant(world: World) -> None:
    then = KpisThen(world.service.sight.business.orders)
    assert then("orders_per_minute", NOW_MS - WEEK_MS) is None
    sell(world, NOW_MS - WEEK_MS - 90_000, 12)
    sell(world, NOW_MS - WEEK_MS + 90_000, 8)
    sell(world, NOW_MS - WEEK_MS + 10 * 60_000, 99)
    assert then("orders_per_minute", NOW_MS - WEEK_MS) == pytest.approx(4.0)
    assert then("revenue_per_minute", NOW_MS - WEEK_MS) == pytest.approx(40.0)
    assert then("payment_success", NOW_MS - WEEK_MS) is None


def test_a_tile_tells_its_change_to_a_week_of_which_only_events_are_known(world: World) -> None:
    sell(world, NOW_MS - WEEK_MS, 50)
    sell(world, NOW_MS - 30_000, 20)
    for _ in range(3):
        world.evaluate()
    world.publish()
    tile = world.get("/boards/shop/snapshot")["panels"]["orders"]
    assert tile["value"] > 0
    assert tile["delta_last_week"] == pytest.approx(tile["value"] / 10.0 - 1)
