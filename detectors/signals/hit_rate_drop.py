"""A cache whose hit rate fell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from detectors.detector import SignalContext
from detectors.episodes import outside
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.increases import read_increases
from detectors.settings import require
from detectors.wilson import wilson
from store.model import BoolArray, Float64Array, Int64Array, Labels
from store.ports import Querier

_STEP_MS = 5_000
# Labels that name a cache, and systems whose instance does.
_NAMES = ("backend", "zone", "cache_name")
_PLAIN = frozenset({"django", "redis", "memcached", "cdn"})


@dataclass(frozen=True, slots=True)
class CounterPair:
    """Two counters of one cache, and the labels that tell one cache from another.

    Attributes:
        system: What it is, in words.
        hits: PromQL of counters; likewise `misses`.
        by: Labels of one cache.
        scale: What the falls of the settings are multiplied with: where hardly anything may miss,
            a small fall is a great one.
        pages: It may page: a miss costs what the shop cannot bear for long.
    """

    system: str
    hits: str
    misses: str
    by: tuple[str, ...]
    scale: float = 1.0
    pages: bool = True


# Hits and misses by the names that exporters, collectors and instrumentations give them.
_DJANGO_BY = ("job", "instance", "backend")
_SERVER_BY = ("job", "instance")
_SEARCH_BY = ("job", "cluster")
_OTEL_SEARCH = '{__name__=~"elasticsearch_node_cache_count(_total)?",type="%s"}'
PAIRS = (
    CounterPair(
        "django", "django_cache_get_hits_total", "django_cache_get_misses_total", _DJANGO_BY
    ),
    CounterPair("redis", "redis_keyspace_hits_total", "redis_keyspace_misses_total", _SERVER_BY),
    CounterPair(
        "memcached",
        'memcached_commands_total{command="get",status="hit"}',
        'memcached_commands_total{command="get",status="miss"}',
        _SERVER_BY,
    ),
    CounterPair(
        "memcached",
        'memcached_operations_total{operation="get",type="hit"}',
        'memcached_operations_total{operation="get",type="miss"}',
        _SERVER_BY,
    ),
    CounterPair(
        "search request cache",
        "elasticsearch_indices_request_cache_count",
        "elasticsearch_indices_request_miss_count",
        _SEARCH_BY,
        pages=False,
    ),
    CounterPair(
        "search query cache",
        "elasticsearch_indices_query_cache_count",
        "elasticsearch_indices_query_miss_count",
        _SEARCH_BY,
        pages=False,
    ),
    CounterPair(
        "search cache",
        _OTEL_SEARCH % "hit",
        _OTEL_SEARCH % "miss",
        ("job", "instance", "cache_name"),
        pages=False,
    ),
    CounterPair("cdn", "sig:cdn_hits:total", "sig:cdn_misses:total", ("zone",)),
    CounterPair("cdn", "varnish_main_cache_hit", "varnish_main_cache_miss", _SERVER_BY),
    CounterPair(
        "buffer pool",
        "sig:bufferpool_hits:total",
        "sig:bufferpool_misses:total",
        _SERVER_BY,
        scale=0.2,
        pages=False,
    ),
)


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
class _Cache:
    """One cache's increases of hits and gets, a step each."""

    pair: CounterPair
    labels: Labels
    steps_ms: Int64Array
    hits: Float64Array
    gets: Float64Array

    @property
    def name(self) -> str:
        """In words, such as `default`, or `buffer pool of db-1`."""
        own = next((self.labels.get(name) for name in _NAMES if self.labels.get(name)), "")
        if own or self.pair.system in _PLAIN:
            return own or self.labels.get("instance") or self.service
        return f"{self.pair.system} of {self.labels.get('instance') or self.service}"

    @property
    def service(self) -> str:
        return self.labels.get("job") or self.labels.get("cluster") or self.pair.system

    @property
    def key(self) -> str:
        return fingerprint(
            HitRateDrop.kinds[0], self.service, "", f"{self.pair.system}{self.labels!r}"
        )


@dataclass(frozen=True, slots=True)
class _Drop:
    """A proven drop: the counts of the window and of the baseline."""

    window_s: float
    hits: float
    gets: float
    base_hits: float
    base_gets: float

    @property
    def now(self) -> float:
        return self.hits / self.gets if self.gets else 0.0

    @property
    def base(self) -> float:
        return self.base_hits / self.base_gets


