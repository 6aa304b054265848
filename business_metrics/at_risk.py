"""Revenue at risk: expected less actual revenue, with its band of 95 %.

Of a range in which orders were found missing only those times count, as in the alert: what was
sold beyond the expected before or after gives nobody back an order. Of any other range all of its
known minutes count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np

from business_metrics.events import money
from business_metrics.exact_sums import total
from business_metrics.expectation import Expectation
from business_metrics.memory import Breach
from business_metrics.minute_history import DAY_MIN, MINUTE_MS, MinuteHistory
from business_metrics.model import KpiReading
from business_metrics.significance import quantile
from store.model import BoolArray, Int64Array

_TAILS = (0.025, 0.975)
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RevenueAtRisk:
    """Expected less actual revenue of a range, not below zero, with its band (95 %).

    `orders_missing` says that the range holds times in which orders were found missing: the figures
    are of those. Else they are of the whole range, and its sum may stray so far by chance.
    """

    amount: Decimal
    currency: str
    low: Decimal
    high: Decimal
    orders_missing: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """Times in which orders were found missing.

    Attributes:
        spans: They, cut to a range, in milliseconds, in order of time.
        told: What the alert says of the last of them, where that lies in the range as a whole.
    """

    spans: tuple[Span, ...] = ()
    told: RevenueAtRisk | None = None


@dataclass(frozen=True, slots=True)
class Sales:
    """Genuine orders of a range: when each was, and its money units."""

    ts_ms: Int64Array
    units: Int64Array

    def between(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Orders and their units with `start <= ts < end`."""
        inside = (self.ts_ms >= start_ms) & (self.ts_ms < end_ms)
        return int(inside.sum()), total(self.units[inside])

    def within(self, start_minute: int, chosen: BoolArray) -> Sales:
        """Those in the chosen ones of the minutes from a first one on."""
        place = self.ts_ms // MINUTE_MS - start_minute
        inside = (place >= 0) & (place < len(chosen))
        inside[inside] = chosen[place[inside]]
        return Sales(self.ts_ms[inside], self.units[inside])


def missing(
    breaches: Sequence[Breach], reading: KpiReading | None, start_ms: int, end_ms: int
) -> Missing:
    """The times of a range in which orders were missing, by the breaches and the last reading."""
    spans = []
    for breach in breaches:
        stop_ms = end_ms if breach.end_ms is None else min(breach.end_ms, end_ms)
        if max(breach.start_ms, start_ms) < stop_ms:
            spans.append((max(breach.start_ms, start_ms), stop_ms))
    spans.sort()
    lasts = reading is not None and bool(spans) and start_ms <= (reading.since_ms or 0)
    told = _told(reading) if reading is not None and lasts and end_ms >= reading.at_ms else None
    return Missing(tuple(spans), told)


def _told(reading: KpiReading) -> RevenueAtRisk | None:
    if not reading.breached or reading.revenue_at_risk is None:
        return None
    low, high = (Decimal(str(reading.detail[f"revenue_at_risk_{end}"])) for end in ("low", "high"))
    return RevenueAtRisk(reading.revenue_at_risk, reading.currency, low, high, orders_missing=True)


def usual_order(history: MinuteHistory, before_ms: int) -> Fraction | None:
    """Money units of an average order in the day before an instant; None without any."""
    minute = before_ms // MINUTE_MS
    orders, units = history.sold(minute - DAY_MIN, minute)
    return Fraction(units, orders) if orders else None


class Accountant:
    """Says what is at risk of the known minutes of a range."""

    def __init__(
        self, expectation: Expectation, known: BoolArray, history: MinuteHistory, currency: str
    ) -> None:
        """`expectation` expects nothing in the minutes that are not `known`."""
        self._expectation = expectation
        self._known = known
        self._history = history
        self._currency = currency

    def at_risk(self, sales: Sales, gone: Missing, range_ms: Span) -> RevenueAtRisk | None:
        """None where nothing can be expected, or nobody knows what an order is worth."""
        if not self._known.any():
            return None
        sales = sales.within(self._expectation.start_minute, self._known)
        if not gone.spans:
            orders, units = sales.between(*range_ms)
            worth = Fraction(units, orders) if orders else usual_order(self._history, range_ms[0])
            found = None if worth is None else self._of(range_ms, units, worth)
            return None if found is None else self._shown(found, missing=False)
        spans = gone.spans[:-1] if gone.told else gone.spans
        sums = [0.0, 0.0, 0.0]
        for span in spans:
            worth = usual_order(self._history, span[0])
            if worth is None:
                return gone.told
            more = self._of(span, sales.between(*span)[1], worth)
            sums = [before + n for before, n in zip(sums, more, strict=True)]
        return _sum(self._shown(sums, missing=True), gone.told)

    def _of(self, span: Span, units: int, worth: Fraction) -> list[float]:
        """Money units: what is at risk, the least and the most."""
        start_ms, end_ms = span
        due = self._expectation.expected(start_ms, end_ms)
        cv = self._expectation.cv_over(due, (end_ms - start_ms) / MINUTE_MS)
        orders = (due, *(float(quantile(tail, due, cv)) for tail in _TAILS))
        return [max(float(worth) * n - units, 0.0) for n in orders]

    def _shown(self, units: Sequence[float], *, missing: bool) -> RevenueAtRisk:
        amount, low, high = (money(float(np.rint(n)), self._currency) for n in units)
        return RevenueAtRisk(amount, self._currency, low, high, missing)


def _sum(one: RevenueAtRisk, other: RevenueAtRisk | None) -> RevenueAtRisk:
    if other is None:
        return one
    return replace(
        other,
        amount=one.amount + other.amount,
        low=one.low + other.low,
        high=one.high + other.high,
    )
