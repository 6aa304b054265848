"""What the business metrics record of themselves at each tick: own series, in base units."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from business_metrics.checkout_watch import SegmentShare
from business_metrics.events import UNITS_PER_MONEY
from business_metrics.model import KpiReading
from business_metrics.order_reading import OrdersNow
from business_metrics.settings import BusinessSettings
from store.model import Labels

PREFIX = "warroom_business_"
Row = tuple[Labels, int, float]
_RATIOS = {
    "checkout_abandonment": "checkout_abandonment_ratio",
    "checkout_abandonment_live": "checkout_abandonment_live_ratio",
    "payment_success": "payment_success_ratio",
    "conversion": "conversion_ratio",
    "search_abandonment": "search_abandonment_ratio",
}


def rows(
    sales: tuple[OrdersNow | None, Fraction | None],
    readings: Sequence[KpiReading],
    segments: Sequence[SegmentShare],
    settings: BusinessSettings,
    now_ms: int,
) -> list[Row]:
    """The samples of one tick. What is unknown is not recorded.

    `sales` are the orders, and the money units of a usual one.
    """
    orders, usual = sales
    found: list[tuple[str, dict[str, str], float | None]] = []
    money = {"currency": settings.currency}
    if orders is not None:
        risk = orders.reading.revenue_at_risk
        found += [
            ("orders_per_minute", {}, orders.orders_per_minute),
            ("revenue_per_minute", money, float(orders.revenue_per_minute)),
            ("expected_orders_per_minute", {}, orders.expected_per_minute),
            ("expected_orders_per_minute_low", {}, orders.low),
            ("expected_orders_per_minute_high", {}, orders.high),
            ("expected_revenue_per_minute", money, _worth(orders.expected_per_minute, usual)),
            ("revenue_at_risk", money, 0.0 if risk is None else float(risk)),
        ]
    for reading in readings:
        if reading.kpi in _RATIOS:
            found.append((_RATIOS[reading.kpi], {}, reading.value))
        elif reading.kpi == "average_order_value":
            found.append((reading.kpi, money, reading.value))
    for share in segments:
        labels = {"segment": share.segment, "value": share.value}
        found.append(("checkout_abandonment_by_segment_ratio", labels, share.figure.rate))
    return [
        (Labels.of(labels, __name__=PREFIX + name), now_ms, value)
        for name, labels, value in found
        if value is not None
    ]


def _worth(orders: float | None, usual: Fraction | None) -> float | None:
    return None if orders is None or usual is None else orders * float(usual / UNITS_PER_MONEY)
