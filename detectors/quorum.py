"""Findings that need several traces before they are believed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from detectors import codec
from detectors.finding import Finding

_HELD_MS = 30_000
_MAX_HELD = 5_000
_MAX_SAVED = 500

_Key = tuple[str, str]


@dataclass(slots=True)
class _Member:
    """A finding of one trace; `passed` when it was believed already."""

    finding: Finding
    passed: bool = False


class Quorum:
    """Holds back findings until enough traces say the same.

    A believed one whose trace is judged again is told again: it is the cause of what else that
    trace shows. A finding asks for it in its detail: `needs_traces`, `within_ms` (30 s where
    absent) and
    `together` (its fingerprint where absent). Those that were believed still count for those that
    come later, so it does not matter how the traces are split into batches. Bounded: the oldest
    are forgotten, and of one group those half a minute before its newest, but for as many of
    a longer window as its next one needs.
    """

    def __init__(self) -> None:
        self._held: dict[_Key, dict[str, _Member]] = {}
        self._count = 0
        self._dumped: str | None = None

    def pass_on(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that need nobody else, and all of each group that is complete now."""
        passed: list[Finding] = []
        touched: set[_Key] = set()
        for finding in findings:
            detail = finding.evidence.detail
            if int(detail.get("needs_traces", 1)) <= 1:
                passed.append(finding)
                continue
            key = (finding.kind, str(detail.get("together", finding.fingerprint)))
            group = self._held.setdefault(key, {})
            before = group.get(finding.evidence.trace_id)
            believed = before is not None and before.passed
            group[finding.evidence.trace_id] = _Member(finding, believed)
            if believed:
                passed.append(finding)
            self._count += before is None
            touched.add(key)
        for key in sorted(touched):
            passed.extend(self._complete(key))
        if touched:
            self._forget(sorted(touched))
            self._dumped = None
        return passed

    def _complete(self, key: _Key) -> list[Finding]:
        """The members that lie in a window with enough others and were not believed before."""
        ordered = sorted(
            self._held[key].values(),
            key=lambda member: (member.finding.first_seen_ms, member.finding.evidence.trace_id),
        )
        detail = ordered[0].finding.evidence.detail
        needed = int(detail["needs_traces"])
        within_ms = float(detail.get("within_ms", _HELD_MS))
        believed: list[Finding] = []
        for place in range(len(ordered) - needed + 1):
            window = ordered[place : place + needed]
            if window[-1].finding.first_seen_ms - window[0].finding.first_seen_ms <= within_ms:
                for member in window:
                    if not member.passed:
                        member.passed = True
                        believed.append(member.finding)
        return believed

    def _forget(self, touched: Iterable[_Key]) -> None:
        """What is older than the newest of its own group: clocks of other services may be wrong."""
        for key in touched:
            group = self._held.pop(key)
            self._held[key] = _recent(group)
            self._count += len(self._held[key]) - len(group)
        while self._count > _MAX_HELD:
            self._count -= len(self._held.pop(next(iter(self._held))))

    def dumps(self) -> str:
        """The latest members as JSON, so that a restart in between changes nothing."""
        if self._dumped is not None:
            return self._dumped
        members = [member for group in self._held.values() for member in group.values()]
        latest = sorted(members, key=lambda member: -member.finding.last_seen_ms)[:_MAX_SAVED]
        saved = [[codec.encode(member.finding), member.passed] for member in latest]
        self._dumped = orjson.dumps(saved).decode()
        return self._dumped

    def loads(self, text: str) -> None:
        """Take over what `dumps` wrote."""
        self._held, self._count, self._dumped = {}, 0, None
        for encoded, passed in orjson.loads(text):
            finding = codec.decode(encoded)
            together = finding.evidence.detail.get("together", finding.fingerprint)
            group = self._held.setdefault((finding.kind, str(together)), {})
            group[finding.evidence.trace_id] = _Member(finding, bool(passed))
            self._count += 1


def _recent(group: dict[str, _Member]) -> dict[str, _Member]:
    """All of half a minute; of a longer window as many as the next one needs beside it."""
    newest = sorted(group, key=lambda trace_id: (-group[trace_id].finding.last_seen_ms, trace_id))
    latest = group[newest[0]].finding
    needed = int(latest.evidence.detail["needs_traces"])
    within_ms = float(latest.evidence.detail.get("within_ms", _HELD_MS))
    return {
        trace_id: group[trace_id]
        for place, trace_id in enumerate(newest)
        if latest.last_seen_ms - group[trace_id].finding.last_seen_ms
        < (max(within_ms, _HELD_MS) if place < needed - 1 else _HELD_MS)
    }
