"""The business metrics from tick to tick, over a simulated shop and a fixed clock."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typing_extensions import override

from business_metrics.calendar import SaleDay
from business_metrics.memory import Breach
from store.errors import StoreUnavailable
from store.model import EVENT_READ_SCHEMA
from tests.business_metrics.simulated_shop import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    WEEK_MS,
    Log,
    Shop,
    go_on,
    poisson,
    reading,
    weeks,
)


@pytest.mark.parametrize(
    ("rate", "drop", "within_min"),
    [(60, 1.0, 1), (60, 0.8, 2), (60, 0.6, 5), (10, 1.0, 3), (10, 0.7, 16), (3, 1.0, 7)],
)
def test_a_drop_is_found_in_bounded_time_and_pages(
    rate: float, drop: float, within_min: int
) -> None:
    log = weeks(rate)
    go_on(log, 60, rate)
    fault_ms = NOW_MS + HOUR_MS
    go_on(log, 40, rate * (1 - drop), start_ms=fault_ms, seed=3)
    shop = Shop(log)
    assert shop.breaches(NOW_MS + 55 * MINUTE_MS, fault_ms, 15_000) == []
    ticks = (shop.orders(t) for t in range(fault_ms, fault_ms + 40 * MINUTE_MS, 5_000))
    found = next(reading for reading in ticks if reading.breached)
    assert found.at_ms - fault_ms <= within_min * MINUTE_MS
    assert found.since_ms is not None
    assert abs(found.since_ms - fault_ms) <= max(60_000, 3 * MINUTE_MS / rate * 10)


def test_a_total_outage_fires_once_and_resolves_once_when_orders_are_back() -> None:
    log = weeks(60)
    go_on(log, 30, 60)
    fault_ms, back_ms = NOW_MS + 30 * MINUTE_MS, NOW_MS + 40 * MINUTE_MS
    go_on(log, 25, 60, start_ms=back_ms, seed=4)
    shop = Shop(log)
    changes = shop.breaches(fault_ms - MINUTE_MS, back_ms + 20 * MINUTE_MS)
    assert [breached for _, breached in changes] == [True, False]
    assert changes[0][0] - fault_ms <= 30_000
    assert changes[1][0] - back_ms <= 2 * MINUTE_MS
    (breach,) = shop.notes.rows.values()
    assert abs(breach.start_ms - fault_ms) < 10_000
    assert breach.severity == "page"
    assert breach.end_ms is not None


def test_a_partial_drop_that_lasts_does_not_flap() -> None:
    log = weeks(30)
    go_on(log, 30, 30)
    go_on(log, 120, 12, start_ms=NOW_MS + 30 * MINUTE_MS, seed=5)
    changes = Shop(log).breaches(NOW_MS + 30 * MINUTE_MS, NOW_MS + 150 * MINUTE_MS, 15_000)
    assert [breached for _, breached in changes] == [True]


def test_missing_orders_are_told_in_money_with_a_band() -> None:
    log = weeks(60)
    shop = Shop(log)
    shop.tick(NOW_MS)
    found = shop.orders(NOW_MS + 5 * MINUTE_MS)
    assert found.breached
    assert found.severity == "page"
    assert found.currency == "EUR"
    assert found.revenue_at_risk == pytest.approx(Decimal(300 * 50), rel=Decimal("0.15"))
    low, high = (Decimal(str(found.detail[f"revenue_at_risk_{end}"])) for end in ("low", "high"))
    assert low < found.revenue_at_risk < high
    assert found.detail["decision"] == "no_orders"
    assert re.fullmatch(
        r"0 orders in the last 5 min, \d+ expected; chance of that by accident: 1 in 10\^\d+",
        found.reason,
    )
    assert found.detail["baseline"] == "weeks"


def test_without_weeks_of_history_its_own_last_half_hour_stands_in_and_says_so() -> None:
    log = Log()
    go_on(log, 20, 60, start_ms=NOW_MS - 20 * MINUTE_MS)
    shop = Shop(log)
    calm = shop.orders(NOW_MS)
    assert not calm.breached
    assert calm.detail["baseline"] == "own_recent"
    changes = shop.breaches(NOW_MS, NOW_MS + 5 * MINUTE_MS)
    assert changes
    assert changes[0][0] - NOW_MS <= MINUTE_MS


def test_a_shop_that_never_sold_is_not_judged() -> None:
    found = Shop(Log()).orders(NOW_MS)
    assert found.value is None
    assert not found.breached
    assert found.reason == "waiting for the first event since collecting began"


def test_a_day_that_sells_five_times_as_much_is_judged_on_its_own_level() -> None:
    log = weeks(10)
    go_on(log, 240, 50)
    end_ms = NOW_MS + 240 * MINUTE_MS
    shop = Shop(log)
    shop.log.now_ms = end_ms
    found = shop.orders(end_ms)
    assert found.detail["level"] == pytest.approx(5, rel=0.1)
    assert found.expected == pytest.approx(50, rel=0.1)
    go_on(log, 20, 15, start_ms=end_ms, seed=9)
    changes = shop.breaches(end_ms, end_ms + 15 * MINUTE_MS)
    assert changes[0][1]


def test_the_end_of_a_sale_is_no_drop() -> None:
    start = datetime.fromtimestamp(NOW_MS / 1_000, UTC).date()
    calendar = (SaleDay("flash", start, start),)
    midnight_ms = (NOW_MS // DAY_MS + 1) * DAY_MS
    minutes = (midnight_ms - NOW_MS) // MINUTE_MS
    log = weeks(20)
    go_on(log, minutes, 100)
    go_on(log, 120, 20, start_ms=midnight_ms, seed=10)
    shop = Shop(log, calendar=calendar)
    assert shop.breaches(midnight_ms - HOUR_MS, midnight_ms + 2 * HOUR_MS, 30_000) == []


def test_an_earlier_sale_of_the_same_name_is_the_baseline() -> None:
    today = datetime.fromtimestamp(NOW_MS / 1_000, UTC).date()
    before = date.fromordinal(today.toordinal() - 364)
    calendar = (SaleDay("black friday", before, before), SaleDay("black friday", today, today))
    log = Log()
    rng = np.random.default_rng(11)
    past_ms = NOW_MS - 364 * DAY_MS
    log.add_orders(poisson(rng, past_ms - 6 * HOUR_MS, past_ms + 6 * HOUR_MS, 80))
    log.add_orders(poisson(rng, NOW_MS - 4 * WEEK_MS, NOW_MS, 20))
    found = Shop(log, calendar=calendar).orders(NOW_MS)
    assert found.detail["baseline"] == "sale"


def test_a_past_outage_does_not_teach_the_baseline() -> None:
    log = weeks(30, count=1)
    shop = Shop(log)
    shop.notes.save(Breach("order_rate", NOW_MS - WEEK_MS - HOUR_MS, NOW_MS - WEEK_MS, "page"))
    assert shop.orders(NOW_MS).detail["baseline"] in {"own_recent", "one_week"}


def test_a_restart_in_an_outage_keeps_it_open_with_its_beginning() -> None:
    log = weeks(60)
    shop = Shop(log)
    shop.tick(NOW_MS)
    before = shop.orders(NOW_MS + 5 * MINUTE_MS)
    shop.restart()
    after = shop.orders(NOW_MS + 2 * MINUTE_MS + 5_000)
    assert before.breached
    assert after.breached
    assert after.since_ms == before.since_ms


def test_a_store_that_cannot_be_read_neither_fires_nor_resolves() -> None:
    log = weeks(60)
    shop = Shop(log)
    shop.tick(NOW_MS)
    assert shop.orders(NOW_MS + 5 * MINUTE_MS).breached
    log.error = StoreUnavailable("closed")
    tick = shop.evaluator.tick(NOW_MS + 3 * MINUTE_MS)
    assert [h.ok for h in tick.health] == [False]
    assert [r.kpi for r in tick.readings if r.breached] == ["order_rate"]


def test_orders_that_arrive_late_are_not_missed() -> None:
    log = weeks(60)
    rng = np.random.default_rng(12)
    ts = np.sort(poisson(rng, NOW_MS, NOW_MS + 10 * MINUTE_MS, 60))
    log.add_orders(ts)
    received = log.table["received_ms"].to_numpy().copy()
    received[-len(ts) :] += 8_000
    at = log.table.schema.get_field_index("received_ms")
    log.table = log.table.set_column(at, log.table.schema.field(at), pa.array(received))
    assert Shop(log).breaches(NOW_MS + MINUTE_MS, NOW_MS + 9 * MINUTE_MS) == []


def test_bots_tests_and_other_currencies_bring_no_orders_or_no_money() -> None:
    log = Log()
    at = NOW_MS - 30_000
    log.add(
        [
            {"type": "purchase", "ts_ms": at, "amount": "10.50"},
            {"type": "purchase", "ts_ms": at, "amount": "99", "bot": True},
            {"type": "purchase", "ts_ms": at, "amount": "99", "test": True},
            {"type": "purchase", "ts_ms": at, "amount": "7", "currency": "USD"},
        ]
    )
    shop = Shop(log)
    tick = shop.tick(NOW_MS)
    assert reading(tick, "orders_per_minute").value == 2.0
    assert reading(tick, "revenue_per_minute").value == 10.5
    assert shop.series.latest()["warroom_business_orders_per_minute"] == 2.0
    assert shop.series.latest()["warroom_business_revenue_per_minute"] == 10.5


def checkouts(count: int, start_ms: int, *, buy: int, prefix: str = "c") -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        common = {"checkout_id": f"{prefix}{i}", "session_id": f"s{prefix}{i}", "device": "mobile"}
        rows.append({"type": "begin_checkout", "ts_ms": start_ms, **common})
        if i < buy:
            rows.append({"type": "purchase", "ts_ms": start_ms + 1_000, "amount": "5", **common})
    return rows


def test_abandonment_above_forty_percent_raises_a_ticket_only_when_proven() -> None:
    log = Log()
    start_ms = NOW_MS - 50 * MINUTE_MS
    log.add(checkouts(20, start_ms, buy=7))
    shop = Shop(log)
    found = reading(shop.tick(NOW_MS), "checkout_abandonment")
    assert found.value == pytest.approx(0.65)
    assert not found.breached
    log.add(checkouts(30, start_ms, buy=13, prefix="d"))
    found = reading(shop.tick(NOW_MS + 5_000), "checkout_abandonment")
    assert found.value == pytest.approx(0.6)
    assert found.breached
    assert found.severity == "ticket"
    assert found.detail["worst_segment"] == "device=mobile"


def test_young_checkouts_are_shown_as_provisional_and_never_alarm() -> None:
    log = Log()
    log.add(checkouts(200, NOW_MS - 10 * MINUTE_MS, buy=10))
    tick = Shop(log).tick(NOW_MS)
    judged = reading(tick, "checkout_abandonment")
    live = reading(tick, "checkout_abandonment_live")
    assert judged.value is None
    assert not judged.breached
    assert live.provisional
    assert (live.low, live.value, live.high) == (0.0, 0.95, 0.95)


def test_late_purchases_correct_a_matured_cohort_and_end_the_ticket() -> None:
    log = Log()
    log.add(checkouts(100, NOW_MS - 50 * MINUTE_MS, buy=30))
    shop = Shop(log)
    assert reading(shop.tick(NOW_MS), "checkout_abandonment").breached
    log.add(
        [
            {"type": "purchase", "ts_ms": NOW_MS, "checkout_id": f"c{i}", "amount": "5"}
            for i in range(30, 65)
        ]
    )
    found = reading(shop.tick(NOW_MS + 5_000), "checkout_abandonment")
    assert found.value == pytest.approx(0.35)
    assert not found.breached


def test_payment_success_and_conversion_are_counted() -> None:
    log = Log()
    at = NOW_MS - MINUTE_MS
    log.add(
        [{"type": "view_item", "ts_ms": at, "session_id": f"s{i}"} for i in range(10)]
        + [{"type": "purchase", "ts_ms": at, "session_id": f"s{i}"} for i in range(3)]
        + [{"type": "payment_failed", "ts_ms": at, "session_id": "s9"}]
    )
    tick = Shop(log).tick(NOW_MS)
    assert reading(tick, "payment_success").value == 0.75
    assert reading(tick, "conversion").value == 0.3


def test_the_queries_answer_orders_funnel_and_abandonment() -> None:
    log = weeks(20)
    go_on(log, 60, 20)
    end_ms = NOW_MS + HOUR_MS
    log.add(checkouts(40, NOW_MS + MINUTE_MS, buy=30))
    shop = Shop(log)
    shop.tick(end_ms)
    orders = shop.evaluator.orders(NOW_MS, end_ms, 600_000)
    assert len(orders.points) == 6
    assert sum(p.orders for p in orders.points) == pytest.approx(1_230, rel=0.1)
    assert all(p.low is not None and p.low < p.orders < (p.high or 0) for p in orders.points[1:])
    steps = shop.evaluator.funnel(NOW_MS, end_ms, "device:mobile")
    assert [(s.name, s.sessions) for s in steps] == [("begin_checkout", 40), ("purchase", 30)]
    assert steps[1].median_seconds_from_previous == 1.0
    answer = shop.evaluator.abandonment(NOW_MS, end_ms, 1_800_000, "device")
    (series,) = answer.series
    assert series.labels == {"device": "mobile"}
    assert (series.points[0].started, series.points[0].rate) == (40, 0.25)
    assert [p.provisional for p in series.points] == [False, True]


@pytest.mark.slow
def test_a_tick_with_a_hundred_thousand_events_in_the_window_is_quick() -> None:
    class Counting(Log):
        @override
        def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
            return EVENT_READ_SCHEMA.empty_table()

    log = Counting()
    log.add_orders(np.linspace(NOW_MS - HOUR_MS, NOW_MS, 100_000))
    shop = Shop(log)
    shop.tick(NOW_MS)
    tick = shop.tick(NOW_MS + 5_000)
    assert sum(h.duration_s for h in tick.health) < 1.0


def test_orders_of_a_range_miss_as_many_as_the_page_while_they_are_missing() -> None:
    log = weeks(30)
    go_on(log, 60, 12)
    shop = Shop(log, baseline_weeks=1)
    end_ms = NOW_MS + HOUR_MS
    for now_ms in range(NOW_MS - 5 * MINUTE_MS, end_ms + 1, 5 * MINUTE_MS):
        shop.tick(now_ms)
    told = shop.orders(end_ms)
    assert told.breached
    low, high = (Decimal(str(told.detail[f"revenue_at_risk_{end}"])) for end in ("low", "high"))
    # Hours before that sold more than expected give nobody back an order.
    for since_ms in (told.since_ms or 0, end_ms - 6 * HOUR_MS):
        asked = shop.evaluator.orders(since_ms, end_ms, HOUR_MS).revenue_at_risk
        assert asked is not None
        assert asked.orders_missing
        assert (asked.amount, asked.low, asked.high) == (told.revenue_at_risk, low, high)
    # Of a range that ends before, the part of the breach that lies in it.
    half = shop.evaluator.orders(end_ms - HOUR_MS, end_ms - HOUR_MS // 2, HOUR_MS)
    assert half.revenue_at_risk is not None
    assert told.revenue_at_risk is not None
    whole = float(told.revenue_at_risk)
    assert float(half.revenue_at_risk.amount) == pytest.approx(whole / 2, rel=0.2)
    # Before the drop nothing was missing, and nothing at all is known of the years before.
    before = shop.evaluator.orders(end_ms - 4 * HOUR_MS, end_ms - 2 * HOUR_MS, HOUR_MS)
    assert before.revenue_at_risk is not None
    assert not before.revenue_at_risk.orders_missing
    assert before.revenue_at_risk.low == 0
    never = shop.evaluator.orders(NOW_MS - 60 * WEEK_MS, NOW_MS - 60 * WEEK_MS + HOUR_MS, HOUR_MS)
    assert never.revenue_at_risk is None
    # A fault is priced by what the hour would bring, whatever the last minutes brought.
    due = shop.series.latest()
    usual = due["warroom_business_expected_orders_per_minute"] * 50
    assert due["warroom_business_expected_revenue_per_minute"] == pytest.approx(usual)


def test_a_range_without_any_order_is_priced_by_the_day_before() -> None:
    shop = Shop(weeks(20), baseline_weeks=1)
    shop.tick(NOW_MS - 5 * MINUTE_MS)
    shop.notes.rows.clear()
    shop.restart()
    end_ms = NOW_MS + 20 * MINUTE_MS
    shop.tick(end_ms)  # the first one: nothing is missing yet that was never collected
    risk = shop.evaluator.orders(NOW_MS + MINUTE_MS, end_ms, HOUR_MS).revenue_at_risk
    assert risk is not None
    assert float(risk.amount) == pytest.approx(19 * 20 * 50, rel=0.2)
    assert 0 < risk.low < risk.amount < risk.high
