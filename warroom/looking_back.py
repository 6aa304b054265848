"""Replay and readiness, wired: the histories a look back needs, the facts a checklist needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, time
from functools import partial
from typing import Protocol

from alerts.drill import MARK
from alerts.escalation.steps import people
from alerts.incident_log.repository import IncidentRepository
from alerts.route_tree import ESCALATION
from alerts.routing import Routing
from alerts.silences import Silence
from api.panels.earlier_sale import earlier_sale
from api.panels.view import EarlierSale
from api.readiness.checklist import Facts
from api.replay.alerts_then import IncidentLog
from api.replay.past import Histories
from api.shapes import Json
from business_metrics.calendar import local_day
from business_metrics.queries import Orders
from business_metrics.repository import BreachRepository
from business_metrics.settings import BusinessSettings
from detectors.repository import FindingFilter, FindingRepository
from store.sql import SessionFactory
from warroom.backups import last_backup_ms
from warroom.paging import Paging
from warroom.reload import Configuration

_INCIDENTS = 500
_FINDINGS = 500
_MINUTE_MS = 60_000
# Minutes whose mean stands for an instant.
_AROUND = 5
_MINUTES_KEPT = 64
_COUNTED = ("orders_per_minute", "revenue_per_minute")


def histories(
    sessions: SessionFactory,
    incidents: IncidentRepository,
    findings: FindingRepository,
    silences: Callable[[], Sequence[Silence]],
) -> Histories:
    """Where what was known at an earlier instant is kept."""
    return Histories(
        breaches=BreachRepository(sessions).breaches,
        incidents=IncidentLog(
            running=lambda at_ms: incidents.between(at_ms, at_ms, limit=_INCIDENTS),
            lines=incidents.lines,
        ),
        silences=silences,
        findings=lambda: findings.list(FindingFilter(), limit=_FINDINGS).findings,
        finding_history=findings.history,
    )


def sale_before(settings: BusinessSettings) -> Callable[[int], EarlierSale | None]:
    """Which earlier sale an instant is compared with, by the shop's calendar."""
    return partial(earlier_sale, settings.calendar, settings.zone)


class Earlier(Protocol):
    """Business figures of the past; the evaluator of the business metrics is one."""

    def orders(self, start_ms: int, end_ms: int, step: int) -> Orders: ...

    def figure_at(self, kpi: str, at_ms: int) -> float | None: ...


class KpisThen:
    """A business figure at an earlier instant, counted from the events themselves.

    A series of them begins when Warroom did; events of before may have been brought in. Orders and
    revenue are the mean of the five minutes around the instant: a single one is mostly chance.
    Other figures are those of the whole minute before it, and are looked for once.
    """

    def __init__(self, earlier: Earlier) -> None:
        self._earlier = earlier
        self._known: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self._figures: OrderedDict[tuple[str, int], float | None] = OrderedDict()

    def __call__(self, kpi: str, at_ms: int) -> float | None:
        """The KPI by its name; None for those that nobody counts, or of too few events."""
        minute = at_ms // _MINUTE_MS
        if kpi in _COUNTED:
            around = self._around(minute)
            return around[_COUNTED.index(kpi)] if around else None
        if (kpi, minute) not in self._figures:
            found = self._earlier.figure_at(kpi, minute * _MINUTE_MS)
            self._figures[kpi, minute] = found
            if len(self._figures) > _MINUTES_KEPT:
                self._figures.popitem(last=False)
        return self._figures[kpi, minute]

    def _around(self, minute: int) -> tuple[float, float] | None:
        if minute not in self._known:
            start_ms, width_ms = (minute - _AROUND // 2) * _MINUTE_MS, _AROUND * _MINUTE_MS
            point = self._earlier.orders(start_ms, start_ms + width_ms, width_ms).points[0]
            if not point.orders:
                return None  # not kept: the events may still be brought in
            self._known[minute] = point.orders / _AROUND, float(point.revenue) / _AROUND
            if len(self._known) > _MINUTES_KEPT:
                self._known.popitem(last=False)
        return self._known[minute]


class ReadinessFacts:
    """Collects what the checklist is derived from."""

    def __init__(
        self,
        configuration: Configuration,
        paging: Paging,
        business: BusinessSettings,
        slos: Callable[[], list[Json]],
        sources: Callable[[int], list[Json]],
    ) -> None:
        self._configuration = configuration
        self._paging = paging
        self._business = business
        self._slos = slos
        self._sources = sources

    def __call__(self, now_ms: int, target_multiple: float, load_tests: list[Json]) -> Facts:
        """The facts at this instant; reads the state database."""
        settings = self._configuration.settings
        retention = settings.file.store.retention
        today = local_day(now_ms // 60_000, self._business.zone)
        over = [sale for sale in self._business.calendar if sale.last < today]
        ahead = [sale for sale in self._business.calendar if sale.last >= today]
        last = max(over, key=lambda sale: sale.first, default=None)
        began = datetime.combine(last.first, time(), self._business.zone) if last else None
        return Facts(
            now_ms=now_ms,
            slos=self._slos(),
            receivers=ways_to_try(self._paging.engine.routing, now_ms),
            drilled=self._paging.ledger.last_sent(f"{MARK}/"),
            sources=self._sources(now_ms),
            deadman=self._configuration.deadman is not None,
            backup_ms=last_backup_ms(settings),
            on_disk=not settings.in_memory,
            rollup_ms=int(retention.rollup_5m * 1000),
            events_ms=int(retention.events * 1000),
            last_sale=last,
            last_sale_ms=round(began.timestamp() * 1000) if began else None,
            next_sale=min(ahead, key=lambda sale: sale.first, default=None),
            load_tests=load_tests,
            target_multiple=target_multiple,
        )


def ways_to_try(routing: Routing, now_ms: int) -> list[str]:
    """Receivers that a drill reaches now: of a policy those of the people of its first step."""
    found: dict[str, None] = {}
    for receiver in routing.receivers.values():
        policy = routing.on_call.policies.get(receiver.escalation_policy)
        if policy is not None:
            # Nobody on call: the policy itself stays untried.
            told = people(policy.steps[0], routing.on_call, now_ms) or (receiver.name,)
            found.update(dict.fromkeys(told))
        if any(one.kind != ESCALATION for one in receiver.integrations):
            found[receiver.name] = None
    return list(found)
