"""Do payments go through? Against the least share, and against what is usual in this shop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.shop_months import SwiftFeed
from business_metrics.minute_history import MinuteHistory
from business_metrics.payment_watch import PaymentWatch
from business_metrics.settings import BusinessSettings
from business_metrics.significance import binomial_lower_tail
from tests.business_metrics.simulated_shop import Notes

NOW_MS = 1_795_000_000_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@dataclass
class Checkout:
    """Attempts of a shop, judged each 15 s; its notes outlive a restart."""

    feed: SwiftFeed
    notes: Notes

    def changes(self, start_ms: int, end_ms: int, watch: PaymentWatch) -> list[tuple[int, bool]]:
        found: list[tuple[int, bool]] = []
        for now_ms in range(start_ms, end_ms, 15_000):
            breached = watch.tick(now_ms).breached
            if breached is not (found[-1][1] if found else False):
                found.append((now_ms, breached))
        return found

    def watch(self) -> PaymentWatch:
        return PaymentWatch(self.feed, BusinessSettings(), self.notes)


def checkout(shares: list[tuple[float, float]], rate: float, seed: int = 1) -> Checkout:
    """Attempts from `NOW_MS` on: so many hours in which that share goes through."""
    random = np.random.default_rng(seed)
    feed, begin_ms = SwiftFeed(MinuteHistory(1)), NOW_MS
    paid, failed = [], []
    for hours, share in shares:
        end_ms = begin_ms + round(hours * HOUR_MS)
        at = np.sort(random.integers(begin_ms, end_ms, random.poisson(rate * hours * 60)))
        went = random.random(len(at)) < share
        paid.append(at[went])
        failed.append(at[~went])
        begin_ms = end_ms
    feed.order_ms, feed.failed_ms = np.concatenate(paid), np.concatenate(failed)
    return Checkout(feed, Notes())


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.01, 0.99))
def test_the_tail_is_the_sum_of_the_binomial(count: int, total: int, share: float) -> None:
    count = min(count, total)
    whole = sum(
        math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count + 1)
    )
    assert binomial_lower_tail(count, total, share) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(("rate", "least_min"), [(10.0, 15), (60.0, 3)])
def test_a_fall_from_the_usual_98_to_80_percent_is_found_in_minutes(
    rate: float, least_min: int
) -> None:
    fault_ms = NOW_MS + 3 * HOUR_MS
    shops = [checkout([(3, 0.98), (1, 0.8)], rate, seed) for seed in range(5)]
    for shop in shops:
        found = shop.changes(fault_ms - HOUR_MS, fault_ms + HOUR_MS // 2, shop.watch())
        assert [breached for _, breached in found] == [True]
        assert 0 < found[0][0] - fault_ms <= least_min * MINUTE_MS
    watch = shops[-1].watch()
    told = watch.tick(fault_ms + HOUR_MS // 4)
    assert told.breached
    assert told.reason.endswith("and more go through")
    assert 0.96 <= float(told.detail["usual"]) < 0.98


@pytest.mark.parametrize("usual", [0.82, 0.85, 0.98])
def test_what_is_usual_in_a_shop_is_no_failure(usual: float) -> None:
    shop = checkout([(20, usual)], 10.0, seed=3)
    assert shop.changes(NOW_MS, NOW_MS + 20 * HOUR_MS, shop.watch()) == []


def test_a_fall_by_less_than_five_points_is_no_failure() -> None:
    shop = checkout([(3, 0.98), (6, 0.96)], 60.0)
    assert shop.changes(NOW_MS + 2 * HOUR_MS, NOW_MS + 9 * HOUR_MS, shop.watch()) == []


def test_a_failure_of_hours_does_not_become_usual_and_ends_once() -> None:
    shop = checkout([(3, 0.98), (6, 0.85), (2, 0.98)], 30.0)
    back_ms = NOW_MS + 9 * HOUR_MS
    early = shop.changes(NOW_MS + 2 * HOUR_MS, NOW_MS + 4 * HOUR_MS, shop.watch())
    assert [breached for _, breached in early] == [True]
    # Another process goes on from its notes.
    late = shop.changes(NOW_MS + 4 * HOUR_MS, NOW_MS + 11 * HOUR_MS, shop.watch())
    assert [breached for _, breached in late] == [True, False]
    assert back_ms < late[1][0] <= back_ms + 16 * MINUTE_MS


def test_few_attempts_of_which_some_fail_by_chance_are_no_failure() -> None:
    shop = checkout([(24, 0.85)], 0.7, seed=2)
    assert shop.changes(NOW_MS, NOW_MS + 24 * HOUR_MS, shop.watch()) == []
