"""Which incident an alert belongs to, and by what: pure decisions with a named reason.

From the strongest: the same service, SLO or KPI; the same probable cause, for as long as the
incident runs; within `JOIN_WINDOW_MS` of the incident's last alert, calls (one calls the other,
both reach the same service or host, the same one calls both, or both run on one host) or only the
time. Services that traces show to be apart have only their time in common, and that is not enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import reduce
from operator import or_

from detectors.topology import LOOPBACK, NO_CALLS, Around, Topology, host_of
from store.model import Labels

JOIN_WINDOW_MS = 5 * 60_000
_SHARED = ("service", "slo", "kpi")
_HOSTS = ("instance", "host")
# Beyond so many names of one incident nothing more is learnt from them.
_MAX_NAMES = 200


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


class Traits:
    """What an incident's alerts have in common with others."""

    def __init__(self, topology: Topology = NO_CALLS) -> None:
        self._topology = topology
        self._labels: set[tuple[str, str]] = set()
        self._causes: set[str] = set()
        self._names: set[str] = set()
        self._around = Around()
        # It holds a service that no trace knows.
        self._unknown = False

    def add(self, labels: Labels, annotations: Mapping[str, str]) -> None:
        """Take in one alert."""
        self._labels |= _shared(labels)
        self._causes |= _causes(labels, annotations)
        if len(self._names) >= _MAX_NAMES:
            return
        names = _names(labels)
        if names <= self._names:
            return
        self._names |= names
        around = self._place(names)
        if around is not None:
            self._around |= around
        elif labels.get("service"):
            self._unknown = True

    def belongs(
        self,
        labels: Labels,
        annotations: Mapping[str, str],
        *,
        recent: bool,
    ) -> Belongs | None:
        """By what an alert belongs to the incident; None when it does not.

        Args:
            labels: The alert's.
            annotations: Likewise; `cause_ref` names its probable cause.
            recent: The incident's last alert began within the window.
        """
        common = self._labels & _shared(labels)
        if common:
            return min((_BY_LABEL[name] for name, _ in common), key=RANK.__getitem__)
        if not self._causes.isdisjoint(_causes(labels, annotations)):
            return Belongs.CAUSE
        return self._nearby(_names(labels)) if recent else None

    def _nearby(self, names: frozenset[str]) -> Belongs | None:
        if not self._names.isdisjoint(names):
            return Belongs.TOPOLOGY
        around = self._place(names)
        if around is None or not self._around.own:
            return Belongs.TIME
        if around.touches(self._around):
            return Belongs.TOPOLOGY
        return Belongs.TIME if self._unknown else None

    def _place(self, names: frozenset[str]) -> Around | None:
        """Where an alert stands among the calls; None when traces do not know it."""
        known = [one for one in map(self._topology.around, names) if one is not None]
        return reduce(or_, known) if known else None


def _names(labels: Labels) -> frozenset[str]:
    """The service and the host that an alert is about."""
    hosts = {host_of(value) for name, value in labels if name in _HOSTS} - LOOPBACK
    return frozenset({labels.get("service"), *hosts} - {""})


def _shared(labels: Labels) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels if name in _SHARED and value)


def _causes(labels: Labels, annotations: Mapping[str, str]) -> frozenset[str]:
    """The probable cause, and of a finding's alert the finding itself."""
    found = {annotations.get("cause_ref", "")}
    if labels.get("fingerprint"):
        found.add(f"/findings/{labels.get('fingerprint')}")
    return frozenset(found - {""})
