"""Causes of abandonment and abandoned searches against plain references."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from business_metrics.abandonment import NEVER, SEGMENTS, cohorts, fold
from business_metrics.causes import CAUSES, causes_of, cohorts_by_cause
from business_metrics.searches import LOOKS, SEARCHES, hunts
from store.model import EVENT_READ_SCHEMA
from store.ports import TROUBLED_SCHEMA

Row = dict[str, Any]
TIMEOUT_S = 10
TIMEOUT_MS = TIMEOUT_S * 1_000
KINDS = ("begin_checkout", "add_payment_info", "purchase", "payment_failed", "out_of_stock")


def table(rows: list[Row]) -> pa.Table:
    blank: Row = {field.name: None for field in EVENT_READ_SCHEMA}
    blank |= {"event_id": "e", "source": "shop", "received_ms": 0, "seq": 0}
    blank |= {"bot": False, "test": False}
    return pa.Table.from_pylist([blank | row for row in rows], schema=EVENT_READ_SCHEMA)


def troubled(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TROUBLED_SCHEMA)


SECONDS = st.integers(0, 40).map(lambda n: n * 1_000)
TRACES = st.sampled_from([b"1", b"2", b"3"])
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(KINDS),
            "ts_ms": SECONDS,
            "session_id": st.sampled_from(["s1", "s2", None]),
            "checkout_id": st.sampled_from(["c1", "c2", "c3", None]),
            "trace_id": st.none() | TRACES,
        }
    ),
    max_size=25,
)
REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "trace_id": TRACES,
            "session_id": st.sampled_from(["s1", "s2", "s3", None]),
            "ts_ms": SECONDS,
            "failed": st.booleans(),
        }
    ),
    max_size=3,
    unique_by=lambda row: row["trace_id"],
)


def naive_cause(checkout: str, rows: list[Row], requests: list[Row]) -> str:
    """The gravest trouble that a checkout's visitor met, looked up one by one."""
    own = [r for r in rows if r["checkout_id"] == checkout]
    start = min(r["ts_ms"] for r in own if r["type"] == "begin_checkout")
    end = max(r["ts_ms"] for r in own) + TIMEOUT_MS
    sessions = {r["session_id"] for r in own} - {None}
    met = {r["type"] for r in own}
    for row in rows:
        loose = row["checkout_id"] is None and row["session_id"] in sessions
        if loose and start <= row["ts_ms"] <= end:
            met.add(row["type"])
    for request in requests:
        by_trace = request["trace_id"] in {r["trace_id"] for r in own}
        by_session = request["session_id"] in sessions and start <= request["ts_ms"] <= end
        if by_trace or by_session:
            met.add("error" if request["failed"] else "slow_page")
    order = ("payment_failed", "out_of_stock", "error", "slow_page")
    return next((CAUSES[n] for n, kind in enumerate(order) if kind in met), "none_seen")


@settings(deadline=None, max_examples=200)
@given(EVENTS, REQUESTS)
def test_a_checkout_has_the_gravest_trouble_of_its_visitor(
    rows: list[Row], requests: list[Row]
) -> None:
    events = table(rows)
    checkouts = fold(events, keep_ids=True)
    found = causes_of(checkouts, events, troubled(requests), TIMEOUT_S)
    told = {c: CAUSES[n] for c, n in zip(checkouts.ids, found, strict=True)}
    assert told == {c: naive_cause(c, rows, requests) for c in checkouts.ids}


