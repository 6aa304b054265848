"""Requests that wait for a connection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc

from detectors.finding import Finding
from detectors.settings import require
from detectors.traces.detector import DetectorResult
from detectors.traces.frame import SERVER, SpanFrame
from detectors.traces.gates import Gate, GateName, first_closed, just, refuse
from detectors.traces.report import Report, request_seconds, span_finding
from detectors.traces.shape import Category
from detectors.traces.trace import NANOSECONDS, Trace
from store.model import BoolArray

_MS = 1_000_000
_PATTERN = (
    r"(?i)pool.*(checkout|get|acquire|wait|timeout|connect|borrow|queue)"
    r"|(acquire|check ?out|borrow|wait(?:ing)?[_ ]for)[\w .:-]*(conn|pool)|get[_ ]?conn|^connect$"
    r"|^(pg|mysql2?|mariadb|db|sql|postgres\w*|mongo\w*|redis|oracle)([.\w]*\.)?connect$"
    r"|conn\w*[ ._:-]*(wait|acquire|checkout|queue|borrow)|^prisma:engine:connection$"
    r"|\w*connection\.open(async)?$|^open[_ ]?connection$"
)
_WAITING = re.compile(_PATTERN)
_ALONE: Mapping[str, float | str] = {"needs_traces": 1}
_WITHIN: Mapping[str, float | str] = {"within_ms": 600_000}  # a quiet route waits just as well


@dataclass(frozen=True, slots=True)
class PoolWaitSettings:
    """When waiting for a connection matters.

    Attributes:
        min_ms: Least time waited in one request.
        min_share: Part of the request from which one trace is enough.
        min_traces: Below that part, so many traces of the route are needed.
    """

    min_ms: float = 100.0
    min_share: float = 0.2
    min_traces: int = 3

    def __post_init__(self) -> None:
        require(self.min_ms > 0, "min_ms", "above 0", self.min_ms)
        require(0 <= self.min_share < 1, "min_share", "from 0 to below 1", self.min_share)
        require(self.min_traces >= 1, "min_traces", "1 or more", self.min_traces)


@dataclass(frozen=True)
class PoolWait:
    """Time spent waiting for a connection: pool checkout, acquire, connect queue.

    Maths: `wait` is the union of the waiting spans of one request. Reported from `min_ms`, at once
    when it is `min_share` of the request, else when `min_traces` traces of the route wait so within
    ten minutes.

    Parameters: `PoolWaitSettings`.

    Example: `pool.acquire` 180 ms of a request of 400 ms.

    Reference: the definition in `docs/detectors.md`.
    """

    settings: PoolWaitSettings = field(default_factory=PoolWaitSettings)

    kinds: ClassVar[tuple[str, ...]] = ("pool_wait",)

    def candidates(self, frame: SpanFrame) -> BoolArray:
        matched: Any = pc.match_substring_regex(frame.columns.distinct("name"), _PATTERN)
        waiting = np.asarray(matched.to_numpy(zero_copy_only=False), dtype=np.bool_)
        rows: BoolArray = waiting[frame.columns.numbers("name")]
        rows = rows & (frame.kind != SERVER) & ~((frame.category == Category.CALL) & frame.stated)
        enough: BoolArray = frame.time_per_trace_ns(rows) >= just(self.settings.min_ms * _MS)
        return enough

    def detect(self, trace: Trace) -> DetectorResult:
        by_entry: dict[tuple[int, int], list[int]] = {}
        for span in range(trace.n):
            called = trace.category[span] == Category.CALL and trace.stated[span]
            if trace.kind[span] != SERVER and not called and _WAITING.search(trace.name(span)):
                by_entry.setdefault((trace.entry[span], trace.service[span]), []).append(span)
        findings = []
        refused = []
        for spans in by_entry.values():
            closed = first_closed(self._gates(trace, spans))
            if closed is None:
                findings.append(self._finding(trace, spans))
            else:
                refused.append(refuse(self.kinds[0], trace.name(spans[0]), closed))
        return DetectorResult(tuple(findings), tuple(refused))

    def _gates(self, trace: Trace, spans: list[int]) -> Iterator[Gate]:
        yield Gate(GateName.MIN_DURATION, trace.union_ns(spans) / _MS, self.settings.min_ms)

    def _finding(self, trace: Trace, spans: list[int]) -> Finding:
        wait_s = trace.union_ns(spans) / NANOSECONDS
        request_s = request_seconds(trace, spans[0])
        share = wait_s / request_s if request_s > 0 else 0.0
        enough = request_s > 0 and share >= just(self.settings.min_share)
        report = Report(
            kind=self.kinds[0],
            title=f"{{route}} waits {wait_s * 1_000:.0f} ms for a connection",
            shape="pool wait",
            fix="Hold connections shorter (no remote call inside a transaction), then raise the "
            "pool size within the server's max_connections, or put a pooler in front.",
            wasted_s=wait_s,
            statements=tuple(dict.fromkeys(trace.name(span) for span in spans)),
            detail=_ALONE if enough else {"needs_traces": self.settings.min_traces, **_WITHIN},
        )
        return span_finding(trace, spans, report)
