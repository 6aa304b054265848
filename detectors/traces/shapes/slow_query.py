"""One statement that takes very long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from detectors.finding import Finding
from detectors.settings import require
from detectors.traces.detector import DetectorResult
from detectors.traces.frame import SpanFrame
from detectors.traces.gates import Gate, GateName, NotReported, first_closed, just, refuse
from detectors.traces.report import Report, span_finding
from detectors.traces.shape import Category
from detectors.traces.trace import NANOSECONDS, Trace
from store.model import BoolArray

_MS = 1_000_000
_FIX = (
    "Look at its plan (EXPLAIN ANALYZE): an index for the WHERE and ORDER BY columns, fewer rows "
    "(LIMIT, a narrower range), fewer columns, or move it out of the request."
)


@dataclass(frozen=True, slots=True)
class SlowQuerySettings:
    """When a statement is slow.

    Attributes:
        min_ms: From this duration on.
        target_ms: What it should take; the rest is waste.
    """

    min_ms: float = 1_000.0
    target_ms: float = 100.0

    def __post_init__(self) -> None:
        require(self.min_ms > 0, "min_ms", "above 0", self.min_ms)
        require(0 <= self.target_ms <= self.min_ms, "target_ms", "at most min_ms", self.target_ms)


@dataclass(frozen=True)
class SlowQuery:
    """A statement that takes `min_ms` or more.

    Maths: `wasted = time on the critical path - target_ms`.

    Parameters: `SlowQuerySettings`.

    Example: `SELECT … FROM orders WHERE email = %s` of 1.4 s, or `KEYS *`. Not reported: SLEEP,
    LISTEN, blocking pops, lock waits, COPY, cursors and maintenance, which wait, stream or work on
    purpose.

    Reference: Sentry's slow DB detector (SELECT only); here writes count too.
    """

    settings: SlowQuerySettings = field(default_factory=SlowQuerySettings)

    kinds: ClassVar[tuple[str, ...]] = ("slow_query",)

    def candidates(self, frame: SpanFrame) -> BoolArray:
        slow = frame.duration_ns >= just(self.settings.min_ms * _MS)
        asking = (frame.category == Category.QUERY) | (frame.category == Category.CACHE)
        queries: BoolArray = asking & slow
        return frame.traces_with(queries)

    def detect(self, trace: Trace) -> DetectorResult:
        findings: dict[str, Finding] = {}
        refused: list[NotReported] = []
        for span in trace.operations:
            if trace.category[span] == Category.CALL:
                continue
            closed = first_closed(self._gates(trace, span))
            if closed is None:
                finding = self._finding(trace, span)
                findings.setdefault(finding.fingerprint, finding)
            elif closed.name is not GateName.MIN_DURATION:
                refused.append(refuse(self.kinds[0], trace.shape(span).text, closed))
        return DetectorResult(tuple(findings.values()), tuple(refused))

    def _gates(self, trace: Trace, span: int) -> Iterator[Gate]:
        yield Gate(GateName.MIN_DURATION, trace.duration_ns(span) / _MS, self.settings.min_ms)
        waits = float(trace.shape(span).waits)
        yield Gate(GateName.DELIBERATE_WAIT, waits, 1, below=True)

    def _finding(self, trace: Trace, span: int) -> Finding:
        shape = trace.shape(span)
        took_s = trace.duration_ns(span) / NANOSECONDS
        path_s = trace.on_critical_path_ns([span]) / NANOSECONDS
        report = Report(
            kind=self.kinds[0],
            title=f"Slow query, {took_s:.1f} s: {shape.table or shape.text[:80]} in {{route}}",
            shape=shape.text,
            fix=_FIX,
            wasted_s=max(0.0, path_s - self.settings.target_ms / 1_000),
            detail={"seconds": round(took_s, 6)},
        )
        return span_finding(trace, [span], report)