@dataclass(frozen=True)
class HitRateDrop:
    """The hit rate of a cache is proven to be lower than before.

    Maths: hits `h` of `n` gets in a window, `H` of `N` in the baseline. A drop is proven when
    `wilson(h, n).high < wilson(H, N).low` and `H/N - h/n >= min_drop`. Windows of 5 s, 10 s, 30 s,
    1 min and 5 min are tried in this order; the shorter ones ask for a fall of 50, 40, 25 and 20
    points. So a total loss of a busy cache is proven in seconds, a small slide needs minutes.
    Counts, not quotients: a quiet cache proves nothing.

    The baseline ends where the window begins, and leaves out the times of earlier drops. While a
    drop holds, its baseline is the one it was proven against: an incident is never learned from.
    It ends when the last `recover_s` are back within `min_drop` of that baseline. A cache without
    gets proves neither.

    Parameters: `HitRateDropSettings`.

    Example: 90 % of 3 gets a second hit; after a deploy none of 15 in 5 s do. The upper bound is
    0.57, the lower bound of the baseline 0.8: a drop of 90 points, proven in one tick.

    Reference: E. B. Wilson (1927), see `detectors.wilson`.
    """

    settings: HitRateDropSettings = field(default_factory=HitRateDropSettings)

    kinds: ClassVar[tuple[str, ...]] = ("hit_rate_drop",)
    # Window in seconds, and the least fall that it may prove: gets come in bursts, so that a short
    # window is trusted only with a large fall.
    windows: ClassVar[tuple[tuple[int, float], ...]] = (
        (5, 0.5),
        (10, 0.4),
        (30, 0.25),
        (60, 0.2),
        (300, 0.0),
    )

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        judged: set[str] = set()
        found: list[Finding] = []
        for pair in PAIRS:
            for cache in self._read(querier, pair, context.now_ms):
                judged.add(cache.key)
                active = context.active.get(cache.key)
                finding = (
                    self._begun(cache, context) if active is None else self._held(cache, active)
                )
                if finding is not None:
                    found.append(finding)
        return (*found, *context.without_data(judged, self.settings.forget_s))

    def _read(self, querier: Querier, pair: CounterPair, now_ms: int) -> Iterator[_Cache]:
        length_s = self.settings.baseline_s + self.windows[-1][0] + _STEP_MS / 1_000
        start_ms = now_ms - int(length_s * 1_000 // _STEP_MS) * _STEP_MS
        hits = read_increases(querier, pair.hits, start_ms, now_ms, _STEP_MS, pair.by)
        misses = read_increases(querier, pair.misses, start_ms, now_ms, _STEP_MS, pair.by)
        for labels in sorted({*hits.values, *misses.values}):
            yield _Cache(
                pair,
                labels,
                hits.steps_ms,
                hits.of(labels),
                hits.of(labels) + misses.of(labels),
            )

    def _begun(self, cache: _Cache, context: SignalContext) -> Finding | None:
        learned = outside(cache.steps_ms, _STEP_MS, context.episodes.get(cache.key, ()))
        for window_s, least in self.windows:
            drop = self._drop(cache, window_s, learned)
            if drop is not None and self._proven(
                drop, cache.pair.scale * max(least, self.settings.min_drop)
            ):
                return self._finding(cache, drop, _since_ms(cache, drop), context.now_ms)
        return None

    def _drop(self, cache: _Cache, window_s: int, learned: BoolArray) -> _Drop | None:
        steps = window_s * 1_000 // _STEP_MS
        length = int(self.settings.baseline_s * 1_000 // _STEP_MS)
        base = slice(max(0, len(cache.steps_ms) - steps - length), len(cache.steps_ms) - steps)
        gets = cache.gets[base] * learned[base]
        hits = cache.hits[base] * learned[base]
        if np.count_nonzero(gets) * _STEP_MS / 1_000 < self.settings.min_baseline_s:
            return None
        if gets.sum() < self.settings.min_baseline_gets:
            return None
        return _Drop(
            window_s,
            float((cache.hits * learned)[-steps:].sum()),
            float((cache.gets * learned)[-steps:].sum()),
            float(hits.sum()),
            float(gets.sum()),
        )

    def _proven(self, drop: _Drop, least: float) -> bool:
        if drop.gets - drop.hits < self.settings.min_misses:
            return False
        now = wilson(drop.hits, drop.gets, self.settings.z)
        base = wilson(drop.base_hits, drop.base_gets, self.settings.z)
        return now.high < base.low and base.share - now.share >= least

    def _held(self, cache: _Cache, active: Finding) -> Finding | None:
        detail = active.evidence.detail
        base_hits = float(detail.get("baseline_hits", 0.0))
        base_gets = float(detail.get("baseline_gets", 0.0)) or 1.0
        steps = max(1, int(self.settings.recover_s * 1_000 // _STEP_MS))
        hits, gets = float(cache.hits[-steps:].sum()), float(cache.gets[-steps:].sum())
        if gets < 1:
            return active
        drop = _Drop(self.settings.recover_s, hits, gets, base_hits, base_gets)
        if drop.base - drop.now < cache.pair.scale * self.settings.min_drop:
            return None
        return self._finding(cache, drop, active.first_seen_ms, int(cache.steps_ms[-1]))

    def _finding(self, cache: _Cache, drop: _Drop, since_ms: int, now_ms: int) -> Finding:
        gets_per_s = drop.gets / drop.window_s
        more_misses = gets_per_s * max(0.0, drop.base - drop.now)
        fall = drop.base - drop.now
        page = fall >= self.settings.page_drop or more_misses >= self.settings.page_misses_per_s
        detail: dict[str, float | str] = {
            "hit_rate": round(drop.now, 4),
            "baseline_hit_rate": round(drop.base, 4),
            "hits": round(drop.hits, 1),
            "gets": round(drop.gets, 1),
            "baseline_hits": round(drop.base_hits, 1),
            "baseline_gets": round(drop.base_gets, 1),
            "window_seconds": drop.window_s,
            "extra_misses_per_second": round(more_misses, 3),
            "cache": cache.name,
        }
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
                series=_series(cache),
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


def _since_ms(cache: _Cache, drop: _Drop) -> int:
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


def _series(cache: _Cache) -> str:
    selector = ",".join(f"{name}={value!r}".replace("'", '"') for name, value in cache.labels)
    metric, _, rest = cache.pair.misses.partition("{")
    inner = ",".join(part for part in (rest.rstrip("}"), selector) if part)
    return f"{metric}{{{inner}}}"
