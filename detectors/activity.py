"""Which findings hold now: when an episode begins, and when it has ended.

A trace finding ends when its route was used without it for long enough. A route that nobody uses
proves nothing, so there it holds much longer. A signal finding holds while its detector says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from detectors.decision import HistoryEntry
from detectors.extent import since_it_began
from detectors.finding import Finding, Priority
from detectors.impact import priced
from detectors.request_rate import RequestRates
from detectors.settings import PrioritySettings, RunnerSettings
from detectors.wilson import wilson

_EPISODES_KEPT_MS = 3_600_000
_MAX_EPISODES = 50
_MAX_ACTIVE = 5_000
_SHARE_Z = 1.645
# Judged by how long one operation took, not by what the code does.
_MAY_BE_A_MOMENT = frozenset({"blocking_call", "slow_query", "pool_wait"})
_LEAST_MOMENTS = 3
# One request tells no rate: a nightly job is not a request a minute.
_LEAST_HITS = 2


@dataclass(frozen=True, slots=True)
class _Episode:
    """A finding that holds; `seen` are the ticks that saw it lately, with how many traces did."""

    finding: Finding
    seen_tick_ms: int
    seen: tuple[tuple[int, int], ...] = ()


class Activity:
    """The findings that hold, by fingerprint. Bounded; the longest unseen gives way."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._active: dict[str, _Episode] = {}
        self._ended: dict[str, tuple[tuple[int, int], ...]] = {}

    @property
    def episodes(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Times at which a fingerprint was active, those of the last hour."""
        return self._ended

    def restore(self, active: Iterable[Finding], history: Iterable[HistoryEntry]) -> None:
        """Take over what the last process knew."""
        self._active = {item.fingerprint: _Episode(item, item.last_seen_ms) for item in active}
        for entry in history:
            if entry.event == "ended" and entry.detail.isdigit():
                self._remember(entry.finding_id, int(entry.detail), entry.at_ms)

    def forget(self, keys: Iterable[str]) -> None:
        """These are part of other findings now: they neither hold nor end."""
        for key in keys:
            self._active.pop(key, None)

    def of_kinds(self, kinds: Iterable[str]) -> dict[str, Finding]:
        """The signal findings of these kinds; one of a trace may share its kind, not its end."""
        wanted = frozenset(kinds)
        return {
            key: episode.finding
            for key, episode in self._active.items()
            if episode.finding.kind in wanted and not _of_traces(episode.finding)
        }

    def observe_traces(
        self,
        found: Iterable[Finding],
        rates: RequestRates,
        settings: PrioritySettings,
        now_ms: int,
    ) -> list[Finding]:
        """Findings of this tick with rate and priority, and those that end with it."""
        changes = []
        for finding in found:
            rate = rates.per_second(finding.service, finding.route, now_ms)
            seen = self._times_seen(finding, now_ms)
            share = _hit_share(finding, seen, rates)
            changes.append(self._seen(priced(finding, rate, settings, share), now_ms, seen))
        over = [
            episode.finding
            for episode in self._active.values()
            if _of_traces(episode.finding) and self._over(episode, rates, now_ms)
        ]
        changes.extend(self._end(finding, now_ms) for finding in over)
        changes.extend(self._bound(now_ms))
        return changes

    def observe_signals(
        self, held: Iterable[Finding], kinds: frozenset[str], now_ms: int
    ) -> list[Finding]:
        """Findings that hold, with one occurrence when they begin, and those that ended."""
        changes = []
        holding = set()
        for finding in held:
            begins = finding.fingerprint not in self._active
            holding.add(finding.fingerprint)
            changes.append(self._seen(replace(finding, occurrences=int(begins)), now_ms))
        ended = [key for key in self.of_kinds(kinds) if key not in holding]
        changes.extend(self._end(self._active[key].finding, now_ms) for key in ended)
        return changes

    def _times_seen(self, finding: Finding, now_ms: int) -> tuple[tuple[int, int], ...]:
        """Ticks of this episode within the window of rates, this one included."""
        before = self._active.get(finding.fingerprint)
        horizon = now_ms - int(self._settings.rate_window_s * 1_000)
        kept = [item for item in before.seen if item[0] > horizon] if before else []
        return (*kept, (now_ms, finding.occurrences))

    def _seen(
        self, finding: Finding, now_ms: int, seen: tuple[tuple[int, int], ...] = ()
    ) -> Finding:
        before = self._active.get(finding.fingerprint)
        finding = since_it_began(before.finding if before else None, finding)
        if before is not None:
            finding = replace(
                finding,
                first_seen_ms=min(before.finding.first_seen_ms, finding.first_seen_ms),
                # Within one episode a page that went out is not taken back by a slower minute.
                priority=_higher(before.finding.priority, finding.priority),
            )
        self._active[finding.fingerprint] = _Episode(finding, now_ms, seen)
        return finding

    def _over(self, episode: _Episode, rates: RequestRates, now_ms: int) -> bool:
        unseen_s = (now_ms - episode.seen_tick_ms) / 1_000
        if unseen_s >= self._settings.forget_after_s:
            return True
        if unseen_s < self._settings.resolve_after_s:
            return False
        finding = episode.finding
        clean = rates.since(finding.service, finding.route, episode.seen_tick_ms)
        return clean >= self._settings.clean_requests

    def _end(self, finding: Finding, now_ms: int) -> Finding:
        del self._active[finding.fingerprint]
        self._remember(finding.fingerprint, finding.first_seen_ms, now_ms)
        return replace(finding, active=False, occurrences=0)

    def _remember(self, key: str, start_ms: int, end_ms: int) -> None:
        horizon = end_ms - _EPISODES_KEPT_MS
        kept = [item for item in self._ended.get(key, ()) if item[1] > horizon]
        self._ended[key] = (*kept, (start_ms, end_ms))[-_MAX_EPISODES:]
        while len(self._ended) > _MAX_ACTIVE:
            del self._ended[next(iter(self._ended))]

    def _bound(self, now_ms: int) -> list[Finding]:
        """End those that are too many: what is only dropped would stay active in the store."""
        excess = len(self._active) - _MAX_ACTIVE
        if excess <= 0:
            return []
        oldest = sorted(self._active, key=lambda key: self._active[key].seen_tick_ms)
        return [self._end(self._active[key].finding, now_ms) for key in oldest[:excess]]


def _hit_share(finding: Finding, seen: tuple[tuple[int, int], ...], rates: RequestRates) -> float:
    """The part of the route's requests that has the fault (Wilson, 95 %).

    Counted since the episode began: what was before it would make a new fault look rare. A loop is
    in the code, so its part is rather too high than too low. What is only slow may have been a bad
    moment: its part is rather too low, and nothing before it has been seen a few times.
    """
    requests = rates.since(finding.service, finding.route, seen[0][0] - 1)
    hits = sum(number for _, number in seen)
    if hits < _LEAST_HITS:
        return 0.0
    share = wilson(min(hits, requests), requests, _SHARE_Z)
    if finding.kind not in _MAY_BE_A_MOMENT:
        return share.high
    return share.low if hits >= _LEAST_MOMENTS else 0.0


def _of_traces(finding: Finding) -> bool:
    """A signal finding names its series; it may show a trace too, but its detector ends it."""
    return bool(finding.evidence.trace_id) and not finding.evidence.series


def _higher(one: Priority, other: Priority) -> Priority:
    return min(one, other, key=lambda priority: priority.value)
