"""What a route did in a window of time: requests, durations, queries, waste, cache hits.

Requests, failures and durations come from the HTTP histograms where there are some, since these
count every request; from sampled traces otherwise. What happens inside a request comes from at
most `MAX_TRACES` traces, drawn evenly over the window.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from detectors.cache_counters import PAIRS
from detectors.http_requests import (
    FAMILIES,
    FIRST_SERVER_ERROR,
    HttpFamily,
    quoted,
    server_failed,
    upper_bound,
)
from detectors.increases import read_increases, summed
from detectors.merging import merge_findings
from detectors.registry import DetectorSettings
from detectors.signal_values import Signal, signal_values
from detectors.traces.frame import SpanFrame, build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.shape import Category
from detectors.traces.trace import traces_of
from store.model import BoolArray, Float64Array, Int64Array, Labels
from store.ports import Querier, SpanReader, TraceQuery

MAX_TRACES = 240
_SLICES = 12
_STEPS = 60
_LEAST_STEP_MS = 5_000
_MAX_SPANS = 100_000
_MAX_DEPTH = 128
_PROCESS = ("job", "instance")
_EMPTY: Float64Array = np.empty(0)
_ERROR_STATUS = 2


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, `start_ms <= t < end_ms`, and what it is called."""

    start_ms: int
    end_ms: int
    label: str = ""

    @property
    def length_s(self) -> float:
        return (self.end_ms - self.start_ms) / 1_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared.

    Attributes:
        service: Its `service.name`.
        route: One route, or empty for all of them.
        fingerprint: Only the waste of this finding counts; empty for that of all.
        cache: Labels of the one cache to look at; empty for those of the service.
        signal: An expression of the finding's own series, or empty.
        signal_labels: The labels of that series.
    """

    service: str
    route: str = ""
    fingerprint: str = ""
    cache: Mapping[str, str] = field(default_factory=dict)
    signal: str = ""
    signal_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations of requests, cumulative: `counts[i]` took at most `bounds_s[i]`; the last all."""

    bounds_s: Float64Array
    counts: Float64Array

    @property
    def total(self) -> float:
        return float(self.counts[-1]) if len(self.counts) else 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One window of one subject.

    Attributes:
        requests: How many there were, and how many of them the server failed.
        errors: As `requests`.
        rates: Requests a second at each step of the window; empty where they are not counted.
        durations: Of every request, or of the sampled ones.
        counts: For each sampled request how many `query`, `call` and `cache` spans it made.
        wasted_s: For each sampled request the time that detectors call wasted.
        hits: Cache gets that were answered, of all `gets`.
        gets: As `hits`.
        signal: Values of the finding's own series, a step each.
        source: Where requests were counted: `metrics` or `spans`.
    """

    window: Window
    requests: float = 0.0
    errors: float = 0.0
    rates: Float64Array = field(default_factory=lambda: _EMPTY)
    durations: Durations = field(default_factory=lambda: Durations(_EMPTY, _EMPTY))
    counts: Mapping[str, Float64Array] = field(default_factory=dict)
    wasted_s: Float64Array = field(default_factory=lambda: _EMPTY)
    hits: float = 0.0
    gets: float = 0.0
    signal: Float64Array = field(default_factory=lambda: _EMPTY)
    source: str = "spans"


class WindowReader:
    """Reads windows out of the store. Bounded in traces, spans and steps.

    Args:
        querier: Where counters are.
        spans: Where traces are.
        settings: Those of the detectors, whose judgement of waste is asked for.
    """

    def __init__(
        self, querier: Querier, spans: SpanReader, settings: DetectorSettings | None = None
    ) -> None:
        self._querier = querier
        self._spans = spans
        self._settings = settings or DetectorSettings()

    def read(self, subject: Subject, window: Window) -> Reading:
        """Everything that is known of the subject in this window.

        Raises:
            QueryError: The series cannot be read.
        """
        step_ms = max(_LEAST_STEP_MS, (window.end_ms - window.start_ms) // _STEPS)
        sampled = self._sample(subject, window)
        hits, gets = self._cache(subject, window, step_ms)
        counted = self._count(subject, window, step_ms)
        if counted is None:
            counted = (
                float(len(sampled.durations_s)),
                float(sampled.failed),
                _EMPTY,
                _cumulative(sampled.durations_s),
            )
            source = "spans"
        else:
            source = "metrics"
        requests, errors, rates, durations = counted
        return Reading(
            window=window,
            requests=requests,
            errors=errors,
            rates=rates,
            durations=durations,
            counts=sampled.counts,
            wasted_s=sampled.wasted_s,
            hits=hits,
            gets=gets,
            signal=signal_values(
                self._querier,
                Signal(subject.signal, subject.signal_labels),
                *(window.start_ms, window.end_ms, step_ms),
            ),
            source=source,
        )

    def _count(
        self, subject: Subject, window: Window, step_ms: int
    ) -> tuple[float, float, Float64Array, Durations] | None:
        if not subject.service:
            return None
        for family in FAMILIES:
            expr = _selector(family, "_count", subject)
            grid = (window.start_ms, window.end_ms, step_ms)
            found = summed(self._querier.range(expr, *grid), (family.status,), _PROCESS)
            steps = sum(found.values.values(), start=np.zeros(len(found.steps_ms)))
            if not found.values or steps.sum() <= 0:
                continue
            failed = sum(
                float(increase.sum())
                for labels, increase in found.values.items()
                if server_failed(labels.get(family.status))
            )
            durations = self._durations(family, subject, window, step_ms)
            return float(steps.sum()), failed, steps * 1_000 / step_ms, durations
        return None

    def _durations(
        self, family: HttpFamily, subject: Subject, window: Window, step_ms: int
    ) -> Durations:
        expr = _selector(family, "_bucket", subject)
        matrix = self._querier.range(expr, window.start_ms, window.end_ms, step_ms)
        totals: dict[float, float] = {}
        for labels, increase in summed(matrix, ("le",), _PROCESS).values.items():
            bound = upper_bound(labels.get("le"))
            if bound is not None:
                totals[bound] = totals.get(bound, 0.0) + float(increase.sum())
        if np.inf not in totals:
            return Durations(_EMPTY, _EMPTY)
        bounds = np.array(sorted(totals))
        counts = np.maximum.accumulate(np.array([totals[bound] for bound in sorted(totals)]))
        return Durations(bounds * family.unit_s, counts)

    def _cache(self, subject: Subject, window: Window, step_ms: int) -> tuple[float, float]:
        hits = misses = 0.0
        grid = (window.start_ms, window.end_ms, step_ms)
        for pair in PAIRS:
            found = read_increases(self._querier, pair.hits, *grid, pair.by)
            lost = read_increases(self._querier, pair.misses, *grid, pair.by)
            for labels in {*found.values, *lost.values}:
                if _of_cache(labels, subject):
                    hits += float(found.of(labels).sum())
                    misses += float(lost.of(labels).sum())
        return hits, hits + misses

    def _sample(self, subject: Subject, window: Window) -> _Sampled:
        ids = self._traces(subject, window)
        if not ids:
            return _Sampled()
        spans = self._spans.traces(ids).slice(0, _MAX_SPANS)
        return self._judge(subject, window, spans)

    def _traces(self, subject: Subject, window: Window) -> list[bytes]:
        """Ids of traces, the same number from each part of the window."""
        if not subject.service:
            return []
        route = subject.route
        found = self._search(
            subject.service, window, attributes=(("http.route", route),) * bool(route)
        )
        # A route without a name of its own goes by that of its span.
        return found or (self._search(subject.service, window, operation=route) if route else [])

    def _search(self, service: str, window: Window, **narrowed: Any) -> list[bytes]:
        edges = np.linspace(window.start_ms, window.end_ms, _SLICES + 1).astype(np.int64).tolist()
        found: dict[bytes, None] = {}
        for start_ms, end_ms in pairwise(edges):
            query = TraceQuery(
                start_ns=start_ms * 1_000_000,
                end_ns=end_ms * 1_000_000,
                service=service,
                limit=MAX_TRACES // _SLICES,
                **narrowed,
            )
            found.update(dict.fromkeys(self._spans.find_traces(query)))
        return list(found)[:MAX_TRACES]

    def _judge(self, subject: Subject, window: Window, spans: pa.Table) -> _Sampled:
        frame = build_frame(spans, Normaliser(cache_size=4_096))
        entry = _entries(frame, subject, window)
        owner = _owners(frame, entry)
        rows = np.flatnonzero(entry)
        if not len(rows):
            return _Sampled()
        status = np.array([value or 0 for value in frame.values("http_status")], dtype=np.int64)
        broken = np.array(
            [value == _ERROR_STATUS for value in frame.values("status")], dtype=np.bool_
        )
        failed = (status[rows] >= FIRST_SERVER_ERROR) | broken[rows]
        return _Sampled(
            durations_s=frame.duration_ns[rows] / 1e9,
            failed=int(failed.sum()),
            counts={
                name: _per_entry(frame, owner, rows, category)
                for name, category in _COUNTED.items()
            },
            wasted_s=self._wasted(frame, subject, rows),
        )

    def _wasted(self, frame: SpanFrame, subject: Subject, rows: Int64Array) -> Float64Array:
        """Wasted seconds of each sampled request; of a trace with several, each has its part."""
        trace_of = frame.trace_of_row[rows]
        wasted = np.zeros(len(frame))
        detectors = self._settings.trace_detectors().values()
        for index, trace in enumerate(traces_of(frame)):
            found = [item for detector in detectors for item in detector.detect(trace).findings]
            wasted[index] = sum(
                item.impact.wasted_seconds_per_request
                for item in merge_findings(found)
                if _meant(item.fingerprint, item.service, item.route, subject)
            )
        requests = np.bincount(trace_of, minlength=len(frame))
        return np.asarray(wasted[trace_of] / requests[trace_of], dtype=np.float64)


_COUNTED = {"query": Category.QUERY, "call": Category.CALL, "cache": Category.CACHE}


@dataclass(frozen=True, slots=True)
class _Sampled:
    """What sampled traces say of the subject's requests; one entry a request."""

    durations_s: Float64Array = field(default_factory=lambda: _EMPTY)
    failed: int = 0
    counts: Mapping[str, Float64Array] = field(default_factory=dict)
    wasted_s: Float64Array = field(default_factory=lambda: _EMPTY)


