"""Fragments of requests, and the whole requests that show the same fault.

Where the span by which a request entered is lost or late, a fault has no route: its finding is
named after what stands nearest. It goes again when a whole request shows the same fault (kind,
service, statement, function).

A trace that is judged again, since more of it has come, says anew what it shows: what it was
counted for before is taken off, and a finding that no trace is left for goes. What several traces
showed together stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from detectors.finding import Finding
from detectors.merging import merge_of_traces
from detectors.told import Judged, Told

ROUTE_INFERRED = "route_inferred"
_MAX_KNOWN = 5_000

_Fault = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Placed:
    """What a tick says.

    Attributes:
        findings: One a fingerprint; `occurrences` are added to those of before, and may be below 0.
        gone: Fingerprints of findings that are no more.
        fewer: By how much the occurrences of findings fall that are not told now.
    """

    findings: list[Finding]
    gone: tuple[str, ...]
    fewer: Mapping[str, int]


@dataclass(slots=True)
class _Known:
    """What is known of one fault.

    Attributes:
        whole: Findings of whole requests that hold, by fingerprint.
        fragment: The finding that stands for all fragments, while there is no whole one.
    """

    whole: dict[str, Finding] = field(default_factory=dict)
    fragment: Finding | None = None


@dataclass(slots=True)
class _Held:
    """A finding that holds: how often it was seen, and the faults that it is known of."""

    occurrences: int = 0
    faults: set[_Fault] = field(default_factory=set)


class Fragments:
    """Knows for each fault which routes have it. Bounded; the longest unseen is forgotten."""

    def __init__(self, told: Told | None = None) -> None:
        self._told = told or Told()
        self._faults: OrderedDict[_Fault, _Known] = OrderedDict()
        self._held: dict[str, _Held] = {}

    def restore(self, active: Iterable[Finding]) -> None:
        """Take over what holds."""
        self._faults.clear()
        self._held.clear()
        for finding in active:
            if finding.evidence.trace_id:
                self._hold(self._known(finding), _fault(finding), finding, finding.occurrences)

    def forget(self, ended: Iterable[Finding]) -> None:
        """These hold no longer: what is seen from now on begins anew."""
        for finding in ended:
            self._drop(finding.fingerprint)

    def place(self, found: Iterable[Finding], judged_again: Iterable[Judged] = ()) -> Placed:
        """The findings with fragments counted where they belong, and each trace once.

        A fragment of a fault that several routes have may be of any of them: it is not told.

        Args:
            found: What this tick says of each trace.
            judged_again: Traces that were judged once more, every span of them.
        """
        owed = self._told.take(judged_again)
        fewer = dict(owed)
        stood = self._take_off(fewer)
        gone = {fragment.fingerprint for fragment in stood.values()}
        placed = []
        for finding, parts in sorted(merge_of_traces(found), key=lambda one: _is_fragment(one[0])):
            fault, known, inherited = _fault(finding), self._known(finding), 0
            told: Finding | None = finding
            if _is_fragment(finding):
                told = _of_fragment(known, finding, stood.get(fault))
            elif known.fragment is not None:
                gone.add(known.fragment.fingerprint)
                inherited = self._inherit(known, known.fragment, finding)
                known = self._known(finding)
            if told is None:
                continue
            alone = {part.evidence.trace_id: not _needs_others(part) for part in parts}
            count = self._told.add(told.fingerprint, told.kind, alone) + inherited
            self._hold(known, fault, told, count)
            fewer.pop(told.fingerprint, None)
            placed.append(replace(told, occurrences=count - owed.pop(told.fingerprint, 0)))
        spent = [key for key in fewer if key in self._held and self._held[key].occurrences <= 0]
        for key in spent:
            self._drop(key)
        gone.update(spent)
        gone -= {finding.fingerprint for finding in placed}
        return Placed(placed, tuple(sorted(gone)), fewer)

    def _take_off(self, owed: Mapping[str, int]) -> dict[_Fault, Finding]:
        """Count these off. The fragments' findings of which no trace is left now."""
        stood = {}
        for key, count in owed.items():
            held = self._held.get(key)
            if held is None:  # it has ended
                continue
            held.occurrences -= count
            standing = {fault: self._faults[fault].fragment for fault in held.faults}
            spent = {
                fault: fragment
                for fault, fragment in standing.items()
                if fragment is not None and fragment.fingerprint == key and held.occurrences <= 0
            }
            if spent:
                stood.update(spent)
                self._drop(key)
        return stood

    def _inherit(self, known: _Known, fragment: Finding, whole: Finding) -> int:
        """The traces of the fragments count for the whole request's finding: how many more."""
        if fragment.fingerprint == whole.fingerprint:
            known.fragment = None
            return 0
        count = self._held[fragment.fingerprint].occurrences
        self._told.rename(fragment.fingerprint, whole.fingerprint)
        self._drop(fragment.fingerprint)
        return count

    def _hold(self, known: _Known, fault: _Fault, finding: Finding, count: int) -> None:
        if finding.fingerprint not in known.whole and _is_fragment(finding):
            known.fragment = finding
        else:
            known.whole[finding.fingerprint] = finding
        held = self._held.setdefault(finding.fingerprint, _Held())
        held.occurrences += count
        held.faults.add(fault)

    def _drop(self, key: str) -> None:
        """This finding is no more."""
        held = self._held.pop(key, None)
        for fault in held.faults if held is not None else ():
            known = self._faults[fault]
            known.whole.pop(key, None)
            if known.fragment is not None and known.fragment.fingerprint == key:
                known.fragment = None
            if not known.whole and known.fragment is None:
                del self._faults[fault]

    def _known(self, finding: Finding) -> _Known:
        fault = _fault(finding)
        known = self._faults.setdefault(fault, _Known())
        self._faults.move_to_end(fault)
        while len(self._faults) > _MAX_KNOWN:
            oldest, gone = self._faults.popitem(last=False)
            fragment = (gone.fragment.fingerprint,) if gone.fragment is not None else ()
            for key in (*gone.whole, *fragment):
                self._held[key].faults.discard(oldest)
                if not self._held[key].faults:
                    del self._held[key]
        return known


def _of_fragment(known: _Known, finding: Finding, stood: Finding | None) -> Finding | None:
    """What a fragment is told as."""
    if len(known.whole) > 1:
        return None
    if known.whole:
        (whole,) = known.whole.values()
        return _as_part_of(whole, finding)
    before = known.fragment or stood
    if before is not None and before.fingerprint != finding.fingerprint:
        return _renamed(finding, before)
    return finding


def _is_fragment(finding: Finding) -> bool:
    return ROUTE_INFERRED in finding.evidence.detail


def _needs_others(finding: Finding) -> bool:
    """Only several traces together show it: one of them, judged again, says nothing of it."""
    return int(finding.evidence.detail.get("needs_traces", 1)) > 1


def _fault(finding: Finding) -> _Fault:
    code = finding.evidence.code
    function = code.function if code is not None and not code.inferred else ""
    return finding.kind, finding.service, finding.evidence.statement, function


def _renamed(finding: Finding, first: Finding) -> Finding:
    """Another fragment under the name of the first one."""
    title = finding.title.replace(finding.route, first.route)
    return replace(finding, fingerprint=first.fingerprint, route=first.route, title=title)


def _as_part_of(whole: Finding, fragment: Finding) -> Finding:
    """One more time that the known fault was seen; its proof stays the whole request."""
    return replace(
        whole,
        first_seen_ms=min(whole.first_seen_ms, fragment.first_seen_ms),
        last_seen_ms=max(whole.last_seen_ms, fragment.last_seen_ms),
    )
