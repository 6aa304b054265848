"""One trace as the detectors see it: rows of a frame, its tree, its critical path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_WRAPPERS = 4
_MAX_REQUESTS = 64
_OPERATIONS = frozenset({Category.QUERY, Category.CACHE, Category.CALL})
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
        self.stated: list[bool] = frame.stated[rows].tolist()
        self.orphan: list[bool] = frame.orphan[rows].tolist()
        self.parent_key: list[int] = frame.parent_key[rows].tolist()
        self.parent: list[int] = [
            place - first if place >= 0 else -1 for place in frame.parent[rows].tolist()
        ]

    @cached_property
    def trace_id(self) -> str:
        return self.frame.ids("trace_id", self.first, self.first + 1)[0]

    @cached_property
    def complete(self) -> bool:
        """Every parent is here, except that of a span where a request entered from outside."""
        return not any(
            orphan and kind not in {_SERVER, _CONSUMER}
            for orphan, kind in zip(self.orphan, self.kind, strict=True)
        )

    @cached_property
    def children(self) -> list[list[int]]:
        """For each span those right below it, ascending in start."""
        below: dict[int, list[int]] = {}
        for span, parent in enumerate(self.parent):
            if parent >= 0:
                below.setdefault(parent, []).append(span)
        nothing: list[int] = []
        return [below.get(span, nothing) for span in range(self.n)]

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
        if -1 in entry:
            self._adopt(entry)
        return entry

    def _adopt(self, entry: list[int]) -> None:
        """Spans without parents belong to the one request of their service around them."""
        requests: dict[int, list[int]] = {}
        for span in range(self.n):
            if entry[span] == span:
                requests.setdefault(self.service[span], []).append(span)
        for span in range(self.n):
            if entry[span] != -1:
                continue
            around = [
                request
                for request in requests.get(self.service[span], ())[:_MAX_REQUESTS]
                if self.start_ns[request] <= self.start_ns[span] <= self.end_ns[request]
            ]
            if len(around) == 1:
                entry[span] = around[0]

    @cached_property
    def operations(self) -> list[int]:
        """Queries, cache commands and calls, each once.

        An ORM's span around the driver's span says the same: the outer one counts, unless only the
        inner one tells its statement. A client's span that only has a name wraps what is in it.
        """
        dropped: set[int] = set()
        found = [span for span in range(self.n) if self.category[span] in _OPERATIONS]
        for span in found:
            above = self.parent[span]
            if above < 0 or self.entry[above] == above:
                continue  # nothing wraps it
            for above in self._around(span):
                if self.category[above] == self.category[span]:
                    inner_tells = self.stated[span] and not self.stated[above]
                    dropped.add(above if inner_tells else span)
                    break
                if self.category[above] in _OPERATIONS:
                    if self.stated[above]:
                        break
                    dropped.add(above)
        return [span for span in found if span not in dropped]

    def _around(self, span: int) -> Iterator[int]:
        """The nearest spans above a span in its own service, below the request's own span."""
        above = self.parent[span]
        for _ in range(_WRAPPERS):
            if above < 0 or self.service[above] != self.service[span] or self.entry[above] == above:
                return
            yield above
            above = self.parent[above]

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
        return self._span_ids[span]

    def parent_span_id(self, span: int) -> str:
        row = self.first + span
        return self.frame.ids("parent_span_id", row, row + 1)[0]

    @cached_property
    def _span_ids(self) -> list[str]:
        return self.frame.ids("span_id", self.first, self.first + self.n)

    def codes(self, column: str, spans: Sequence[int]) -> list[int]:
        """A number for each span's value in a column, equal for equal values."""
        numbers, _ = self.frame.coded(column)
        found: list[int] = numbers[self.first + np.asarray(spans, dtype=np.int64)].tolist()
        return found

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
        """The nearest function that has a span; where there is none, the request itself."""
        current = self.parent[span]
        for _ in range(_MAX_DEPTH):
            if current < 0 or current == self.entry[span]:
                break
            if self.category[current] == Category.OTHER and self.kind[current] == _INTERNAL:
                return CodeLocation("", 0, self.name(current), inferred=True)
            current = self.parent[current]
        entry = self.entry[span]
        known = entry >= 0 and entry != span
        return CodeLocation("", 0, self.name(entry), inferred=True) if known else None

    def union_ns(self, spans: Iterable[int]) -> int:
        """Time covered by at least one of the spans."""
        total, until = 0, -1
        for start, end in sorted([(self.start_ns[span], self.end_ns[span]) for span in spans]):
            if end > until:
                total += end - max(start, until)
                until = end
        return total

    def on_critical_path_ns(self, spans: Iterable[int]) -> int:
        """Time during which the request waited for one of the spans and for nothing else."""
        critical = self._critical
        return sum([critical[span] for span in spans if span in critical])

    @cached_property
    def _critical(self) -> dict[int, int]:
        """For each span, how long it (with all below it) kept the request waiting.

        Backwards from the end of each root: the child that ended last is waited for until it
        started, then the one that ended last before that (Yang, Miller 1988, on a tree of spans).
        A child on another host may have a skewed clock; it is moved into its parent.
        """
        found: dict[int, int] = {}
        roots = [span for span in range(self.n) if self.parent[span] < 0]
        work = [(root, self.start_ns[root], self.end_ns[root], 0) for root in roots]
        seen: set[int] = set()
        while work:
            span, low, high, shift = work.pop()
            if high < low or span in seen:
                continue
            seen.add(span)
            found[span] = high - low
            if self.children[span]:
                work.extend(self._waited_for(span, low, high, shift))
        return found

    def _waited_for(
        self, parent: int, low: int, high: int, shift: int
    ) -> list[tuple[int, int, int, int]]:
        steps = []
        service, ends, starts = self.service, self.end_ns, self.start_ns
        placed = []
        for child in self.children[parent]:
            same = service[child] == service[parent]
            move = shift if same else shift + self._skew(parent, child)
            placed.append((ends[child] + move, starts[child] + move, child, move))
        cursor = high
        for end, start, child, move in sorted(placed, reverse=True):
            if start >= cursor:
                continue
            if cursor <= low:
                break
            until = min(cursor, end)
            since = max(low, start)
            if until > since:
                steps.append((child, since, until, move))
                cursor = since
        return steps

    def _skew(self, parent: int, child: int) -> int:
        """What to add to the clock of a child of another service, so that it lies in its parent."""
        if self.start_ns[child] < self.start_ns[parent]:
            return self.start_ns[parent] - self.start_ns[child]
        if self.end_ns[child] > self.end_ns[parent] and self.duration_ns(child) <= self.duration_ns(
            parent
        ):
            return self.end_ns[parent] - self.end_ns[child]
        return 0

    def _value(self, column: str, span: int) -> Any:
        return self.frame.value(column, self.first + span)


def traces_of(frame: SpanFrame, wanted: BoolArray | None = None) -> Iterator[Trace]:
    """The traces of a frame, or those that are marked."""
    chosen = range(len(frame)) if wanted is None else np.flatnonzero(wanted).tolist()
    return (Trace(frame, index) for index in chosen)
