"""Hits and misses of every cache, by the names that exporters, collectors and stacks give them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detectors.fingerprint import fingerprint
from detectors.increases import read_increases
from store.model import BoolArray, Float64Array, Int64Array, Labels
from store.ports import Querier

KIND = "hit_rate_drop"
# Labels that name a cache, and systems whose instance does.
_NAMES = ("backend", "zone", "cache_name")
_PLAIN = frozenset({"django", "redis", "memcached", "cdn"})
_CDN_LASTS_S = 180.0
# A counter that is away for longer has counted nothing since its process began.
_LOST_MS = 60_000
# So much better than just before, it warms up.
_RISES = 0.01


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
        lasts_s: So long a fall must last that is not lost at once, to page.
        purged: It is emptied at each deploy, and warms up then: no fall pages at once.
    """

    system: str
    hits: str
    misses: str
    by: tuple[str, ...]
    scale: float = 1.0
    pages: bool = True
    lasts_s: float = 25.0
    purged: bool = False


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
    CounterPair(
        "cdn",
        "sig:cdn_hits:total",
        "sig:cdn_misses:total",
        ("zone",),
        lasts_s=_CDN_LASTS_S,
        purged=True,
    ),
    CounterPair(
        "cdn",
        "varnish_main_cache_hit",
        "varnish_main_cache_miss",
        _SERVER_BY,
        lasts_s=_CDN_LASTS_S,
        purged=True,
    ),
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
class Cache:
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
        return fingerprint(KIND, self.service, "", f"{self.pair.system}{self.labels!r}")

    @property
    def latest(self) -> tuple[int, ...]:
        """The last three steps in which gets were told of."""
        return tuple(np.flatnonzero(self.gets >= 1)[-3:].tolist())

    @property
    def rises(self) -> bool:
        """Its hit rate comes back by itself: it is better than just before, by more than chance."""
        windows = [(slice(-3, None), slice(-6, -3)), (slice(-12, None), slice(-24, -12))]
        steps = [slice(place, place + 1) for place in self.latest]
        windows.extend((steps[-1], before) for before in steps[:-1])
        return any(self._better(now, before) for now, before in windows)

    def _better(self, now: slice, before: slice) -> bool:
        gets, gets_before = float(self.gets[now].sum()), float(self.gets[before].sum())
        if min(gets, gets_before) < 1:
            return False
        hits, hits_before = float(self.hits[now].sum()), float(self.hits[before].sum())
        share = (hits + hits_before) / (gets + gets_before)
        chance = math.sqrt(max(share * (1 - share), 0.0) * (1 / gets + 1 / gets_before))
        return hits / gets - hits_before / gets_before > max(_RISES, 2 * chance)

    @property
    def series(self) -> str:
        """The selector of its misses."""
        selector = ",".join(f"{name}={value!r}".replace("'", '"') for name, value in self.labels)
        metric, _, rest = self.pair.misses.partition("{")
        inner = ",".join(part for part in (rest.rstrip("}"), selector) if part)
        return f"{metric}{{{inner}}}"


def read_caches(
    querier: Querier, pair: CounterPair, start_ms: int, now_ms: int, step_ms: int
) -> Iterator[Cache]:
    """Every cache that a pair of counters tells of, with a step each `step_ms`.

    Raises:
        QueryError: The series cannot be read.
    """
    hits = read_increases(querier, pair.hits, start_ms, now_ms, step_ms, pair.by)
    misses = read_increases(querier, pair.misses, start_ms, now_ms, step_ms, pair.by)
    for labels in sorted({*hits.values, *misses.values}):
        lost = [found.lost[labels] for found in (hits, misses) if labels in found.lost]
        most = _LOST_MS // step_ms
        hit, miss = (_together(found.of(labels), lost, most) for found in (hits, misses))
        yield Cache(pair, labels, hits.steps_ms, hit, hit + miss)


def _together(increase: Float64Array, lost: list[BoolArray], most: int) -> Float64Array:
    """What was counted while the other counter was lost counts when both are there again.

    Or after `most` steps: a process whose gets all miss has no counter of hits.
    """
    if not lost:
        return increase
    here, places = ~np.logical_or.reduce(lost), np.arange(len(increase))
    last = np.maximum.accumulate(np.where(here, places, -1))
    known = np.flatnonzero(here | (places - last > most))
    out = np.zeros(len(increase))
    out[known] = np.diff(np.cumsum(increase)[known], prepend=0.0)
    return out
