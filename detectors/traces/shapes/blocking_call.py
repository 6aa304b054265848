"""A remote call that a buyer waits for without need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from detectors.finding import Finding
from detectors.selling import sells
from detectors.settings import require
from detectors.traces.detector import DetectorResult
from detectors.traces.frame import SERVER, SpanFrame
from detectors.traces.gates import Gate, GateName, NotReported, first_closed, just, refuse
from detectors.traces.report import Report, request_seconds, span_finding
from detectors.traces.shape import Category
from detectors.traces.trace import NANOSECONDS, Trace
from store.model import BoolArray

_MS = 1_000_000
_MAX_DEPTH = 256
_AUTHORISATION = re.compile(
    r"authori[sz]|charge|payment|/pay\b|\bpay/|capture|3ds|\bpsp\b|stripe|adyen|paypal|braintree"
    r"|klarna|worldpay|mollie",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class BlockingCallSettings:
    """Which routes must not wait, and for how long.

    Attributes:
        routes: A route that has one of these words in it must not wait.
        min_ms: Least time on the critical path.
        min_share: Least part of the request, from 0 to 1.
        expected: A call whose shape has one of these words in it may block (payment by default).
    """

    routes: tuple[str, ...] = ("checkout", "payment", "order")
    min_ms: float = 300.0
    min_share: float = 0.3
    expected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.routes), "routes", "at least one word", self.routes)
        require(self.min_ms > 0, "min_ms", "above 0", self.min_ms)
        require(0 <= self.min_share < 1, "min_share", "from 0 to below 1", self.min_share)


@dataclass(frozen=True)
class BlockingCall:
    """A synchronous call on the critical path of a route that must not wait for it.

    Maths: `wasted` is the call's time on the critical path.

    Parameters: `BlockingCallSettings`.

    Example: the order route waits 800 ms for the mail provider. Not reported: the authorisation of
    the payment, which is expected to block.

    Reference: the definition in `docs/detectors.md`.
    """

    settings: BlockingCallSettings = field(default_factory=BlockingCallSettings)

    kinds: ClassVar[tuple[str, ...]] = ("blocking_call",)

    def candidates(self, frame: SpanFrame) -> BoolArray:
        calls: BoolArray = (frame.category == Category.CALL) & (
            frame.duration_ns >= just(self.settings.min_ms * _MS)
        )
        return frame.traces_with(calls)

    def detect(self, trace: Trace) -> DetectorResult:
        findings: list[Finding] = []
        refused: list[NotReported] = []
        least_ns = just(self.settings.min_ms * _MS)
        long_calls = [
            span
            for span in trace.operations
            if trace.category[span] == Category.CALL and trace.duration_ns(span) >= least_ns
        ]
        below = _below(trace, long_calls)
        form_ns: Counter[tuple[int, int]] = Counter()
        for span in long_calls:
            form_ns[trace.entry[span], trace.form[span]] += trace.on_critical_path_ns([span])
        for span in long_calls:
            tries = form_ns[trace.entry[span], trace.form[span]]
            others_ns = tries - trace.on_critical_path_ns([span])
            closed = first_closed(self._gates(trace, span, below[span], others_ns))
            if closed is None:
                findings.append(self._finding(trace, span))
            else:
                refused.append(refuse(self.kinds[0], trace.shape(span).text, closed))
        return DetectorResult(tuple(findings), tuple(refused))

    def _gates(
        self, trace: Trace, span: int, inner: list[int], other_tries_ns: int
    ) -> Iterator[Gate]:
        yield Gate(GateName.ROUTE_MAY_WAIT, float(self._must_not_wait(trace, span)), 1)
        expected = float(self._is_expected(trace, span))
        yield Gate(GateName.EXPECTED_TO_BLOCK, expected, 1, below=True)
        path_ns = trace.on_critical_path_ns([span])
        # What the callee waits for is told there, or is expected there: one cause, one finding.
        told = [
            other
            for other in inner
            if self._is_expected(trace, other) or self._must_not_wait(trace, other)
        ]
        nested = set().union(*_below(trace, told).values()) if told else set()
        outermost = [other for other in told if other not in nested]
        own_ns = path_ns - sum(trace.on_critical_path_ns([other]) for other in outermost)
        yield Gate(GateName.OFF_CRITICAL_PATH, path_ns / _MS, self.settings.min_ms)
        if told:
            yield Gate(GateName.WAITS_FURTHER_IN, own_ns / _MS, self.settings.min_ms)
        request_s = request_seconds(trace, span)
        waited_ns = own_ns + other_tries_ns
        share = waited_ns / NANOSECONDS / request_s if request_s > 0 else 0.0
        yield Gate(GateName.MIN_SHARE, share, self.settings.min_share)

    def _must_not_wait(self, trace: Trace, span: int) -> bool:
        """A buyer waits for this request. Nobody waits for a consumer of a queue, or for a job."""
        entry = trace.entry[span]
        if entry < 0 or (trace.kind[entry] != SERVER and not trace.text("http_route", entry)):
            return False
        told = (trace.route(span), _path(trace.text("url", entry)))
        return any(sells(words, self.settings.routes) for words in told)

    def _is_expected(self, trace: Trace, span: int) -> bool:
        text = trace.shape(span).text
        named = any(word in text for word in self.settings.expected)
        return named or _AUTHORISATION.search(text) is not None

    def _finding(self, trace: Trace, span: int) -> Finding:
        text = trace.shape(span).text
        path_s = trace.on_critical_path_ns([span]) / NANOSECONDS
        report = Report(
            kind=self.kinds[0],
            title=f"{{route}} waits {path_s * 1_000:.0f} ms for {text[:80]}",
            shape=text,
            fix=f"Do it after the answer: hand {text[:80]} to a task queue (Celery, an outbox "
            f"table), or give it a timeout and an answer without it.",
            wasted_s=path_s,
            confidence=0.8,
        )
        return span_finding(trace, [span], report)


def _path(url: str) -> str:
    """The path of a URL: not every server names its routes."""
    rest = url.partition("?")[0].partition("#")[0]
    return rest.partition("://")[2].partition("/")[2] if "://" in rest else rest


def _below(trace: Trace, spans: list[int]) -> dict[int, list[int]]:
    """Those of the spans that lie below each of them. One walk up from each: no pair is tried."""
    found: dict[int, list[int]] = {span: [] for span in spans}
    for span in spans:
        current = trace.parent[span]
        for _ in range(_MAX_DEPTH):
            if current < 0:
                break
            if current in found:
                found[current].append(span)
            current = trace.parent[current]
    return found
