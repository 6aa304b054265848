"""Calendar windows: budgets that begin anew by the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slos.calendar_window import CalendarMistake, CalendarWindow, parse_calendar
from slos.evaluation import SloEvaluator
from slos.model import SloStatus
from slos.spec import parse_slos
from store.model import Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store

BERLIN = "Europe/Berlin"


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1_000)


def local_text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def hours(window: CalendarWindow, at: str, zone: str) -> float:
    start_ms, end_ms = window.period(ms(at, zone))
    return (end_ms - start_ms) / 3_600_000


@pytest.mark.parametrize(
    ("duration", "start", "zone", "at", "begins", "ends"),
    [
        ("1d", "2026-01-01", BERLIN, "2026-11-27 00:00", "2026-11-27", "2026-11-28"),
        ("1d", "2026-01-01 06:00", "UTC", "2026-11-27 05:59", "2026-11-26 06:00",
         "2026-11-27 06:00"),
        ("1w", "2026-01-05", "UTC", "2026-11-27 12:00", "2026-11-23", "2026-11-30"),
        ("1M", "2026-01-01", "America/New_York", "2026-02-28 23:59", "2026-02-01", "2026-03-01"),
        ("1M", "2026-01-31", "UTC", "2026-03-01", "2026-02-28", "2026-03-31"),
        ("1Q", "2026-01-01", "Asia/Tokyo", "2026-11-27", "2026-10-01", "2027-01-01"),
        ("1Y", "2024-02-29", "UTC", "2026-11-27", "2026-02-28", "2027-02-28"),
        ("2w", "2026-12-07", "UTC", "2026-11-27", "2026-11-23", "2026-12-07"),
    ],
)  # fmt: skip
def test_a_period_begins_and_ends_by_local_time(
    duration: str, start: str, zone: str, at: str, begins: str, ends: str
) -> None:
    window = parse_calendar(duration, start, zone)
    assert window.period(ms(at, zone)) == (ms(begins, zone), ms(ends, zone))


def test_a_day_in_which_summer_time_changes_has_its_own_length() -> None:
    window = parse_calendar("1d", "2026-01-01", BERLIN)
    assert hours(window, "2026-03-28 12:00", BERLIN) == 24
    assert hours(window, "2026-03-29 12:00", BERLIN) == 23
    assert hours(window, "2026-10-25 12:00", BERLIN) == 25


@settings(deadline=None)
@given(
    st.sampled_from(["1d", "7d", "1w", "2w", "1M", "3M", "1Q", "1Y"]),
    st.integers(ms("2000-01-01"), ms("2100-01-01")).map(local_text),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe"]),
    st.integers(ms("1990-01-01"), ms("2090-01-01")),
)  # fmt: skip
def test_every_instant_lies_in_one_period_and_the_next_begins_where_it_ends(
    duration: str, start: str, zone: str, at_ms: int
) -> None:
    window = parse_calendar(duration, start, zone)
    begin_ms, end_ms = window.period(at_ms)
    assert begin_ms <= at_ms < end_ms
    assert window.period(end_ms)[0] == end_ms
    assert window.period(begin_ms - 1)[1] == begin_ms


@pytest.mark.parametrize(
    ("duration", "start", "zone", "part"),
    [
        ("1m", "2026-01-01", "UTC", "duration"),
        ("30h", "2026-01-01", "UTC", "duration"),
        ("2Y", "2026-01-01", "UTC", "duration"),
        ("1M", "next month", "UTC", "startTime"),
        ("1M", "2026-01-01T00:00:00+02:00", "UTC", "startTime"),
        ("1M", "2026-01-01", "Berlin", "timeZone"),
        ("1M", "2026-01-01", "../etc/passwd", "timeZone"),
    ],
)
def test_a_mistake_names_its_part_and_a_remedy(
    duration: str, start: str, zone: str, part: str
) -> None:
    with pytest.raises(CalendarMistake) as caught:
        parse_calendar(duration, start, zone)
    assert caught.value.part == part
    assert "write" in caught.value.hint


SLO = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: checkout}
spec:
  service: shop
  budgetingMethod: METHOD
  timeWindow:
    - duration: 1d
      isRolling: false
      calendar: {startTime: 2026-01-01 00:00:00, timeZone: Europe/Berlin}
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        counter: true
        bad: {metricSource: {spec: {query: "sum(requests_total{code='500'})"}}}
        total: {metricSource: {spec: {query: sum(requests_total)}}}
  objectives: [{target: 0.99SLICES}]
"""
MIDNIGHT_MS = ms("2026-11-27", BERLIN)


