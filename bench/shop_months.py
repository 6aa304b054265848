"""Months of simulated shops, for the order rule: what is sold each minute, and what goes wrong.

Orders are Poisson around a rate. The rate has a day (the peak is 20 times the trough) and a week,
by the wall clock, which is turned forward or back on one of the judged days; its level wanders from
day to day and within the day. There are promotions and bursts that no calendar knows, which begin
and end at once; a holiday that no calendar knows, and one that is in it; sale days that are in the
calendar; and stops of the collector, in which orders are lost and no tick happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

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
LEARNED_DAYS = 29
# Summer time ends on the 21st or 28th judged day; or it begins on the 13th or the 27th.
_STARTS = (date(2026, 10, 5), date(2027, 3, 2))
_ZONES = ("Europe/Berlin", "America/New_York")
_OFFSET_MIN = 30
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
        first_minute: The first learned minute since the epoch.
        zone: The shop's time zone.
        rates: Orders a minute.
        calendar: Sale days.
        stops: When the collector was down.
        plain: Judged minutes that no promotion, sale or stop touched, nor hours before and after.
    """

    first_minute: int
    zone: str
    rates: Floats
    calendar: tuple[SaleDay, ...]
    stops: tuple[Span, ...]
    plain: Ints

    @property
    def judged_days(self) -> int:
        return len(self.rates) // DAY_MIN - LEARNED_DAYS

    @property
    def start_ms(self) -> int:
        """When judging begins."""
        return (self.first_minute + LEARNED_DAYS * DAY_MIN) * MINUTE_MS


def make_shop(mean_rate: float, days: int, random: Random) -> Shop:
    """A shop with so many orders a minute on average, judged for so many days."""
    start = _STARTS[int(random.integers(len(_STARTS)))]
    zone = ZoneInfo(_ZONES[int(random.integers(len(_ZONES)))])
    midnight = datetime(start.year, start.month, start.day, tzinfo=zone).timestamp()
    first_minute = round(midnight) // 60 - LEARNED_DAYS * DAY_MIN
    wall = _wall_clock(first_minute, (LEARNED_DAYS + days) * DAY_MIN, zone)
    day = wall // DAY_MIN - (start - date(1970, 1, 1)).days
    rates = _usual(mean_rate, wall, random)
    touched = day < 0
    touched[-_AFTERMATH_MIN:] = True
    spans = _promotions(len(rates), random)
    unlike = _unlike_days(days, random)
    for place, length, factor, _ in unlike:
        begin, stop = np.searchsorted(day, [place, place + length]).tolist()
        spans.append(((begin, stop), factor))
    stops = tuple(_stops(days, random))
    for span, factor in (*spans, *((stop, 1.0) for stop in stops)):
        rates[slice(*span)] *= factor
        touched[max(span[0] - _AFTERMATH_MIN, 0) : span[1] + _AFTERMATH_MIN] = True
    calendar = tuple(
        SaleDay(name, start + timedelta(days=place), start + timedelta(days=place + length - 1))
        for place, length, _, name in unlike
        if name
    )
    return Shop(first_minute, zone.key, rates, calendar, stops, np.flatnonzero(~touched))


def _wall_clock(first_minute: int, minutes: int, zone: ZoneInfo) -> Ints:
    """What the clock on the wall shows at each minute, in minutes since the epoch."""
    at = first_minute + np.arange(minutes, dtype=np.int64)
    blocks = np.arange(at[0] // _OFFSET_MIN, at[-1] // _OFFSET_MIN + 1) * _OFFSET_MIN
    moments = [
        datetime.fromtimestamp(block * 60, UTC).astimezone(zone) for block in blocks.tolist()
    ]
    offsets = [round((m.utcoffset() or timedelta()).total_seconds()) // 60 for m in moments]
    walls: Ints = at + np.asarray(offsets)[at // _OFFSET_MIN - blocks[0] // _OFFSET_MIN]
    return walls


def _usual(mean_rate: float, wall: Ints, random: Random) -> Floats:
    """A day, a week, and a level that wanders; the day's logarithm is a cosine."""
    minutes, days = np.arange(len(wall)), len(wall) // DAY_MIN
    height = np.log(_DAY_TO_NIGHT) / 2
    day = np.exp(-height * np.cos(2 * np.pi * wall / DAY_MIN))
    daily = np.exp(random.normal(0.0, _DAILY_WANDER, days + 1))
    hourly = np.exp(random.normal(0.0, _HOURLY_WANDER, days * 24 + 1))
    level = np.interp(minutes / DAY_MIN, np.arange(days + 1), daily)
    level *= np.interp(minutes / 60, np.arange(days * 24 + 1), hourly)
    rates: Floats = mean_rate / float(day.mean()) * day * level * _WEEK[wall // DAY_MIN % 7]
    return rates


def _promotions(minutes: int, random: Random) -> list[tuple[Span, float]]:
    """Two promotions of 20 min to 6 h and one burst of 5 to 20 min a week, at any time."""
    found = []
    for count, shortest, longest, least, most in ((2, 20, 360, 1.5, 4.0), (1, 5, 20, 3.0, 8.0)):
        for begin in random.integers(0, minutes, count * minutes // (7 * DAY_MIN)).tolist():
            length = int(random.integers(shortest, longest + 1))
            found.append(((begin, begin + length), float(random.uniform(least, most))))
    return found


def _unlike_days(days: int, random: Random) -> list[tuple[int, int, float, str]]:
    """Judged day, length, factor, and name in the calendar, if it is known there.

    A first sale, a longer one, and the first one again; a holiday nobody told, and one in the
    calendar on which the shop sells next to nothing.
    """
    found = (
        (10, 1, random.uniform(5.0, 12.0), "short"),
        (17, 1, random.uniform(0.65, 0.8), ""),
        (33, 3, random.uniform(5.0, 12.0), "long"),
        (44, 1, random.uniform(0.2, 0.4), "holiday"),
        (61, 1, random.uniform(5.0, 12.0), "short"),
    )
    return [one for one in found if one[0] + one[1] < days]


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
            minutes = self._shop.first_minute + day * DAY_MIN + np.arange(DAY_MIN)
            found = np.repeat(minutes * MINUTE_MS, counts)
            self._known = (day, np.sort(found + random.integers(0, MINUTE_MS, len(found))))
        return self._known[1]

    def between(self, start_ms: int, end_ms: int) -> Ints:
        """Orders of a span of a few hours."""
        begin = self._shop.first_minute
        first, last = ((at // MINUTE_MS - begin) // DAY_MIN for at in (start_ms, end_ms))
        days = range(max(first, 0), min(last + 1, len(self._shop.rates) // DAY_MIN))
        found = np.concatenate([self.day(day) for day in days])
        return found[slice(*np.searchsorted(found, [start_ms, end_ms]))]


class NoEvents:
    """An EventReader without events: here the feed is filled from arrays."""

    def events(
        self, start_ms: int, end_ms: int, *, types: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> pa.Table:
        del start_ms, end_ms, types, columns
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

    def show(self, now_ms: int) -> None:
        """What was ordered until then, not yet counted by minutes."""
        self.order_ms = self._here[: int(np.searchsorted(self._here, now_ms))]

    @override
    def pull(self, now_ms: int) -> int:
        self.show(now_ms)
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
