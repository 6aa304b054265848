"""What a tick says of checkouts and sessions against counting everything anew, by hand.

Events come late, out of order, in any number of deliveries; the service restarts in between.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from business_metrics.abandonment import SEGMENTS, fold, outcome
from business_metrics.checkout_table import CheckoutTable
from business_metrics.keyed_rows import KeyedRows, worth_keeping
from business_metrics.searches import hunts
from business_metrics.session_table import SessionTable
from store.model import EVENT_READ_SCHEMA
from tests.business_metrics.simulated_shop import NOW_MS, Log, Shop, event, reading

MINUTE_MS = 60_000
TIMEOUT_MS, WINDOW_MS = 30 * MINUTE_MS, 60 * MINUTE_MS
KINDS = [
    *("begin_checkout", "begin_checkout", "add_payment_info", "purchase", "payment_failed"),
    *("search", "view_item", "refund"),
]
Row = dict[str, Any]


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[Row]]:
    """Events of 95 minutes, in up to five deliveries; each arrives up to 95 minutes late."""
    row = st.fixed_dictionaries(
        {
            "type": st.sampled_from(KINDS),
            "ts_ms": st.integers(-95 * 60, 0).map(lambda n: NOW_MS + n * 1_000),
            "session_id": st.sampled_from(["s1", "s2", "s3", None]),
            "checkout_id": st.sampled_from([*(f"c{n}" for n in range(8)), None]),
            "device": st.sampled_from(["mobile", "desktop", None]),
            "returning": st.sampled_from([True, False, None]),
            "bot": st.integers(0, 14).map(lambda n: n == 0),
        }
    )
    return draw(st.lists(st.lists(row, max_size=12), min_size=1, max_size=5))


def naive(rows: list[Row], begin_ms: int, end_ms: int, now_ms: int) -> tuple[int, int, int]:
    by_checkout: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["checkout_id"] is not None:
            by_checkout[row["checkout_id"]].append(row)
    counts = [0, 0, 0]
    for own in by_checkout.values():
        begun = [row["ts_ms"] for row in own if row["type"] == "begin_checkout"]
        if any(row["bot"] for row in own) or not begun or not begin_ms <= min(begun) < end_ms:
            continue
        counts[0] += 1
        if any(row["type"] == "purchase" and row["ts_ms"] <= now_ms for row in own):
            counts[1] += 1
        elif max(row["ts_ms"] for row in own) <= now_ms - TIMEOUT_MS:
            counts[2] += 1
    return counts[0], counts[1], counts[2]


@settings(deadline=None, max_examples=15)
@given(deliveries(), st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_tick_says_what_counting_anew_says_over_restarts(
    parts: list[list[Row]], restarts: list[bool]
) -> None:
    shop, rows = Shop(Log(), baseline_weeks=1), []
    now_ms, tick = NOW_MS, shop.tick(NOW_MS - 5_000)
    for place, (part, restart) in enumerate(zip(parts, restarts, strict=False)):
        now_ms = NOW_MS + place * 5_000
        rows += part
        shop.log.add([row | {"received_ms": now_ms} for row in part])
        if restart:
            shop.restart()
        tick = shop.tick(now_ms)
        matured_ms = now_ms - TIMEOUT_MS
        shown = reading(tick, "checkout_abandonment")
        started, completed, abandoned = naive(rows, matured_ms - WINDOW_MS, matured_ms, now_ms)
        assert shown.detail["started"] == started
        assert shown.detail["decided"] == completed + abandoned
        rate = abandoned / (completed + abandoned) if completed + abandoned else None
        assert shown.value == rate
        young = naive(rows, matured_ms, now_ms + 1, now_ms)
        assert reading(tick, "checkout_abandonment_live").reason.startswith(
            f"{young[1]} of {young[0]} young"
        )
    if len(parts) == 1 or restarts[len(parts) - 1]:
        # Conversion is counted once a minute, so only a first tick shows the latest.
        since_ms = now_ms - WINDOW_MS
        recent = [r for r in rows if r["session_id"] and not r["bot"] and r["ts_ms"] >= since_ms]
        bought = {r["session_id"] for r in recent if r["type"] == "purchase"}
        seen = {r["session_id"] for r in recent}
        said = reading(tick, "conversion").reason
        assert said == f"{len(bought)} of {len(seen)} sessions bought"


def table(rows: list[Row]) -> pa.Table:
    blank = event(type="x", ts_ms=0) | {"seq": 0}
    return pa.Table.from_pylist([blank | row for row in rows], schema=EVENT_READ_SCHEMA)


@settings(deadline=None, max_examples=60)
@given(deliveries())
def test_parts_add_up_to_the_whole_in_any_cut(parts: list[list[Row]]) -> None:
    checkouts, sessions = CheckoutTable(), SessionTable(TIMEOUT_MS // 1_000)
    for part in parts:
        checkouts.add(table(part))
        sessions.add(table(part))
        sessions.hunts()
    rows = [row for part in parts for row in part]
    told, whole = checkouts.started(0, 2 * NOW_MS), fold(table(rows))
    for of_parts, of_all in ((told, whole), (sessions.hunts(), hunts([table(rows)], 1_800))):
        assert sorted(
            zip(of_parts.start_ms, of_parts.last_ms, of_parts.purchased_ms, strict=True)
        ) == sorted(zip(of_all.start_ms, of_all.last_ms, of_all.purchased_ms, strict=True))
    for name in SEGMENTS:
        by = [
            sorted(
                (part.segments[name][1][code], at)
                for code, at in zip(codes, part.start_ms, strict=True)
            )
            for part in (told, whole)
            for codes in [part.segments[name][0]]
        ]
        assert by[0] == by[1]
    assert [n.sum() for n in outcome(told, NOW_MS, 1_800)] == [
        n.sum() for n in outcome(whole, NOW_MS, 1_800)
    ]


def test_what_is_old_is_let_go_and_the_rest_stays_as_it_was() -> None:
    checkouts, sessions = CheckoutTable(), SessionTable(1_800)
    for first in range(0, 6_000, 500):
        rows = [
            {"type": kind, "ts_ms": n * 1_000, key: f"{key}{n}", "device": f"d{n % 3 + n // 3_000}"}
            for n in range(first, first + 500)
            for kind, key in (("search", "session_id"), ("begin_checkout", "checkout_id"))
        ]
        checkouts.add(table(rows))
        sessions.add(table(rows))
    checkouts.forget(4_000_000)
    sessions.forget(4_000_000)
    assert len(checkouts) == len(sessions) == 2_000
    assert sorted(checkouts.started(0, NOW_MS).start_ms) == [n * 1_000 for n in range(4_000, 6_000)]
    codes, values = checkouts.started(5_000_000, NOW_MS).segments["device"]
    assert {values[code] for code in codes} == {"d1", "d2", "d3"}
    assert sorted(sessions.hunts().start_ms) == [n * 1_000 for n in range(4_000, 6_000)]
    assert sessions.counts(5_000_000) == (1_000, 0)
    sessions.add(table([{"type": "view_item", "ts_ms": 5_999_500, "session_id": "session_id5999"}]))
    assert int((sessions.hunts().purchased_ms == 5_999_500).sum()) == 1


def test_of_too_many_rows_the_latest_stay() -> None:
    rows = KeyedRows({"last": 0})
    rows.column("last")
    rows.rows(map(str, range(5_000)))
    rows.column("last")[:] = range(5_000)
    chosen = worth_keeping(rows.column("last"), 0, 1_000)
    assert chosen is not None
    now = rows.keep(chosen)
    assert rows.keys == tuple(map(str, range(4_250, 5_000)))
    assert now[4_250] == 0
    assert (now[:4_250] == -1).all()
    assert rows.rows(["7", "4999"]).tolist() == [750, 749]
    # A few more do not make it work again.
    assert worth_keeping(np.arange(800), 0, 1_000) is None
    assert rows.column("last").tolist()[-2:] == [4_999, 0]


def test_a_few_old_rows_are_not_worth_the_work() -> None:
    rows = KeyedRows({"last": 0})
    rows.rows(map(str, range(100)))
    assert worth_keeping(rows.column("last"), 1, 1_000) is None
