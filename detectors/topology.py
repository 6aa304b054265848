"""Who calls whom, as stored spans show it: services, and the hosts that they ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from detectors.traces.frame import CLIENT, SpanFrame
from store.model import Int32Array

_MAX_EDGES = 5_000
_KEPT_MS = 24 * 3_600_000
# Everybody's own machine: two that name it so need not mean the same.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0"})  # noqa: S104 - a name


class Relation(StrEnum):
    """How another service stands to one."""

    SAME = "same service"
    CALLED = "called by it"
    CALLER = "calls it"
    APART = "not connected with it"
    UNKNOWN = "another service"


@dataclass(frozen=True, slots=True)
class Around:
    """Where one or more names stand among the calls; each name is one bit.

    Attributes:
        own: They themselves.
        called: All that they reach by calls, over any number of others.
        callers: Those that call them directly.
    """

    own: int = 0
    called: int = 0
    callers: int = 0

    def __or__(self, other: Around) -> Around:
        return Around(
            self.own | other.own, self.called | other.called, self.callers | other.callers
        )

    def touches(self, other: Around) -> bool:
        """One reaches the other, both reach the same, or the same one calls both.

        What is called may fail for all that reach it, however far; a caller presses on those that
        it calls itself.
        """
        mine, its = self.own | self.called, other.own | other.called
        return bool(mine & its or self.callers & other.callers)


@dataclass(frozen=True)
class Topology:
    """The calls that were seen: `calls[caller]` are services and hosts."""

    calls: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def relation(self, service: str, other: str) -> Relation:
        """How `other` stands to `service`, over any number of calls in a row.

        >>> shop = Topology({"web": frozenset({"checkout"}), "checkout": frozenset({"stock"})})
        >>> shop.relation("web", "stock").value, shop.relation("stock", "web").value
        ('called by it', 'calls it')
        """
        if service == other:
            return Relation.SAME
        one, two = self.around(service), self.around(other)
        if one is None or two is None:
            return Relation.UNKNOWN
        if one.called & two.own:
            return Relation.CALLED
        return Relation.CALLER if two.called & one.own else Relation.APART

    def around(self, name: str) -> Around | None:
        """Where a service or host stands; None when no call of it was seen."""
        return self._graph.around(host_of(name))

    @cached_property
    def _graph(self) -> _Graph:
        return _Graph(self.calls)


class _Graph:
    """The calls as sets of bits. What a name reaches is worked out once, when it is asked for."""

    def __init__(self, calls: Mapping[str, frozenset[str]]) -> None:
        self._bits: dict[str, int] = {}
        self._called: dict[int, int] = {}
        self._callers: dict[int, int] = {}
        self._known: dict[str, Around] = {}
        for caller, some in calls.items():
            for called in some:
                self._add(host_of(caller), host_of(called))

    def _add(self, caller: str, called: str) -> None:
        if caller in LOOPBACK or called in LOOPBACK:
            return
        one = self._bits.setdefault(caller, 1 << len(self._bits))
        two = self._bits.setdefault(called, 1 << len(self._bits))
        self._called[one] = self._called.get(one, 0) | two
        self._callers[two] = self._callers.get(two, 0) | one

    def around(self, name: str) -> Around | None:
        bit = self._bits.get(name)
        if bit is None:
            return None
        found = self._known.get(name)
        if found is None:
            found = Around(bit, self._reached(bit), self._callers.get(bit, 0))
            self._known[name] = found
        return found

    def _reached(self, bit: int) -> int:
        reached, left = self._called.get(bit, 0), {**self._called}
        grew = True
        while grew:
            grew = False
            for one in [one for one in left if one & reached]:
                reached |= left.pop(one)
                grew = True
        return reached


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
    host, hosts = frame.columns.numbers("server_address"), frame.columns.values("server_address")
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


def host_of(name: str) -> str:
    """A host is named with and without its port."""
    host, _, port = name.rpartition(":")
    return host if host and port.isdecimal() else name
