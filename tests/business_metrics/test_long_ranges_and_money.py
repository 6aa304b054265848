"""What strangers found: long ranges read in pieces, coins, worths unknown, hunts that go on."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from business_metrics import event_slices, queries
from business_metrics import funnel as funnels
from business_metrics.event_slices import slices
from business_metrics.events import money
from business_metrics.exact_sums import total
from business_metrics.searches import hunts
from business_metrics.session_table import SessionTable
from store.errors import LimitExceeded
from store.model import EVENT_READ_SCHEMA, EVENT_SCHEMA, EventBatch
from store.testing import open_store
from tests.business_metrics.simulated_shop import NOW_MS, Log, Shop, event, reading

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
TIMEOUT_S = 1_800
Row = dict[str, Any]


def table(rows: list[Row]) -> pa.Table:
    full = [event(**row) | {"seq": place} for place, row in enumerate(rows)]
    return pa.Table.from_pylist(full, schema=EVENT_READ_SCHEMA)


def step(kind: str, ts_ms: int, session: str, **more: Any) -> Row:
    return {"type": kind, "ts_ms": ts_ms, "session_id": session, **more}


def test_a_step_that_a_segment_never_came_to_stays_in_its_funnel() -> None:
    rows = [
        step("view_item", 1, "a", device="desktop"),
        step("add_to_cart", 2, "a", device="desktop"),
        step("begin_checkout", 3, "a", device="desktop"),
        step("add_payment_info", 4, "a", device="desktop"),
        step("purchase", 5, "a", device="desktop"),
        step("view_item", 1, "b", device="mobile"),
        step("purchase", 9, "b", device="mobile"),
    ]
    found = funnels.funnel([table(rows)], ("device", "mobile"))
    assert [(s.name, s.sessions) for s in found] == [
        ("view_item", 1),
        ("add_to_cart", 0),
        ("begin_checkout", 0),
        ("add_payment_info", 0),
        # Bought past the funnel: not through it.
        ("purchase", 0),
    ]


def test_a_range_in_pieces_holds_each_event_once_of_disk_and_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_slices, "_ROWS", 5)
    at = [0, 1, 1, 5, 3_600_000, *range(3_600_001, 3_600_030), 90_000_000, 99_999_999, 100_000_000]
    rows = []
    for place, ts_ms in enumerate(at):
        row = event(type="view_item", ts_ms=ts_ms, session_id=f"s{place}")
        del row["seq"]
        rows.append(row | {"event_id": f"e{place}", "received_ms": 0})
    with open_store() as store:
        for part in (rows[::2], rows[1::2]):
            batch = EventBatch(pa.Table.from_pylist(part, schema=EVENT_SCHEMA))
            store.append(batch).result(timeout=30)
        found = list(slices(store, (0, 100_000_000), ("view_item",), ("session_id", "ts_ms")))
    assert all(part.column_names == ["session_id", "ts_ms"] for part in found)
    seen = pa.concat_tables(found).to_pylist()
    wanted = {(f"s{place}", ts_ms) for place, ts_ms in enumerate(at[:-1])}
    assert len(seen) == len(wanted)
    assert {(row["session_id"], row["ts_ms"]) for row in seen} == wanted


def test_more_visitors_than_memory_should_hold_are_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(funnels, "_MAX_ROWS", 3)
    rows = [step("view_item", n, f"s{n}") for n in range(4)]
    with pytest.raises(LimitExceeded, match="more than 3 steps"):
        funnels.funnel([table(rows)])
    with pytest.raises(LimitExceeded, match="more than 3 steps"):
        hunts([table([row | {"type": "search"} for row in rows])], TIMEOUT_S)


@pytest.mark.parametrize(
    ("currency", "shown"), [("KWD", "1.235"), ("EUR", "1.23"), ("JPY", "1.23")]
)
def test_money_is_shown_to_the_cent_or_the_thousandth(currency: str, shown: str) -> None:
    assert str(money(12_346, currency)) == shown


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**4), st.sampled_from(["EUR", "KWD"]))
def test_an_average_is_rounded_once(units: int, orders: int, currency: str) -> None:
    shown = money(Fraction(units, orders), currency)
    coin = Fraction(1, 1_000 if currency == "KWD" else 100)
    assert abs(Fraction(shown) - Fraction(units, orders * 10_000)) <= coin / 2


@given(st.lists(st.integers(-(10**17), 10**17), max_size=200))
def test_a_sum_is_exact_however_large(units: list[int]) -> None:
    assert total(np.asarray(units, dtype=np.int64)) == sum(units)


def test_revenue_of_absurd_amounts_does_not_turn_negative() -> None:
    log = Log()
    most = "9999999999999.9999"
    log.add(
        [
            {"type": "purchase", "ts_ms": NOW_MS - 60_000 + n, "amount": most, "order_id": f"o{n}"}
            for n in range(200)
        ]
    )
    shop = Shop(log)
    shop.tick(NOW_MS)
    point = shop.evaluator.orders(NOW_MS - HOUR_MS, NOW_MS, HOUR_MS).points[0]
    assert point.revenue == Decimal("1999999999999999.98")


def test_an_order_of_unknown_worth_does_not_cheapen_the_average() -> None:
    log = Log()
    at = NOW_MS - 30_000
    log.add(
        [
            {"type": "purchase", "ts_ms": at, "order_id": "a", "amount": "10"},
            {"type": "purchase", "ts_ms": at, "order_id": "b", "amount": "20"},
            {"type": "purchase", "ts_ms": at, "order_id": "c", "amount": "7", "currency": "CHF"},
        ]
    )
    tick = Shop(log).tick(NOW_MS)
    assert reading(tick, "average_order_value").value == 15.0
    assert reading(tick, "orders_per_minute").value == 3.0


def in_window(found: Any, now_ms: int) -> list[tuple[int, int, int]]:
    """The hunts that are judged at an instant."""
    matured_ms = now_ms - TIMEOUT_S * 1_000
    rows = zip(
        found.start_ms.tolist(), found.last_ms.tolist(), found.purchased_ms.tolist(), strict=True
    )
    return sorted(row for row in rows if matured_ms - HOUR_MS <= row[0] < matured_ms)


searched = st.lists(
    st.tuples(
        st.sampled_from(["search", "search", "search", "view_item"]),
        st.integers(-240, -1),
        st.sampled_from(["s1", "s2"]),
    ),
    max_size=25,
)


# So many that letting go of them is worth the work.
GONE = table([step("search", NOW_MS - 400 * MINUTE_MS, f"gone{n}") for n in range(1_500)])


@settings(deadline=None, max_examples=40)
@given(before=searched, after=searched)
def test_a_hunt_that_goes_on_keeps_its_beginning_when_old_sessions_are_let_go(
    before: list[tuple[str, int, str]], after: list[tuple[str, int, str]]
) -> None:
    parts = [
        [step(kind, NOW_MS + at * MINUTE_MS, who) for kind, at, who in told]
        for told in (before, after)
    ]
    sessions = SessionTable(TIMEOUT_S)
    sessions.add(GONE)
    sessions.add(table(parts[0]))
    sessions.forget(NOW_MS - 130 * MINUTE_MS)
    assert len(sessions) <= 2
    # What is older than what is kept comes no longer: see the feed.
    fresh = [row for row in parts[1] if row["ts_ms"] >= NOW_MS - 130 * MINUTE_MS]
    sessions.add(table(fresh))
    whole = hunts([table(parts[0] + fresh)], TIMEOUT_S)
    assert in_window(sessions.hunts(), NOW_MS) == in_window(whole, NOW_MS)


def test_a_hunt_of_hours_is_not_begun_anew_by_a_restart() -> None:
    log = Log()
    # A search every 25 minutes for four hours: one hunt, begun long before what is judged.
    log.add([step("search", NOW_MS - at * MINUTE_MS, "s") for at in range(240, 0, -25)])
    shop = Shop(log)
    shop.tick(NOW_MS - MINUTE_MS)
    shop.restart()
    assert reading(shop.tick(NOW_MS), "search_abandonment").value is None


def test_the_funnel_of_a_range_asks_for_no_column_that_it_does_not_need() -> None:
    asked: list[tuple[str, ...]] = []

    class Watched(Log):
        @override
        def events(
            self, start_ms: int, end_ms: int, *, types: Any = (), columns: Any = ()
        ) -> pa.Table:
            asked.append(tuple(columns))
            return super().events(start_ms, end_ms, types=types, columns=columns)

    queries.funnel(Watched(), 0, HOUR_MS, "device:mobile")
    assert set(asked) == {(*funnels.COLUMNS, "device")}
