"""A finding about some spans of one trace, with everything that is the same for every shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detectors.extent import user_of
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.fragments import ROUTE_INFERRED
from detectors.traces.trace import NANOSECONDS, Trace

_MAX_SPAN_IDS = 50
_MAX_STATEMENTS = 10


@dataclass(frozen=True, slots=True)
class Report:
    """What a shape's detector has to say itself.

    Attributes:
        title: A line that may name `{route}`.
        shape: The normalised text that goes into the fingerprint.
        wasted_s: Wasted seconds of one request.
    """

    kind: str
    title: str
    shape: str
    fix: str
    wasted_s: float
    statements: tuple[str, ...] = ()
    confidence: float = 0.9
    detail: Mapping[str, float | str] = field(default_factory=dict)


def span_finding(trace: Trace, spans: Sequence[int], report: Report) -> Finding:
    """The finding, its evidence taken from the trace; the first span is the offender."""
    first = spans[0]
    service, route = trace.service_name(first), trace.route(first)
    code = trace.code(first)
    function = code.function if code is not None and not code.inferred else ""
    request_s = request_seconds(trace, first)
    share = min(1.0, report.wasted_s / request_s) if request_s > 0 else 0.0
    return Finding(
        fingerprint=fingerprint(report.kind, service, route, report.shape, function),
        kind=report.kind,
        priority=Priority.P2,
        title=report.title.replace("{route}", route),
        service=service,
        route=route,
        first_seen_ms=min(trace.start_ns[span] for span in spans) // 1_000_000,
        last_seen_ms=max(trace.end_ns[span] for span in spans) // 1_000_000,
        evidence=Evidence(
            trace_id=trace.trace_id,
            parent_span_id=trace.parent_span_id(first),
            span_ids=tuple(trace.span_ids(spans[:_MAX_SPAN_IDS])),
            statement=report.shape,
            statements=(report.statements or (report.shape,))[:_MAX_STATEMENTS],
            repetitions=len(spans),
            code=code,
            users=users_of(trace, first),
            detail={
                "request_seconds": round(request_s, 6),
                "wasted_share": round(share, 4),
                **inferred_route(trace, first),
                **report.detail,
            },
        ),
        impact=Impact(
            wasted_seconds_per_request=report.wasted_s,
            worst_wasted_seconds=report.wasted_s,
            worst_repetitions=len(spans),
        ),
        fix=report.fix,
        confidence=report.confidence if trace.complete else min(report.confidence, 0.6),
        complete=trace.complete,
    )


def users_of(trace: Trace, span: int) -> tuple[str, ...]:
    """The user whose request this was: its own span tells, or that with which the trace began."""
    entry = trace.entry[span]
    for told in dict.fromkeys((entry, trace.entry[0])):
        user = user_of(trace.attributes(told)) if told >= 0 else ""
        if user:
            return (user,)
    return ()


def inferred_route(trace: Trace, span: int) -> dict[str, float | str]:
    """The mark of a finding whose route is only what stands nearest to it."""
    return {} if trace.entry[span] >= 0 else {ROUTE_INFERRED: 1.0}


def request_seconds(trace: Trace, span: int) -> float:
    """Duration of the request that a span served; 0 where its entry is not in the trace."""
    entry = trace.entry[span]
    return trace.duration_ns(entry) / NANOSECONDS if entry >= 0 else 0.0
