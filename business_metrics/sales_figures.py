"""Average order, conversion and search abandonment: shown, not judged."""

from __future__ import annotations

from fractions import Fraction

from business_metrics.abandonment import outcome, point
from business_metrics.events import EventFeed, money
from business_metrics.minute_history import MINUTE_MS
from business_metrics.model import KpiReading
from business_metrics.session_table import SessionTable
from business_metrics.settings import BusinessSettings

_AVERAGE_S = 900
_CONVERSION_S = 3_600
_SEARCHED_S = 3_600


class SalesFigures:
    """Figures over the last minutes; what follows sessions is dear, and counted once a minute."""

    def __init__(self, feed: EventFeed, visits: SessionTable, settings: BusinessSettings) -> None:
        self._feed = feed
        self._visits = visits
        self._currency = settings.currency
        self._timeout_s = settings.checkout_timeout_s
        self._sessions: tuple[int, tuple[KpiReading, ...]] | None = None

    def tick(self, now_ms: int) -> tuple[KpiReading, ...]:
        """The readings at an instant."""
        minute = now_ms // MINUTE_MS
        if self._sessions is None or self._sessions[0] != minute:
            self._sessions = (minute, (self._converted(now_ms), self._searched(now_ms)))
        return self._average(now_ms), *self._sessions[1]

    def _average(self, now_ms: int) -> KpiReading:
        # An order whose worth is unknown says nothing of what an order is worth.
        orders, units = self._feed.worth_between(now_ms - _AVERAGE_S * 1_000, now_ms)
        return KpiReading(
            kpi="average_order_value",
            at_ms=now_ms,
            value=float(money(Fraction(units, orders), self._currency)) if orders else None,
            unit=self._currency,
            currency=self._currency,
            window_s=_AVERAGE_S,
        )

    def _converted(self, now_ms: int) -> KpiReading:
        visited, bought = self._visits.counts(now_ms - _CONVERSION_S * 1_000)
        return KpiReading(
            kpi="conversion",
            at_ms=now_ms,
            value=bought / visited if visited else None,
            unit="ratio",
            reason=f"{bought:,} of {visited:,} sessions bought",
            provisional=True,
            window_s=_CONVERSION_S,
        )

    def _searched(self, now_ms: int) -> KpiReading:
        """Searches that are old enough to be judged, of an hour."""
        found = self._visits.hunts()
        matured_ms = now_ms - self._timeout_s * 1_000
        begin_ms = matured_ms - _SEARCHED_S * 1_000
        chosen = (found.start_ms >= begin_ms) & (found.start_ms < matured_ms)
        results = outcome(found, now_ms, self._timeout_s)
        figure = point(begin_ms, chosen, results, provisional=False)
        decided = figure.completed + figure.abandoned
        return KpiReading(
            kpi="search_abandonment",
            at_ms=now_ms,
            value=figure.rate,
            unit="ratio",
            low=figure.low,
            high=figure.high,
            reason=f"{figure.abandoned:,} of {decided:,} searches led to no look at an article",
            window_s=_SEARCHED_S,
        )
