"""One trace as the detectors see it: rows of a frame, its tree, its critical path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from detectors.finding import CodeLocation
from detectors.traces.frame import SpanFrame
from detectors.traces.shape import Category, Shape
from store.model import BoolArray

NANOSECONDS = 1_000_000_000
_INTERNAL, _SERVER, _CONSUMER = 1, 2, 5
_MAX_DEPTH = 512
UNKNOWN_ROUTE = "(unknown)"


class Trace:
    """Spans `0 … n-1` of one trace, ascending in start; parents and children are span numbers."""

    def __init__(self, frame: SpanFrame, index: int) -> None:
        first, end = int(frame.offsets[index]), int(frame.offsets[index + 1])
        self.frame = frame
        self.first = first
        self.n = end - first
        rows = slice(first, end)
        self.start_ns: list[int] = frame.start_ns[rows].tolist()
        self.end_ns: list[int] = frame.end_ns[rows].tolist()
        self.kind: list[int] = frame.kind[rows].tolist()
        self.service: list[int] = frame.service[rows].tolist()
        self.shape_index: list[int] = frame.shape[rows].tolist()
        self.form: list[int] = frame.form[rows].tolist()
        self.category: list[int] = frame.category[rows].tolist()
        self.failed: list[bool] = frame.failed[rows].tolist()
        self.multiple: list[bool] = frame.multiple[rows].tolist()
        self.orphan: list[bool] = frame.orphan[rows].tolist()
        self.parent_key: list[int] = frame.parent_key[rows].tolist()
        self.parent: list[int] = [
            place - first if place >= 0 else -1 for place in frame.parent[rows].tolist()
        ]

    @cached_property
    def trace_id(self) -> str:
        return bytes(self._value("trace_id", 0)).hex()

    @cached_property
    def complete(self) -> bool:
        """Every parent is here, except that of a span where a request entered from outside."""
        return not any(
            orphan and kind not in {_SERVER, _CONSUMER}
            for orphan, kind in zip(self.orphan, self.kind, strict=True)
        )

    @cached_property
    def children(self) -> list[list[int]]:
        children: list[list[int]] = [[] for _ in range(self.n)]
        for span, parent in enumerate(self.parent):
            if parent >= 0:
                children[parent].append(span)
        return children

    @cached_property
    def entry(self) -> list[int]:
        """For each span, the span by which its request entered the service; -1 where unknown."""
        entry = [-2] * self.n
        for span in range(self.n):
            path: list[int] = []
            current = span
            while entry[current] == -2 and len(path) < _MAX_DEPTH:
                path.append(current)
                entry[current] = -1  # also ends a cycle of parents
                above = self.parent[current]
                if self.kind[current] in {_SERVER, _CONSUMER} or (
                    above < 0 and not self.orphan[current]
                ):
                    entry[current] = current
                elif above >= 0:
                    current = above
            for member in path:
                entry[member] = entry[current]
        return entry

    def duration_ns(self, span: int) -> int:
        return self.end_ns[span] - self.start_ns[span]

    def shape(self, span: int) -> Shape:
        return self.frame.shapes[self.shape_index[span]]

    def service_name(self, span: int) -> str:
        return self.frame.services[self.service[span]]

    def name(self, span: int) -> str:
        return str(self._value("name", span))

    def text(self, column: str, span: int) -> str:
        """A text column's value, empty where it is null."""
        value = self._value(column, span)
        return "" if value is None else str(value)

    def span_id(self, span: int) -> str:
        return bytes(self._value("span_id", span)).hex()

    def parent_span_id(self, span: int) -> str:
        value = self._value("parent_span_id", span)
        return "" if value is None else bytes(value).hex()

    def attributes(self, span: int) -> Mapping[str, Any]:
        """The span's attributes; empty where they are no JSON object."""
        text = self._value("attributes", span)
        try:
            value = orjson.loads(text) if text else {}
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    def route(self, span: int) -> str:
        """The route of the request that a span served, by pattern and never by its ids."""
        entry = self.entry[span]
        if entry < 0:
            return UNKNOWN_ROUTE
        return self.text("http_route", entry) or self.name(entry)

    def code(self, span: int) -> CodeLocation | None:
        """Where the span was started, or the nearest span above that knows, marked as inferred."""
        current, inferred = span, False
        for _ in range(_MAX_DEPTH):
            function = self.text("code_function", current)
            file = self.text("code_file", current)
            if function or file:
                line = self._value("code_line", current)
                return CodeLocation(file, int(line or 0), function, inferred)
            current, inferred = self.parent[current], True
            if current < 0 or self.service[current] != self.service[span]:
                break
        return self._nearest_application_span(span)

    def _nearest_application_span(self, span: int) -> CodeLocation | None:
        current = self.parent[span]
        for _ in range(_MAX_DEPTH):
            if current < 0:
                return None
            if self.category[current] == Category.OTHER and self.kind[current] == _INTERNAL:
                return CodeLocation("", 0, self.name(current), inferred=True)
            current = self.parent[current]
        return None

    def union_ns(self, spans: Iterable[int]) -> int:
        """Time covered by at least one of the spans."""
        return sum(end - start for start, end in _merged(self._intervals(spans)))

    def on_critical_path_ns(self, spans: Iterable[int]) -> int:
        """Time during which the request waited for one of the spans and for nothing else."""
        return sum(end - start for span in spans for start, end in self._critical.get(span, ()))

    def _intervals(self, spans: Iterable[int]) -> list[tuple[int, int]]:
        return [(self.start_ns[span], self.end_ns[span]) for span in spans]

    @cached_property
    def _critical(self) -> dict[int, list[tuple[int, int]]]:
        """For each span, when it (with all below it) kept the request waiting.

        Backwards from the end of each root: the child that ended last is waited for until it
        started, then the one that ended last before that (Yang, Miller 1988, on a tree of spans).
        A child on another host may have a skewed clock; it is moved into its parent.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        roots = [span for span in range(self.n) if self.parent[span] < 0]
        work = [(root, self.start_ns[root], self.end_ns[root], 0) for root in roots]
        seen: set[int] = set()
        while work:
            span, low, high, shift = work.pop()
            if high < low or span in seen:
                continue
            seen.add(span)
            found[span] = [(low, high)]
            work.extend(self._waited_for(span, low, high, shift))
        return found

    def _waited_for(
        self, parent: int, low: int, high: int, shift: int
    ) -> list[tuple[int, int, int, int]]:
        steps = []
        placed = []
        for child in self.children[parent]:
            move = shift + self._skew(parent, child)
            placed.append((self.end_ns[child] + move, self.start_ns[child] + move, child, move))
        cursor = high
        for end, start, child, move in sorted(placed, reverse=True):
            if start >= cursor:
                continue
            if cursor <= low:
                break
            until = min(end, cursor)
            since = max(start, low)
            if until > since:
                steps.append((child, since, until, move))
                cursor = since
        return steps

    def _skew(self, parent: int, child: int) -> int:
        """What to add to a child's clock so that it lies in its parent; 0 within one service."""
        if self.service[parent] == self.service[child]:
            return 0
        if self.start_ns[child] < self.start_ns[parent]:
            return self.start_ns[parent] - self.start_ns[child]
        if self.end_ns[child] > self.end_ns[parent] and self.duration_ns(child) <= self.duration_ns(
            parent
        ):
            return self.end_ns[parent] - self.end_ns[child]
        return 0

    def _value(self, column: str, span: int) -> Any:
        return self.frame.values(column)[self.first + span]


def traces_of(frame: SpanFrame, wanted: BoolArray | None = None) -> Iterator[Trace]:
    """The traces of a frame, or those that are marked."""
    chosen = range(len(frame)) if wanted is None else np.flatnonzero(wanted).tolist()
    return (Trace(frame, index) for index in chosen)


def _merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
