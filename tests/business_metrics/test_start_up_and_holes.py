"""Nothing may be judged missing that was never collected; a real outage pages all the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from business_metrics.baseline import Baseline
from business_metrics.minute_history import MinuteHistory
from business_metrics.settings import BusinessSettings
from tests.business_metrics.simulated_shop import (
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    WEEK_MS,
    Log,
    Shop,
    go_on,
    poisson,
)

NOW_MIN = NOW_MS // MINUTE_MS
WEEK_MIN = WEEK_MS // MINUTE_MS


def past(log: Log, week: int, before_min: int, after_min: int, rate: float, seed: int = 5) -> None:
    """Orders around this time some weeks ago."""
    middle_ms = NOW_MS - week * WEEK_MS
    rng = np.random.default_rng(seed + week)
    ends = middle_ms - before_min * MINUTE_MS, middle_ms + after_min * MINUTE_MS
    log.add_orders(poisson(rng, *ends, rate))


def level_of_history(rate: float) -> Log:
    log = Log()
    for week in (4, 3, 2, 1):
        past(log, week, 240, 120, rate)
    return log


def half_filled_weeks() -> Log:
    """As a demo looks while its history is being written: today, one week, a bit of another."""
    log = Log()
    past(log, 4, 180, 90, 60)
    past(log, 3, 180, -150, 60)
    go_on(log, 180, 60, start_ms=NOW_MS - 3 * HOUR_MS)
    return log


def holes_in_the_weeks() -> Log:
    log = Log()
    past(log, 2, 240, -60, 60)
    past(log, 1, 240, -200, 60)
    past(log, 1, 15, 120, 60, seed=8)
    go_on(log, 230, 60, start_ms=NOW_MS - 230 * MINUTE_MS)
    return log


def nothing() -> Log:
    return Log()


@pytest.mark.parametrize("pause_min", [0, 40])
@pytest.mark.parametrize(
    "history",
    [
        nothing,
        half_filled_weeks,
        holes_in_the_weeks,
        lambda: level_of_history(60 / 12),
        lambda: level_of_history(60 / 0.3),
        lambda: level_of_history(60 * 12),
    ],
    ids=["new", "half_filled", "holes", "level_12", "level_0.3", "level_0.08"],
)
def test_a_shop_that_begins_to_be_heard_raises_no_alarm(
    history: Callable[[], Log], pause_min: int
) -> None:
    log = history()
    begin_ms = NOW_MS + pause_min * MINUTE_MS
    go_on(log, 45, 60, start_ms=begin_ms + 8_000, seed=6)
    shop = Shop(log)
    assert shop.breaches(begin_ms, begin_ms + 5 * MINUTE_MS) == []
    assert shop.breaches(begin_ms + 5 * MINUTE_MS, begin_ms + 45 * MINUTE_MS, 20_000) == []


def test_history_written_while_the_shop_already_sells_raises_no_alarm() -> None:
    log = Log()
    live = np.sort(poisson(np.random.default_rng(3), NOW_MS, NOW_MS + 10 * MINUTE_MS, 60))
    shop = Shop(log)
    shop.tick(NOW_MS - 10_000)
    batches = [(0, 180 - 12 * n, 12 * n - 168) for n in range(15)]
    batches += [(week, 180 - 27 * n, 27 * n - 153) for week in (4, 3, 2, 1) for n in range(10)]
    for step, now_ms in enumerate(range(NOW_MS, NOW_MS + 10 * MINUTE_MS, 5_000)):
        log.add_orders(live[(live >= now_ms - 5_000) & (live < now_ms)])
        if step < len(batches):
            past(log, *batches[step], 60)
        assert not shop.orders(now_ms).breached


@pytest.mark.parametrize("stop_s", [5, 60, 600])
def test_an_outage_across_a_restart_pages_within_thirty_seconds_of_its_end(stop_s: int) -> None:
    shop = Shop(weeks_until_now())
    for now_ms in range(NOW_MS - 60_000, NOW_MS + 1, 5_000):
        assert not shop.orders(now_ms).breached
    shop.restart()
    back_ms = NOW_MS + stop_s * 1_000
    changes = shop.breaches(back_ms, back_ms + MINUTE_MS)
    assert [breached for _, breached in changes] == [True]
    assert changes[0][0] - back_ms <= 30_000


def weeks_until_now() -> Log:
    log = level_of_history(60)
    go_on(log, 240, 60, start_ms=NOW_MS - 4 * HOUR_MS)
    return log


@pytest.mark.parametrize(("stop_s", "retry_s"), [(10, 8), (300, 28)])
def test_a_restart_of_a_healthy_shop_whose_senders_pause_raises_no_alarm(
    stop_s: int, retry_s: int
) -> None:
    log = weeks_until_now()
    back_ms = NOW_MS + stop_s * 1_000
    rng = np.random.default_rng(7)
    ts = np.sort(poisson(rng, back_ms // MINUTE_MS * MINUTE_MS, back_ms + 20 * MINUTE_MS, 60))
    # What happened during the stop is lost; what happened in the pause comes after it.
    log.add_orders(ts[ts >= back_ms])
    received = np.maximum(log.table["ts_ms"].to_numpy(), back_ms + retry_s * 1_000)
    received[log.table["ts_ms"].to_numpy() < back_ms] = NOW_MS - 1
    place = log.table.schema.get_field_index("received_ms")
    log.table = log.table.set_column(place, log.table.schema.field(place), pa.array(received))
    assert Shop(log).breaches(back_ms, back_ms + 6 * MINUTE_MS, 5_000) == []


def test_ticks_that_came_to_a_halt_leave_a_hole_that_is_not_judged() -> None:
    log = weeks_until_now()
    go_on(log, 10, 60, start_ms=NOW_MS + 4 * MINUTE_MS, seed=7)
    shop = Shop(log)
    assert shop.breaches(NOW_MS - MINUTE_MS, NOW_MS) == []
    assert shop.breaches(NOW_MS + 4 * MINUTE_MS, NOW_MS + 12 * MINUTE_MS) == []


def test_a_shop_that_stays_silent_after_a_long_stop_is_found_in_minutes() -> None:
    shop = Shop(weeks_until_now())
    begin_ms = NOW_MS + 50 * MINUTE_MS
    changes = shop.breaches(begin_ms, begin_ms + 10 * MINUTE_MS)
    assert [breached for _, breached in changes] == [True]
    assert 5 * MINUTE_MS <= changes[0][0] - begin_ms <= 6 * MINUTE_MS


def test_a_shop_that_was_closed_in_every_week_is_not_expected_to_sell() -> None:
    log = Log()
    for week in (3, 2, 1):
        past(log, week, 600, 0, 60)
        past(log, week, -480, 900, 60, seed=9)
    go_on(log, 600, 60, start_ms=NOW_MS - 600 * MINUTE_MS)
    assert Shop(log).breaches(NOW_MS - MINUTE_MS, NOW_MS + 30 * MINUTE_MS, 10_000) == []


HOLES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(-300, 100), st.integers(1, 300)), max_size=6
)


@settings(deadline=None, max_examples=60)
@given(HOLES, st.sampled_from([0.02, 0.3, 1.0, 12.0]), st.integers(0, 4), st.integers(0, 5))
def test_an_expectation_is_a_number_and_never_far_above_what_the_shop_sells(
    holes: list[tuple[int, int, int]], level: float, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    history = MinuteHistory(60)
    for week in range(count + 1):
        rate = 60.0 if week == 0 else 60.0 / level
        minutes = np.arange(NOW_MIN - 300, NOW_MIN + (0 if week == 0 else 120)) - week * WEEK_MIN
        counts = rng.poisson(rate, len(minutes))
        for where, begin, length in holes:
            middle = NOW_MIN - where * WEEK_MIN
            inside = (minutes >= middle + begin) & (minutes < middle + begin + length)
            counts[(where == week) & inside] = 0
        ts = np.repeat(minutes, counts) * MINUTE_MS
        history.add(ts, np.zeros(len(ts), dtype=np.int64))
    baseline = Baseline(history, BusinessSettings())
    found = baseline.expect(NOW_MIN - 61, NOW_MIN + 2, NOW_MIN - 10, ())
    assert np.isfinite(found.per_minute).all()
    assert np.isfinite(found.cv)
    assert (found.per_minute < 60 * 1.35).all(), found.source
