"""What is usual: the least of usual days under a promotion, a night's silence, a shop's share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from bench.shop_months import SwiftFeed, count
from business_metrics.abandonment import NEVER, SEGMENTS, Checkouts
from business_metrics.abandonment_usual import BUCKET_MS, UsualAbandonment, UsualShare
from business_metrics.baseline import Baseline
from business_metrics.checkout_table import CheckoutTable
from business_metrics.checkout_watch import CheckoutWatch
from business_metrics.dispersion import dispersion
from business_metrics.memory import ForgetfulMemory
from business_metrics.minute_history import DAY_MIN, MINUTE_MS, MinuteHistory
from business_metrics.order_watch import OrderWatch
from business_metrics.reference_days import Reference, closed, left_of
from business_metrics.settings import BusinessSettings
from store.model import Int64Array
from tests.business_metrics.simulated_shop import Log, Shop, reading

NOW_MS = 1_795_000_000_000 // 1_800_000 * 1_800_000
HOUR_MS, DAY_MS = 3_600_000, DAY_MIN * MINUTE_MS
HOURLY_S = 3_600


def drawn(rate: float, start_ms: int, end_ms: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    total = random.poisson(rate * (end_ms - start_ms) / MINUTE_MS)
    return np.sort(random.integers(start_ms, end_ms, total))


@pytest.mark.parametrize(
    ("rate", "fault_min", "kept", "most_s", "severity"),
    [
        # The promotion is over for a quarter of an hour: nothing came of its end but what is usual.
        (10.0, 135, 0.0, 240, "page"),
        # In its middle: two fifths of what a usual day sells are left.
        (10.0, 80, 0.2, 900, "page"),
        # There more than half of what today's weaker hours sell is left.
        (40.0, 80, 0.26, 1_500, "ticket"),
    ],
)
def test_an_outage_is_no_end_of_a_promotion_that_nobody_announced(
    rate: float, fault_min: int, kept: float, most_s: int, severity: str
) -> None:
    begin_ms = NOW_MS
    promotion_end_ms, fault_ms = begin_ms + 120 * MINUTE_MS, begin_ms + fault_min * MINUTE_MS
    history = MinuteHistory(40)
    before = drawn(rate, begin_ms - 28 * DAY_MS, begin_ms, 1)
    count(history, before[before < begin_ms - 4 * HOUR_MS])
    today = np.concatenate(
        [
            before[before >= begin_ms - 4 * HOUR_MS],
            drawn(2 * rate, begin_ms, promotion_end_ms, 2),
            drawn(rate, promotion_end_ms, fault_ms + 2 * HOUR_MS, 3),
        ]
    )
    left = np.random.default_rng(4).random(len(today)) < kept
    settings, feed = BusinessSettings(), SwiftFeed(history)
    feed.fill(np.sort(today[(today < fault_ms) | left]))
    watch = OrderWatch(feed, Baseline(history, settings), settings, ForgetfulMemory())
    for now_ms in range(begin_ms - 4 * HOUR_MS, fault_ms - 5 * MINUTE_MS, 5 * MINUTE_MS):
        feed.pull(now_ms)
        watch.pass_over(now_ms)
    found_ms = None
    for now_ms in range(fault_ms - 5 * MINUTE_MS, fault_ms + most_s * 1_000 + 1, 15_000):
        feed.pull(now_ms)
        breach = watch.judge(now_ms)
        if breach is not None and found_ms is None:
            assert breach.severity == severity
            found_ms = now_ms
    assert found_ms is not None
    assert found_ms >= fault_ms


def test_half_an_hour_of_a_small_shops_night_without_an_order_is_no_closed_shop() -> None:
    day = np.ones(600)
    day[300:] = 0.1
    counts = day.copy()
    counts[300:] = 0.0
    counts[340::10] = 1.0
    valid = np.ones(600, dtype=np.bool_)
    assert not closed(Reference(counts, valid), valid, day).any()
    shut = closed(Reference(counts, valid), valid, np.where(np.arange(600) < 300, 1.0, 0.0))
    assert np.flatnonzero(shut).tolist() == list(range(300, 340))


def test_a_shop_of_some_days_expects_its_evening_to_fall_as_on_the_days_before() -> None:
    minutes = np.arange(3 * DAY_MIN + 60)
    begin = NOW_MS // MINUTE_MS - 3 * DAY_MIN
    # Ten a minute, for an hour at this time of the day one in two minutes.
    night = minutes % DAY_MIN < 60
    rates = np.where(night & (minutes >= DAY_MIN), 0.5, 10.0)
    history = MinuteHistory(40)
    orders = np.random.default_rng(8).poisson(rates)
    count(history, (np.repeat(minutes + begin, orders) * MINUTE_MS).astype(np.int64))
    now = begin + 3 * DAY_MIN
    found = Baseline(history, BusinessSettings()).expect(now + 20, now + 40, now, [])
    assert found.source == "own_recent"
    assert found.per_minute.mean() < 1.5
    # Later in the day nothing fell on the days before.
    later = Baseline(history, BusinessSettings()).expect(now - 40, now - 20, now - 40, [])
    assert later.per_minute.mean() == pytest.approx(10, rel=0.2)


@given(st.lists(st.lists(st.floats(0.0, 50.0), min_size=20, max_size=20), max_size=4))
def test_what_is_left_of_the_rate_is_never_more_than_all_of_it(days: list[list[float]]) -> None:
    runs = [np.where(np.arange(20) == 3, np.nan, np.asarray(day)) for day in days]
    left = left_of(runs, np.arange(10), slice(10, 20))
    assert len(left) == 10
    assert ((left >= 0) & (left <= 1)).all()


def test_edges_of_promotions_are_no_clumps() -> None:
    random = np.random.default_rng(7)
    minutes = np.arange(3 * DAY_MIN)
    # Two hours at ten times as much in every six: each piece holds edges.
    rates = np.where(minutes % 360 < 120, 200.0, 20.0)
    found = dispersion(random.poisson(rates).astype(np.float64), np.ones(len(rates), dtype=bool))
    assert found.at(20) < 4
    assert found.at(200) < 10


def test_the_band_of_a_minute_is_the_one_that_the_rule_judges_by() -> None:
    random = np.random.default_rng(5)
    log = Log()
    clumps = drawn(5.0, NOW_MS - 14 * DAY_MS, NOW_MS, 6)
    log.add_orders(np.repeat(clumps, random.integers(1, 8, len(clumps))))
    shop = Shop(log)
    minute_ms = NOW_MS - NOW_MS % MINUTE_MS
    tick = reading(shop.tick(minute_ms), "orders_per_minute")
    (point,) = shop.evaluator.orders(minute_ms - MINUTE_MS, minute_ms, MINUTE_MS).points
    assert point.expected_orders == pytest.approx(tick.expected, rel=0.1)
    assert point.low is not None
    assert point.high is not None
    assert tick.high is not None
    assert point.low == pytest.approx(tick.low, abs=2)
    assert point.high == pytest.approx(tick.high, rel=0.15)
    # Chance alone would leave 20 a minute below 34.
    assert point.high > 38


class Told(CheckoutTable):
    """Checkouts that all began before; each ended within eight minutes."""

    def __init__(self, start_ms: np.ndarray, abandoned: np.ndarray) -> None:
        super().__init__()
        self._start_ms = start_ms
        self._last_ms = start_ms + 60_000 + start_ms % 420_000
        self._bought_ms = np.where(abandoned, NEVER, self._last_ms)

    @override
    def started(self, start_ms: int, end_ms: int) -> Checkouts:
        here = slice(*np.searchsorted(self._start_ms, [start_ms, end_ms]))
        codes = np.zeros(len(self._start_ms[here]), dtype=np.int64)
        segments: dict[str, tuple[Int64Array, tuple[str, ...]]] = dict.fromkeys(
            SEGMENTS, (codes, ("",))
        )
        return Checkouts(self._start_ms[here], self._last_ms[here], self._bought_ms[here], segments)


def tickets(
    rate: float, hours: float, seed: int, jump_ms: int | None = None, step_ms: int = BUCKET_MS
) -> list[int]:
    """When tickets began: 35 of 100 checkouts are abandoned, from the jump on 70."""
    random = np.random.default_rng(seed)
    end_ms = NOW_MS + round(hours * HOUR_MS)
    start_ms = drawn(rate, NOW_MS, end_ms, seed)
    share = np.where(start_ms < (jump_ms or end_ms), 0.35, 0.7)
    told = Told(start_ms, random.random(len(start_ms)) < share)
    watch = CheckoutWatch(told, BusinessSettings(), ForgetfulMemory())
    found, lasting = [], False
    for now_ms in range(NOW_MS + HOUR_MS, end_ms, step_ms):
        breached = watch.tick(now_ms)[0].breached
        if breached and not lasting:
            found.append(now_ms)
        lasting = breached
    return found


def test_a_small_shop_at_its_usual_share_has_no_ticket_for_days() -> None:
    assert tickets(0.5, 6 * 24, 3) == []


def test_a_jump_of_the_share_is_found_as_soon_as_the_checkouts_are_old_enough() -> None:
    jump_ms = NOW_MS + 6 * HOUR_MS
    for seed in range(3):
        (found_ms,) = tickets(5.0, 8, seed, jump_ms, MINUTE_MS)
        # Half an hour until the first are judged; then the best rule needs ten minutes on average.
        assert 30 * MINUTE_MS < found_ms - jump_ms <= 55 * MINUTE_MS


@given(st.integers(1, 400), st.floats(0.01, 0.9), st.floats(0.0, 0.2))
def test_more_that_are_abandoned_prove_more(decided: int, share: float, alike: float) -> None:
    usual = UsualShare(share, min(share + 0.02, 1.0), alike)
    told = [usual.exceeded(n, decided, HOURLY_S, 0.4) for n in range(decided + 1)]
    assert told == sorted(told)
    plain = UsualShare(usual.share, usual.high)
    told_alone = [plain.exceeded(n, decided, HOURLY_S, 0.4) for n in range(decided + 1)]
    assert sum(told) <= sum(told_alone)


def test_hours_that_differ_by_more_than_chance_are_seen_to() -> None:
    random = np.random.default_rng(9)
    alike, rough = UsualAbandonment(HOURLY_S), UsualAbandonment(HOURLY_S)
    assert alike.usual() is None
    for hour in range(100):
        share = 0.2 if hour % 2 else 0.5
        for _ in range(12):
            alike.add(int(random.binomial(10, 0.35)), 10)
            rough.add(int(random.binomial(10, share)), 10)
    plain, wide = alike.usual(), rough.usual()
    assert plain is not None
    assert wide is not None
    assert plain.share == pytest.approx(0.35, abs=0.03)
    assert plain.alike < 0.01
    # The variance between hours by that of one checkout: 0.15 squared by 0.35 times 0.65.
    assert wide.alike == pytest.approx(0.15**2 / (0.35 * 0.65), rel=0.25)
    assert plain.exceeded(78, 120, HOURLY_S, 0.4)
    assert not wide.exceeded(78, 120, HOURLY_S, 0.4)