def _entries(frame: SpanFrame, subject: Subject, window: Window) -> BoolArray:
    """Rows by which a request of the subject entered, and which began in the window."""
    services = np.array([*(name == subject.service for name in frame.services), False])
    entry: BoolArray = frame.entry & services[frame.service]
    entry &= (frame.start_ns >= window.start_ms * 1_000_000) & (
        frame.start_ns < window.end_ms * 1_000_000
    )
    if subject.route:
        pairs = zip(frame.values("http_route"), frame.values("name"), strict=True)
        entry &= np.array([(route or name) == subject.route for route, name in pairs])
    return entry


def _owners(frame: SpanFrame, entry: BoolArray) -> Int64Array:
    """For each span the request of the subject that it belongs to, as a row; -1 for none."""
    places = np.arange(len(entry), dtype=np.int64)
    owner: Int64Array = np.where(entry, places, -1)
    above = frame.parent.copy()
    for _ in range(_MAX_DEPTH):
        open_ = np.flatnonzero((owner < 0) & (above >= 0))
        if not len(open_):
            break
        owner[open_] = np.where(entry[above[open_]], above[open_], -1)
        above[open_] = frame.parent[above[open_]]
    return owner


def _per_entry(
    frame: SpanFrame, owner: Int64Array, rows: Int64Array, category: Category
) -> Float64Array:
    """Spans of a category under each entry; one that wraps another of its kind counts once."""
    mine = frame.category == category
    wrapped = mine & (frame.parent >= 0) & mine[frame.parent]
    counted = owner[mine & ~wrapped & (owner >= 0)]
    return np.bincount(counted, minlength=len(owner))[rows].astype(np.float64)


def _meant(fingerprint: str, service: str, route: str, subject: Subject) -> bool:
    if subject.fingerprint:
        return fingerprint == subject.fingerprint
    return service == subject.service and subject.route in {"", route}


def _cumulative(durations_s: Float64Array) -> Durations:
    ordered = np.sort(durations_s)
    return Durations(ordered, np.arange(1, len(ordered) + 1, dtype=np.float64))


def _selector(family: HttpFamily, suffix: str, subject: Subject) -> str:
    """The series of a service, whatever namespace its job carries."""
    service = quoted(re.escape(subject.service))
    route = f',{family.route}="{quoted(subject.route)}"' if subject.route else ""
    return f'{family.name}{suffix}{{job=~"(.+/)?{service}"{route}}}'


def _of_cache(labels: Labels, subject: Subject) -> bool:
    if subject.cache:
        return all(labels.get(name) == value for name, value in subject.cache.items())
    return bool(subject.service) and labels.get("job").rpartition("/")[2] == subject.service
