"""Fragments of requests, and the whole requests that show the same fault.

Where the span by which a request entered is lost or late, a fault has no route: its finding is
named after what stands nearest. It goes again when a whole request shows the same fault (kind,
service, statement, function), or when the rest of its own trace has come and the trace is judged
again: what is told of it then holds. The same goes for what one trace alone has shown while some
of its spans were late. What several traces showed together stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from detectors.finding import Finding

ROUTE_INFERRED = "route_inferred"
_MAX_KNOWN = 5_000
_MAX_ONCE = 1_000

_Fault = tuple[str, str, str, str]

Judged = tuple[str, str]
"""A kind of finding, and the id of a trace on which its detector came to an end."""


@dataclass(slots=True)
class _Known:
    """What is known of one fault.

    Attributes:
        whole: Findings of whole requests that hold, by fingerprint.
        fragment: The finding that stands for all fragments, while there is no whole one.
        seen: How often fragments were seen and are not counted elsewhere.
    """

    whole: dict[str, Finding] = field(default_factory=dict)
    fragment: Finding | None = None
    seen: int = 0


class Fragments:
    """Knows for each fault which routes have it. Bounded; the longest unseen is forgotten."""

    def __init__(self) -> None:
        self._faults: OrderedDict[_Fault, _Known] = OrderedDict()
        # Traces that stand for all fragments of these faults.
        self._traces: dict[str, set[_Fault]] = {}
        # What one trace alone has shown: fingerprint -> trace and fault.
        self._once: OrderedDict[str, tuple[str, _Fault]] = OrderedDict()

    @property
    def traces(self) -> Collection[str]:
        """Ids of the traces whose findings may go when they are judged again."""
        return self._traces.keys() | {trace for trace, _ in self._once.values()}

    def restore(self, active: Iterable[Finding]) -> None:
        """Take over what holds."""
        self._faults.clear()
        self._traces.clear()
        self._once.clear()
        for finding in active:
            known = self._known(finding)
            if _is_fragment(finding):
                self._stand(known, finding, finding.occurrences)
            elif finding.evidence.trace_id:
                self._show(known, finding, finding)

    def forget(self, ended: Iterable[Finding]) -> None:
        """These hold no longer: what is seen from now on begins anew."""
        for finding in ended:
            key, fault = finding.fingerprint, _fault(finding)
            known = self._faults.get(fault)
            if known is None:
                continue
            if known.whole.pop(key, None) is not None:
                self._once.pop(key, None)
            if known.fragment is not None and known.fragment.fingerprint == key:
                self._leave(fault, known.seen)
            if not known.whole and known.fragment is None:
                del self._faults[fault]

    def place(
        self, found: Iterable[Finding], judged_again: Iterable[Judged] = ()
    ) -> tuple[list[Finding], tuple[str, ...]]:
        """The findings with fragments counted where they belong, and fingerprints that are gone.

        A fragment of a fault that several routes have may be of any of them: it is not told.

        Args:
            found: What this tick says, one finding a fingerprint.
            judged_again: Those of `traces` of which every span was judged once more.
        """
        again = set(judged_again)
        stood = self._step_back(again)
        gone = [fragment.fingerprint for fragment in stood.values()]
        once = {key for key, (trace, fault) in self._once.items() if (fault[0], trace) in again}
        ordered = sorted(found, key=_is_fragment)
        placed = []
        for finding in ordered:
            if not finding.evidence.trace_id:
                placed.append(finding)
                continue
            known = self._known(finding)
            if _is_fragment(finding):
                placed += self._of_fragment(known, finding, stood.get(_fault(finding)))
                continue
            gone.append(self._leave(_fault(finding), int(_same_trace(known, finding))))
            # A trace that is judged again was counted already.
            count = finding.occurrences + known.seen - (finding.fingerprint in once)
            self._show(known, finding, replace(finding, occurrences=count))
            placed.append(replace(finding, occurrences=count))
            known.seen = 0
        told = {finding.fingerprint for finding in placed}
        gone += [self._take_back(key) for key in once - told]
        return placed, tuple(sorted(set(filter(None, gone)) - told))

    def _show(self, known: _Known, seen: Finding, finding: Finding) -> None:
        """A whole request shows it; the first one to do so may do so alone."""
        key = seen.fingerprint
        if key not in known.whole and seen.occurrences == 1 and not _needs_others(seen):
            self._once[key] = (seen.evidence.trace_id, _fault(seen))
            while len(self._once) > _MAX_ONCE:
                self._once.popitem(last=False)
        elif key in self._once and self._once[key][0] != seen.evidence.trace_id:
            del self._once[key]
        known.whole[key] = finding

    def _take_back(self, key: str) -> str:
        if key not in self._once:
            return ""
        _, fault = self._once.pop(key)
        known = self._faults.get(fault)
        if known is not None:
            known.whole.pop(key, None)
        return key

    def _step_back(self, again: set[Judged]) -> dict[_Fault, Finding]:
        """The fragments' findings whose own trace says anew what it shows."""
        stood = {}
        for kind, trace in again:
            for fault in [one for one in self._traces.get(trace, ()) if one[0] == kind]:
                known = self._faults[fault]
                if known.fragment is not None:
                    stood[fault] = known.fragment
                self._leave(fault, 1)
        return stood

    def _of_fragment(self, known: _Known, finding: Finding, stood: Finding | None) -> list[Finding]:
        if len(known.whole) > 1:
            return []
        if known.whole:
            (whole,) = known.whole.values()
            return [_as_part_of(whole, finding)]
        before = known.fragment or stood
        if before is not None and before.fingerprint != finding.fingerprint:
            finding = _renamed(finding, before)
        self._stand(known, finding, finding.occurrences)
        # A trace that is judged again was counted already.
        return [replace(finding, occurrences=finding.occurrences - (stood is not None))]

    def _stand(self, known: _Known, finding: Finding, seen: int) -> None:
        fault = _fault(finding)
        if known.fragment is not None:
            self._unmark(known.fragment, fault)
        known.fragment = finding
        known.seen += seen
        if not _needs_others(finding):
            self._traces.setdefault(finding.evidence.trace_id, set()).add(fault)

    def _unmark(self, fragment: Finding, fault: _Fault) -> None:
        trace = fragment.evidence.trace_id
        faults = self._traces.get(trace, set())
        faults.discard(fault)
        if not faults:
            self._traces.pop(trace, None)

    def _leave(self, fault: _Fault, own: int) -> str:
        """The fragment's finding is no more; `own` of its sightings are told anew."""
        known = self._faults.get(fault)
        if known is None or known.fragment is None:
            return ""
        fingerprint = known.fragment.fingerprint
        self._unmark(known.fragment, fault)
        known.fragment = None
        known.seen = max(0, known.seen - own)
        return fingerprint

    def _known(self, finding: Finding) -> _Known:
        fault = _fault(finding)
        known = self._faults.setdefault(fault, _Known())
        self._faults.move_to_end(fault)
        while len(self._faults) > _MAX_KNOWN:
            oldest, _ = next(iter(self._faults.items()))
            self._leave(oldest, 0)
            del self._faults[oldest]
        return known


def _is_fragment(finding: Finding) -> bool:
    return ROUTE_INFERRED in finding.evidence.detail


def _needs_others(finding: Finding) -> bool:
    """Only several traces together show it: one of them, judged again, says nothing of it."""
    return int(finding.evidence.detail.get("needs_traces", 1)) > 1


def _same_trace(known: _Known, finding: Finding) -> bool:
    fragment = known.fragment
    return fragment is not None and fragment.evidence.trace_id == finding.evidence.trace_id


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
        occurrences=fragment.occurrences,
    )
