"""Independent queries that wait for each other for no reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from detectors.finding import Finding
from detectors.traces.chains import Chain, ChainSettings, chain_gates, chains
from detectors.traces.detector import DetectorResult
from detectors.traces.frame import SpanFrame
from detectors.traces.gates import NotReported, first_closed, just, refuse
from detectors.traces.report import Report, span_finding
from detectors.traces.shape import Category
from detectors.traces.trace import Trace
from store.model import BoolArray

_FIX = (
    "Run them at the same time (asyncio.gather over an async driver, a thread pool), or join them "
    "into one query."
)


@dataclass(frozen=True)
class ConsecutiveQueries:
    """Sequential, independent queries on the critical path.

    Maths: `saving = sum of their times on the critical path - the longest`. They are independent
    when the values of the later ones were all known to the first.

    Parameters: `ChainSettings`.

    Example: three reports without parameters, 80 ms each, one after the other: 160 ms could be
    saved.

    Reference: Sentry's consecutive DB detector.
    """

    settings: ChainSettings = field(default_factory=lambda: ChainSettings(min_saving_ms=100.0))

    kinds: ClassVar[tuple[str, ...]] = ("consecutive_queries",)

    def candidates(self, frame: SpanFrame) -> BoolArray:
        long_enough = frame.duration_ns >= just(self.settings.min_each_ms * 1_000_000)
        operations = (frame.category == Category.QUERY) & long_enough
        time_ns = frame.time_per_trace_ns(operations)
        saved: BoolArray = time_ns >= just(self.settings.min_saving_ms * 1_000_000)
        return frame.traces_with(operations, 2) & saved

    def detect(self, trace: Trace) -> DetectorResult:
        findings: list[Finding] = []
        refused: list[NotReported] = []
        for chain in chains(trace, Category.QUERY, self.settings):
            closed = first_closed(chain_gates(trace, chain, self.settings))
            if closed is None:
                findings.append(self._finding(trace, chain))
            else:
                text = trace.shape(chain.spans[0]).text
                refused.append(refuse(self.kinds[0], text, closed))
        return DetectorResult(tuple(findings), tuple(refused))

    def _finding(self, trace: Trace, chain: Chain) -> Finding:
        texts = tuple(trace.shape(span).text for span in chain.independent)
        main = sorted(trace.shape(span).text for span in chain.main(trace, self.settings))
        count, saving_ms = len(texts), chain.saving_s(trace) * 1_000
        report = Report(
            kind=self.kinds[0],
            title=f"{count} independent queries in a row in {{route}}, {saving_ms:.0f} ms too long",
            shape=" | ".join(main),
            fix=_FIX,
            wasted_s=chain.saving_s(trace),
            statements=texts,
            confidence=0.7,
        )
        return span_finding(trace, chain.independent, report)
