"""Hit rates that fall and are healthy: warm-up, people who leave, queues, lost series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from detectors.cache_counters import PAIRS, read_caches
from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.signals.hit_rate_drop import HitRateDrop
from store.model import BoolArray, Float64Array
from tests.detectors.counters import Counters

T0 = 1_700_000_000_000
STEP_S = 5
STEPS = 200
FAULT = 140
AT = np.arange(STEPS)
# The middle of each step.
SINCE_S = np.maximum(AT - FAULT + 0.5, 0) * float(STEP_S)
DJANGO = ("django_cache_get_hits_total", "django_cache_get_misses_total")
REDIS = ("redis_keyspace_hits_total", "redis_keyspace_misses_total")
CDN = ("sig:cdn_hits:total", "sig:cdn_misses:total")
PLACE = {"job": "shop", "instance": "web-1"}
Row = Float64Array


def warms(share: float, over_s: float, at_s: Row) -> Row:
    """A hit rate that is lost at the fault, and comes back."""
    back: Row = share * (1 - np.exp(-at_s / over_s))
    return np.where(AT < FAULT, share, back)


class Cache:
    """A cache's counters, step by step, and what the detector says of them."""

    def __init__(self, names: tuple[str, str], gets_per_s: float | Row, share: Row) -> None:
        random = np.random.default_rng(3)
        gets = random.poisson(np.broadcast_to(gets_per_s, STEPS) * STEP_S)
        hits = random.binomial(gets, np.clip(share, 0, 1))
        self.names = names
        self.totals = [np.cumsum(hits) * 1.0, np.cumsum(gets - hits) * 1.0]
        self.counters = Counters()

    def seen(self, also: Callable[[int, int], None] | None = None) -> list[tuple[int, Finding]]:
        """Findings with the seconds since the fault; `also(step, now_ms)` adds series."""
        detector, active = HitRateDrop(), dict[str, Finding]()
        found: list[tuple[int, Finding]] = []
        for step in range(STEPS):
            now_ms = T0 + step * STEP_S * 1_000
            for name, total in zip(self.names, self.totals, strict=True):
                self.counters.add(name, PLACE, now_ms, float(total[step]))
            if also is not None:
                also(step, now_ms)
            if step < FAULT - 20:
                continue
            told = detector.evaluate(self.counters, SignalContext(now_ms, active))
            active = {finding.fingerprint: finding for finding in told}
            found.extend(((step - FAULT) * STEP_S, finding) for finding in told)
        return found


def paging(seen: list[tuple[int, Finding]]) -> list[int]:
    return [late_s for late_s, finding in seen if finding.priority is not Priority.P2]


@pytest.mark.parametrize(
    ("names", "gets_per_s", "over_s"), [(DJANGO, 60.0, 40.0), (REDIS, 200.0, 90.0), (CDN, 300, 70)]
)
def test_a_cache_that_warms_up_is_listed_and_one_that_stays_cold_pages(
    names: tuple[str, str], gets_per_s: float, over_s: float
) -> None:
    seen = Cache(names, gets_per_s, warms(0.92, over_s, SINCE_S)).seen()
    assert seen[0][0] <= 10
    assert paging(seen) == []
    stays = Cache(names, gets_per_s, np.where(AT < FAULT, 0.92, 0.05)).seen()
    assert stays[0][0] <= 10
    assert paging(stays)[0] <= (185 if names == CDN else 20)


def test_keys_that_end_all_at_once_and_are_read_again_wake_nobody() -> None:
    share = np.full(STEPS, 0.94)
    share[FAULT : FAULT + 4] = (0.3, 0.55, 0.75, 0.88)
    assert paging(Cache(REDIS, 120.0, share).seen()) == []


def test_people_who_leave_and_a_crawler_that_stays_wake_nobody() -> None:
    people, crawler = np.where(AT < FAULT, 80.0, 8.0), np.full(STEPS, 9.0)
    share = (people * 0.9 + crawler * 0.05) / (people + crawler)
    seen = Cache(DJANGO, people + crawler, share).seen()
    assert seen
    assert paging(seen) == []


def test_a_crawler_alone_at_night_wakes_nobody() -> None:
    people, crawler = 4 * np.exp(-AT / 60), np.where(AT < FAULT, 0.0, 4.0)
    share = (people * 0.9 + crawler * 0.15) / (people + crawler)
    assert paging(Cache(DJANGO, people + crawler, share).seen()) == []


def test_a_process_that_was_started_anew_pages_only_when_it_stays_cold() -> None:
    cold = np.where(AT < FAULT, 0.92, 0.02)
    cache = Cache(DJANGO, 60.0, cold)

    def restarted(step: int, now_ms: int) -> None:
        told = float(FAULT <= step < FAULT + 24)
        cache.counters.add("sig:cache_process_restarts:2m", PLACE, now_ms, told)

    seen = cache.seen(restarted)
    assert seen[0][0] <= 10
    assert paging(seen)[0] == 120


def test_a_server_of_queues_is_no_cache() -> None:
    busy = AT < FAULT
    cache = Cache(REDIS, np.where(busy, 60.0, 24.0), np.where(busy, 0.97, 0.04))
    assert cache.seen()
    cache = Cache(REDIS, np.where(busy, 60.0, 24.0), np.where(busy, 0.97, 0.04))

    def pops(_step: int, now_ms: int) -> None:
        cache.counters.add("sig:cache_pops:rate5m", PLACE, now_ms, 24.0)

    assert cache.seen(pops) == []


@pytest.mark.parametrize("lost", [0, 1])
def test_what_one_counter_counts_while_the_other_is_lost_counts_later(lost: int) -> None:
    cache = Cache(REDIS, 60.0, np.full(STEPS, 0.9))
    gone: BoolArray = (AT >= FAULT) & (AT < FAULT + 12)
    cache.totals[lost] = np.where(gone, np.nan, cache.totals[lost])
    assert cache.seen() == []
    pair = next(one for one in PAIRS if one.hits == REDIS[0])
    (read,) = read_caches(cache.counters, pair, T0, T0 + (STEPS - 1) * 5_000, 5_000)
    assert float(read.gets.sum()) == sum(row[-1] - row[0] for row in cache.totals)
    assert float(read.gets[gone[1:]].sum()) == 0


def test_a_process_started_anew_whose_gets_all_miss_is_told_though_it_counts_no_hits() -> None:
    cache = Cache(DJANGO, 60.0, np.where(AT < FAULT, 0.92, 0.0))
    hits, misses = cache.totals
    cache.totals = [
        np.where(AT < FAULT, hits, np.nan),
        np.where(AT < FAULT, misses, misses - misses[FAULT - 1]),
    ]
    seen = cache.seen()
    assert seen[0][0] <= 70
    assert paging(seen)[0] <= 90
