"""Cases that the definitions decide and that no other test tells; the first over the real store."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from typing_extensions import override

from business_metrics.evaluation import BusinessEvaluator
from business_metrics.model import KpiReading
from business_metrics.queries import NoRequests
from business_metrics.settings import BusinessSettings
from store.model import EVENT_SCHEMA, EventBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.business_metrics.simulated_shop import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    Log,
    Series,
    Shop,
    event,
    reading,
)

FIRST_MS = NOW_MS - 9 * DAY_MS
_IDS = count()


class Asked:
    """A log of events, and the evaluator that is asked about them."""

    def __init__(self) -> None:
        self.log = Log()
        self.evaluator = Shop(self.log, baseline_weeks=1).evaluator

    def add(self, *rows: dict[str, Any]) -> None:
        self.log.add([row | {"received_ms": NOW_MS} for row in rows])

    def live(self, kpi: str) -> KpiReading:
        return reading(self.evaluator.tick(NOW_MS), kpi)

    def cohorts(self, start_ms: int, end_ms: int, by: str = "") -> dict[str, tuple[int, int, int]]:
        self.evaluator.tick(NOW_MS)
        answer = self.evaluator.abandonment(start_ms, end_ms, end_ms - start_ms, by)
        return {
            " ".join(series.labels.values()): (point.started, point.completed, point.abandoned)
            for series in answer.series
            for point in series.points
        }


class AskedOfTheStore(Asked):
    """The same over the real store."""

    def __init__(self, store: Any) -> None:
        self.store = store
        settings = BusinessSettings(baseline_weeks=1)
        self.evaluator = BusinessEvaluator(store, Engine(store), store, settings)

    @override
    def add(self, *rows: dict[str, Any]) -> None:
        full = [event(**row) | {"event_id": f"{next(_IDS)}"} for row in rows]
        for row in full:
            del row["seq"]
        table = pa.Table.from_pylist(full, schema=EVENT_SCHEMA)
        self.store.append(EventBatch(table)).result(timeout=30)


@pytest.fixture
def stored() -> Iterator[Asked]:
    with open_store() as store:
        yield AskedOfTheStore(store)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_a_checkout_bought_days_later_is_no_longer_abandoned(stored: Asked) -> None:
    begun = {"type": "begin_checkout", "ts_ms": FIRST_MS, "checkout_id": "late", "session_id": "a"}
    stored.add(begun)
    assert stored.cohorts(FIRST_MS, FIRST_MS + HOUR_MS) == {"": (1, 0, 1)}
    stored.add(begun | {"type": "purchase", "ts_ms": FIRST_MS + 4 * DAY_MS, "amount": "5"})
    assert stored.cohorts(FIRST_MS, FIRST_MS + HOUR_MS) == {"": (1, 1, 0)}
    stored.add(begun | {"type": "purchase", "ts_ms": FIRST_MS + 4 * DAY_MS, "checkout_id": None})
    assert stored.cohorts(FIRST_MS, FIRST_MS + HOUR_MS) == {"": (1, 1, 0)}


def test_a_reloaded_checkout_stays_in_the_cohort_of_its_first_start(asked: Asked) -> None:
    first_ms = FIRST_MS + 2 * DAY_MS
    again = {"type": "begin_checkout", "checkout_id": "tab", "session_id": "b"}
    asked.add(again | {"ts_ms": first_ms}, again | {"ts_ms": first_ms + 70 * MINUTE_MS})
    assert asked.cohorts(first_ms, first_ms + HOUR_MS) == {"": (1, 0, 1)}
    assert asked.cohorts(first_ms + HOUR_MS, first_ms + 2 * HOUR_MS) == {"": (0, 0, 0)}


def test_a_guest_who_logs_in_on_the_way_is_a_returning_visitor_all_the_way(asked: Asked) -> None:
    first_ms = FIRST_MS + 3 * DAY_MS
    journey = ("view_item", "add_to_cart", "begin_checkout", "add_shipping_info", "purchase")
    asked.add(
        *(
            {"type": kind, "ts_ms": first_ms + n * MINUTE_MS, "session_id": "c", "returning": n > 2}
            | {"checkout_id": "guest" if n > 1 else None, "device": "mobile" if n > 1 else None}
            for n, kind in enumerate(journey)
        )
    )
    assert asked.cohorts(first_ms, first_ms + HOUR_MS, "returning") == {"returning": (1, 1, 0)}
    for segment in ("returning:returning", "device:mobile"):
        steps = asked.evaluator.funnel(first_ms, first_ms + HOUR_MS, segment)
        assert [(step.name, step.sessions) for step in steps] == [(kind, 1) for kind in journey]
    steps = asked.evaluator.funnel(first_ms, first_ms + HOUR_MS, "returning:new")
    assert {step.sessions for step in steps} == {0}


def test_a_retried_payment_that_went_through_is_no_lost_checkout(asked: Asked) -> None:
    first_ms = FIRST_MS + 4 * DAY_MS
    asked.add(
        *(
            {"type": kind, "ts_ms": first_ms + n, "checkout_id": checkout, "session_id": checkout}
            for checkout, kinds in (
                ("paid", ("begin_checkout", "payment_failed", "payment_failed", "purchase")),
                ("given-up", ("begin_checkout", "payment_failed")),
            )
            for n, kind in enumerate(kinds)
        )
    )
    found = asked.cohorts(first_ms, first_ms + HOUR_MS, "cause")
    assert found["payment"] == (2, 1, 1)
    assert found["none_seen"] == (2, 1, 0)


def test_a_value_that_no_checkout_of_the_range_has_is_no_series_of_it(asked: Asked) -> None:
    begun = {"type": "begin_checkout", "device": "mobile", "checkout_id": "x"}
    after = begun | {"device": "desktop", "checkout_id": "y"}
    asked.add(begun | {"ts_ms": FIRST_MS}, after | {"ts_ms": FIRST_MS + 2 * HOUR_MS})
    assert asked.cohorts(FIRST_MS, FIRST_MS + HOUR_MS, "device") == {"mobile": (1, 0, 1)}


def test_a_purchase_of_days_later_asks_for_no_more_requests(asked: Asked) -> None:
    spans: list[tuple[int, int]] = []

    class Requests(NoRequests):
        @override
        def troubled_requests(self, start_ms: int, end_ms: int, slow_s: float) -> pa.Table:
            spans.append((start_ms, end_ms))
            return super().troubled_requests(start_ms, end_ms, slow_s)

    begun = {"type": "begin_checkout", "ts_ms": FIRST_MS, "checkout_id": "late", "session_id": "a"}
    bought = begun | {"type": "purchase", "ts_ms": FIRST_MS + 5 * DAY_MS, "amount": "5"}
    asked.add(begun, bought)
    shop = Series()
    asked.evaluator = BusinessEvaluator(
        asked.log, shop, shop, BusinessSettings(baseline_weeks=1), requests=Requests()
    )
    found = asked.cohorts(FIRST_MS, FIRST_MS + HOUR_MS, "cause")
    assert found["none_seen"] == (1, 1, 0)
    assert spans == [(FIRST_MS, FIRST_MS + HOUR_MS + DAY_MS + 30 * MINUTE_MS)]


def test_whatever_names_a_checkout_is_activity_in_it_now_as_in_the_past(asked: Asked) -> None:
    mine = {"checkout_id": "c", "session_id": "s"}
    begun_ms = NOW_MS - 50 * MINUTE_MS
    asked.add(
        mine | {"type": "begin_checkout", "ts_ms": begun_ms, "device": "mobile"},
        mine | {"type": "view_item", "ts_ms": NOW_MS - 10 * MINUTE_MS},
    )
    assert asked.cohorts(begun_ms, begun_ms + MINUTE_MS) == {"": (1, 0, 0)}
    assert asked.live("checkout_abandonment").detail["decided"] == 0
    assert asked.cohorts(begun_ms, begun_ms + MINUTE_MS, "device") == {"mobile": (1, 0, 0)}


def test_a_visit_of_days_ago_that_goes_on_is_not_abandoned(asked: Asked) -> None:
    mine = {"checkout_id": "c", "session_id": "s"}
    begun_ms = NOW_MS - 3 * DAY_MS
    asked.add(
        mine | {"type": "begin_checkout", "ts_ms": begun_ms},
        mine | {"type": "add_payment_info", "ts_ms": NOW_MS - MINUTE_MS},
    )
    assert asked.cohorts(begun_ms, begun_ms + HOUR_MS) == {"": (1, 0, 0)}


def test_a_browser_whose_clock_is_ahead_did_buy(asked: Asked) -> None:
    """By the server's clock the purchase lies before the range, in which the checkout began."""
    mine = {"checkout_id": "c", "session_id": "s"}
    asked.add(
        mine | {"type": "purchase", "ts_ms": FIRST_MS - 5_000, "amount": "5"},
        mine | {"type": "begin_checkout", "ts_ms": FIRST_MS + 5_000},
    )
    assert asked.cohorts(FIRST_MS, FIRST_MS + HOUR_MS) == {"": (1, 1, 0)}


