"""How today goes: sold so far against what was expected, and where the day will end.

Days are the store's own, midnight to midnight on its wall clock, so a day may have 23 or 25 hours.
The forecast is what was sold plus what the baseline expects of the rest, at today's level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from business_metrics.baseline import Baseline, Interval
from business_metrics.calendar import same_sale_before, weeks_before
from business_metrics.events import money
from business_metrics.expectation import Expectation
from business_metrics.minute_history import MINUTE_MS
from business_metrics.settings import BusinessSettings
from business_metrics.significance import quantile

_BAND = 0.025
# How far the rest of a day strays from its last hours.
_REST_CV = 0.05
_TIMELESS = frozenset({"none", "own_recent"})


@dataclass(frozen=True, slots=True)
class Sold:
    """Orders and revenue of a span; None where the day's orders are known but not their money."""

    orders: int
    revenue: Decimal | None


@dataclass(frozen=True, slots=True)
class ComparedDay:
    """An earlier day: `so_far` until the same time on the wall clock, `total` of the whole day."""

    day: date
    so_far: Sold
    total: Sold


@dataclass(frozen=True, slots=True)
class Forecast:
    """Orders of the whole day; `low` and `high` hold 95 % of the days like this one."""

    orders: float
    low: float
    high: float
    revenue: Decimal | None


@dataclass(frozen=True, slots=True)
class Pace:
    """One day's course. `ratio` is sold by expected so far; None before any week is known."""

    day: date
    so_far: Sold
    expected_so_far: float | None
    ratio: float | None
    forecast: Forecast | None
    last_week: ComparedDay | None
    last_sale: ComparedDay | None
    baseline: str


def day_bounds(minute: int, zone: ZoneInfo) -> tuple[date, int, int]:
    """The store's day of a minute, and the minutes in which it begins and ends.

    >>> summer_time_begins = 29_579_760  # 2026-03-29T12:00Z
    >>> day, begin, end = day_bounds(summer_time_begins, ZoneInfo("Europe/Berlin"))
    >>> str(day), (end - begin) / 60
    ('2026-03-29', 23.0)
    """
    day = datetime.fromtimestamp(minute * 60, UTC).astimezone(zone).date()
    return day, _midnight(day, zone), _midnight(day + timedelta(days=1), zone)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) // 60


class Days(Protocol):
    """What was sold in the minutes `[begin, end)`: orders, and their money units."""

    def sold(self, start_minute: int, end_minute: int) -> tuple[int, int]: ...


class Pacer:
    """Tells the pace of the day of an instant."""

    def __init__(self, days: Days, baseline: Baseline, settings: BusinessSettings) -> None:
        self._days = days
        self._baseline = baseline
        self._settings = settings
        self._zone = settings.zone

    def days_of(self, now_ms: int) -> list[Interval]:
        """The days that a pace tells of, in minutes: its own and those that it is compared with."""
        now = now_ms // MINUTE_MS
        earlier = same_sale_before(self._settings.calendar, now, self._zone)[:1]
        all_of = (now, weeks_before(now, 1, self._zone), *earlier)
        return [day_bounds(minute, self._zone)[1:] for minute in all_of]

    def pace(self, now_ms: int, excluded: tuple[Interval, ...]) -> Pace:
        """The day up to the last whole minute before an instant."""
        now = now_ms // MINUTE_MS
        day, begin, end = day_bounds(now, self._zone)
        so_far = self._sold(begin, now)
        # At the level with which the day began: a bad day must not become its own measure.
        usual = self._baseline.expect(begin, max(now, begin + 1), begin, excluded)
        rest = self._baseline.expect(now, max(end, now + 1), now, excluded)
        expected = _orders(usual, begin, now)
        return Pace(
            day=day,
            so_far=so_far,
            expected_so_far=expected,
            ratio=so_far.orders / expected if expected else None,
            forecast=self._forecast(so_far, rest, now, end),
            last_week=self._compared(weeks_before(now, 1, self._zone)),
            last_sale=self._last_sale(now),
            baseline=rest.source,
        )

    def _forecast(self, so_far: Sold, rest: Expectation, now: int, end: int) -> Forecast | None:
        coming = _orders(rest, now, end)
        if coming is None:
            return None
        # What raised the last hours, and no calendar knows, may end now or last.
        usual = coming / (rest.above_usual if rest.raised > 1 else 1.0)
        cv = math.hypot(rest.cv_over(coming, end - now), _REST_CV)
        low, high = quantile(_BAND, usual, cv), quantile(1 - _BAND, coming, cv)
        total = so_far.orders + (usual + coming) / 2
        revenue = None
        if so_far.revenue is not None and so_far.orders:
            coin = money(0, self._settings.currency)
            revenue = (so_far.revenue / so_far.orders * Decimal(repr(total))).quantize(coin)
        return Forecast(total, so_far.orders + low, so_far.orders + high, revenue)

    def _last_sale(self, now: int) -> ComparedDay | None:
        earlier = same_sale_before(self._settings.calendar, now, self._zone)
        return self._compared(earlier[0]) if earlier else None

    def _compared(self, past: int) -> ComparedDay | None:
        day, begin, end = day_bounds(past, self._zone)
        total = self._sold(begin, end)
        if not total.orders:
            return None
        return ComparedDay(day, self._sold(begin, past), total)

    def _sold(self, begin: int, end: int) -> Sold:
        orders, units = self._days.sold(begin, end)
        # Days that only the recorded series remember have no amounts.
        known = units or not orders
        return Sold(orders, money(units, self._settings.currency) if known else None)


def _orders(expectation: Expectation, begin: int, end: int) -> float | None:
    """Nothing where the expectation knows no time of day: half an hour says nothing of a night."""
    if expectation.source in _TIMELESS or np.isnan(expectation.per_minute).any():
        return None
    return expectation.expected(begin * MINUTE_MS, end * MINUTE_MS)
