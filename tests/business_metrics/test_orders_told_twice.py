"""An order counts once, by its transaction id, however often and in whatever order it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from business_metrics.evaluation import BusinessEvaluator
from business_metrics.queries import Step
from business_metrics.settings import BusinessSettings
from store.errors import BadInput
from store.model import EVENT_SCHEMA, EventBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.business_metrics.simulated_shop import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    Log,
    Shop,
    event,
    reading,
    weeks,
)

Row = dict[str, Any]
# Edges of a day, of what is kept exactly and of what is compared, and the minutes around them.
AGO_MS = (
    0,
    MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    23 * HOUR_MS,
    DAY_MS,
    DAY_MS + MINUTE_MS,
    30 * HOUR_MS,
)


def naive(rows: list[Row]) -> list[Row]:
    """The purchases that count: none less than a day after another one of the same order."""
    bought = [row for row in rows if row["type"] == "purchase" and not row["bot"]]
    return [
        row
        for place, row in enumerate(bought)
        if row["order_id"] is None
        or not any(
            other["order_id"] == row["order_id"]
            and 0 <= row["ts_ms"] - other["ts_ms"] < DAY_MS
            and (other["ts_ms"], at) < (row["ts_ms"], place)
            for at, other in enumerate(bought)
        )
    ]


@st.composite
def deliveries(draw: st.DrawFn, oldest_ms: int) -> list[list[Row]]:
    row = st.fixed_dictionaries(
        {
            "type": st.sampled_from(["purchase", "purchase", "purchase", "refund"]),
            "ts_ms": st.builds(
                lambda ago, more: max(NOW_MS - ago - more, NOW_MS - oldest_ms),
                st.sampled_from(AGO_MS),
                st.integers(0, 3 * MINUTE_MS),
            ),
            "order_id": st.sampled_from(["o1", "o2", "o3", None]),
            "amount": st.sampled_from(["10.00", "10.00", "12.50"]),
            "bot": st.integers(0, 9).map(lambda n: n == 0),
        }
    )
    return draw(st.lists(st.lists(row, max_size=6), min_size=1, max_size=4))


def counted(shop: Shop, start_ms: int, end_ms: int) -> tuple[int, str]:
    step_ms = (end_ms - start_ms) // 4
    points = shop.evaluator.orders(start_ms, end_ms, step_ms).points
    return sum(point.orders for point in points), str(sum(point.revenue for point in points))


def due(rows: list[Row], start_ms: int, end_ms: int) -> tuple[int, str]:
    inside = [row for row in naive(rows) if start_ms <= row["ts_ms"] < end_ms]
    cents = sum(int(row["amount"].replace(".", "")) for row in inside)
    cents -= sum(
        int(row["amount"].replace(".", ""))
        for row in rows
        if row["type"] == "refund" and not row["bot"] and start_ms <= row["ts_ms"] < end_ms
    )
    sign = "-" if cents < 0 else ""
    return len(inside), f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02}" if rows else "0.00"


@settings(deadline=None, max_examples=12)
@given(deliveries(oldest_ms=2 * DAY_MS), st.lists(st.booleans(), min_size=4, max_size=4))
def test_every_figure_counts_an_order_once_over_restarts(
    parts: list[list[Row]], restarts: list[bool]
) -> None:
    shop, rows = Shop(Log(), baseline_weeks=1), []
    shop.tick(NOW_MS)
    for place, (part, restart) in enumerate(zip(parts, restarts, strict=False)):
        now_ms = NOW_MS + 1 + place * 5_000
        rows += part
        shop.log.add([row | {"received_ms": now_ms} for row in part])
        if restart:
            shop.restart()
        tick = shop.tick(now_ms)
        history = shop.evaluator._feed.history
        minute = NOW_MS // MINUTE_MS
        orders, told = history.sold(minute - 3 * 1_440, minute + 2)
        kept = naive(rows)
        assert orders == len(kept)
        units = sum(int(row["amount"].replace(".", "")) for row in kept) * 100
        assert told == units
        quarter = [r for r in kept if now_ms - 900_000 <= r["ts_ms"] < now_ms]
        cents = sum(int(row["amount"].replace(".", "")) for row in quarter)
        average = reading(tick, "average_order_value").value
        assert average == (pytest.approx(cents / 100 / len(quarter), abs=0.01) if quarter else None)
        for start_ms in (NOW_MS - 2 * DAY_MS, NOW_MS - DAY_MS, NOW_MS - HOUR_MS):
            span = start_ms, NOW_MS + MINUTE_MS
            found = counted(shop, *span)
            assert found == due(rows, *span), (found, rows)


def purchase(at_ms: int, order_id: str | None, **values: Any) -> Row:
    return {"type": "purchase", "ts_ms": at_ms, "order_id": order_id, "amount": "20"} | values


def test_a_retry_with_a_fresh_event_id_is_no_second_order() -> None:
    shop = Shop(Log(), baseline_weeks=1)
    shop.log.add([purchase(NOW_MS - 30_000, "1001"), purchase(NOW_MS - 30_000, "1002")])
    shop.tick(NOW_MS)
    assert shop.series.latest()["warroom_business_orders_per_minute"] == 2.0
    again = [purchase(NOW_MS - 30_000, "1001"), purchase(NOW_MS + 2_000, "1002", amount="90")]
    shop.log.add([row | {"received_ms": NOW_MS + 3_000} for row in again])
    shop.tick(NOW_MS + 5_000)
    assert shop.series.latest()["warroom_business_orders_per_minute"] == 2.0
    assert shop.series.latest()["warroom_business_revenue_per_minute"] == 40.0
    shop.restart()
    shop.tick(NOW_MS + 10_000)
    assert shop.series.latest()["warroom_business_orders_per_minute"] == 2.0
    # A range that begins after the order does not count it for its repeat.
    assert counted(shop, NOW_MS, NOW_MS + MINUTE_MS) == (0, "0.00")


def test_an_id_is_used_again_after_a_day_and_orders_without_one_all_count() -> None:
    shop = Shop(Log(), baseline_weeks=1)
    shop.log.add(
        [
            *(purchase(NOW_MS - DAY_MS - 1, "7"), purchase(NOW_MS - 1, "7")),
            *(purchase(NOW_MS - 1, None), purchase(NOW_MS - 1, None)),
        ]
    )
    shop.tick(NOW_MS)
    assert counted(shop, NOW_MS - 2 * DAY_MS, NOW_MS) == (4, "80.00")
    assert shop.series.latest()["warroom_business_orders_per_minute"] == 3.0


def test_partial_refunds_of_one_order_are_all_subtracted() -> None:
    shop = Shop(Log(), baseline_weeks=1)
    back = [purchase(NOW_MS - 1, "7", type="refund", amount=n) for n in ("5", "-2.50")]
    shop.log.add([purchase(NOW_MS - 1, "7"), *back])
    shop.tick(NOW_MS)
    assert shop.series.latest()["warroom_business_revenue_per_minute"] == 12.5
    assert counted(shop, NOW_MS - MINUTE_MS, NOW_MS) == (1, "12.50")


def test_the_real_store_tells_an_order_once() -> None:
    rows = [
        event(**purchase(NOW_MS - ago_ms, "A"), event_id=f"e{n}")
        for n, ago_ms in enumerate((40 * MINUTE_MS, 10_000, 10_000))
    ]
    for row in rows:
        del row["seq"]
    with open_store() as store:
        store.append(EventBatch(pa.Table.from_pylist(rows, schema=EVENT_SCHEMA))).result(timeout=30)
        settings_ = BusinessSettings(baseline_weeks=1)
        evaluator = BusinessEvaluator(store, Engine(store), store, settings_)
        evaluator.tick(NOW_MS)
        points = evaluator.orders(NOW_MS - HOUR_MS, NOW_MS, 30 * MINUTE_MS).points
        assert [point.orders for point in points] == [1, 0]


@pytest.mark.parametrize(
    ("noon", "hours"),
    [("2026-03-29T12:00", 23), ("2026-10-25T12:00", 25), ("2026-07-01T12:00", 24)],
)
def test_a_day_is_the_stores_own(noon: str, hours: int) -> None:
    noon_ms = round(datetime.fromisoformat(noon).replace(tzinfo=UTC).timestamp() * 1_000)
    shop = Shop(Log(), time_zone="Europe/Berlin", baseline_weeks=1)
    shop.log.add([purchase(noon_ms + n * HOUR_MS, f"{n}") for n in range(-36, 36)])
    shop.tick(noon_ms + 36 * HOUR_MS)
    answer = shop.evaluator.orders(noon_ms, noon_ms + 1, "day")
    assert [point.orders for point in answer.points] == [hours]
    week = shop.evaluator.orders(noon_ms - 25 * HOUR_MS, noon_ms + 25 * HOUR_MS, "day").points
    assert len(week) == 3
    assert week[1] == answer.points[0] or week[1].orders == hours
    assert (week[2].at_ms - week[1].at_ms) // HOUR_MS == hours


def test_what_is_still_to_come_of_a_day_is_not_missing() -> None:
    midnight_ms = NOW_MS - NOW_MS % DAY_MS
    noon_ms = midnight_ms + 12 * HOUR_MS
    log = Log()
    for day in range(-15, 1):
        count = 1_440 if day else 720
        log.add([purchase(midnight_ms + day * DAY_MS + n * MINUTE_MS, None) for n in range(count)])
    shop = Shop(log, baseline_weeks=2)
    shop.tick(noon_ms)
    answer = shop.evaluator.orders(midnight_ms, noon_ms, "day")
    (point,) = answer.points
    assert point.orders == 720
    assert point.expected_orders == pytest.approx(720, rel=0.02)
    assert answer.revenue_at_risk is not None
    assert answer.revenue_at_risk.amount < 400
    shop.tick(noon_ms + 30_000)
    running = shop.evaluator.orders(noon_ms - HOUR_MS, noon_ms + HOUR_MS, HOUR_MS).points
    assert running[1].expected_orders == pytest.approx(0.5, rel=0.05)
    whole = shop.evaluator.orders(midnight_ms - DAY_MS, midnight_ms, "day").points
    assert whole[0].expected_orders == pytest.approx(1_440, rel=0.02)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("step", ["day", HOUR_MS])
def test_a_range_far_from_now_expects_nothing_and_costs_nothing(zone: str, step: Step) -> None:
    shop = Shop(weeks(20, count=1), baseline_weeks=1, time_zone=zone)
    shop.tick(NOW_MS)
    for start_ms in (DAY_MS, NOW_MS + DAY_MS, NOW_MS + 10_000 * DAY_MS):
        points = shop.evaluator.orders(start_ms, start_ms + 2 * DAY_MS, step).points
        assert {(point.orders, point.expected_orders) for point in points} == {(0, None)}
    with pytest.raises(BadInput):
        shop.evaluator.orders(253_402_214_400_000, 253_402_300_799_000, step)
    with pytest.raises(BadInput):
        shop.evaluator.abandonment(253_402_214_400_000, 253_402_300_799_000, step)
