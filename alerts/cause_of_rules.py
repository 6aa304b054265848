"""Causes for the alerts of rules: told once, and again when there is more to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alerts.cause import NONE_FOUND, Change, cause_annotations
from detectors.topology import NO_CALLS, Topology
from store.model import Labels

_NOTHING: Mapping[str, str] = {"cause": NONE_FOUND}


@dataclass(frozen=True, slots=True)
class _Told:
    """What was said of an alert that began at `started_ms`, from the candidates of a version."""

    version: int
    started_ms: int
    annotations: Mapping[str, str]


class RuleCauses:
    """Causes for the alerts of rules, which know of none.

    An alert is looked at again when it began anew or there are other candidates; in a storm a
    bounded number a tick.

    Args:
        most: Alerts that are remembered.
        most_a_tick: Alerts that are looked at in one tick.
    """

    def __init__(self, most: int = 20_000, most_a_tick: int = 1_000) -> None:
        self._most, self._most_a_tick = most, most_a_tick
        self._told: dict[Labels, _Told] = {}
        self._candidates: tuple[Change, ...] = ()
        self._topology = NO_CALLS
        self._version = 0
        self._left = 0

    def begin(self, candidates: Iterable[Change], topology: Topology) -> None:
        """A new tick with these candidates."""
        found = tuple(candidates)
        if _identities(found) != _identities(self._candidates):
            self._version += 1
        self._candidates, self._topology = found, topology
        self._left = self._most_a_tick

    def _aged(self, known: _Told) -> bool:
        """Is its cause no candidate any more? An alert that goes on keeps what began it."""
        ref = known.annotations.get("cause_ref", "").removeprefix("/findings/")
        return bool(ref) and all(one.ref != ref for one in self._candidates)

    def told(self, labels: Labels, started_ms: int) -> Mapping[str, str]:
        """Annotations to add to an alert; none while it waits for its turn."""
        known = self._told.get(labels)
        if known is not None and known.started_ms != started_ms:
            known = None
        if known is not None and (known.version == self._version or self._aged(known)):
            return known.annotations
        if not self._candidates:
            return _NOTHING
        if self._left <= 0:
            return known.annotations if known is not None else {}
        self._left -= 1
        told = cause_annotations(labels, started_ms, self._candidates, "", self._topology)
        self._told.pop(labels, None)
        self._told[labels] = _Told(self._version, started_ms, told)
        while len(self._told) > self._most:
            del self._told[next(iter(self._told))]
        return told


def _identities(candidates: Iterable[Change]) -> frozenset[tuple[str, int, str]]:
    return frozenset((one.ref, one.at_ms, one.title) for one in candidates)
