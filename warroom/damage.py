"""What an incident cost, read from the store: error budgets, orders, revenue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alerts.incidents import Incident
from api.damage import Damage, notable
from business_metrics.evaluation import BusinessEvaluator
from business_metrics.queries import Orders
from slos.definition import Slo
from slos.evaluation import SloEvaluator
from slos.model import SloStatus
from slos.spent import Spent, spent
from store.errors import WarroomError
from store.ports import Querier

# Events are counted between samples: what failed first may lie before the first alert.
_MARGIN_MS = 60_000
_MAX_SLOS = 100
_MAX_POINTS = 500


class Damages:
    """Reads anew whenever somebody asks."""

    def __init__(
        self,
        querier: Querier,
        slos: SloEvaluator,
        statuses: Callable[[], Sequence[SloStatus]],
        business: BusinessEvaluator,
        now: Callable[[], int],
    ) -> None:
        self._querier = querier
        self._slos = slos
        self._statuses = statuses
        self._business = business
        self._now = now

    def of(self, incident: Incident) -> Damage:
        """What was spent and lost from its beginning to its end, or until now."""
        start_ms = incident.started_ms - _MARGIN_MS
        end_ms = incident.resolved_ms or self._now()
        unknown: list[str] = []
        services = frozenset(part.labels.get("service") for part in incident.alerts)
        budgets = self._budgets(services, start_ms, end_ms, unknown)
        orders = self._orders(start_ms, end_ms, unknown)
        return Damage(
            notable(budgets, services),
            _counted(orders),
            orders.revenue_at_risk if orders else None,
            tuple(unknown),
        )

    def _budgets(
        self, services: frozenset[str], start_ms: int, end_ms: int, unknown: list[str]
    ) -> list[Spent]:
        totals = {(s.service, s.name): s.total_events or 0.0 for s in self._statuses()}
        # With very many SLOs those of its own services come first.
        slos: list[Slo] = sorted(self._slos.slos, key=lambda slo: slo.service not in services)
        found = []
        for slo in slos[:_MAX_SLOS]:
            events = totals.get((slo.service, slo.name), 0.0)
            try:
                one = spent(slo, self._querier, start_ms, end_ms, events)
            except WarroomError as exc:
                unknown.append(f"the budget of {slo.service}/{slo.name}: {exc.message}")
                continue
            if one is not None:
                found.append(one)
        return found

    def _orders(self, start_ms: int, end_ms: int, unknown: list[str]) -> Orders | None:
        step_ms = max(-(-(end_ms - start_ms) // _MAX_POINTS // 60_000) * 60_000, 60_000)
        try:
            return self._business.orders(start_ms, end_ms, step_ms)
        except WarroomError as exc:
            unknown.append(f"orders: {exc.message}")
            return None


def _counted(orders: Orders | None) -> tuple[int, float] | None:
    """Orders that came and were expected, of the steps in which something could be expected."""
    known = [p for p in orders.points if p.expected_orders is not None] if orders else []
    if not known:
        return None
    return sum(p.orders for p in known), sum(p.expected_orders or 0.0 for p in known)
