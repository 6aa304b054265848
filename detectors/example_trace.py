"""A stored trace that shows what a signal says: a failing request, or a slow one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from detectors.finding import CodeLocation
from store.ports import SpanReader, TraceQuery

_SEARCHED = 3
_MAX_SPANS = 5_000
_MAX_TEXT = 300
_CLIENT, _PRODUCER = 3, 4
_ERROR_STATUS = 2
_FIRST_SERVER_ERROR = 500
_MAX_DEPTH = 200
# What instrumentations write where a status line was meant; it says nothing new.
_EMPTY_WORDS = re.compile(r"^(\d{3}|error|internal server error|unset)?$", re.IGNORECASE)

_Span = dict[str, Any]
_COLUMNS = [
    "trace_id", "span_id", "parent_span_id", "start_ns", "end_ns", "service", "name", "kind",
    "status", "status_message", "http_status", "server_address", "db_system", "code_file",
    "code_line", "code_function", "attributes", "events",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class RequestSearch:
    """Requests of one route to look for.

    Attributes:
        status: HTTP status code, any where empty.
        min_duration_s: Only requests that took at least so long.
    """

    service: str
    route: str
    start_ms: int
    end_ms: int
    status: str = ""
    min_duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ExampleTrace:
    """One trace and its span that matters.

    Attributes:
        trace_id: Hex digits; empty where no trace was found.
        message: What went wrong, in its own words; empty where it says nothing.
        dependency: Who was called, where the span is a call.
        span_name: And how long it took, in seconds.
    """

    trace_id: str = ""
    span_ids: tuple[str, ...] = ()
    span_name: str = ""
    span_s: float = 0.0
    message: str = ""
    dependency: str = ""
    code: CodeLocation | None = None


def failing(spans: SpanReader | None, search: RequestSearch) -> ExampleTrace:
    """The latest failing request that tells the most: its innermost failing span."""
    best = ExampleTrace()
    for rows in _find(spans, search):
        failed = [row for row in rows if _fails(row)]
        if not failed:
            continue
        depths = _depths(rows)
        # Innermost; of several calls that failed one after the other, the last decided.
        span = max(failed, key=lambda row: (depths[row["span_id"]], row["start_ns"]))
        found = replace(_told(span), message=_message(span), code=_code(span, rows))
        if found.message:
            return found
        best = best if best.trace_id else found
    return best


def slow(spans: SpanReader | None, search: RequestSearch) -> ExampleTrace:
    """The latest slow request and its longest span without children."""
    for rows in _find(spans, search):
        parents = {row["parent_span_id"] for row in rows}
        leaves = [row for row in rows if row["span_id"] not in parents]
        if leaves:
            span = max(leaves, key=lambda row: row["end_ns"] - row["start_ns"])
            return replace(_told(span), code=_code(span, rows))
    return ExampleTrace()


def _find(spans: SpanReader | None, search: RequestSearch) -> Iterable[list[_Span]]:
    if spans is None:
        return
    attributes = [("http.route", search.route)] if search.route else []
    if search.status:
        attributes.append(("http.response.status_code", search.status))
    least_ns = int(search.min_duration_s * 1e9)
    query = TraceQuery(
        start_ns=search.start_ms * 1_000_000,
        end_ns=search.end_ms * 1_000_000,
        service=search.service,
        attributes=tuple(attributes),
        min_duration_ns=least_ns or None,
        limit=_SEARCHED,
    )
    for trace_id in spans.find_traces(query):
        rows = spans.traces([trace_id]).slice(0, _MAX_SPANS).select(_COLUMNS).to_pylist()
        if rows:
            yield rows


def _told(span: _Span) -> ExampleTrace:
    return ExampleTrace(
        trace_id=bytes(span["trace_id"]).hex(),
        span_ids=(bytes(span["span_id"]).hex(),),
        span_name=str(span["name"])[:_MAX_TEXT],
        span_s=max(0.0, (span["end_ns"] - span["start_ns"]) / 1e9),
        dependency=_dependency(span),
    )


def _fails(span: _Span) -> bool:
    return span["status"] == _ERROR_STATUS or (span["http_status"] or 0) >= _FIRST_SERVER_ERROR


def _depths(rows: Iterable[_Span]) -> dict[bytes, int]:
    parents = {row["span_id"]: row["parent_span_id"] for row in rows}
    depths = {}
    for span_id, parent in parents.items():
        depth, at = 0, parent
        while at in parents and depth < _MAX_DEPTH:
            depth, at = depth + 1, parents[at]
        depths[span_id] = depth
    return depths


def _dependency(span: _Span) -> str:
    if span["kind"] not in (_CLIENT, _PRODUCER) and not span["db_system"]:
        return ""
    peer = _object(span["attributes"]).get("peer.service")
    return str(peer or span["server_address"] or span["db_system"] or "")[:_MAX_TEXT]


def _message(span: _Span) -> str:
    """What the span says of its failure: exception, status message, or the answer it got."""
    for event in reversed(_array(span["events"])):
        noted = event.get("attributes") if isinstance(event, dict) else None
        if isinstance(noted, dict) and event.get("name") == "exception":
            kind = str(noted.get("exception.type") or "").rpartition(".")[2]
            text = _line(noted.get("exception.message"))
            return ": ".join(part for part in (kind, text) if part)[:_MAX_TEXT]
    text = _line(span["status_message"])
    if not _EMPTY_WORDS.match(text):
        return text
    dependency, status = _dependency(span), span["http_status"]
    if dependency and status:
        return f"{dependency} answered {status}"
    return f"{dependency} failed" if dependency else ""


def _code(span: _Span, rows: Iterable[_Span]) -> CodeLocation | None:
    """The span's own line, or that of the nearest span above it."""
    by_id = {row["span_id"]: row for row in rows}
    at: _Span | None = span
    for _ in range(_MAX_DEPTH):
        if at is None:
            return None
        if at["code_function"]:
            return CodeLocation(
                str(at["code_file"] or ""),
                int(at["code_line"] or 0),
                str(at["code_function"]),
                inferred=at is not span,
            )
        at = by_id.get(at["parent_span_id"])
    return None


def _line(text: object) -> str:
    return " ".join(str(text or "").split())[:_MAX_TEXT]


def _object(text: str | None) -> dict[str, Any]:
    found = _json(text)
    return found if isinstance(found, dict) else {}


def _array(text: str | None) -> list[Any]:
    found = _json(text)
    return found if isinstance(found, list) else []


def _json(text: str | None) -> Any:
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None
