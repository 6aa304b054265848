"""The order rule where orders are few, come in clumps, or waver; counts beyond the last hour."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.shop_months import SwiftFeed, count
from business_metrics.baseline import Baseline
from business_metrics.calendar import SaleDay
from business_metrics.coverage import FeedCoverage
from business_metrics.dispersion import POISSON, dispersion
from business_metrics.expectation import Expectation
from business_metrics.memory import ForgetfulMemory
from business_metrics.minute_history import DAY_MIN, MINUTE_MS, MinuteHistory
from business_metrics.order_counts import EXACT_MS, OrderCounts
from business_metrics.order_rate import Evidence, back_to_usual
from business_metrics.order_watch import OrderWatch
from business_metrics.season import Season, Usual, usual_of
from business_metrics.settings import BusinessSettings

NOW_MS = 1_795_000_000_000 // 1_800_000 * 1_800_000
HOUR_MS = 3_600_000
THREE_DAYS = np.ones(3 * DAY_MIN, dtype=np.bool_)


def drawn(rate: float, start_ms: int, end_ms: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    total = random.poisson(rate * (end_ms - start_ms) / MINUTE_MS)
    return np.sort(random.integers(start_ms, end_ms, total))


@given(
    st.lists(st.integers(0, 4 * HOUR_MS), max_size=60),
    st.lists(st.integers(0, 4 * HOUR_MS), min_size=1, max_size=6),
    st.integers(0, MINUTE_MS),
)
def test_orders_before_the_last_hour_count_by_whole_minutes(
    after_ms: list[int], starts: list[int], into_ms: int
) -> None:
    begin_ms, end_ms = NOW_MS - 4 * HOUR_MS, NOW_MS + into_ms
    orders = np.sort(np.asarray([begin_ms + at for at in after_ms if at < 4 * HOUR_MS], np.int64))
    history = MinuteHistory(5)
    count(history, orders)
    feed = SwiftFeed(history)
    feed.fill(orders[orders >= end_ms - EXACT_MS - MINUTE_MS])
    feed.show(end_ms)
    counts = OrderCounts(feed)
    starts_ms = [begin_ms + start for start in starts]
    seen = counts.since(starts_ms, end_ms)
    for start_ms, told in zip(starts_ms, seen, strict=True):
        least = int(((orders >= start_ms) & (orders < end_ms)).sum())
        most = int(((orders >= start_ms - MINUTE_MS) & (orders < end_ms)).sum())
        assert least <= told <= most
        assert told == counts.between(start_ms, end_ms)[0]
        assert told == len(counts.instants(start_ms, end_ms))
        if start_ms >= end_ms - EXACT_MS + MINUTE_MS:
            assert told == least
    latest_ms = counts.latest_ms(end_ms, begin_ms)
    known = orders[orders < end_ms]
    assert latest_ms >= (int(known[-1]) if len(known) else begin_ms)
    assert latest_ms <= (int(known[-1]) + MINUTE_MS if len(known) else begin_ms)


def test_orders_that_come_by_themselves_are_poisson_over_a_day_with_a_peak() -> None:
    at = np.arange(3 * DAY_MIN)
    for mean_rate in (0.3, 5.0, 200.0):
        rates = mean_rate * np.exp(1.5 * np.sin(2 * np.pi * at / DAY_MIN))
        counts = np.random.default_rng(3).poisson(rates).astype(np.float64)
        assert dispersion(counts, THREE_DAYS) == POISSON


def test_clumps_vary_alike_at_every_rate_and_a_wavering_rate_the_more_the_higher_it_is() -> None:
    random = np.random.default_rng(5)
    at = np.arange(3 * DAY_MIN)
    rates = 20 * np.exp(1.2 * np.sin(2 * np.pi * at / DAY_MIN))
    clumped = dispersion((4 * random.poisson(rates / 4)).astype(np.float64), THREE_DAYS)
    assert clumped.at(20) == pytest.approx(4, rel=0.4)
    waver = np.repeat(random.gamma(25, 1 / 25, len(at) // 15), 15)
    wavering = dispersion(random.poisson(rates * waver).astype(np.float64), THREE_DAYS)
    # A relative variance of 1/25 over a quarter of an hour.
    assert wavering.at(20) == pytest.approx(1 + 20 * 15 / 25, rel=0.5)
    assert wavering.at(60) > 1.5 * wavering.at(20)


def test_what_varies_more_is_less_sure() -> None:
    plain = Expectation(0, np.ones(60), 0.06, "weeks", learned=4.0)
    rough = Expectation(
        0,
        np.ones(60),
        0.06,
        "weeks",
        learned=4.0,
        dispersion=dispersion(
            (4 * np.random.default_rng(1).poisson(1.0, 3 * DAY_MIN)).astype(np.float64), THREE_DAYS
        ),
    )
    assert rough.cv_over(50, 50) > 2 * plain.cv_over(50, 50)
    assert plain.cv_over(50, 5_000) == pytest.approx(math.hypot(0.06, 1 / math.sqrt(200)), rel=0.1)


def test_a_drop_to_anything_between_the_least_and_the_usual_may_be_a_promotions_end() -> None:
    seen = {ratio: Evidence(1_800, round(400 * ratio), 400.0, 0.05) for ratio in (0.1, 0.3, 0.5)}
    told = {ratio: back_to_usual(one, raised=4.0, above_usual=2.0) for ratio, one in seen.items()}
    assert told == {0.1: False, 0.3: True, 0.5: True}
    assert not back_to_usual(Evidence(1_800, 300, 400.0, 0.05), raised=4.0, above_usual=2.0)


def test_a_hole_keeps_its_beginning_when_the_feed_forgets_it() -> None:
    orders = np.arange(NOW_MS - HOUR_MS, NOW_MS + 4 * HOUR_MS, 20_000)
    orders = orders[(orders < NOW_MS - 300_000) | (orders >= NOW_MS)]
    feed, coverage = SwiftFeed(MinuteHistory(5)), FeedCoverage()
    feed.fill(orders)
    feed.pull(NOW_MS)
    coverage.observe(feed, NOW_MS)
    first = coverage.hole(feed)
    assert first is not None
    feed.fill(orders[orders >= NOW_MS + 2 * HOUR_MS])
    feed.pull(NOW_MS + 3 * HOUR_MS)
    again = coverage.hole(feed)
    assert again is not None
    assert again[0] == first[0] == NOW_MS - 320_000


@pytest.mark.parametrize(("rate", "lost"), [(0.2, 1.0), (0.5, 0.8)])
def test_a_shop_with_few_orders_is_paged_within_hours_and_told_when_they_are_back(
    rate: float, lost: float
) -> None:
    fault_ms, back_ms = NOW_MS + HOUR_MS, NOW_MS + 7 * HOUR_MS
    history = MinuteHistory(40)
    count(history, drawn(rate, NOW_MS - 28 * DAY_MIN * MINUTE_MS, NOW_MS - HOUR_MS, 1))
    orders = drawn(rate, NOW_MS - HOUR_MS, NOW_MS + 14 * HOUR_MS, 2)
    kept = np.random.default_rng(3).random(len(orders)) >= lost
    orders = orders[(orders < fault_ms) | (orders >= back_ms) | kept]
    settings = BusinessSettings()
    feed = SwiftFeed(history)
    watch = OrderWatch(feed, Baseline(history, settings), settings, ForgetfulMemory())
    feed.fill(orders)
    changes: list[tuple[int, str]] = []
    for now_ms in range(NOW_MS - HOUR_MS, NOW_MS + 14 * HOUR_MS, 2 * MINUTE_MS):
        feed.pull(now_ms)
        breach = watch.judge(now_ms)
        severity = breach.severity if breach else ""
        if severity != (changes[-1][1] if changes else ""):
            changes.append((now_ms, severity))
    assert [severity for _, severity in changes] == ["page", ""]
    # ln of a month's orders must be due for a total loss; 2.1 times as many for a loss by 80 %.
    needed = math.log(rate * 43_200) / (lost + ((1 - lost) * math.log(1 - lost) if lost < 1 else 0))
    assert changes[0][0] - fault_ms <= 2 * needed / rate * MINUTE_MS
    assert back_ms < changes[1][0]


def season(per_minute: np.ndarray, lowest: np.ndarray) -> Season:
    return Season(0, per_minute, lowest, "weeks", 3, POISSON, Usual(settled=True), sale=False)


def test_a_burst_of_most_weeks_is_no_sure_expectation_of_the_minutes_it_filled() -> None:
    lowest = np.full(60, 12.0)
    burst = lowest.copy()
    burst[57:] = 26.0
    assert season(burst, lowest).above_lowest(60) == 1.0
    assert season(burst, lowest).above_lowest(60, (3,)) == pytest.approx(26 / 12)
    # One week sold a third less: nobody promoted anything.
    assert season(np.full(60, 18.0), lowest).above_lowest(60) == 1.0


def test_the_lowest_hour_counts_while_a_sale_is_young() -> None:
    levels = np.asarray([5.0, 15.0, 15.0, 16.0])
    assert usual_of(levels, 4, math.inf, sale=True) == Usual(15.0, 5.0, settled=True)
    assert usual_of(levels[:2], 2, math.inf, sale=True) == Usual(least=5.0)
    assert usual_of(levels, 6, math.inf, sale=True) == Usual(15.0, settled=True)
    assert usual_of(levels, 4, math.inf, sale=False) == Usual()
    assert usual_of(np.empty(0), 0, math.inf, sale=True) == Usual()


@pytest.mark.parametrize(
    ("rate", "each_h", "worst"),
    [(0.055, 3.5, "ticket"), (0.055, 7.0, "ticket"), (2.0, 24.0, "page")],
)
def test_on_a_holiday_of_unknown_level_only_a_long_silence_pages(
    rate: float, each_h: float, worst: str
) -> None:
    day_ms = DAY_MIN * MINUTE_MS
    midnight_ms = NOW_MS // day_ms * day_ms
    holiday = datetime.fromtimestamp(midnight_ms / 1_000, UTC).date()
    settings = BusinessSettings(calendar=(SaleDay("holiday", holiday, holiday),))
    history = MinuteHistory(40)
    before = drawn(rate, midnight_ms - 28 * day_ms, midnight_ms, 1)
    count(history, before)
    after = np.arange(midnight_ms + HOUR_MS, midnight_ms + day_ms, round(each_h * HOUR_MS))
    feed = SwiftFeed(history)
    watch = OrderWatch(feed, Baseline(history, settings), settings, ForgetfulMemory())
    feed.fill(np.concatenate([before[before >= midnight_ms - 2 * HOUR_MS], after]))
    told: list[str] = []
    for now_ms in range(midnight_ms - HOUR_MS, midnight_ms + 20 * HOUR_MS, 10 * MINUTE_MS):
        feed.pull(now_ms)
        breach = watch.judge(now_ms)
        severity = breach.severity if breach else ""
        if severity != (told[-1] if told else ""):
            told.append(severity)
    assert told[0] == "ticket"
    assert told[-1] == worst