def traffic() -> SampleBatch:
    """A request a second from 22:00 to 04:00; one in ten fails until midnight, none after."""
    ts = np.arange(MIDNIGHT_MS - 7_200_000, MIDNIGHT_MS + 14_400_000, 10_000, dtype=np.int64)
    every = (ts - ts[0]) / 1_000
    bad = np.minimum(every, 7_200) * 0.1
    return SampleBatch(
        (
            Labels.of(__name__="requests_total", code="200"),
            Labels.of(__name__="requests_total", code="500"),
        ),
        np.repeat(np.arange(2, dtype=np.int32), len(ts)),
        np.tile(ts, 2),
        np.concatenate([every - bad, bad]),
    )


def at_the_minutes(text: str, *minutes: int) -> list[SloStatus]:
    with open_store() as store:
        store.append(traffic()).result(timeout=30)
        evaluator = SloEvaluator(Engine(store), store, parse_slos(text, "slos.yml"))
        found = []
        for minute in minutes:
            tick = evaluator.tick(MIDNIGHT_MS + minute * 60_000)
            assert all(health.ok for health in tick.health), tick.health
            found.append(tick.statuses[0])
        return found


def test_the_budget_begins_anew_at_midnight_in_the_shop_s_time_zone() -> None:
    text = SLO.replace("METHOD", "Occurrences").replace("SLICES", "")
    before, after, later = at_the_minutes(text, -1, 10, 180)
    assert before.error_budget_remaining == pytest.approx(-9, abs=0.05)
    assert before.resets_at_ms == MIDNIGHT_MS
    assert after.period_start_ms == MIDNIGHT_MS
    assert after.total_events == pytest.approx(600, rel=0.05)
    assert after.error_budget_remaining == pytest.approx(1, abs=0.2)
    assert later.total_events == pytest.approx(10_800, rel=0.01)
    assert later.error_budget_remaining == pytest.approx(1, abs=0.01)
    assert later.window_s == 86_400


def test_a_budget_of_time_slices_is_that_of_the_whole_period_from_the_first_minute_on() -> None:
    text = SLO.replace("METHOD", "Timeslices")
    text = text.replace("SLICES", ", timeSliceTarget: 0.95, timeSliceWindow: 1m")
    (late,) = at_the_minutes(text, -1)
    # Two hours of bad minutes, all but the first whole: 1 % of a day is 14.4 minutes.
    assert late.bad_events == pytest.approx(119, abs=1)
    assert late.error_budget_remaining == pytest.approx(1 - 119 / 14.4, abs=0.1)
    assert "slices of 1m were bad" in late.statement


def test_slices_that_count_by_their_ratio_weigh_a_quiet_minute_like_a_busy_one() -> None:
    text = SLO.replace("METHOD", "RatioTimeslices").replace("SLICES", ", timeSliceWindow: 1m")
    (late,) = at_the_minutes(text, -1)
    # A tenth of every minute fails.
    assert late.bad_events == pytest.approx(11.9, abs=0.1)
    assert late.sli == pytest.approx(0.9, abs=0.001)
    assert late.error_budget_remaining == pytest.approx(1 - 11.9 / 14.4, abs=0.02)


def test_utc_and_berlin_do_not_share_their_midnight() -> None:
    berlin = parse_calendar("1d", "2026-01-01", BERLIN).period(MIDNIGHT_MS)
    utc = parse_calendar("1d", "2026-01-01", "UTC").period(MIDNIGHT_MS)
    assert berlin[0] - utc[0] == 23 * 3_600_000
    assert datetime.fromtimestamp(berlin[0] / 1_000, UTC).hour == 23
