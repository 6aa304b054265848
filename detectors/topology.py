"""Who calls whom, as stored spans show it: services, and the hosts that they ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from detectors.traces.columns import codes
from detectors.traces.frame import CLIENT, SpanFrame
from store.model import Int32Array

_MAX_EDGES = 5_000
_KEPT_MS = 24 * 3_600_000
_MAX_HOPS = 3


class Relation(StrEnum):
    """How another service stands to one."""

    SAME = "same service"
    CALLED = "called by it"
    CALLER = "calls it"
    APART = "not connected with it"
    UNKNOWN = "another service"


@dataclass(frozen=True, slots=True)
class Topology:
    """The calls that were seen: `calls[caller]` are services and hosts."""

    calls: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def relation(self, service: str, other: str) -> Relation:
        """How `other` stands to `service`, over at most three calls in a row.

        >>> shop = Topology({"web": frozenset({"checkout"}), "checkout": frozenset({"stock"})})
        >>> shop.relation("web", "stock").value, shop.relation("stock", "web").value
        ('called by it', 'calls it')
        """
        if service == other:
            return Relation.SAME
        if self._reaches(service, other):
            return Relation.CALLED
        if self._reaches(other, service):
            return Relation.CALLER
        known = self._known()
        return Relation.APART if service in known and other in known else Relation.UNKNOWN

    def _reaches(self, start: str, goal: str) -> bool:
        seen, edge = {start}, {start}
        for _ in range(_MAX_HOPS):
            edge = {called for one in edge for called in self.calls.get(one, ())} - seen
            if any(_names(called, goal) for called in edge):
                return True
            seen |= edge
        return False

    def _known(self) -> set[str]:
        return {*self.calls, *(called for some in self.calls.values() for called in some)}


NO_CALLS = Topology()
"""Nothing is known."""


class ServiceEdges:
    """Calls seen within a day. Bounded; what was not seen for longest gives way."""

    def __init__(self) -> None:
        self._seen_ms: dict[tuple[str, str], int] = {}

    def observe(self, frame: SpanFrame, now_ms: int) -> None:
        """Take in the calls of some whole traces."""
        for edge in _edges(frame):
            self._seen_ms.pop(edge, None)
            self._seen_ms[edge] = now_ms
        while len(self._seen_ms) > _MAX_EDGES:
            del self._seen_ms[next(iter(self._seen_ms))]

    def topology(self, now_ms: int) -> Topology:
        calls: dict[str, set[str]] = {}
        for (caller, called), seen_ms in self._seen_ms.items():
            if now_ms - seen_ms <= _KEPT_MS:
                calls.setdefault(caller, set()).add(called)
        return Topology({caller: frozenset(called) for caller, called in calls.items()})


def _edges(frame: SpanFrame) -> set[tuple[str, str]]:
    child = np.flatnonzero(frame.parent >= 0)
    callers, called = frame.service[frame.parent[child]], frame.service[child]
    apart = callers != called
    found = _pairs(callers[apart], frame.services, called[apart], frame.services)
    column: Any = frame.table["server_address"]
    host, hosts = codes(column)
    asking = np.flatnonzero((frame.kind == CLIENT) & (host >= 0))
    return found | _pairs(frame.service[asking], frame.services, host[asking], hosts)


def _pairs(
    callers: Int32Array, names: Sequence[str], called: Int32Array, others: Sequence[str]
) -> set[tuple[str, str]]:
    """Distinct pairs, by one number for each: sorting numbers is quick."""
    width = len(others) + 1
    numbers = np.unique(callers.astype(np.int64) * width + called).tolist()
    found = ((names[number // width], others[number % width]) for number in numbers)
    return {(one, other) for one, other in found if one and other}


def _names(called: str, goal: str) -> bool:
    """A host is named with and without its port."""
    return called == goal or _host(called) == _host(goal)


def _host(name: str) -> str:
    host, _, port = name.rpartition(":")
    return host if host and port.isdecimal() else name
