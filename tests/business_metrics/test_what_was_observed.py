"""Only what was observed can be lost: long ranges of young shops, silences, sums beyond 64 bits."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from business_metrics.baseline import Baseline
from business_metrics.minute_history import DAY_MIN, MinuteHistory
from business_metrics.pacing import Pacer
from business_metrics.queries import Orders
from business_metrics.settings import BusinessSettings
from tests.business_metrics.simulated_shop import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    WEEK_MS,
    Log,
    Shop,
    poisson,
)


def asked(log: Log, start_ms: int, step_ms: int) -> Orders:
    shop = Shop(log)
    shop.tick(NOW_MS)
    return shop.evaluator.orders(start_ms, NOW_MS, step_ms)


def risk(answer: Orders) -> Decimal:
    assert answer.revenue_at_risk is not None
    return answer.revenue_at_risk.amount


def test_a_few_observed_hours_of_each_week_leave_nothing_at_risk_between_them() -> None:
    log, rng = Log(), np.random.default_rng(1)
    for week in range(4, -1, -1):
        end_ms = NOW_MS - week * WEEK_MS
        log.add_orders(poisson(rng, end_ms - 3 * HOUR_MS, end_ms, 20))
    answer = asked(log, NOW_MS - WEEK_MS - HOUR_MS, HOUR_MS)
    unknown = [point.expected_orders is None for point in answer.points]
    assert unknown == [False, *[True] * 165, False, False, False]
    assert risk(answer) < sum(point.revenue for point in answer.points) / 5


def test_half_an_hour_of_day_says_nothing_of_the_night_of_a_young_shop() -> None:
    log, rng = Log(), np.random.default_rng(2)
    log.add_orders(poisson(rng, NOW_MS - 30 * HOUR_MS, NOW_MS - 12 * HOUR_MS, 1))
    log.add_orders(poisson(rng, NOW_MS - 12 * HOUR_MS, NOW_MS, 20))
    answer = asked(log, NOW_MS - 2 * DAY_MS, HOUR_MS)
    assert answer.baseline == "own_recent"
    expected = [point.expected_orders for point in answer.points]
    assert all(one is None for one in expected[:-3])
    assert None not in expected[-3:]
    assert risk(answer) < sum(point.revenue for point in answer.points) / 20


def test_a_week_that_is_known_in_part_is_judged_in_that_part() -> None:
    log, rng = Log(), np.random.default_rng(3)
    # The days more than a week ago tell of the last three; nothing tells of those before.
    log.add_orders(poisson(rng, NOW_MS - 10 * DAY_MS, NOW_MS, 5))
    answer = asked(log, NOW_MS - 6 * DAY_MS, DAY_MS)
    assert answer.baseline == "one_week"
    known = [point.expected_orders is not None for point in answer.points]
    assert not any(known[:2])
    assert all(known[3:])
    assert risk(answer) < sum(point.revenue for point in answer.points) / 20


def test_orders_of_unobserved_hours_do_not_make_up_for_those_that_are_missing() -> None:
    log, rng = Log(), np.random.default_rng(4)
    # What is sold in the first half of the day is no surplus: of that half a week ago nothing is
    # known.
    log.add_orders(poisson(rng, NOW_MS - WEEK_MS - 12 * HOUR_MS, NOW_MS - 10 * HOUR_MS, 5))
    log.add_orders(poisson(rng, NOW_MS - 4 * HOUR_MS, NOW_MS, 5))
    answer = asked(log, NOW_MS - DAY_MS, DAY_MS)
    missing = Decimal(6 * 60 * 5 * 50)
    assert abs(risk(answer) - missing) < missing / 4


amounts = st.lists(st.integers(0, 10**17), min_size=1, max_size=300)


@given(amounts)
def test_the_sum_of_a_history_is_exact_however_large(units: list[int]) -> None:
    history = MinuteHistory(3)
    ts_ms = NOW_MS + 70_000 * np.arange(len(units), dtype=np.int64) // 10
    history.add(ts_ms, np.asarray(units, dtype=np.int64))
    minute = NOW_MS // MINUTE_MS
    assert history.sold(minute - 1, minute + DAY_MIN) == (len(units), sum(units))
    history.take_back(int(ts_ms[0]), units[0])
    assert history.sold(minute - 1, minute + DAY_MIN) == (len(units) - 1, sum(units[1:]))


def test_what_follows_the_last_order_before_a_longer_silence_was_not_collected() -> None:
    history, day = MinuteHistory(30), NOW_MS // DAY_MS

    def sell(minute: int) -> None:
        history.add(np.asarray([minute * MINUTE_MS]), np.asarray([10_000]))

    first = day * DAY_MIN + 600
    for minute in (first, first + 300):
        sell(minute)
    # While it is the latest order, silence counts.
    assert history.collected(first, first + 2 * DAY_MIN).sum() == 2 * DAY_MIN - 1
    sell(first + 5 * DAY_MIN)
    collected = history.collected(first, first + 5 * DAY_MIN)
    assert np.flatnonzero(collected).tolist() == list(range(1, 300))
    # Three silent days are the shop's own.
    sell(first + DAY_MIN)
    assert history.collected(first, first + 5 * DAY_MIN).sum() == 5 * DAY_MIN - 1


def test_the_pace_of_a_shop_is_told_in_its_own_coins() -> None:
    settings = BusinessSettings(currency="KWD")
    history = MinuteHistory(30)
    history.add(np.asarray([NOW_MS - MINUTE_MS]), np.asarray([12_346]))
    pace = Pacer(history, Baseline(history, settings), settings).pace(NOW_MS, ())
    assert str(pace.so_far.revenue) == "1.235"
