"""What a fault costs an hour, where that is known: failing requests on the way to an order.

Business metrics record what is expected of this hour (orders, and what one is worth). Of a route
that every buyer passes, the part of the requests that fails more than before is the part of that
revenue that is at risk: at most, for some buyers try again. What is only slow has no price here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog

from detectors.finding import Finding
from detectors.selling import sells
from store.errors import QueryError, StoreUnavailable
from store.ports import Querier

_log = structlog.get_logger()
_KIND = "error_regression"
_LEAST = 0.01
# An hour's expected revenue; without a forecast, that of the last hour.
REVENUE = (
    "60 * sum(warroom_business_expected_orders_per_minute) * on () group_right () "
    "sum by (currency) (warroom_business_average_order_value) "
    "or 60 * sum by (currency) (avg_over_time(warroom_business_revenue_per_minute[1h]))"
)


class Worth:
    """Prices findings; asks for the revenue only while one may have a price.

    Args:
        querier: Where the business metrics' own series are.
        routes: Words of the routes that every buyer passes.
    """

    def __init__(self, querier: Querier, routes: Sequence[str]) -> None:
        self._querier = querier
        self._routes = tuple(routes)

    def priced(self, findings: Iterable[Finding], now_ms: int) -> list[Finding]:
        """The findings, with money where it is known."""
        found = list(findings)
        if not any(self._has_price(finding) for finding in found):
            return found
        hourly = self._revenue(now_ms)
        if hourly is None:
            return found
        return [
            _with_price(finding, *hourly) if self._has_price(finding) else finding
            for finding in found
        ]

    def _has_price(self, finding: Finding) -> bool:
        return finding.active and finding.kind == _KIND and sells(finding.route, self._routes)

    def _revenue(self, now_ms: int) -> tuple[float, str] | None:
        """Of an hour, and its currency; None where it is not known, or in several currencies."""
        try:
            vector = self._querier.instant(REVENUE, now_ms)
        except (QueryError, StoreUnavailable) as exc:
            _log.warning("revenue is not known", error=str(exc))
            return None
        if len(vector.series) != 1 or not vector.values[0] > 0:
            return None
        return float(vector.values[0]), vector.series[0].get("currency") or ""


def _with_price(finding: Finding, revenue: float, currency: str) -> Finding:
    detail = finding.evidence.detail
    lost = float(detail.get("error_ratio", 0.0)) - float(detail.get("baseline_error_ratio", 0.0))
    money = max(0.0, min(1.0, lost)) * revenue
    if money < _LEAST:
        return finding
    impact = replace(finding.impact, money_per_hour=f"{money:.2f}", currency=currency)
    return replace(finding, impact=impact)
