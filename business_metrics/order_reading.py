"""What a tick says of the orders: figures, words, and what missing orders cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from business_metrics import order_rate
from business_metrics.events import EventFeed, money
from business_metrics.expectation import Expectation
from business_metrics.memory import Breach
from business_metrics.minute_history import MINUTE_MS
from business_metrics.model import KpiReading
from business_metrics.order_counts import OrderCounts
from business_metrics.order_rate import OrderVerdict
from business_metrics.settings import BusinessSettings
from business_metrics.significance import quantile

KPI = "order_rate"
_RATE_S = 60
_BAND = 0.005
_AVERAGE_OVER_MIN = 1_440


@dataclass(frozen=True, slots=True)
class OrdersNow:
    """What one tick says of the orders.

    Attributes:
        revenue_per_minute: Less refunds; below zero when more was given back than taken.
        expected_per_minute: None while nothing is expected yet; `low` and `high` bound a minute.
    """

    reading: KpiReading
    orders_per_minute: float
    revenue_per_minute: Decimal
    expected_per_minute: float | None
    low: float | None
    high: float | None


class OrderTeller:
    """Puts a decision into a reading."""

    def __init__(self, feed: EventFeed, counts: OrderCounts, settings: BusinessSettings) -> None:
        self._feed = feed
        self._counts = counts
        self._settings = settings

    def now(
        self,
        verdict: OrderVerdict,
        expectation: Expectation,
        instants_ms: tuple[int, int],
        breach: Breach | None,
    ) -> OrdersNow:
        """One tick in figures and words.

        Args:
            verdict: What was decided.
            expectation: What it was judged by.
            instants_ms: The end of what was judged, and the tick.
            breach: The open one.
        """
        end_ms, now_ms = instants_ms
        orders, units = self._feed.orders_between(end_ms - MINUTE_MS, end_ms)
        due = expectation.expected(end_ms - MINUTE_MS, end_ms)
        known = len(expectation.per_minute) > 0
        cv = expectation.cv_over(due, 1)
        bare = self._reading(verdict, expectation, end_ms, now_ms)
        band = [float(quantile(q, due, cv)) for q in (_BAND, 1 - _BAND)]
        return OrdersNow(
            reading=self._with_breach(bare, expectation, end_ms, breach),
            orders_per_minute=float(orders),
            revenue_per_minute=money(
                units - self._feed.refunded_between(end_ms - MINUTE_MS, end_ms),
                self._settings.currency,
            ),
            expected_per_minute=due if known else None,
            low=band[0] if known else None,
            high=band[1] if known else None,
        )

    def _reading(
        self, verdict: OrderVerdict, expectation: Expectation, end_ms: int, now_ms: int
    ) -> KpiReading:
        evidence = verdict.evidence
        if evidence is None or evidence.window_s <= 0:
            # Also while a breach is open and nothing can be judged: what held holds.
            orders = self._feed.orders_between(end_ms - MINUTE_MS, end_ms)[0]
            value = float(orders) if self._feed.history.first_minute is not None else None
            return KpiReading(
                kpi=KPI,
                at_ms=now_ms,
                value=value,
                unit="orders/min",
                reason=order_rate.in_words(verdict),
                window_s=_RATE_S,
                detail={"decision": verdict.reason},
            )
        minutes = evidence.window_s / 60
        low, high = (
            quantile(q, evidence.expected, evidence.cv) / minutes for q in (_BAND, 1 - _BAND)
        )
        return KpiReading(
            kpi=KPI,
            at_ms=now_ms,
            value=evidence.observed / minutes,
            unit="orders/min",
            expected=evidence.expected / minutes,
            low=low,
            high=high,
            reason=order_rate.in_words(verdict),
            window_s=round(evidence.window_s),
            detail={
                "decision": verdict.reason,
                "baseline": expectation.source,
                "level": round(expectation.level, 3),
            },
        )

    def _with_breach(
        self, reading: KpiReading, expectation: Expectation, end_ms: int, breach: Breach | None
    ) -> KpiReading:
        if breach is None:
            return reading
        risk, low, high = self.at_risk(expectation, breach.start_ms, end_ms)
        orders = expectation.expected(breach.start_ms, end_ms)
        missing = max(orders - self._counts.between(breach.start_ms, end_ms)[0], 0.0)
        detail: dict[str, float | str] = {
            "missing_orders": round(missing, 1),
            "revenue_at_risk_low": str(low),
            "revenue_at_risk_high": str(high),
        }
        return replace(
            reading,
            breached=True,
            severity=breach.severity,
            since_ms=breach.start_ms,
            revenue_at_risk=risk,
            currency=self._settings.currency,
            detail=dict(reading.detail) | detail,
        )

    def at_risk(
        self, expectation: Expectation, start_ms: int, end_ms: int
    ) -> tuple[Decimal, Decimal, Decimal]:
        """Expected less actual revenue with its band (95 %), at what an order usually brings."""
        average = self.average_units(start_ms)
        due = expectation.expected(start_ms, end_ms)
        units = self._counts.between(start_ms, end_ms)[1]
        cv = expectation.cv_over(due, (end_ms - start_ms) / MINUTE_MS)
        bounds = [quantile(q, due, cv) for q in (0.025, 0.975)]
        risk, low, high = (
            money(max(orders * average - units, 0.0), self._settings.currency)
            for orders in (due, *bounds)
        )
        return risk, low, high

    def average_units(self, before_ms: int) -> float:
        """Money units of an average order in the day before an instant."""
        minute = before_ms // MINUTE_MS
        orders, units = self._feed.history.sold(minute - _AVERAGE_OVER_MIN, minute)
        return units / orders if orders else 0.0
