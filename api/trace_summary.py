"""Traces in one line each, and the map of who calls whom, out of their spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from store.timestamps import rfc3339

Json = dict[str, Any]
_CLIENT = 3
_ERROR = 2
_COLUMNS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "service",
    "name",
    "kind",
    "status",
    "start_ns",
    "end_ns",
    "db_system",
    "server_address",
)


@dataclass(slots=True)
class _Edge:
    calls: int = 0
    errors: int = 0
    durations_ns: list[int] = field(default_factory=list)


def summaries(spans: pa.Table, order: Sequence[bytes]) -> list[Json]:
    """One line a trace, in the order of the ids."""
    rows: dict[bytes, list[Json]] = defaultdict(list)
    for row in _rows(spans):
        rows[row["trace_id"]].append(row)
    return [_summary(trace_id, rows[trace_id]) for trace_id in order if rows.get(trace_id)]


def _rows(spans: pa.Table) -> Iterator[Json]:
    for batch in spans.select(list(_COLUMNS)).to_batches():
        yield from batch.to_pylist()


def _summary(trace_id: bytes, spans: Sequence[Json]) -> Json:
    known = {span["span_id"] for span in spans}
    tops = [s for s in spans if not s["parent_span_id"] or s["parent_span_id"] not in known]
    root = min(tops or spans, key=lambda span: span["start_ns"])
    start_ns = min(span["start_ns"] for span in spans)
    end_ns = max(span["end_ns"] for span in spans)
    services: dict[str, int] = {}
    for span in spans:
        services[span["service"]] = services.get(span["service"], 0) + 1
    return {
        "trace_id": trace_id.hex(),
        "service": root["service"],
        "operation": root["name"],
        "started_at": rfc3339(start_ns // 1_000_000),
        "duration_seconds": max(0, end_ns - start_ns) / 1e9,
        "spans": len(spans),
        "errors": sum(span["status"] == _ERROR for span in spans),
        "services": [{"name": name, "spans": count} for name, count in sorted(services.items())],
        # Its first span is missing: what is shown may be a part.
        "complete": not root["parent_span_id"],
    }


def service_map(spans: pa.Table) -> Json:
    """Nodes and edges between services, and from services to what they ask by a client span.

    A call is a span whose parent is of another service, or a client span to a data store. What it
    took is the caller's time where the caller's own client span is known, else the callee's.
    """
    rows = list(_rows(spans))
    by_id = {(row["trace_id"], row["span_id"]): row for row in rows}
    edges: dict[tuple[str, str], _Edge] = defaultdict(_Edge)
    kinds: dict[str, str] = {row["service"]: "service" for row in rows}
    for row in rows:
        callee, kind = _called(row, by_id)
        if callee is None:
            continue
        caller, timed = _caller(row, by_id)
        kinds.setdefault(callee, kind)
        edge = edges[(caller, callee)]
        edge.calls += 1
        edge.errors += row["status"] == _ERROR or timed["status"] == _ERROR
        edge.durations_ns.append(max(0, timed["end_ns"] - timed["start_ns"]))
    return {
        "nodes": [{"name": name, "kind": kind} for name, kind in sorted(kinds.items())],
        "edges": [_edge_json(pair, edge) for pair, edge in sorted(edges.items())],
    }


def _called(row: Json, by_id: Mapping[tuple[bytes, bytes], Json]) -> tuple[str | None, str]:
    """Who is called by this span, if anybody else."""
    parent = by_id.get((row["trace_id"], row["parent_span_id"] or b""))
    if parent is not None and parent["service"] != row["service"]:
        return row["service"], "service"
    if row["kind"] == _CLIENT and row["db_system"]:
        place = row["server_address"]
        return f"{row['db_system']} {place}".strip() if place else row["db_system"], "store"
    return None, ""


def _caller(row: Json, by_id: Mapping[tuple[bytes, bytes], Json]) -> tuple[str, Json]:
    parent = by_id.get((row["trace_id"], row["parent_span_id"] or b""))
    if parent is None or parent["service"] == row["service"]:
        return row["service"], row
    return parent["service"], parent if parent["kind"] == _CLIENT else row


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
