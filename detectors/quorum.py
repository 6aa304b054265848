"""Findings that need several traces before they are believed."""

from __future__ import annotations

from collections.abc import Iterable

from detectors.finding import Finding

_HELD_MS = 30_000
_MAX_HELD = 20_000


class Quorum:
    """Holds back findings until enough traces say the same.

    A finding asks for it in its detail: `needs_traces`, `within_ms` (30 s where absent) and
    `together` (its fingerprint where absent). Bounded: the oldest are forgotten.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], dict[str, Finding]] = {}

    def pass_on(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that need nobody else, and all of each group that is complete now."""
        passed: list[Finding] = []
        touched: set[tuple[str, str]] = set()
        latest = 0
        for finding in findings:
            latest = max(latest, finding.last_seen_ms)
            detail = finding.evidence.detail
            if int(detail.get("needs_traces", 1)) <= 1:
                passed.append(finding)
                continue
            key = (finding.kind, str(detail.get("together", finding.fingerprint)))
            self._held.setdefault(key, {})[finding.evidence.trace_id] = finding
            touched.add(key)
        for key in sorted(touched):
            passed.extend(self._complete(key))
        self._forget(latest)
        return passed

    def _complete(self, key: tuple[str, str]) -> list[Finding]:
        """The members of a group that lie in a window with enough others; they are held no more."""
        ordered = sorted(
            self._held[key].values(), key=lambda item: (item.first_seen_ms, item.evidence.trace_id)
        )
        needed = int(ordered[0].evidence.detail["needs_traces"])
        within_ms = float(ordered[0].evidence.detail.get("within_ms", _HELD_MS))
        chosen: dict[str, Finding] = {}
        for place in range(len(ordered) - needed + 1):
            window = ordered[place : place + needed]
            if window[-1].first_seen_ms - window[0].first_seen_ms <= within_ms:
                chosen.update({item.evidence.trace_id: item for item in window})
        for trace_id in chosen:
            del self._held[key][trace_id]
        return list(chosen.values())

    def _forget(self, latest_ms: int) -> None:
        for key in list(self._held):
            kept = {
                trace_id: item
                for trace_id, item in self._held[key].items()
                if item.last_seen_ms > latest_ms - _HELD_MS
            }
            if kept:
                self._held[key] = kept
            else:
                del self._held[key]
        while sum(len(group) for group in self._held.values()) > _MAX_HELD:
            del self._held[next(iter(self._held))]