@pytest.mark.parametrize("days", [12, 50])
def test_a_day_of_long_ago_is_told_with_what_came_late_each_order_once(days: int) -> None:
    """The history holds 30 days, and forgets after two which orders it was told of."""
    asked, at_ms = Asked(), NOW_MS - days * DAY_MS

    def sold() -> tuple[int, Any, Any]:
        pace = asked.evaluator.pace(at_ms)
        week = asked.evaluator.pace(at_ms + 7 * DAY_MS).last_week
        return pace.so_far.orders, pace.so_far.revenue, week and week.so_far

    order = {"type": "purchase", "order_id": "o1", "amount": "7.50", "checkout_id": None}
    asked.add(order | {"ts_ms": at_ms - HOUR_MS})
    asked.evaluator.tick(NOW_MS)
    assert sold()[:2] == (1, Decimal("7.50"))
    for n in (1, 2):  # the same order once more, and another one
        late_ms = NOW_MS + n * MINUTE_MS
        more = order | {"ts_ms": at_ms - HOUR_MS // n, "order_id": f"o{n}", "received_ms": late_ms}
        asked.log.add([more])
        asked.log.now_ms = late_ms
        asked.evaluator.tick(late_ms)
        orders, revenue, then = sold()
        assert (orders, revenue) == (n, n * Decimal("7.50"))
        assert then is not None
        assert (then.orders, then.revenue) == (orders, revenue)