@settings(deadline=None, max_examples=100)
@given(EVENTS, REQUESTS, st.integers(20, 70))
def test_the_causes_add_up_to_the_whole(rows: list[Row], requests: list[Row], now_s: int) -> None:
    events = table(rows)
    checkouts = fold(events, keep_ids=True)
    causes = causes_of(checkouts, events, troubled(requests), TIMEOUT_S)
    edges, as_of = range(0, 51_000, 10_000), (now_s * 1_000, TIMEOUT_S)
    whole = cohorts(checkouts, edges, *as_of)
    parts = [points for _, points in cohorts_by_cause(checkouts, causes, edges, as_of)]
    for place, every in enumerate(whole):
        mine = [points[place] for points in parts]
        assert sum(p.abandoned for p in mine) == every.abandoned
        assert {(p.started, p.completed, p.provisional) for p in mine} == {
            (every.started, every.completed, every.provisional)
        }
        if not every.provisional and every.rate is not None:
            assert sum(p.rate or 0.0 for p in mine) == pytest.approx(every.rate)


def test_trouble_of_another_visitor_or_another_time_is_no_cause() -> None:
    rows = [
        {"type": "begin_checkout", "ts_ms": 20_000, "session_id": "s1", "checkout_id": "c1"},
        {"type": "out_of_stock", "ts_ms": 19_000, "session_id": "s1"},
        {"type": "out_of_stock", "ts_ms": 31_000, "session_id": "s1"},
        {"type": "out_of_stock", "ts_ms": 21_000, "session_id": "s2"},
    ]
    events = table(rows)
    checkouts = fold(events, keep_ids=True)
    found = causes_of(checkouts, events, troubled([]), TIMEOUT_S)
    assert [CAUSES[n] for n in found] == ["none_seen"]


SEARCHING = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from([*SEARCHES, *LOOKS[:3]]),
            "ts_ms": st.integers(0, 60).map(lambda n: n * 1_000),
            "session_id": st.sampled_from(["s1", "s2", None]),
            "bot": st.integers(0, 9).map(lambda n: n == 0),
        }
    ),
    max_size=30,
)


def naive_hunts(rows: list[Row]) -> list[tuple[int, int, int]]:
    """First search, last search and first look of each hunt, session by session."""
    sessions = defaultdict(list)
    for row in rows:
        if row["session_id"] and not row["bot"]:
            sessions[row["session_id"]].append((row["ts_ms"], row["type"] in LOOKS))
    found = []
    for events in sessions.values():
        run: list[int] = []
        for ts, look in [*sorted(events), (NEVER, False)]:
            late = bool(run) and ts - run[-1] > TIMEOUT_MS
            if run and (look or late):
                found.append((run[0], run[-1], ts if look and not late else NEVER))
                run = []
            if not look and ts != NEVER:
                run.append(ts)
    return sorted(found)


@settings(deadline=None, max_examples=300)
@given(SEARCHING, st.lists(st.integers(0, 60_000), max_size=3))
def test_a_hunt_is_what_the_definition_says(rows: list[Row], cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 60_001]
    parts = [
        table([row for row in rows if start <= row["ts_ms"] < end])
        for start, end in itertools.pairwise(edges)
    ]
    found = hunts(parts, TIMEOUT_S, tuple(SEGMENTS))
    told = zip(
        found.start_ms.tolist(), found.last_ms.tolist(), found.purchased_ms.tolist(), strict=True
    )
    assert sorted(told) == naive_hunts(rows)
    assert all(len(codes) == len(found) for codes, _ in found.segments.values())


def test_a_visitor_who_searches_again_is_still_on_the_same_hunt() -> None:
    rows = [
        {"type": "search", "ts_ms": 1_000, "session_id": "s", "device": "mobile"},
        {"type": "view_search_results", "ts_ms": 6_000, "session_id": "s", "device": "mobile"},
        {"type": "select_item", "ts_ms": 9_000, "session_id": "s", "device": "mobile"},
        {"type": "search", "ts_ms": 30_000, "session_id": "s", "device": "mobile"},
    ]
    found = hunts([table(rows)], TIMEOUT_S, ("device",))
    points = cohorts(found, [0, 60_000], 120_000, TIMEOUT_S)
    assert (points[0].started, points[0].completed, points[0].abandoned) == (2, 1, 1)
    codes, values = found.segments["device"]
    assert [values[code] for code in codes] == ["mobile", "mobile"]
