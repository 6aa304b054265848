from __future__ import annotations

from collections.abc import Callable
from itertools import count, pairwise

import numpy as np
import pytest

from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.signals.hit_rate_drop import HitRateDrop, HitRateDropSettings
from store.errors import ConfigError
from tests.detectors.counters import Counters

T0 = 1_700_000_000_000
SHOP = {"job": "shop", "instance": "127.0.0.1:9000", "backend": "default"}


class Shop:
    """A cache whose gets come at random, scraped every two seconds."""

    def __init__(self, gets_per_s: float, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        self.gets_per_s = gets_per_s
        self.hits = self.misses = 0
        self.now_ms = T0
        self.counters = Counters()
        self.active: dict[str, Finding] = {}
        self.episodes: dict[str, tuple[tuple[int, int], ...]] = {}
        self.detector = HitRateDrop()

    def scrape(self, hit_rate: float) -> None:
        gets = int(self.random.poisson(self.gets_per_s * 2))
        hits = int(self.random.binomial(gets, hit_rate))
        self.hits += hits
        self.misses += gets - hits
        self.counters.add("django_cache_get_hits_total", SHOP, self.now_ms, self.hits)
        self.counters.add("django_cache_get_misses_total", SHOP, self.now_ms, self.misses)

    def evaluate(self) -> tuple[Finding, ...]:
        context = SignalContext(self.now_ms, self.active, self.episodes)
        found = self.detector.evaluate(self.counters, context)
        for key, finding in self.active.items():
            if key not in {item.fingerprint for item in found}:
                ended = (finding.first_seen_ms, self.now_ms)
                self.episodes[key] = (*self.episodes.get(key, ()), ended)
        self.active = {item.fingerprint: item for item in found}
        return found

    def run(
        self, seconds: int, hit_rate: float | Callable[[], float] | None
    ) -> list[tuple[int, tuple[Finding, ...]]]:
        """Scrapes every 2 s (none where the rate is None), ticks every 5 s."""
        answers = []
        for _ in range(seconds):
            self.now_ms += 1_000
            second = (self.now_ms - T0) // 1_000
            if second % 2 == 0 and hit_rate is not None:
                self.scrape(hit_rate() if callable(hit_rate) else hit_rate)
            if second % 5 == 0:
                answers.append((self.now_ms, self.evaluate()))
        return answers


@pytest.mark.parametrize("gets_per_s", [3.0, 10.0, 200.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_total_loss_is_found_and_pages_within_two_ticks(gets_per_s: float, seed: int) -> None:
    shop = Shop(gets_per_s, seed)
    assert all(not found for _, found in shop.run(120, 0.9))
    fault_ms = shop.now_ms
    lost = [(at - fault_ms, finding) for at, items in shop.run(30, 0.0) for finding in items]
    late_ms, finding = lost[0]
    assert late_ms <= 10_000
    assert finding.service == "shop"
    assert abs(finding.first_seen_ms - fault_ms) <= 5_000
    assert next(late for late, item in lost if item.priority is Priority.P1) <= 10_000


def test_it_stays_one_finding_until_the_rate_is_back_and_then_ends() -> None:
    shop = Shop(5.0)
    shop.run(120, 0.9)
    during = [found for _, found in shop.run(300, 0.0) if found]
    assert {finding.fingerprint for found in during for finding in found} == set(shop.active)
    assert len({found[0].first_seen_ms for found in during}) == 1
    recovery = shop.run(60, 0.9)
    ended = [at for at, found in recovery if not found]
    assert ended[0] - recovery[0][0] <= 30_000
    assert not recovery[-1][1]


def test_an_incident_is_not_learned_from() -> None:
    shop = Shop(5.0)
    shop.run(300, 0.9)
    shop.run(900, 0.1)
    (finding,) = shop.active.values()
    assert float(finding.evidence.detail["baseline_hit_rate"]) == pytest.approx(0.9, abs=0.05)
    shop.run(60, 0.9)
    assert not shop.active
    shop.run(20, 0.1)
    (again,) = shop.active.values()
    assert float(again.evidence.detail["baseline_hit_rate"]) == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize(("gets_per_s", "hit_rate"), [(0.5, 0.6), (3.0, 0.9), (50.0, 0.8)])
def test_two_hours_of_noise_are_silent(gets_per_s: float, hit_rate: float) -> None:
    shop = Shop(gets_per_s, seed=7)
    wobble = iter(np.random.default_rng(3).normal(hit_rate, 0.02, 10_000).clip(0, 1))
    assert all(not found for _, found in shop.run(7_200, lambda: float(next(wobble))))


@pytest.mark.parametrize("seed", range(3))
def test_a_fall_by_a_third_is_found_within_two_ticks_and_pages_when_it_lasts(seed: int) -> None:
    shop = Shop(100.0, seed)
    shop.run(120, 0.95)
    fault_ms = shop.now_ms
    found = [(at - fault_ms, item) for at, items in shop.run(60, 0.6) for item in items]
    assert found[0][0] <= 10_000
    assert found[0][1].priority is Priority.P2
    assert found[-1][1].priority is Priority.P1
    assert next(late for late, item in found if item.priority is Priority.P1) <= 40_000


@pytest.mark.parametrize("own", [True, False])
def test_a_cache_server_that_was_restarted_pages_only_when_it_stays_cold(own: bool) -> None:
    shop = Shop(100.0)
    shop.run(120, 0.95)
    began_ms = shop.now_ms
    server = {"instance": SHOP["instance"] if own else "cache-1"}

    def cold() -> float:
        up_s = (shop.now_ms - began_ms) / 1_000
        shop.counters.add("sig:cache_uptime:seconds", server, shop.now_ms, up_s)
        return 0.1

    seen = [(at - began_ms, item.priority) for at, items in shop.run(90, cold) for item in items]
    assert seen[0][0] <= 10_000
    assert {priority for late_ms, priority in seen if late_ms < 60_000} == {Priority.P2}
    assert seen[-1][1] is Priority.P1


def test_a_crawler_at_night_whose_gets_miss_on_top_of_the_others_wakes_nobody() -> None:
    shop = Shop(2.0)
    shop.run(600, 0.9)
    shop.gets_per_s = 10.0
    crawled = [item for _, found in shop.run(240, 0.18) for item in found]
    assert crawled
    assert {item.priority for item in crawled} == {Priority.P2}


def test_a_fall_by_a_quarter_of_a_busy_cache_is_found_within_two_ticks() -> None:
    shop = Shop(500.0)
    shop.run(120, 0.95)
    fault_ms = shop.now_ms
    found = [at - fault_ms for at, items in shop.run(30, 0.7) for _ in items]
    assert found[0] <= 10_000


def test_ten_cold_seconds_wake_nobody() -> None:
    shop = Shop(100.0)
    shop.run(120, 0.95)
    seen = [*shop.run(10, 0.6), *shop.run(60, 0.95)]
    assert {item.priority for _, found in seen for item in found} <= {Priority.P2}
    assert not shop.active


@pytest.mark.parametrize("points_a_minute", [1.0, 0.5])
def test_what_slides_is_found_before_half_of_the_hits_are_gone(points_a_minute: float) -> None:
    shop = Shop(20.0)
    shop.run(900, 0.95)
    began_ms = shop.now_ms
    slide = iter(0.95 - points_a_minute / 100 * second / 60 for second in range(1, 4_000, 2))
    seen = ((at, found[0]) for at, found in shop.run(3_000, lambda: next(slide)) if found)
    at_ms, finding = next(seen)
    fallen = points_a_minute * (at_ms - began_ms) / 60_000
    assert 15 <= fallen <= 35
    assert finding.priority is Priority.P2
    assert finding.evidence.detail["slide"] == "over an hour"
    assert all(item.priority is Priority.P2 for _, item in seen)


def test_a_slide_of_a_quiet_cache_begins_once_and_ends_when_its_minutes_are_back() -> None:
    shop = Shop(1.0)
    shop.run(2_400, 0.9)
    slide = (max(0.65, 0.9 - second / 10_000) for second in count(1, 2))
    told = [bool(found) for _, found in shop.run(3_600, lambda: next(slide))]
    assert sum(now and not before for before, now in pairwise([False, *told])) == 1
    assert told[-1]
    (finding,) = shop.active.values()
    assert finding.evidence.detail["window_seconds"] == 300
    shop.run(360, 0.9)
    assert not shop.active


def test_a_slow_slide_is_found_by_a_longer_window() -> None:
    shop = Shop(2.0)
    shop.run(600, 0.95)
    assert any(found for _, found in shop.run(300, 0.7))


def test_no_data_is_neither_a_drop_nor_a_recovery() -> None:
    shop = Shop(5.0)
    shop.run(120, 0.9)
    assert all(not found for _, found in shop.run(600, None))
    other = Shop(5.0)
    other.run(120, 0.9)
    other.run(30, 0.0)
    assert other.active
    assert all(found for _, found in other.run(600, None))
    other.counters.forget()
    assert other.evaluate()


def test_a_cold_start_says_nothing() -> None:
    shop = Shop(50.0)
    assert all(not found for _, found in shop.run(20, 0.9))
    fresh = Shop(0.2)
    fresh.run(100, 0.9)
    assert all(not found for _, found in fresh.run(60, 0.0))


def test_a_restarted_exporter_is_no_drop() -> None:
    shop = Shop(5.0)
    shop.run(120, 0.9)
    shop.hits = shop.misses = 0
    assert all(not found for _, found in shop.run(120, 0.9))


def test_settings_are_validated() -> None:
    with pytest.raises(ConfigError, match="min_drop"):
        HitRateDropSettings(min_drop=1.5)
