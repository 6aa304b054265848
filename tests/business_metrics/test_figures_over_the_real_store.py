"""Cohorts and orders over the real store against a naive count, by the store's own days.

Events come twice, late, out of order and around midnights, also those of a day of 25 hours.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from business_metrics.evaluation import BusinessEvaluator
from business_metrics.queries import cohort_edges
from business_metrics.settings import BusinessSettings
from store.errors import BadInput
from store.model import EVENT_SCHEMA, EventBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.business_metrics.simulated_shop import event

BERLIN = ZoneInfo("Europe/Berlin")
TIMEOUT_MS = 1_800_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


def midnight_ms(year: int, month: int, day: int) -> int:
    return round(datetime(year, month, day, tzinfo=BERLIN).timestamp() * 1_000)


# Summer time ends on this Sunday: it has 25 hours. Cohorts are asked for from the Saturday on.
SATURDAY_MS, SUNDAY_MS = midnight_ms(2026, 10, 24), midnight_ms(2026, 10, 25)
MONDAY_MS, TUESDAY_MS = midnight_ms(2026, 10, 26), midnight_ms(2026, 10, 27)
AS_OF_MS = MONDAY_MS + 90 * MINUTE_MS
# Checkout, type, instant.
Row = tuple[int, str, int]


@st.composite
def journeys(draw: st.DrawFn) -> list[Row]:
    """Checkouts that begin around a midnight; some are bought, soon or the day after."""
    rows: list[Row] = []
    for checkout in range(draw(st.integers(1, 8))):
        midnight = draw(st.sampled_from([SUNDAY_MS, MONDAY_MS]))
        begun = midnight + draw(st.integers(-90, 89)) * MINUTE_MS + draw(st.integers(-1, 1))
        rows.append((checkout, "begin_checkout", begun))
        kinds = draw(st.lists(st.sampled_from(["add_shipping_info", "purchase"]), max_size=2))
        rows += [(checkout, kind, begun + draw(st.integers(0, 40)) * MINUTE_MS) for kind in kinds]
        if draw(st.booleans()):
            rows.append((checkout, "purchase", begun + 20 * HOUR_MS))
    return draw(st.permutations(rows))


def naive(rows: list[Row], start_ms: int, end_ms: int) -> tuple[int, int, int]:
    """Started, completed and abandoned of one day, by the definition, one checkout at a time."""
    started = completed = abandoned = 0
    for checkout in {row[0] for row in rows}:
        own = [row for row in rows if row[0] == checkout]
        begun = min(ts for _, kind, ts in own if kind == "begin_checkout")
        if not start_ms <= begun < end_ms:
            continue
        started += 1
        if any(kind == "purchase" and ts <= AS_OF_MS for _, kind, ts in own):
            completed += 1
        elif max(ts for _, _, ts in own) + TIMEOUT_MS <= AS_OF_MS:
            abandoned += 1
    return started, completed, abandoned


def batch(rows: list[Row]) -> EventBatch:
    table = []
    for checkout, kind, ts in rows:
        row = event(type=kind, ts_ms=ts, checkout_id=f"c{checkout}", amount="9.99")
        del row["seq"]
        table.append(row | {"event_id": f"{checkout}-{kind}-{ts}", "received_ms": AS_OF_MS})
    return EventBatch(pa.Table.from_pylist(table, schema=EVENT_SCHEMA))


@pytest.fixture(scope="module")
def zone() -> BusinessSettings:
    return BusinessSettings(time_zone="Europe/Berlin")


# Each example has a store of its own.
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(rows=journeys(), cut=st.integers(0, 100), again=st.integers(0, 100))
def test_days_count_as_the_definition_says_however_events_arrive(
    zone: BusinessSettings, rows: list[Row], cut: int, again: int
) -> None:
    place, repeated = len(rows) * cut // 100, len(rows) * again // 100
    with open_store() as store:
        evaluator = BusinessEvaluator(store, Engine(store), store, zone)
        # In two deliveries with a tick between; a part of the first comes once more.
        for part in (rows[:place], rows[:repeated], rows[place:]):
            if part:
                store.append(batch(part)).result(timeout=30)
            evaluator.tick(AS_OF_MS)
        answer = evaluator.abandonment(SATURDAY_MS + 1, AS_OF_MS, "day")
        sold = evaluator.orders(SATURDAY_MS, AS_OF_MS, HOUR_MS)
    days = [SATURDAY_MS, SUNDAY_MS, MONDAY_MS, TUESDAY_MS]
    points = answer.series[0].points
    assert [point.at_ms for point in points] == days[:-1]
    for point, (start_ms, end_ms) in zip(points, pairwise(days), strict=True):
        found = (point.started, point.completed, point.abandoned)
        assert found == naive(rows, start_ms, end_ms)
    bought = {row for row in rows if row[1] == "purchase" and row[2] < AS_OF_MS}
    assert sum(point.orders for point in sold.points) == len(bought)


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 7, 1), 24)],
)
def test_a_day_is_as_long_as_on_the_wall_clock(day: tuple[int, int, int], hours: int) -> None:
    noon_ms = midnight_ms(*day) + 12 * HOUR_MS
    begin, end = cohort_edges(noon_ms, noon_ms + 1, "day", BERLIN)
    assert begin == midnight_ms(*day)
    assert (end - begin) / HOUR_MS == hours


@given(st.integers(0, 700), st.integers(1, 3 * 24 * 60))
def test_days_leave_no_gap_and_hold_the_whole_range(first: int, minutes: int) -> None:
    start = datetime(2026, 3, 1, tzinfo=BERLIN) + timedelta(hours=first)
    start_ms = round(start.timestamp() * 1_000)
    edges = cohort_edges(start_ms, start_ms + minutes * MINUTE_MS, "day", BERLIN)
    assert edges == sorted(set(edges))
    assert edges[0] <= start_ms < edges[1]
    assert edges[-2] < start_ms + minutes * MINUTE_MS <= edges[-1]
    for edge in edges:
        assert datetime.fromtimestamp(edge / 1_000, BERLIN).strftime("%H:%M") == "00:00"


def test_days_without_end_are_refused() -> None:
    with pytest.raises(BadInput, match="400 days"):
        cohort_edges(0, 401 * 24 * HOUR_MS, "day", BERLIN)


@pytest.mark.parametrize("step", [1_000, MINUTE_MS, HOUR_MS])
def test_other_steps_are_cut_from_the_start_on(step: int) -> None:
    edges = cohort_edges(7, 7 + 3 * step + 1, step, BERLIN)
    assert edges == [7 + n * step for n in range(5)]
