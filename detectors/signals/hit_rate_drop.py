"""A cache whose hit rate fell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from detectors.cache_counters import KIND, PAIRS, Cache, CounterPair, read_caches
from detectors.cache_servers import CacheServers
from detectors.detector import SignalContext
from detectors.episodes import outside
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.settings import require
from detectors.wilson import wilson
from store.model import BoolArray
from store.ports import Querier

_STEP_MS = 5_000
# What slides is read in minutes: five of now, a quarter of an hour left out, an hour before.
_SLIDE_STEP_MS = 60_000
_SLIDE_STEPS = 5
_SLIDE_LEFT_OUT = 15
_SLIDE_MS = 75 * _SLIDE_STEP_MS
# What slid just over the bound must not begin and end with each minute's noise.
_SLIDE_ENDS = 0.5
# Gets are answered less than before by so much, and by so many deviations of their number; and
# misses came in place of the hits that are gone, of at least and at most so many times these.
_LESS = 0.85
_SURE = 3.0
_REPLACED = (0.5, 3.0)
# What is lost so far at each of the last three looks pages at once.
_SUDDEN = 0.4
_LOOKS = 3
_ANSWERS_S = 60.0


@dataclass(frozen=True, slots=True)
class HitRateDropSettings:
    """When a hit rate has fallen.

    Attributes:
        z: Standard deviations of the Wilson bounds; ticks are many, so it is strict.
        min_drop: Least fall of the hit rate, from 0 to 1.
        min_misses: Fewest misses in the window.
        min_baseline_s: Least time with gets in the baseline.
        min_baseline_gets: Fewest gets in the baseline.
        baseline_s: Length of the baseline.
        recover_s: Window that must be back at the baseline for the drop to end.
        page_drop: Fall of the hit rate that pages.
        page_misses_per_s: More misses a second than before that page.
        forget_s: A cache whose counters have been away for so long is gone.
    """

    z: float = 4.5
    min_drop: float = 0.15
    min_misses: int = 8
    min_baseline_s: float = 30.0
    min_baseline_gets: int = 50
    baseline_s: float = 600.0
    recover_s: float = 15.0
    page_drop: float = 0.3
    page_misses_per_s: float = 20.0
    forget_s: float = 86_400.0

    def __post_init__(self) -> None:
        require(self.z >= 1, "z", "1 or more", self.z)
        require(0 < self.min_drop < 1, "min_drop", "between 0 and 1", self.min_drop)
        require(0 < self.page_drop <= 1, "page_drop", "between 0 and 1", self.page_drop)
        require(self.min_misses >= 1, "min_misses", "1 or more", self.min_misses)
        for name in ("min_baseline_s", "baseline_s", "recover_s", "page_misses_per_s", "forget_s"):
            require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        gets = self.min_baseline_gets
        require(gets >= 10, "min_baseline_gets", "10 or more", gets)
        longest = 3_600
        require(self.baseline_s <= longest, "baseline_s", "at most 3600", self.baseline_s)


@dataclass(frozen=True, slots=True)
class Window:
    """The last so many seconds; the least fall that they may prove, and that may page."""

    length_s: int
    least: float
    least_to_page: float


@dataclass(frozen=True, slots=True)
class _Drop:
    """A proven drop: the counts of the window and of the baseline, which lasted `base_s`.

    `answers_less`: also fewer gets a second are answered, and misses came in their place. Else all
    that is new misses, as a crawler's gets do, or people left and a crawler stayed.
    `more_per_s`: misses a second more than before.
    """

    window_s: float
    hits: float
    gets: float
    base_hits: float
    base_gets: float
    slid: bool = False
    proven_s: float = 0.0
    base_s: float = 0.0
    answers_less: bool = True
    more_per_s: float = math.inf

    @property
    def now(self) -> float:
        return self.hits / self.gets if self.gets else 0.0

    @property
    def base(self) -> float:
        return self.base_hits / self.base_gets

    @property
    def fall(self) -> float:
        return self.base - self.now


@dataclass(frozen=True)
class HitRateDrop:
    """The hit rate of a cache is proven to be lower than before.

    Maths: hits `h` of `n` gets in a window, `H` of `N` in the baseline. A drop is proven when
    `wilson(h, n).high < wilson(H, N).low` and `H/N - h/n >= min_drop`. Windows of 5 s, 10 s, 30 s,
    1 min and 5 min are tried in this order; the first one asks for a fall of 30 points, and to page
    each of the first four for 50, 40, 25 and 20, where the last sample tells of no hit at all, or
    at three looks. So a total loss of a busy cache is proven in seconds, a small one needs minutes.
    Counts, not quotients: a quiet cache proves nothing. While it comes back (better than just
    before, by more than chance) no page begins; that of a CDN, which a deploy purges, after three
    minutes.

    A cache server that is down, or was started less than a minute ago, is cold, and so is a process
    for two minutes: what falls then pages only when it has not come back after that. A server from
    which queues are read is no cache: who waits for a task misses.

    Gets that only come on top and miss, as a crawler's do, page from `page_misses_per_s` on; a deep
    fall with fewer pages where the cache also answers fewer gets a second than before, and misses
    came in the place of these, half as many to three times as many: nobody misses who left.

    What slides is compared once a minute: the last 5 minutes with the hour that ended 15 minutes
    ago. A slide never pages: a cache may just be colder at night.

    The baseline ends where the window begins, and leaves out the times of earlier drops. While a
    drop holds, its baseline is the one it was proven against: an incident is never learned from.
    It ends when the last `recover_s`, and as long a time as it was proven in, are back within
    `min_drop` of that baseline; a slide when its 5 minutes are back within half of that. A cache
    without gets proves neither.

    Parameters: `HitRateDropSettings`.

    Example: 90 % of 3 gets a second hit; after a deploy none of 15 in 5 s do. The upper bound is
    0.57, the lower bound of the baseline 0.8: a drop of 90 points, proven in one tick.

    Reference: E. B. Wilson (1927), see `detectors.wilson`.
    """

    settings: HitRateDropSettings = field(default_factory=HitRateDropSettings)

    kinds: ClassVar[tuple[str, ...]] = (KIND,)
    # Gets come in bursts, so that a short window wakes somebody only with a large fall.
    windows: ClassVar[tuple[Window, ...]] = (
        Window(5, 0.3, 0.5),
        Window(10, 0.0, 0.4),
        Window(30, 0.0, 0.25),
        Window(60, 0.0, 0.2),
        Window(300, 0.0, 0.0),
    )

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        judged: set[str] = set()
        found: list[Finding] = []
        servers = CacheServers(querier, context.now_ms)
        for pair in PAIRS:
            for cache in self._read(querier, pair, context.now_ms):
                judged.add(cache.key)
                if servers.is_queue(cache):
                    continue
                active = context.active.get(cache.key)
                finding = (
                    self._begun(cache, context, servers)
                    if active is None
                    else self._held(cache, active, servers)
                )
                if finding is not None:
                    found.append(_cooled(finding, active, cold=servers.is_cold(cache)))
        if context.now_ms % _SLIDE_STEP_MS < _STEP_MS:
            told = {*context.active, *(finding.fingerprint for finding in found)}
            found.extend(self._slides(querier, context, servers, told))
        return (*found, *context.without_data(judged, self.settings.forget_s))

    def _slides(
        self, querier: Querier, context: SignalContext, servers: CacheServers, told: set[str]
    ) -> Iterator[Finding]:
        """Caches whose hit rate went down so slowly that no baseline of minutes shows it."""
        start_ms = context.now_ms - _SLIDE_MS
        for pair in PAIRS:
            for cache in read_caches(querier, pair, start_ms, context.now_ms, _SLIDE_STEP_MS):
                known = cache.key in told or servers.is_queue(cache)
                drop = None if known else _slide(cache, context)
                if drop is not None and self._proven(drop, pair.scale * self.settings.min_drop):
                    yield self._finding(cache, drop, context.now_ms, context.now_ms, pages=False)

    def _read(self, querier: Querier, pair: CounterPair, now_ms: int) -> Iterator[Cache]:
        length_s = self.settings.baseline_s + self.windows[-1].length_s + _STEP_MS / 1_000
        start_ms = now_ms - int(length_s * 1_000 // _STEP_MS) * _STEP_MS
        yield from read_caches(querier, pair, start_ms, now_ms, _STEP_MS)

    def _begun(self, cache: Cache, context: SignalContext, servers: CacheServers) -> Finding | None:
        learned = outside(cache.steps_ms, _STEP_MS, context.episodes.get(cache.key, ()))
        scale = cache.pair.scale
        for window in self.windows:
            drop = self._drop(cache, window.length_s, learned)
            if drop is not None and self._proven(
                drop, scale * max(window.least, self.settings.min_drop)
            ):
                much = drop.fall >= scale * window.least_to_page
                pages = much and _at_once(cache, drop, servers)
                since_ms = _since_ms(cache, drop)
                return self._finding(cache, drop, since_ms, context.now_ms, pages=pages)
        return None

    def _drop(self, cache: Cache, window_s: int, learned: BoolArray) -> _Drop | None:
        steps = window_s * 1_000 // _STEP_MS
        length = int(self.settings.baseline_s * 1_000 // _STEP_MS)
        base = slice(max(0, len(cache.steps_ms) - steps - length), len(cache.steps_ms) - steps)
        gets = cache.gets[base] * learned[base]
        hits = cache.hits[base] * learned[base]
        if np.count_nonzero(gets) * _STEP_MS / 1_000 < self.settings.min_baseline_s:
            return None
        if gets.sum() < self.settings.min_baseline_gets:
            return None
        base_s = float(np.count_nonzero(learned[base] & (gets.cumsum() > 0))) * _STEP_MS / 1_000
        now, before = float((cache.hits * learned)[-steps:].sum()), float(hits.sum())
        all_now, all_before = float((cache.gets * learned)[-steps:].sum()), float(gets.sum())
        known = _Drop(window_s, now, all_now, before, all_before, base_s=base_s)
        return _against(known, now, all_now, window_s)

    def _proven(self, drop: _Drop, least: float) -> bool:
        if drop.gets - drop.hits < self.settings.min_misses:
            return False
        now = wilson(drop.hits, drop.gets, self.settings.z)
        base = wilson(drop.base_hits, drop.base_gets, self.settings.z)
        return now.high < base.low and base.share - now.share >= least

    def _held(self, cache: Cache, active: Finding, servers: CacheServers) -> Finding | None:
        detail = active.evidence.detail
        base_hits = float(detail.get("baseline_hits", 0.0))
        base_gets = float(detail.get("baseline_gets", 0.0)) or 1.0
        slid = "slide" in detail
        base_s = float(detail.get("baseline_seconds", 0.0))
        now_ms = int(cache.steps_ms[-1])
        held_s = (now_ms - active.first_seen_ms) / 1_000
        paged = active.priority is not Priority.P2
        over_s = min(max(held_s, _STEP_MS / 1_000), _ANSWERS_S)
        shortest_s = self.settings.recover_s
        proven_s = max(shortest_s, float(detail.get("proven_over_seconds", 0.0)))
        least = cache.pair.scale * self.settings.min_drop * (_SLIDE_ENDS if slid else 1.0)
        for window_s in (proven_s,) if slid else (shortest_s, proven_s):
            hits, gets = _last(cache, window_s)
            drop = _Drop(window_s, hits, gets, base_hits, base_gets, slid, proven_s, base_s)
            if gets < 1:
                return active
            if drop.fall >= least:
                break
        else:
            return None
        if base_s > 0 and not paged:
            drop = _against(drop, *_last(cache, over_s), over_s)
        told = cache.gets[cache.steps_ms > active.first_seen_ms] >= 1
        twice = bool(np.count_nonzero(told) > 1)
        over = held_s >= cache.pair.lasts_s and twice and not cache.rises
        pages = (paged or over or _at_once(cache, drop, servers)) and not drop.slid
        return self._finding(cache, drop, active.first_seen_ms, now_ms, pages=pages)

    def _finding(
        self, cache: Cache, drop: _Drop, since_ms: int, now_ms: int, *, pages: bool
    ) -> Finding:
        gets_per_s = drop.gets / drop.window_s
        more_misses = max(0.0, min(gets_per_s * drop.fall, drop.more_per_s))
        much = more_misses >= self.settings.page_misses_per_s
        deep = drop.fall >= self.settings.page_drop and drop.answers_less
        page = pages and (much or deep)
        detail: dict[str, float | str] = {
            "hit_rate": round(drop.now, 4),
            "baseline_hit_rate": round(drop.base, 4),
            "hits": round(drop.hits, 1),
            "gets": round(drop.gets, 1),
            "baseline_hits": round(drop.base_hits, 1),
            "baseline_gets": round(drop.base_gets, 1),
            "baseline_seconds": drop.base_s,
            "window_seconds": drop.window_s,
            "proven_over_seconds": drop.proven_s or drop.window_s,
            "extra_misses_per_second": round(more_misses, 3),
            "cache": cache.name,
        }
        if drop.slid:
            detail["slide"] = "over an hour"
        return Finding(
            fingerprint=cache.key,
            kind=self.kinds[0],
            priority=Priority.P1 if page and cache.pair.pages else Priority.P2,
            title=f"Hit rate of cache {cache.name} fell from {drop.base:.0%} to {drop.now:.0%}",
            service=cache.service,
            route="",
            first_seen_ms=since_ms,
            last_seen_ms=now_ms,
            evidence=Evidence(
                series=cache.series,
                window_start_ms=now_ms - int(drop.window_s * 1_000),
                window_end_ms=now_ms,
                detail=detail,
            ),
            impact=Impact(requests_per_second=round(gets_per_s, 3)),
            fix=_FIX,
            confidence=0.95,
            labels=cache.labels.to_dict(),
        )


_FIX = (
    "Look at what changed at that time: a deploy that changed the key (prefix, version, function "
    "signature), a flush, a shorter timeout, evictions. Compare the keys that are read with those "
    "that are written; roll back the change of the key. Until then the database carries every miss."
)


def _cooled(finding: Finding, active: Finding | None, *, cold: bool) -> Finding:
    """A fall that has not paged yet does not page while the server behind the cache is cold."""
    paged = active is not None and active.priority is not Priority.P2
    return replace(finding, priority=Priority.P2) if cold and not paged else finding


def _at_once(cache: Cache, drop: _Drop, servers: CacheServers) -> bool:
    """Nothing hits any more; or most is lost at three looks in a row, and does not come back."""
    least = cache.pair.scale * _SUDDEN
    if cache.pair.purged or drop.fall < least:
        return False
    if servers.answers_none(cache):
        return True
    here = cache.latest
    falls = [drop.base - cache.hits[place] / cache.gets[place] for place in here]
    return len(falls) == _LOOKS and min(falls) >= least and not cache.rises


def _against(drop: _Drop, hits: float, gets: float, over_s: float) -> _Drop:
    """A drop whose hits and misses of the last so many seconds are held against those before."""
    part = over_s / drop.base_s
    before, missed = drop.base_hits * part, (drop.base_gets - drop.base_hits) * part
    more = gets - hits - missed
    fewer = hits < before * _LESS and before - hits > _SURE * math.sqrt(before)
    least, most = _REPLACED
    replaced = least * (before - hits) <= more <= most * (before - hits)
    return replace(drop, answers_less=fewer and replaced, more_per_s=more / over_s)


def _last(cache: Cache, window_s: float) -> tuple[float, float]:
    """Hits and gets of the last so many seconds."""
    steps = max(1, int(window_s * 1_000 // _STEP_MS))
    return float(cache.hits[-steps:].sum()), float(cache.gets[-steps:].sum())


def _slide(cache: Cache, context: SignalContext) -> _Drop | None:
    """The last minutes against the hour before; None where too little of that is known."""
    episodes = context.episodes.get(cache.key, ())
    learned = outside(cache.steps_ms, _SLIDE_STEP_MS, episodes)[:-_SLIDE_LEFT_OUT]
    gets = cache.gets[:-_SLIDE_LEFT_OUT] * learned
    if np.count_nonzero(gets) < _SLIDE_STEPS:
        return None
    return _Drop(
        _SLIDE_STEPS * _SLIDE_STEP_MS / 1_000,
        float(cache.hits[-_SLIDE_STEPS:].sum()),
        float(cache.gets[-_SLIDE_STEPS:].sum()),
        float((cache.hits[:-_SLIDE_LEFT_OUT] * learned).sum()),
        float(gets.sum()),
        slid=True,
    )


def _since_ms(cache: Cache, drop: _Drop) -> int:
    """Start of the last run of steps whose hit rate is nearer to the drop than to the baseline."""
    middle = (drop.base + drop.now) / 2
    since = int(cache.steps_ms[-1])
    for place in range(len(cache.steps_ms) - 1, -1, -1):
        gets = cache.gets[place]
        if gets > 0 and cache.hits[place] / gets >= middle:
            break
        if gets > 0:
            since = int(cache.steps_ms[place]) - _STEP_MS
    return since
