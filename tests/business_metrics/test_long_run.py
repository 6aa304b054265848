"""The order rule over simulated days: quick and full decisions agree; by hand, months of it.

The months are those of the benchmark `order_drops`, where the figures come from.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.order_drops import DROPS, SHOPS, TICK_MS, judge_shop
from bench.shop_months import SwiftFeed, Till, count, make_shop
from business_metrics.baseline import Baseline
from business_metrics.memory import ForgetfulMemory
from business_metrics.minute_history import DAY_MIN, MINUTE_MS, MinuteHistory
from business_metrics.order_rate import unlikely
from business_metrics.order_watch import OrderWatch
from business_metrics.settings import BusinessSettings
from business_metrics.significance import lower_tail

LEARNED_DAYS = 15


@given(st.floats(0.1, 3_000), st.floats(0, 0.3), st.floats(0, 1))
def test_what_the_quick_look_passes_over_is_never_significant(
    expected: float, cv: float, share: float
) -> None:
    observed = int(share * expected)
    if not unlikely(observed, expected, cv):
        assert lower_tail(observed, expected, cv) > 0.005


def test_judging_alone_decides_as_a_whole_tick_does() -> None:
    shop = make_shop(20.0, 1, np.random.default_rng(3))
    till = Till(shop, 3)
    history = MinuteHistory(60)
    for day in range(LEARNED_DAYS):
        count(history, till.day(day))
    start_ms = (shop.first_minute + LEARNED_DAYS * DAY_MIN + 720) * MINUTE_MS
    orders = till.between(start_ms - 720 * MINUTE_MS, start_ms + 60 * MINUTE_MS)
    lost = (orders > start_ms + 600_000) & (orders < start_ms + 1_500_000)
    feeds = [SwiftFeed(history), SwiftFeed(MinuteHistory(60))]
    for day in range(LEARNED_DAYS):
        count(feeds[1].history, till.day(day))
    settings = BusinessSettings(time_zone=shop.zone)
    quick, whole = (
        OrderWatch(feed, Baseline(feed.history, settings), settings, ForgetfulMemory())
        for feed in feeds
    )
    for feed in feeds:
        count(feed.history, orders[orders < start_ms])
        feed.fill(orders[~lost])
    breached = []
    for now_ms in range(start_ms, start_ms + 2_400_000, TICK_MS):
        for feed in feeds:
            feed.pull(now_ms)
        reading, breach = whole.tick(now_ms).reading, quick.judge(now_ms)
        assert reading.breached == (breach is not None)
        if breach is not None:
            assert (reading.since_ms, reading.severity) == (breach.start_ms, breach.severity)
        breached.append(reading.breached)
    assert not breached[0]
    assert any(breached)
    assert not breached[-1]


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("mean_rate", SHOPS)
def test_a_month_has_at_most_one_page_for_nothing_and_drops_are_found_near_the_bound(
    mean_rate: float,
) -> None:
    alarms, delays = judge_shop(mean_rate, 30, 20, seed=7)
    assert alarms["page"] <= 1
    for drop in DROPS:
        assert delays[drop].ratio <= 1.5
