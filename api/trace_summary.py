"""Traces in one line each, and the map of who calls whom, out of their spans."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.timestamps import rfc3339

Json = dict[str, Any]
# A row of Python costs some 400 bytes. Beyond this each trace gives its earliest spans only.
MAX_SPANS = 100_000
_CLIENT = 3
_ERROR = 2


class _Span(NamedTuple):
    """A row of the table; its fields are the columns that are read."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    service: str
    name: str
    kind: int
    status: int
    start_ns: int
    end_ns: int
    db_system: str | None
    server_address: str | None


# Columns that say the same in many rows: one object of Python for each value.
_SHARED = frozenset({"trace_id", "service", "name", "db_system", "server_address"})


@dataclass(slots=True)
class _Edge:
    calls: int = 0
    errors: int = 0
    durations_ns: list[int] = field(default_factory=list)


def summaries(spans: pa.Table, order: Sequence[bytes]) -> list[Json]:
    """One line a trace, in the order of the ids; `cut` where a trace has more spans than read."""
    bounded = _bounded(spans)
    rows: dict[bytes, list[_Span]] = defaultdict(list)
    for row in _rows(bounded):
        rows[row.trace_id].append(row)
    counts = {trace_id: len(found) for trace_id, found in rows.items()}
    if bounded.num_rows < spans.num_rows:
        counted = cast(Any, pc.value_counts(spans.column("trace_id"))).to_pylist()
        counts = {entry["values"]: entry["counts"] for entry in counted}
    return [
        _summary(trace_id, rows[trace_id], counts[trace_id])
        for trace_id in order
        if trace_id in rows
    ]


def _bounded(spans: pa.Table) -> pa.Table:
    """At most `MAX_SPANS` rows: of each trace its earliest spans, as many as of any other."""
    table = spans.select(list(_Span._fields))
    if table.num_rows <= MAX_SPANS:
        return table
    table = table.sort_by([("trace_id", "ascending"), ("start_ns", "ascending")])
    ids = cast(Any, table.column("trace_id").combine_chunks().dictionary_encode()).indices
    ends = np.append(np.flatnonzero(np.diff(ids.to_numpy())) + 1, table.num_rows)
    begins = np.concatenate(([0], ends[:-1]))
    rank = np.arange(table.num_rows) - np.repeat(begins, ends - begins)
    return table.filter(pa.array(rank < max(1, MAX_SPANS // len(ends))))


def _rows(spans: pa.Table) -> Iterator[_Span]:
    for batch in spans.to_batches():
        columns = [_cells(name, batch.column(name)) for name in _Span._fields]
        yield from map(_Span._make, zip(*columns, strict=True))


def _cells(name: str, column: Any) -> Sequence[Any]:
    if name not in _SHARED:
        return cast(list[Any], column.to_pylist())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.dictionary.to_pylist()
    return [None if at is None else values[at] for at in column.indices.to_pylist()]


def _summary(trace_id: bytes, spans: Sequence[_Span], count: int) -> Json:
    known = {span.span_id for span in spans}
    tops = [s for s in spans if not s.parent_span_id or s.parent_span_id not in known]
    root = min(tops or spans, key=lambda span: span.start_ns)
    start_ns = min(span.start_ns for span in spans)
    end_ns = max(span.end_ns for span in spans)
    services = Counter(span.service for span in spans)
    return {
        "trace_id": trace_id.hex(),
        "service": root.service,
        "operation": root.name,
        "started_at": rfc3339(start_ns // 1_000_000),
        "duration_seconds": max(0, end_ns - start_ns) / 1e9,
        "spans": count,
        "errors": sum(span.status == _ERROR for span in spans),
        "services": [{"name": name, "spans": count} for name, count in sorted(services.items())],
        # Its first span is missing: what is shown may be a part.
        "complete": not root.parent_span_id,
        # It has more spans than were read: errors, services and the end are those of a part.
        "cut": count > len(spans),
    }


def service_map(spans: pa.Table) -> Json:
    """Nodes and edges between services, and from services to what they ask by a client span.

    A call is a span whose parent is of another service, or a client span to a data store. What it
    took is the caller's time where the caller's own client span is known, else the callee's.
    `cut` says that there are more spans than were read.
    """
    bounded = _bounded(spans)
    rows = list(_rows(bounded))
    by_id = {(row.trace_id, row.span_id): row for row in rows}
    edges: dict[tuple[str, str], _Edge] = defaultdict(_Edge)
    kinds: dict[str, str] = {row.service: "service" for row in rows}
    for row in rows:
        callee, kind = _called(row, by_id)
        if callee is None:
            continue
        caller, timed = _caller(row, by_id)
        kinds.setdefault(callee, kind)
        edge = edges[(caller, callee)]
        edge.calls += 1
        edge.errors += row.status == _ERROR or timed.status == _ERROR
        edge.durations_ns.append(max(0, timed.end_ns - timed.start_ns))
    return {
        "nodes": [{"name": name, "kind": kind} for name, kind in sorted(kinds.items())],
        "edges": [_edge_json(pair, edge) for pair, edge in sorted(edges.items())],
        "cut": bounded.num_rows < spans.num_rows,
    }


def _called(row: _Span, by_id: Mapping[tuple[bytes, bytes], _Span]) -> tuple[str | None, str]:
    """Who is called by this span, if anybody else."""
    parent = by_id.get((row.trace_id, row.parent_span_id or b""))
    if parent is not None and parent.service != row.service:
        return row.service, "service"
    if row.kind == _CLIENT and row.db_system:
        place = row.server_address
        return f"{row.db_system} {place}".strip() if place else row.db_system, "store"
    return None, ""


def _caller(row: _Span, by_id: Mapping[tuple[bytes, bytes], _Span]) -> tuple[str, _Span]:
    parent = by_id.get((row.trace_id, row.parent_span_id or b""))
    if parent is None or parent.service == row.service:
        return row.service, row
    return parent.service, parent if parent.kind == _CLIENT else row


def _edge_json(pair: tuple[str, str], edge: _Edge) -> Json:
    seconds = np.asarray(edge.durations_ns, dtype=np.float64) / 1e9
    p50, p95 = np.percentile(seconds, (50, 95)).tolist()
    return {
        "from": pair[0],
        "to": pair[1],
        "calls": edge.calls,
        "errors": edge.errors,
        "error_ratio": edge.errors / edge.calls,
        "p50_seconds": p50,
        "p95_seconds": p95,
    }
