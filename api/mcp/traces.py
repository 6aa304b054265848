"""Traces folded to what an assistant can read: thousands of spans become a page."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

Json = dict[str, Any]

_TOP = 20
_STATEMENT_CHARS = 300
# In this order: the first that a span has says best what it did.
_TELLING = ("db.query.text", "db.statement", "url.full", "http.route", "rpc.method")


def found_traces(answer: Json) -> Json:
    """Jaeger's search answer as one line a trace."""
    return {"traces": [_line(trace) for trace in answer["data"]]}


def summary_of_trace(answer: Json) -> Json:
    """Jaeger's one trace, folded.

    Returns:
        The line of the trace, the seconds that each service was busy (children included), spans
        that repeat under one parent, the slowest and the failed, and where code is named.
    """
    trace = answer["data"][0]
    services = {key: process["serviceName"] for key, process in trace["processes"].items()}
    spans = trace["spans"]
    slowest = sorted(spans, key=lambda span: -int(span["duration"]))[:_TOP]
    return {
        **_line(trace),
        "spans_by_service": dict(Counter(services[s["processID"]] for s in spans).most_common()),
        "repeated": _repeated(spans, services),
        "slowest": [_told(span, services) for span in slowest],
        "failed": [_told(span, services) for span in spans if _failed(span)][:_TOP],
    }


def _line(trace: Json) -> Json:
    spans = trace["spans"]
    root = min(spans, key=lambda span: (bool(_parent(span)), int(span["startTime"])))
    start_us = min(int(span["startTime"]) for span in spans)
    end_us = max(int(span["startTime"]) + int(span["duration"]) for span in spans)
    return {
        "trace_id": trace["traceID"],
        "service": trace["processes"][root["processID"]]["serviceName"],
        "root": root["operationName"],
        "start_us": start_us,
        "duration_seconds": (end_us - start_us) / 1e6,
        "spans": len(spans),
        "failed_spans": sum(map(_failed, spans)),
        "complete": not _parent(root),
    }


def _repeated(spans: list[Json], services: dict[str, str]) -> list[Json]:
    groups: dict[tuple[str, str, str], list[Json]] = defaultdict(list)
    for span in spans:
        groups[(_parent(span), span["processID"], span["operationName"])].append(span)
    loops = sorted((g for g in groups.values() if len(g) > 1), key=lambda g: -len(g))
    return [
        {
            "times": len(group),
            "total_seconds": sum(int(span["duration"]) for span in group) / 1e6,
            "example": _told(group[0], services),
        }
        for group in loops[:_TOP]
    ]


def _told(span: Json, services: dict[str, str]) -> Json:
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    statement = next((str(tags[key]) for key in _TELLING if tags.get(key)), "")
    return {
        "span_id": span["spanID"],
        "service": services[span["processID"]],
        "name": span["operationName"],
        "duration_seconds": int(span["duration"]) / 1e6,
        "statement": statement[:_STATEMENT_CHARS],
        "code": ":".join(
            str(tags[key]) for key in ("code.file.path", "code.line.number") if tags.get(key)
        ),
        "error": str(tags.get("otel.status_description", ""))[:_STATEMENT_CHARS],
    }


def _parent(span: Json) -> str:
    return next((r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"), "")


def _failed(span: Json) -> bool:
    return any(tag["key"] == "error" and tag["value"] is True for tag in span["tags"])
