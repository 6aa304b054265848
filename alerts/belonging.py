"""Which incident an alert belongs to, and by what: pure decisions with a named reason.

From the strongest: the same service, SLO or KPI; the same probable cause, for as long as the
incident runs; a service that calls it or that it calls, or only the time, within `JOIN_WINDOW_MS`
of the incident's last alert. Services that traces show to be apart have only their time in common,
and that is not enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from detectors.topology import NO_CALLS, Relation, Topology
from store.model import Labels

JOIN_WINDOW_MS = 5 * 60_000
_SHARED = ("service", "slo", "kpi")
# Beyond so many services of one incident nothing more is learnt from them.
_MAX_SERVICES = 50
_CONNECTED = frozenset({Relation.CALLED, Relation.CALLER})


class Belongs(StrEnum):
    """By what an alert came into its incident; the strongest first."""

    FIRST = "first_alert"
    SERVICE = "same_service"
    SLO = "same_slo"
    KPI = "same_kpi"
    CAUSE = "shared_cause"
    TOPOLOGY = "topology"
    TIME = "time"


RANK: Mapping[Belongs, int] = {reason: place for place, reason in enumerate(Belongs)}
_BY_LABEL = {"service": Belongs.SERVICE, "slo": Belongs.SLO, "kpi": Belongs.KPI}


class Neighbours:
    """Who calls whom, asked again and again within one tick."""

    def __init__(self, topology: Topology = NO_CALLS) -> None:
        self._topology = topology
        self._known: dict[tuple[str, str], Relation] = {}

    def relation(self, service: str, other: str) -> Relation:
        found = self._known.get((service, other))
        if found is None:
            found = self._known[service, other] = self._topology.relation(service, other)
        return found


class Traits:
    """What an incident's alerts have in common with others."""

    def __init__(self) -> None:
        self._labels: set[tuple[str, str]] = set()
        self._causes: set[str] = set()
        self._services: dict[str, None] = {}

    def add(self, labels: Labels, annotations: Mapping[str, str]) -> None:
        """Take in one alert."""
        self._labels |= _shared(labels)
        self._causes |= _causes(labels, annotations)
        service = labels.get("service")
        if service and len(self._services) < _MAX_SERVICES:
            self._services[service] = None

    def belongs(
        self,
        labels: Labels,
        annotations: Mapping[str, str],
        neighbours: Neighbours,
        *,
        recent: bool,
    ) -> Belongs | None:
        """By what an alert belongs to the incident; None when it does not.

        Args:
            labels: The alert's.
            annotations: Likewise; `cause_ref` names its probable cause.
            neighbours: Who calls whom.
            recent: The incident's last alert began within the window.
        """
        common = self._labels & _shared(labels)
        if common:
            return min((_BY_LABEL[name] for name, _ in common), key=RANK.__getitem__)
        if not self._causes.isdisjoint(_causes(labels, annotations)):
            return Belongs.CAUSE
        return self._nearby(labels.get("service"), neighbours) if recent else None

    def _nearby(self, service: str, neighbours: Neighbours) -> Belongs | None:
        if not service or not self._services:
            return Belongs.TIME
        relations = {neighbours.relation(service, other) for other in self._services}
        if relations & _CONNECTED:
            return Belongs.TOPOLOGY
        return None if relations == {Relation.APART} else Belongs.TIME


def _shared(labels: Labels) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels if name in _SHARED and value)


def _causes(labels: Labels, annotations: Mapping[str, str]) -> frozenset[str]:
    """The probable cause, and of a finding's alert the finding itself."""
    found = {annotations.get("cause_ref", "")}
    if labels.get("fingerprint"):
        found.add(f"/findings/{labels.get('fingerprint')}")
    return frozenset(found - {""})
