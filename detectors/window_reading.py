"""What a route did in a window of time: requests, durations, queries, waste, cache hits.

Requests, failures and durations come from the HTTP histograms where there are some, since these
count every request; from sampled traces otherwise. What happens inside a request comes from at
most `MAX_TRACES` traces, drawn evenly over the window.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from detectors.cache_counters import PAIRS
from detectors.http_requests import (
    FIRST_SERVER_ERROR,
    HttpFamily,
    families_of,
    quoted,
    server_failed,
    upper_bound,
)
from detectors.increases import read_increases, summed
from detectors.merging import merge_findings
from detectors.readings import (
    NO_DURATIONS,
    NO_WINDOW,
    PARTS,
    Durations,
    Reading,
    Window,
    added,
    durations_of,
    in_order,
    in_parts,
    summed_by_part,
)
from detectors.registry import DetectorSettings
from detectors.signal_values import Signal, signal_values
from detectors.traces.frame import SpanFrame, build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.shape import Category
from detectors.traces.trace import traces_of
from detectors.two_samples import Counted, Values
from store.model import BoolArray, Float64Array, Int64Array, Labels
from store.ports import Querier, SpanReader, TraceQuery

MAX_TRACES = 240
_STEPS = 60
_MAX_ROUTES = 100
_LEAST_STEP_MS = 5_000
_MAX_SPANS = 100_000
_MAX_DEPTH = 128
_PROCESS = ("job", "instance")
_ERROR_STATUS = 2
Grid = tuple[int, int, int]
"""Start, end and step of a range, in milliseconds."""


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
        grid = (window.start_ms, window.end_ms, step_ms)
        sampled = self._sample(subject, window)
        counted = self._count(subject, grid)
        signal = signal_values(self._querier, Signal(subject.signal, subject.signal_labels), *grid)
        return replace(
            _merged(sampled, counted, by_route=not subject.route),
            window=window,
            hits=self._cache(subject, grid),
            signal=in_order(signal),
        )

    def _count(self, subject: Subject, grid: Grid) -> dict[str, Reading] | None:
        """Each route by its counters; None without any."""
        if not subject.service:
            return None
        families = families_of(self._querier, _job(subject), grid[0], grid[1])
        for family in families:
            matrix = self._querier.range(_selector(family, "_count", subject), *grid)
            found = summed(matrix, (family.route, family.status), _PROCESS)
            if sum(float(values.sum()) for values in found.values.values()) <= 0:
                continue
            none = np.zeros(len(found.steps_ms))
            every: dict[str, Float64Array] = {}
            failed: dict[str, Float64Array] = {}
            for labels, increase in found.values.items():
                route = labels.get(family.route)
                every[route] = every.get(route, none) + increase
                if server_failed(labels.get(family.status)):
                    failed[route] = failed.get(route, none) + increase
            timed = next((one for one in (family, *families) if one.name), None)
            durations = self._durations(timed, subject, grid) if timed else {}
            step_s = grid[2] / 1_000
            return {
                route: Reading(
                    NO_WINDOW,
                    errors=Counted(in_parts(failed.get(route, none)), in_parts(requests)),
                    rates=in_order(requests / step_s),
                    durations=durations.get(route, NO_DURATIONS),
                    source="metrics",
                )
                for route, requests in every.items()
            }
        return None

    def _durations(self, family: HttpFamily, subject: Subject, grid: Grid) -> dict[str, Durations]:
        """Of each route, all with the same bounds."""
        matrix = self._querier.range(_selector(family, "_bucket", subject), *grid)
        totals: dict[tuple[str, float], Float64Array] = {}
        for labels, increase in summed(matrix, (family.route, "le"), _PROCESS).values.items():
            bound = upper_bound(labels.get("le"))
            if bound is not None:
                key = (labels.get(family.route), bound)
                totals[key] = totals.get(key, np.zeros(PARTS)) + in_parts(increase)
        bounds = np.array(sorted({bound for _, bound in totals}))
        if np.inf not in bounds:
            return {}
        none = np.zeros(PARTS)
        found = {}
        for route in {route for route, _ in totals}:
            parts = np.array([totals.get((route, bound), none) for bound in bounds.tolist()]).T
            counts = np.maximum.accumulate(parts, axis=1)
            found[route] = Durations(bounds * family.unit_s, counts)
        return found

    def _cache(self, subject: Subject, grid: Grid) -> Counted:
        hits, gets = np.zeros(PARTS), np.zeros(PARTS)
        for pair in PAIRS:
            found = read_increases(self._querier, pair.hits, *grid, pair.by)
            lost = read_increases(self._querier, pair.misses, *grid, pair.by)
            for labels in {*found.values, *lost.values}:
                if _of_cache(labels, subject):
                    hits += in_parts(found.of(labels))
                    gets += in_parts(found.of(labels) + lost.of(labels))
        return Counted(hits, gets)

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
        edges = np.linspace(window.start_ms, window.end_ms, PARTS + 1).astype(np.int64).tolist()
        found: dict[bytes, None] = {}
        for start_ms, end_ms in pairwise(edges):
            query = TraceQuery(
                start_ns=start_ms * 1_000_000,
                end_ns=end_ms * 1_000_000,
                service=service,
                limit=MAX_TRACES // PARTS,
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
        length_ns = max((window.end_ms - window.start_ms) * 1_000_000, 1)
        parts = (frame.start_ns[rows] - window.start_ms * 1_000_000) * PARTS // length_ns
        names = zip(frame.values("http_route"), frame.values("name"), strict=True)
        routes = np.array([route or name for route, name in names], dtype=object)
        return _Sampled(
            durations_s=frame.duration_ns[rows] / 1e9,
            failed=np.where(failed, 1.0, 0.0),
            parts=parts,
            counts={
                name: _per_entry(frame, owner, rows, category)
                for name, category in _COUNTED.items()
            },
            wasted_s=self._wasted(frame, subject, rows),
            routes=routes[rows],
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

    durations_s: Float64Array = field(default_factory=lambda: np.empty(0))
    failed: Float64Array = field(default_factory=lambda: np.empty(0))
    parts: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    counts: Mapping[str, Float64Array] = field(default_factory=dict)
    wasted_s: Float64Array = field(default_factory=lambda: np.empty(0))
    routes: Any = field(default_factory=lambda: np.empty(0, dtype=object))

    def reading(self, chosen: BoolArray) -> Reading:
        """Of the chosen requests."""
        parts = self.parts[chosen]
        every = np.ones(len(parts))
        return Reading(
            NO_WINDOW,
            errors=Counted(
                summed_by_part(self.failed[chosen], parts), summed_by_part(every, parts)
            ),
            durations=durations_of(self.durations_s[chosen], parts),
            counts={name: Values(values[chosen], parts) for name, values in self.counts.items()},
            wasted_s=Values(self.wasted_s[chosen], parts),
        )


def _merged(sampled: _Sampled, counted: Mapping[str, Reading] | None, *, by_route: bool) -> Reading:
    """The whole; and with `by_route` the busiest routes. Where requests are counted, they are."""
    whole = sampled.reading(np.ones(len(sampled.parts), dtype=np.bool_))
    routes: dict[str, Reading] = {}
    if by_route:
        named, numbers = np.unique(sampled.routes.astype(str), return_counts=True)
        busiest = named[np.argsort(-numbers, kind="stable")][:_MAX_ROUTES].tolist()
        routes = {route: sampled.reading(sampled.routes == route) for route in busiest}
    if counted is None:
        return replace(whole, routes=routes)
    busy = sorted(counted, key=lambda route: -counted[route].requests)[:_MAX_ROUTES]
    none = Reading(NO_WINDOW)
    of_routes = {
        route: _with_counts(routes.get(route, none), counted.get(route, none))
        for route in (dict.fromkeys([*busy, *routes]) if by_route else ())
    }
    return replace(_with_counts(whole, added(counted.values())), routes=of_routes)


def _with_counts(sampled: Reading, counted: Reading) -> Reading:
    return replace(
        sampled,
        errors=counted.errors,
        rates=counted.rates,
        durations=counted.durations,
        source=counted.source,
    )


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


def _selector(family: HttpFamily, suffix: str, subject: Subject) -> str:
    route = f',{family.route}="{quoted(subject.route)}"' if subject.route else ""
    return f"{family.metric(suffix)}{{{_job(subject)}{route}}}"


def _job(subject: Subject) -> str:
    """Selects the series of a service, whatever namespace its job carries."""
    return f'job=~"(.+/)?{quoted(re.escape(subject.service))}"'


def _of_cache(labels: Labels, subject: Subject) -> bool:
    if subject.cache:
        return all(labels.get(name) == value for name, value in subject.cache.items())
    return bool(subject.service) and labels.get("job").rpartition("/")[2] == subject.service
