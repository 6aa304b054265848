"""What a fault costs an hour, where that is known: requests that fail or do not come.

Business metrics record what is expected of this hour (orders, and what one is worth). Of a route
that every buyer passes, the part of the requests that fails more than before, or that is missing,
is the part of that revenue that is at risk: at most, for some buyers try again. What is only slow
has no price here. A whole service is on the way to an order when one of its routes is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import structlog

from detectors.finding import Finding
from detectors.http_requests import families_of, quoted
from detectors.selling import sells
from store.errors import QueryError, StoreUnavailable
from store.ports import Querier

_log = structlog.get_logger()
_FAILS, _MISSING = "error_regression", "throughput_drop"
_LEAST = 0.01
_ROUTES_MS = 3_600_000
# An hour's expected revenue; without a forecast, that of the last hour.
REVENUE = (
    "60 * sum by (currency) (warroom_business_expected_revenue_per_minute) "
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
        may_have = [finding for finding in found if _may_have_price(finding)]
        try:
            sold = {one.fingerprint for one in may_have if self._sells(one, now_ms)}
            hourly = self._revenue(now_ms) if sold else None
        except (QueryError, StoreUnavailable) as exc:
            _log.warning("the price of a finding is not known", error=str(exc))
            return found
        if hourly is None:
            return found
        return [
            _with_price(finding, *hourly) if finding.fingerprint in sold else finding
            for finding in found
        ]

    def _sells(self, finding: Finding, now_ms: int) -> bool:
        if finding.route:
            return sells(finding.route, self._routes)
        return any(sells(route, self._routes) for route in self._routes_of(finding, now_ms))

    def _routes_of(self, finding: Finding, now_ms: int) -> Iterator[str]:
        """Routes of a whole service, by its counters of the last hour."""
        job = f'job="{quoted(finding.labels.get("job", ""))}"'
        for family in families_of(self._querier, job, now_ms - _ROUTES_MS, now_ms):
            count = f"last_over_time({family.metric('_count')}{{{job}}}[{_ROUTES_MS}ms])"
            vector = self._querier.instant(f"group by ({family.route}) ({count})", now_ms)
            yield from (labels.get(family.route) for labels in vector.series)

    def _revenue(self, now_ms: int) -> tuple[float, str] | None:
        """Of an hour, and its currency; None where it is not known, or in several currencies."""
        vector = self._querier.instant(REVENUE, now_ms)
        if len(vector.series) != 1 or not vector.values[0] > 0:
            return None
        return float(vector.values[0]), vector.series[0].get("currency") or ""


def _may_have_price(finding: Finding) -> bool:
    return finding.active and finding.kind in {_FAILS, _MISSING}


def _lost(finding: Finding) -> float:
    """The part of the requests that fails more than before, or that is missing."""
    detail = finding.evidence.detail
    if finding.kind == _MISSING:
        return float(detail.get("missing_ratio", 0.0))
    return float(detail.get("error_ratio", 0.0)) - float(detail.get("baseline_error_ratio", 0.0))


def _with_price(finding: Finding, revenue: float, currency: str) -> Finding:
    money = max(0.0, min(1.0, _lost(finding))) * revenue
    if money < _LEAST:
        return finding
    impact = replace(finding.impact, money_per_hour=f"{money:.2f}", currency=currency)
    return replace(finding, impact=impact)
