"""Abandonment and the funnel against a plain reference, for any order of events."""

from __future__ import annotations

import itertools
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal
from statistics import median
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from business_metrics.abandonment import cohorts, fold, split
from business_metrics.events import money_units
from business_metrics.funnel import STEPS, funnel, parse_segment
from store.errors import BadInput
from store.model import EVENT_READ_SCHEMA

KINDS = [*STEPS, "payment_failed"]
Row = dict[str, Any]


def rows_of() -> st.SearchStrategy[list[Row]]:
    row = st.fixed_dictionaries(
        {
            "type": st.sampled_from(KINDS),
            "ts_ms": st.integers(0, 40).map(lambda n: n * 1_000),
            "session_id": st.sampled_from(["s1", "s2", "s3", None]),
            "checkout_id": st.sampled_from(["c1", "c2", "c3", "c4", None]),
            "device": st.sampled_from(["mobile", "desktop", None]),
            "bot": st.integers(0, 9).map(lambda n: n == 0),
            "test": st.integers(0, 9).map(lambda n: n == 0),
        }
    )
    return st.lists(row, max_size=40)


def table(rows: list[Row]) -> pa.Table:
    blank: Row = {field.name: None for field in EVENT_READ_SCHEMA}
    blank |= {"event_id": "e", "source": "shop", "received_ms": 0, "seq": 0}
    full = [blank | row for row in rows]
    return pa.Table.from_pylist(full, schema=EVENT_READ_SCHEMA)


def naive_cohort(rows: list[Row], start: int, end: int, now: int, timeout: int) -> list[int]:
    """Started, completed and abandoned, checkout by checkout."""
    by_checkout = defaultdict(list)
    for row in rows:
        if row["checkout_id"] is not None:
            by_checkout[row["checkout_id"]].append(row)
    counts = [0, 0, 0]
    for events in by_checkout.values():
        begins = [e["ts_ms"] for e in events if e["type"] == "begin_checkout"]
        ignored = any(e["bot"] or e["test"] for e in events)
        if ignored or not begins or not start <= min(begins) < end:
            continue
        counts[0] += 1
        if any(e["type"] == "purchase" and e["ts_ms"] <= now for e in events):
            counts[1] += 1
        elif max(e["ts_ms"] for e in events) <= now - timeout:
            counts[2] += 1
    return counts


@settings(deadline=None, max_examples=150)
@given(rows_of(), st.integers(40, 70))
def test_cohorts_count_as_the_definition_says(rows: list[Row], now_s: int) -> None:
    checkouts = fold(table(rows))
    points = cohorts(checkouts, range(0, 51_000, 10_000), now_s * 1_000, 15)
    for point in points:
        expected = naive_cohort(rows, point.at_ms, point.at_ms + 10_000, now_s * 1_000, 15_000)
        assert [point.started, point.completed, point.abandoned] == expected
        assert point.provisional == (point.at_ms + 10_000 > (now_s - 15) * 1_000)
        if point.rate is not None:
            assert point.low is not None
            assert point.high is not None
            assert 0 <= point.low <= point.rate <= point.high <= 1


@settings(deadline=None, max_examples=60)
@given(rows_of())
def test_the_values_of_a_segment_share_out_every_checkout(rows: list[Row]) -> None:
    checkouts = fold(table(rows))
    assert sum(len(part) for _, part in split(checkouts, "device")) == len(checkouts)


def naive_funnel(rows: list[Row]) -> list[tuple[str, int, float | None]]:
    genuine = [r for r in rows if r["session_id"] and not r["bot"] and not r["test"]]
    sent = {r["type"] for r in genuine}
    passed = {r["session_id"]: -1 for r in genuine}
    out: list[tuple[str, int, float | None]] = []
    for step in STEPS:
        if step not in sent and step not in {"begin_checkout", "purchase"}:
            continue
        now: dict[str, int] = {}
        for session, before in passed.items():
            times = [
                r["ts_ms"]
                for r in genuine
                if r["session_id"] == session and r["type"] == step and r["ts_ms"] >= before
            ]
            if times:
                now[session] = min(times)
        took = [(now[s] - passed[s]) / 1_000 for s in now]
        out.append((step, len(now), median(took) if out and took else None))
        passed = now
    return out


@settings(deadline=None, max_examples=150)
@given(rows_of(), st.integers(0, 40))
def test_the_funnel_is_closed_and_in_order(rows: list[Row], cut: int) -> None:
    found = funnel([table(rows[:cut]), table(rows[cut:])])
    flat = [(s.name, s.sessions, s.median_seconds_from_previous) for s in found]
    assert flat == naive_funnel(rows)
    for before, after in itertools.pairwise(found):
        assert after.sessions <= before.sessions


def test_a_funnel_may_be_of_one_segment() -> None:
    rows = [
        {"type": kind, "ts_ms": n, "session_id": device, "device": device, "bot": 0, "test": 0}
        for n, kind in enumerate(["begin_checkout", "purchase"])
        for device in ("mobile", "desktop")
    ]
    steps = funnel(
        [table([row | {"bot": False, "test": False} for row in rows])], ("device", "mobile")
    )
    assert [s.sessions for s in steps] == [1, 1]
    assert steps[1].conversion_from_previous == 1.0


@pytest.mark.parametrize("text", ["device", "colour:red", ":mobile"])
def test_a_segment_written_another_way_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="device"):
        parse_segment(text)


AMOUNTS = st.decimals(0, 10**9, places=4, allow_nan=False)
RATES = st.decimals("0.000001", 1_000, places=6)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(AMOUNTS, st.sampled_from(["EUR", "USD", "GBP", "JPY", None])), max_size=20),
    RATES,
    RATES,
)
def test_other_currencies_are_converted_exactly_or_left_out(
    sold: list[tuple[Decimal, str | None]], dollar: Decimal, pound: Decimal
) -> None:
    rates = {"USD": dollar, "GBP": pound}
    worth: dict[str | None, Decimal] = {"EUR": Decimal(1), None: Decimal(1)}
    worth.update(rates.items())
    rows: list[Row] = [
        {"type": "purchase", "ts_ms": 0, "amount": amount, "currency": currency}
        | {"bot": False, "test": False}
        for amount, currency in sold
    ]
    expected = [
        int((amount * 10_000 * worth.get(currency, 0)).to_integral_value(ROUND_HALF_EVEN))
        for amount, currency in sold
    ]
    assert money_units(table(rows), "EUR", rates).tolist() == expected
