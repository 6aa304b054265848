"""One trace as the detectors see it: rows of a frame, its tree, its critical path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from detectors.finding import CodeLocation
from detectors.traces.call_shape import request_name
from detectors.traces.controls import Control, Controls
from detectors.traces.frame import MAX_DEPTH, SpanFrame
from detectors.traces.layers import Sibling, shown_twice
from detectors.traces.shape import Category, key_pattern
from detectors.traces.survey import (
    ADRIFT,
    CONTROL,
    GAP_NS,
    LAYERED,
    NESTED,
    WRAPPERS,
    Repeats,
)
from detectors.traces.trace_rows import TraceRows
from detectors.traces.waiting import timing, waited_ns
from store.model import BoolArray

NANOSECONDS = 1_000_000_000
_INTERNAL = 1
_MAX_REQUESTS = 64
OPERATIONS = frozenset({Category.QUERY, Category.CACHE, Category.CALL})
# Where Cargo, pip, npm, Bundler and Composer put what others wrote. Rust names the file in which a
# library began the span.
_QUALIFIED = re.compile(r"[.:\\/#$]")
_LIBRARY = re.compile(
    r"[/\\](?:\.cargo[/\\](?:registry|git)|(?:site|dist)-packages|node_modules|gems"
    r"|vendor[/\\][\w.-]+[/\\][\w.-]+[/\\](?:src|lib))[/\\]"
)


class Timing(NamedTuple):
    """What repeats take, in nanoseconds.

    Attributes:
        union_ns: Time covered by at least one of them.
        between_ns: Time between one and the next, of each gap at most `GAP_NS`.
        last_ns: When the last of them ends.
        longest_ns: The longest one.
        middle_ns: The two in the middle by duration, or the one twice.
    """

    union_ns: int
    between_ns: int
    last_ns: int
    longest_ns: int
    middle_ns: tuple[int, int]


class Trace(TraceRows):
    """Spans of one trace, ascending in start; parents and children are span numbers."""

    def __init__(self, frame: SpanFrame, index: int, *, brief: bool = False) -> None:
        super().__init__(frame, index, brief=brief)
        self._timings: dict[tuple[int, ...], Timing] = {}
        self._paths_ns: dict[tuple[int, ...], int] = {}

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
        rows = slice(self.first, self.first + self.n)
        entry: list[int] = self.frame.entry_in_trace[rows].tolist()
        if self.traits & ADRIFT:
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
        dropped = self._shown_by
        return [span for span in self._asking if span not in dropped] if dropped else self._asking

    @cached_property
    def _asking(self) -> list[int]:
        places, begins = self.frame.operations
        found: list[int] = places[begins[self.index] : begins[self.index + 1]].tolist()
        return found

    @cached_property
    def _nested(self) -> dict[int, int]:
        """Spans that say the same as one above or below them, which counts."""
        dropped: dict[int, int] = {}
        if not self.traits & NESTED:
            return dropped
        for span in self._asking:
            above = self.parent[span]
            if above < 0 or self.entry[above] == above:
                continue  # nothing wraps it
            calls = self.category[span] == self.category[above] == Category.CALL
            if calls and self.service[span] != self.service[above]:
                dropped[span] = above  # a proxy passes the call on
                continue
            for above in self._around(span):
                if self.category[above] in OPERATIONS:
                    less, more = self._of_two(above, span)
                    if less >= 0:
                        dropped[less] = more
                    if less != above or self.category[above] == self.category[span]:
                        break
        return dropped

    def _of_two(self, above: int, span: int) -> tuple[int, int]:
        """The one that says nothing more than the other one, and that; -1 where both do."""
        if self.category[above] == self.category[span]:
            inner_tells = self.stated[span] and not self.stated[above]
            return (above, span) if inner_tells else (span, above)
        if self.category[span] == Category.CALL and self.category[above] != Category.CALL:
            # The call is how a query travels.
            told = self.stated[above] or not self.shape(above).vague
            return (span, above) if told else (above, span)
        return (-1, -1) if self.stated[above] else (above, span)

    @cached_property
    def _beside(self) -> dict[int, int]:
        """Queries that two instrumentations show side by side; the longer span counts."""
        if not self.traits & LAYERED:
            return {}
        layered, nested = self.frame.layered_forms, self._nested
        chosen = [
            span
            for span in self._asking
            if self.category[span] == Category.QUERY
            and layered[self.form[span]]
            and span not in nested
        ]
        siblings: dict[tuple[int, int], list[Sibling]] = {}
        for span, name in zip(chosen, self.codes("name", chosen), strict=True):
            key = self.shape(span).key
            one = Sibling(span, name, self.start_ns[span], self.end_ns[span], key)
            siblings.setdefault((self.parent_key[span], self.form[span]), []).append(one)
        return {
            span: other
            for group in siblings.values()
            if len(group) > 1
            for span, other in shown_twice(group).items()
        }

    @property
    def _shown_by(self) -> dict[int, int]:
        """Operations that are not counted, each with the one that says the same."""
        return {**self._nested, **self._beside} if self.traits & (NESTED | LAYERED) else {}

    @cached_property
    def _shown_as(self) -> dict[int, int]:
        """For each operation a span that says the same and is not counted."""
        return {kept: span for span, kept in self._shown_by.items()}

    def telling(self, span: int, marks: Sequence[bool]) -> int:
        """Of an operation's spans the one that has a mark; -1 where none has. Its own comes first.

        An ORM's span around the driver's does not know that the driver failed, or sent a batch.
        """
        shown_as = self._shown_as
        for _ in range(WRAPPERS):
            if span < 0 or marks[span]:
                break
            span = shown_as.get(span, -1)
        return span if span >= 0 and marks[span] else -1

    @cached_property
    def controls(self) -> Controls:
        """Of its connections and transactions."""
        if not self.traits & CONTROL:
            return Controls(())
        return Controls(
            Control(
                self.entry[span],
                self.service[span],
                self.start_ns[span],
                self.end_ns[span],
                self.shape(span).text,
            )
            for span, category in enumerate(self.category)
            if category == Category.CONTROL
        )

    @cached_property
    def failures_ns(self) -> dict[tuple[int, int], list[int]]:
        """When the spans that failed began, by request and service."""
        found: dict[tuple[int, int], list[int]] = {}
        for span, failed in enumerate(self.failed):
            if failed:
                key = (self.entry[span], self.service[span])
                found.setdefault(key, []).append(self.start_ns[span])
        return found

    def _around(self, span: int) -> Iterator[int]:
        """The nearest spans above a span in its own service, below the request's own span."""
        above = self.parent[span]
        for _ in range(WRAPPERS):
            if above < 0 or self.service[above] != self.service[span] or self.entry[above] == above:
                return
            yield above
            above = self.parent[above]

    @cached_property
    def known_ns(self) -> dict[int, int]:
        """Of each service here, from its first span's start to its last span's end."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for service, start, end in zip(self.service, self.start_ns, self.end_ns, strict=True):
            first.setdefault(service, start)  # spans ascend in start
            last[service] = max(last.get(service, end), end)
        return {service: last[service] - start for service, start in first.items()}

    def route(self, span: int) -> str:
        """The route of the request that a span served, by pattern and never by its ids."""
        entry = self.entry[span]
        if entry < 0:
            return self._best_known_request(span)
        return self.text("http_route", entry) or request_name(self.name(entry))

    def _best_known_request(self, span: int) -> str:
        """Of a span whose request's own span is lost: what stands nearest to its route.

        The only other request of its service in the trace, else the outermost function above it
        (without ids), else the service.
        """
        service = self.service[span]
        routes = {
            self.route(request)
            for request in range(self.n)
            if self.entry[request] == request and self.service[request] == service
        }
        if len(routes) == 1:
            return routes.pop()
        top = span
        for _ in range(MAX_DEPTH):
            above = self.parent[top]
            if above < 0 or self.service[above] != service:
                break
            top = above
        if top != span and self.category[top] == Category.OTHER:
            return key_pattern(self.name(top))
        return self.service_name(span)

    def code(self, span: int) -> CodeLocation | None:
        """Where the span was started, or the nearest span above that knows, marked as inferred.

        A file of a library is told only where nobody tells one of the application.
        """
        library: CodeLocation | None = None
        for current, inferred in self._telling_code(span):
            known = self._own_code(current, inferred=inferred)
            if known is not None and _LIBRARY.search(known.file) is None:
                return known
            library = library or known
        return library or self._nearest_application_span(span)

    def _telling_code(self, span: int) -> Iterator[tuple[int, bool]]:
        """The span, the one that says the same and is not counted, and those above: inferred."""
        yield span, False
        if span in self._shown_as:
            yield self._shown_as[span], False
        current = self.parent[span]
        for _ in range(MAX_DEPTH):
            if current < 0 or self.service[current] != self.service[span]:
                break
            yield current, True
            current = self.parent[current]

    def _own_code(self, span: int, *, inferred: bool) -> CodeLocation | None:
        function, file = self.text("code_function", span), self.text("code_file", span)
        if not function and not file:
            return None
        if function and _QUALIFIED.search(function) is None:
            # Before it was one name, the class or module was told apart.
            space = str(self.attributes(span).get("code.namespace") or "")
            between = "::" if "\\" in space or "::" in space else "."
            function = f"{space}{between}{function}" if space else function
        return CodeLocation(file, int(self._value("code_line", span) or 0), function, inferred)

    def _nearest_application_span(self, span: int) -> CodeLocation | None:
        """The nearest function that has a span; where there is none, the request itself."""
        current = self.parent[span]
        for _ in range(MAX_DEPTH):
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
        starts, ends = self.start_ns, self.end_ns
        for span in sorted(spans):  # spans ascend in start
            start, end = starts[span], ends[span]
            if end > until:
                total += end - max(start, until)
                until = end
        return total

    def timing(self, spans: tuple[int, ...]) -> Timing:
        """What repeats take that ascend in start."""
        known = self._timings.get(spans)
        if known is None:
            rows = np.array(spans, dtype=np.int64)
            rows += self.first
            covered, between, last, longest, low, high = timing(
                self.frame.start_ns, self.frame.end_ns, rows, GAP_NS
            )
            known = self._timings[spans] = Timing(covered, between, last, longest, (low, high))
        return known

    def know(self, repeats: Repeats) -> None:
        """Take over what was worked out of all traces at once."""
        covered, between, last, longest, low, high = repeats.timing
        took = Timing(covered, between, last, longest, (low, high))
        self._timings[repeats.spans] = took
        self._paths_ns[repeats.spans] = repeats.path_ns

    def on_critical_path_ns(self, spans: Sequence[int]) -> int:
        """Time during which the request waited for one of the spans and for nothing else."""
        if self._paths_ns and isinstance(spans, tuple) and spans in self._paths_ns:
            return self._paths_ns[spans]
        waited = self._waited_ns
        return sum([waited[span] for span in spans if waited[span] > 0])

    @cached_property
    def _waited_ns(self) -> list[int]:
        """For each span, how long it (with all below it) kept the request waiting."""
        frame, rows = self.frame, slice(self.first, self.first + self.n)
        parent = frame.parent_in_trace[rows]
        found: list[int] = waited_ns(
            parent, frame.service[rows], frame.start_ns[rows], frame.end_ns[rows]
        ).tolist()
        return found


def traces_of(
    frame: SpanFrame, wanted: BoolArray | None = None, *, brief: bool = False
) -> Iterator[Trace]:
    """The traces of a frame, or those that are marked."""
    chosen = range(len(frame)) if wanted is None else np.flatnonzero(wanted).tolist()
    return (Trace(frame, index, brief=brief) for index in chosen)
