"""Months of a simulated shop: false alarms, and how soon a drop is found.

Run by hand: `python tests/business_metrics/long_run.py --seeds 4 --days 30`.
It draws the very process that the rule assumes: Poisson around a daily curve, with the day's level
wandering by a few percent. A real shop is rougher.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from typing_extensions import override

from business_metrics.baseline import Baseline
from business_metrics.events import EventFeed
from business_metrics.memory import ForgetfulMemory
from business_metrics.order_watch import OrderWatch
from business_metrics.settings import BusinessSettings
from store.model import EVENT_READ_SCHEMA, Float64Array, Int64Array

MINUTE_MS, DAY_MS = 60_000, 86_400_000
START_MS = 1_795_000_000_000 // DAY_MS * DAY_MS
STEP_MS = 5_000


class NoEvents:
    """An EventReader without events: here the feed is filled from arrays."""

    def events(self, start_ms: int, end_ms: int, *, types: Sequence[str] = ()) -> pa.Table:
        return EVENT_READ_SCHEMA.empty_table()

    def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        return EVENT_READ_SCHEMA.empty_table()


class SwiftFeed(EventFeed):
    """The feed over all orders of a simulation; `pull` moves a window over them.

    The history holds the whole run. The rule reads none of it beyond the instant it is given.
    """

    def __init__(self, ts_ms: Int64Array) -> None:
        super().__init__(NoEvents(), "EUR", history_days=60, keep_s=4_200)
        self._all_ms = np.sort(ts_ms)
        self._all_units = np.full(len(ts_ms), 500_000, dtype=np.int64)
        self.history.add(self._all_ms, self._all_units)

    @override
    def pull(self, now_ms: int) -> int:
        first, last = np.searchsorted(self._all_ms, [now_ms - 4_200_000, now_ms + 1])
        self.order_ms, self.order_units = self._all_ms[first:last], self._all_units[first:last]
        self._event_ms = self.order_ms
        return 0


@dataclass(frozen=True, slots=True)
class Shop:
    """Orders a minute at the peak, at the trough, and how much a day's level wanders."""

    peak: float
    trough: float
    wander: float = 0.05

    def draw(self, rng: np.random.Generator, start_ms: int, end_ms: int) -> Int64Array:
        minutes = np.arange(start_ms, end_ms, MINUTE_MS)
        rates = self.rates(minutes)
        days = minutes // DAY_MS - minutes[0] // DAY_MS
        levels = np.exp(rng.normal(0.0, self.wander, int(days[-1]) + 2))
        # Levels change smoothly over the day, not at midnight.
        place = (minutes - minutes[0]) / DAY_MS
        rates = rates * np.interp(place, np.arange(len(levels)), levels)
        counts = rng.poisson(rates)
        found: Int64Array = np.repeat(minutes, counts) + rng.integers(0, MINUTE_MS, counts.sum())
        return found

    def rates(self, minutes: Int64Array) -> Float64Array:
        middle, swing = (self.peak + self.trough) / 2, (self.peak - self.trough) / 2
        curve: Float64Array = middle - swing * np.cos(2 * np.pi * (minutes % DAY_MS) / DAY_MS)
        return curve


SHOPS = {"60": Shop(60, 60), "30 by day, 1 by night": Shop(30, 1), "3": Shop(3, 3)}


def watch_of(ts_ms: Int64Array) -> tuple[EventFeed, OrderWatch]:
    settings = BusinessSettings()
    feed = SwiftFeed(ts_ms)
    return feed, OrderWatch(feed, Baseline(feed.history, settings), settings, ForgetfulMemory())


def false_alarms(shop: Shop, days: int, seed: int, step_ms: int = STEP_MS) -> Iterator[list[str]]:
    """For each healthy day, what began in it: each breach's severity and reason."""
    rng = np.random.default_rng(seed)
    feed, watch = watch_of(shop.draw(rng, START_MS - 29 * DAY_MS, START_MS + days * DAY_MS))
    before = False
    for day in range(days):
        found: list[str] = []
        begin_ms = START_MS + day * DAY_MS
        for now_ms in range(begin_ms, begin_ms + DAY_MS, step_ms):
            feed.pull(now_ms)
            reading = watch.tick(now_ms).reading
            if reading.breached and not before:
                found.append(f"{reading.severity}: {reading.reason}")
            before = reading.breached
        yield found


def delay_s(rate: float, drop: float, seed: int, most_s: int = 5_400) -> float:
    """Seconds from the drop to the breach; infinite when it is not found."""
    rng = np.random.default_rng(seed)
    begin_ms = START_MS + 4 * 3_600_000
    fault_ms = begin_ms + 120_000 + int(rng.integers(0, STEP_MS))
    healthy = Shop(rate, rate).draw(rng, START_MS - 28 * DAY_MS, fault_ms)
    left = rate * (1 - drop)
    after = Shop(left, left, 0.0).draw(rng, fault_ms, fault_ms + most_s * 1_000)
    # The draw is by whole minutes: what it put after the fault was never ordered.
    feed, watch = watch_of(np.concatenate([healthy[healthy < fault_ms], after]))
    for now_ms in range(begin_ms, fault_ms + most_s * 1_000, STEP_MS):
        feed.pull(now_ms)
        if watch.tick(now_ms).reading.breached and now_ms >= fault_ms:
            return (now_ms - fault_ms) / 1_000
    return math.inf


def bound_s(rate: float, drop: float) -> float:
    """Seconds in which a drop of known size could be proven at best, with the mean known for sure.

    Wald's bound for two Poisson rates: expected evidence a second against what the level of
    significance asks for, at 0.1 false alarms a month.
    """
    per_s, left = rate / 60, 1 - drop
    information = per_s * (drop + (left * math.log(left) if left > 0 else 0.0))
    looks = per_s * 30 * 86_400
    return math.log(looks / 0.1) / information


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--shop", choices=SHOPS, action="append")
    parser.add_argument("--delays", type=int, default=0, metavar="RUNS")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for name in arguments.shop or SHOPS:
        for seed in seeds:
            begun = time.perf_counter()
            alarms: list[str] = []
            for day, found in enumerate(false_alarms(SHOPS[name], arguments.days, seed), start=1):
                alarms += found
                if day % 5 == 0 or day == arguments.days:
                    took_s = time.perf_counter() - begun
                    text = f"{name} a minute, seed {seed}, {day} days: {len(alarms)} false alarms"
                    print(f"{text} ({took_s:.0f} s) {alarms}", flush=True)
    for rate in (60.0, 10.0):
        for drop in (1.0, 0.8, 0.6):
            if arguments.delays:
                runs = [delay_s(rate, drop, seed) for seed in range(arguments.delays)]
                print(f"{rate:g} a minute, {drop:.0%} lost: median {np.median(runs):.0f} s, "
                      f"worst {max(runs):.0f} s; bound {bound_s(rate, drop):.0f} s "
                      f"(n={len(runs)})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
