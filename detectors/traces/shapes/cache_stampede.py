"""Many requests that miss one key and all compute its value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from detectors.finding import Finding
from detectors.fingerprint import fingerprint
from detectors.settings import require
from detectors.traces.detector import DetectorResult
from detectors.traces.frame import SpanFrame
from detectors.traces.gates import just
from detectors.traces.report import Report, span_finding
from detectors.traces.shape import Category
from detectors.traces.trace import NANOSECONDS, Trace
from detectors.traces.vocabulary import CACHE_READS, CACHE_WRITES
from store.model import BoolArray

_MS = 1_000_000
_MAX_GETS = 200
_MAX_KEYS, _MAX_WORK = 20, 4
_HITS = ("cache.hit", "db.cache.hit", "cache_hit", "cache.success", "redis.hit")
_MISSES = ("cache.miss", "cache_miss")
_COUNTS = ("db.response.returned_rows", "db.redis.returned_rows", "cache.item_size")
_RESULTS = ("cache.result", "cache.status")
_KEY_ATTRIBUTES = ("cache.key", "db.redis.key", "cache_key", "db.operation.parameter.key")
_FIX = (
    "Let one request compute and the others wait or take the old value: a lock around the miss "
    "(cache.add as a lock), stale-while-revalidate, and timeouts with jitter."
)


@dataclass(frozen=True, slots=True)
class CacheStampedeSettings:
    """When misses are a stampede.

    Attributes:
        min_traces: So many traces must miss the same key …
        within_ms: … within this time …
        min_ms: … and then run a query or call that takes at least this long.
    """

    min_traces: int = 5
    within_ms: int = 2_000
    min_ms: float = 20.0

    def __post_init__(self) -> None:
        require(self.min_traces >= 2, "min_traces", "2 or more", self.min_traces)
        require(0 < self.within_ms <= 30_000, "within_ms", "1 to 30000", self.within_ms)
        require(self.min_ms > 0, "min_ms", "above 0", self.min_ms)


@dataclass(frozen=True, slots=True)
class _Miss:
    get: int
    work: int
    key: str


@dataclass(frozen=True)
class CacheStampede:
    """Within `within_ms`, `min_traces` traces miss one key and run the same expensive work for it.

    Maths: a get is a miss when its span says so, or when the key is set later in the same request.
    The work is the longest queries and calls between the get and the set. Of n traces n - 1 were
    for nothing, so each wastes nearly its own work.

    Parameters: `CacheStampedeSettings`.

    Example: `home:teaser` expires at the top of the hour; 40 requests run the same 300 ms query.

    Reference: A. Vattani et al., "Optimal probabilistic cache stampede prevention", VLDB 2015.
    """

    settings: CacheStampedeSettings = field(default_factory=CacheStampedeSettings)

    kinds: ClassVar[tuple[str, ...]] = ("cache_stampede",)

    def candidates(self, frame: SpanFrame) -> BoolArray:
        caches: BoolArray = frame.category == Category.CACHE
        working = (frame.category == Category.QUERY) | (frame.category == Category.CALL)
        long_work: BoolArray = working & (frame.duration_ns >= just(self.settings.min_ms * _MS))
        return frame.traces_with(caches) & frame.traces_with(long_work)

    def detect(self, trace: Trace) -> DetectorResult:
        found: dict[str, Finding] = {}
        for miss in self._misses(trace):
            finding = self._finding(trace, miss)
            found.setdefault(str(finding.evidence.detail["together"]), finding)
            if len(found) >= _MAX_KEYS:
                break
        return DetectorResult(tuple(found.values()))

    def _misses(self, trace: Trace) -> Iterator[_Miss]:
        gets = [
            span
            for span in trace.operations
            if trace.category[span] == Category.CACHE and trace.shape(span).operation in CACHE_READS
        ]
        for get in gets[:_MAX_GETS]:
            key = _key(trace, get)
            until = _missed_until(trace, get, key)
            if not key or until is None:
                continue
            for work in self._work(trace, get, until):
                yield _Miss(get, work, key)

    def _work(self, trace: Trace, get: int, until_ns: int) -> list[int]:
        """The longest queries and calls between the miss and the set.

        Which of two is the longest is another one in each trace, so several are told.
        """
        kinds = (Category.QUERY, Category.CALL)
        chosen = [
            span
            for span in trace.operations
            if trace.category[span] in kinds
            and trace.service[span] == trace.service[get]
            and trace.end_ns[get] <= trace.start_ns[span] < until_ns
            and trace.duration_ns(span) >= just(self.settings.min_ms * _MS)
        ]
        return sorted(chosen, key=lambda span: (-trace.duration_ns(span), span))[:_MAX_WORK]

    def _finding(self, trace: Trace, miss: _Miss) -> Finding:
        pattern, work = trace.shape(miss.get).table, trace.shape(miss.work).text
        report = Report(
            kind=self.kinds[0],
            title=f"Cache stampede on {pattern}: every miss runs {work[:80]}",
            shape=f"{pattern} | {work}",
            fix=_FIX,
            wasted_s=trace.duration_ns(miss.work) / NANOSECONDS,
            statements=(trace.shape(miss.get).text, work),
            confidence=0.85,
            detail={
                "needs_traces": self.settings.min_traces,
                "within_ms": self.settings.within_ms,
                "together": fingerprint("", trace.service_name(miss.get), "", miss.key, work),
            },
        )
        finding = span_finding(trace, [miss.work, miss.get], report)
        # Requests of any route that miss one key are one stampede, whatever they compute.
        identity = fingerprint(self.kinds[0], finding.service, "", pattern)
        return replace(finding, fingerprint=identity)


def _key(trace: Trace, span: int) -> str:
    known = trace.shape(span).key
    if known is not None:
        return known
    attributes = trace.attributes(span)
    return next((str(attributes[name]) for name in _KEY_ATTRIBUTES if attributes.get(name)), "")


def _missed_until(trace: Trace, get: int, key: str) -> int | None:
    """When the missed key was set again; the end of the trace where only the miss is known."""
    missed = _told_miss(trace.attributes(get))
    if missed is False:
        return None
    for span in trace.operations:
        later = trace.start_ns[span] >= trace.end_ns[get]
        sets = later and trace.category[span] == Category.CACHE
        if sets and trace.shape(span).operation in CACHE_WRITES and _key(trace, span) == key:
            return trace.start_ns[span]
    return max(trace.end_ns) if missed else None


def _told_miss(attributes: Mapping[str, Any]) -> bool | None:
    """What the span itself says; None where it says nothing."""
    for name in (*_HITS, *_MISSES):
        if name in attributes:
            said = str(attributes[name]).lower() in {"true", "1"}
            return said if name in _MISSES else not said
    for name in _RESULTS:
        if name in attributes:
            return str(attributes[name]).lower() == "miss"
    for name in _COUNTS:
        if name in attributes:
            return str(attributes[name]) in {"0", "0.0"}
    return None
