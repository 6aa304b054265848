"""What an incident cost, read from the store: error budgets, orders, revenue."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from alerts.incidents import Incident
from api.damage import Damage, notable
from business_metrics.evaluation import BusinessEvaluator
from business_metrics.queries import Orders
from slos.definition import Slo
from slos.evaluation import SloEvaluator
from slos.model import SloStatus
from slos.spent import Spent, Stretch, spent
from store.errors import WarroomError
from store.ports import Querier

# Events are counted between samples: what failed first may lie before the first alert.
_MARGIN_MS = 60_000
_MAX_SLOS = 100
_MAX_POINTS = 500
_KEPT = 64
_KEPT_MS = 60_000
# Samples may come late: an incident's cost stands when it has been over for so long.
_SETTLED_MS = 300_000


@dataclass(slots=True)
class _Reading:
    """One incident's damage while it is read; what a deadline leaves is read when asked again."""

    at_ms: int
    started_ms: int
    resolved_ms: int | None
    left: list[Slo]
    # The last that was whole, shown until this one is.
    before: Damage | None = None
    budgets: list[Spent] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    damage: Damage | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fresh(self, incident: Incident, now_ms: int) -> bool:
        if (self.started_ms, self.resolved_ms) != (incident.started_ms, incident.resolved_ms):
            return False
        if self.resolved_ms is not None and self.at_ms - self.resolved_ms >= _SETTLED_MS:
            known = not self.unknown
            return known or 0 <= now_ms - self.at_ms < _KEPT_MS
        return self.damage is None or 0 <= now_ms - self.at_ms < _KEPT_MS


class Damages:
    """Reads an incident's damage at most once a minute, and no more once it stands.

    Many people look at an incident that runs, at each tick; its time may be days.
    """

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
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Reading] = OrderedDict()

    def of(self, incident: Incident, within_s: float) -> Damage:
        """What was spent and lost from its beginning to its end, or until now.

        Args:
            incident: The incident.
            within_s: How long reading may take; what is not read by then is named as unknown, and
                read when asked for again.
        """
        deadline_s = time.monotonic() + within_s
        reading = self._reading(incident)
        if not reading.lock.acquire(timeout=within_s):
            return reading.before or Damage(unknown=("it is being read: ask again",))
        try:
            return self._read_on(reading, incident, deadline_s)
        finally:
            reading.lock.release()

    def _reading(self, incident: Incident) -> _Reading:
        now_ms = self._now()
        with self._lock:
            kept = self._kept.get(incident.id)
            if kept is None or not kept.fresh(incident, now_ms):
                services = _services(incident)
                # With very many SLOs those of its own services come first.
                slos = sorted(self._slos.slos, key=lambda slo: slo.service not in services)
                before = (kept.damage or kept.before) if kept is not None else None
                kept = _Reading(
                    now_ms, incident.started_ms, incident.resolved_ms, slos[:_MAX_SLOS], before
                )
                self._kept[incident.id] = kept
            self._kept.move_to_end(incident.id)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return kept

    def _read_on(self, reading: _Reading, incident: Incident, deadline_s: float) -> Damage:
        if reading.damage is not None:
            return reading.damage
        start_ms = incident.started_ms - _MARGIN_MS
        end_ms = incident.resolved_ms or reading.at_ms
        events = {(s.service, s.name): s.period_events for s in self._statuses()}
        while reading.left and time.monotonic() < deadline_s:
            slo = reading.left.pop(0)
            self._budget(slo, start_ms, end_ms, events.get((slo.service, slo.name)), reading)
        services = _services(incident)
        if reading.left:
            late = f"the budgets of {len(reading.left)} SLOs: not read in time, ask again"
            unknown = (*reading.unknown, late, "orders: not read yet")
            return reading.before or Damage(notable(reading.budgets, services), unknown=unknown)
        orders = self._orders(start_ms, end_ms, reading.unknown)
        reading.damage = Damage(
            notable(reading.budgets, services),
            _counted(orders),
            orders.revenue_at_risk if orders else None,
            tuple(reading.unknown),
        )
        return reading.damage

    def _budget(
        self, slo: Slo, start_ms: int, end_ms: int, events: float | None, reading: _Reading
    ) -> None:
        try:
            planned = self._slos.maintenance(slo, start_ms, end_ms)
            one = spent(slo, self._querier, Stretch(start_ms, end_ms, planned), events)
        except WarroomError as exc:
            reading.unknown.append(f"the budget of {slo.service}/{slo.name}: {exc.message}")
            return
        if one is not None:
            reading.budgets.append(one)

    def _orders(self, start_ms: int, end_ms: int, unknown: list[str]) -> Orders | None:
        step_ms = max(-(-(end_ms - start_ms) // _MAX_POINTS // 60_000) * 60_000, 60_000)
        try:
            return self._business.orders(start_ms, end_ms, step_ms)
        except WarroomError as exc:
            unknown.append(f"orders: {exc.message}")
            return None


def _services(incident: Incident) -> frozenset[str]:
    return frozenset(part.labels.get("service") for part in incident.alerts)


def _counted(orders: Orders | None) -> tuple[int, float] | None:
    """Orders that came and were expected, of the steps in which something could be expected."""
    known = [p for p in orders.points if p.expected_orders is not None] if orders else []
    if not known:
        return None
    return sum(p.orders for p in known), sum(p.expected_orders or 0.0 for p in known)
