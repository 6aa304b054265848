"""Months of simulated shops, for the order rule: what is sold each minute, and what goes wrong.

Orders are Poisson around a rate. The rate has a day (the peak is 20 times the trough) and a week;
its level wanders from day to day and within the day. There are promotions and bursts that no
calendar knows, which begin and end at once; sale days that are in the calendar; and stops of the
collector, in which orders are lost and no tick happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from business_metrics.calendar import SaleDay
from business_metrics.events import EventFeed
from business_metrics.minute_history import DAY_MIN, MINUTE_MS, MinuteHistory
from store.model import EVENT_READ_SCHEMA

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Random = np.random.Generator
# Minutes since the first learned day, `[begin, stop)`.
Span = tuple[int, int]

DAY_MS = DAY_MIN * MINUTE_MS
START_MS = 1_795_000_000_000 // DAY_MS * DAY_MS
LEARNED_DAYS = 29
FIRST_MINUTE = START_MS // MINUTE_MS - LEARNED_DAYS * DAY_MIN
_KEEP_MS = 4_200_000
_DAY_TO_NIGHT = 20.0
_WEEK = np.asarray([1.0, 0.95, 0.95, 1.0, 1.1, 1.3, 1.25])
_DAILY_WANDER, _HOURLY_WANDER = 0.07, 0.02
_AFTERMATH_MIN = 240
_MONEY_UNITS = 500_000


@dataclass(frozen=True, slots=True)
class Shop:
    """The rate of each minute from the first learned day on, and what happens in these months.

    Attributes:
        rates: Orders a minute.
        calendar: Sale days.
        stops: When the collector was down.
        plain: Judged minutes that no promotion, sale or stop touched, nor hours before and after.
    """

    rates: Floats
    calendar: tuple[SaleDay, ...]
    stops: tuple[Span, ...]
    plain: Ints

    @property
    def judged_days(self) -> int:
        return len(self.rates) // DAY_MIN - LEARNED_DAYS


def make_shop(mean_rate: float, days: int, random: Random) -> Shop:
    """A shop with so many orders a minute on average, judged for so many days."""
    rates = _usual(mean_rate, LEARNED_DAYS + days, random)
    touched = np.zeros(len(rates), dtype=np.bool_)
    touched[: LEARNED_DAYS * DAY_MIN] = True
    touched[-_AFTERMATH_MIN:] = True
    for span, factor in (*_promotions(len(rates), random), *_sales(days, random)):
        rates[slice(*span)] *= factor
        touched[max(span[0] - _AFTERMATH_MIN, 0) : span[1] + _AFTERMATH_MIN] = True
    stops = tuple(_stops(days, random))
    for begin, stop in stops:
        touched[begin - _AFTERMATH_MIN : stop + _AFTERMATH_MIN] = True
    calendar = tuple(_sale_day(day, length) for day, length in _sale_places(days))
    return Shop(rates, calendar, stops, np.flatnonzero(~touched))


def _usual(mean_rate: float, days: int, random: Random) -> Floats:
    """A day, a week, and a level that wanders; the day's logarithm is a cosine."""
    minutes = np.arange(days * DAY_MIN)
    height = np.log(_DAY_TO_NIGHT) / 2
    day = np.exp(-height * np.cos(2 * np.pi * minutes / DAY_MIN))
    daily = np.exp(random.normal(0.0, _DAILY_WANDER, days + 1))
    hourly = np.exp(random.normal(0.0, _HOURLY_WANDER, days * 24 + 1))
    level = np.interp(minutes / DAY_MIN, np.arange(days + 1), daily)
    level *= np.interp(minutes / 60, np.arange(days * 24 + 1), hourly)
    rates: Floats = mean_rate / float(day.mean()) * day * level * _WEEK[minutes // DAY_MIN % 7]
    return rates


def _promotions(minutes: int, random: Random) -> list[tuple[Span, float]]:
    """Two promotions of 20 min to 6 h and one burst of 5 to 20 min a week, at any time."""
    found = []
    for count, shortest, longest, least, most in ((2, 20, 360, 1.5, 4.0), (1, 5, 20, 3.0, 8.0)):
        for begin in random.integers(0, minutes, count * minutes // (7 * DAY_MIN)).tolist():
            length = int(random.integers(shortest, longest + 1))
            found.append(((begin, begin + length), float(random.uniform(least, most))))
    return found


def _sale_places(days: int) -> list[tuple[int, int]]:
    """Judged day and length in days: a first sale, a longer one, and the first one again."""
    return [(day, length) for day, length in ((10, 1), (33, 3), (61, 1)) if day + length < days]


def _sales(days: int, random: Random) -> list[tuple[Span, float]]:
    found = []
    for day, length in _sale_places(days):
        begin = (LEARNED_DAYS + day) * DAY_MIN
        found.append(((begin, begin + length * DAY_MIN), float(random.uniform(5.0, 12.0))))
    return found


def _sale_day(day: int, length: int) -> SaleDay:
    first, last = (
        datetime.fromtimestamp((START_MS + at * DAY_MS) / 1_000, UTC).date()
        for at in (day, day + length - 1)
    )
    return SaleDay("long" if length > 1 else "short", first, last)


def _stops(days: int, random: Random) -> list[Span]:
    """One stop of the collector a week, of 5 min to 3 h."""
    found = []
    for week in range(days // 7):
        begin = (LEARNED_DAYS + 7 * week) * DAY_MIN + int(random.integers(60, 6 * DAY_MIN))
        found.append((begin, begin + int(random.integers(5, 181))))
    return found


class Till:
    """The orders of a shop, drawn day by day: the same each time a day is asked for."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self._shop = shop
        self._seed = seed
        self._known: tuple[int, Ints] | None = None

    def day(self, day: int) -> Ints:
        """The instants of a day's orders, ascending; none where the collector was down."""
        if self._known is None or self._known[0] != day:
            random = np.random.default_rng((self._seed, day))
            rates = self._shop.rates[day * DAY_MIN : (day + 1) * DAY_MIN].copy()
            for begin, stop in self._shop.stops:
                rates[max(begin - day * DAY_MIN, 0) : max(stop - day * DAY_MIN, 0)] = 0.0
            counts = random.poisson(rates)
            minutes = FIRST_MINUTE + day * DAY_MIN + np.arange(DAY_MIN)
            found = np.repeat(minutes * MINUTE_MS, counts)
            self._known = (day, np.sort(found + random.integers(0, MINUTE_MS, len(found))))
        return self._known[1]

    def between(self, start_ms: int, end_ms: int) -> Ints:
        """Orders of a span of a few hours."""
        first, last = ((at // MINUTE_MS - FIRST_MINUTE) // DAY_MIN for at in (start_ms, end_ms))
        days = range(max(first, 0), min(last + 1, len(self._shop.rates) // DAY_MIN))
        found = np.concatenate([self.day(day) for day in days])
        return found[slice(*np.searchsorted(found, [start_ms, end_ms]))]


class NoEvents:
    """An EventReader without events: here the feed is filled from arrays."""

    def events(self, start_ms: int, end_ms: int, *, types: Sequence[str] = ()) -> pa.Table:
        del start_ms, end_ms, types
        return EVENT_READ_SCHEMA.empty_table()

    def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        del seq, limit
        return EVENT_READ_SCHEMA.empty_table()


class SwiftFeed(EventFeed):
    """The feed without a store: `pull` shows what was ordered until then, and no more."""

    def __init__(self, history: MinuteHistory) -> None:
        super().__init__(NoEvents(), "EUR", history_days=1, keep_s=_KEEP_MS // 1_000)
        self.history = history
        self._here: Ints = np.empty(0, dtype=np.int64)
        self._counted_ms = 0

    def fill(self, instants: Ints) -> None:
        """What comes until the next call, with the last hour before; ascending."""
        self._here = instants
        self.order_units = np.full(len(instants), _MONEY_UNITS, dtype=np.int64)

    @override
    def pull(self, now_ms: int) -> int:
        self.order_ms = self._here[: int(np.searchsorted(self._here, now_ms))]
        self._event_ms = self.order_ms
        whole_ms = now_ms - now_ms % MINUTE_MS
        if whole_ms > self._counted_ms:
            span = np.searchsorted(self._here, [self._counted_ms or whole_ms, whole_ms])
            count(self.history, self._here[slice(*span)])
            self._counted_ms = whole_ms
        return 0


def count(history: MinuteHistory, instants: Ints) -> None:
    """Add orders to a history."""
    history.add(instants, np.full(len(instants), _MONEY_UNITS, dtype=np.int64))
