"""Traces in lines, and the map of services, against a naive count."""

from __future__ import annotations

import pyarrow as pa
import pytest

from api import trace_summary
from api.trace_summary import service_map, summaries
from tests.warroom.traces import TRACE_ID, product_list, request, span
from tests.warroom.world import World

MS = 1_000_000


def spans(*rows: tuple[str, str, str, str, int, int, int, str]) -> pa.Table:
    """`(trace, span, parent, service, kind, start_ms, end_ms, db)`; `service!` failed."""
    columns = [
        {
            "trace_id": trace.encode(),
            "span_id": span_id.encode(),
            "parent_span_id": parent.encode() or None,
            "service": service.rstrip("!"),
            "name": f"{service} {span_id}",
            "kind": kind,
            "status": 2 if service.endswith("!") else 0,
            "start_ns": start * MS,
            "end_ns": end * MS,
            "db_system": db,
            "server_address": "db-1" if db else "",
        }
        for trace, span_id, parent, service, kind, start, end, db in rows
    ]
    return pa.Table.from_pylist(columns)


TABLE = spans(
    ("t1", "a", "", "shop", 2, 0, 100, ""),
    ("t1", "b", "a", "shop", 3, 10, 60, ""),
    ("t1", "c", "b", "stock", 2, 20, 50, ""),
    ("t1", "d", "c", "stock!", 3, 25, 30, "mysql"),
    ("t1", "e", "a", "shop", 3, 70, 80, "mysql"),
    ("t2", "a", "gone", "stock", 2, 0, 40, ""),
    ("t2", "b", "a", "pay", 2, 5, 35, ""),
)


def test_an_edge_counts_calls_errors_and_the_callers_time() -> None:
    drawn = service_map(TABLE)
    edges = {(e["from"], e["to"]): e for e in drawn["edges"]}
    assert set(edges) == {
        ("shop", "stock"),
        ("shop", "mysql db-1"),
        ("stock", "mysql db-1"),
        ("stock", "pay"),
    }
    assert edges["shop", "stock"]["p95_seconds"] == pytest.approx(0.05)  # the client span's
    assert edges["stock", "pay"]["p95_seconds"] == pytest.approx(0.03)  # without one: the callee's
    assert (edges["stock", "mysql db-1"]["calls"], edges["stock", "mysql db-1"]["errors"]) == (1, 1)
    assert edges["shop", "stock"]["error_ratio"] == 0
    kinds = {node["name"]: node["kind"] for node in drawn["nodes"]}
    assert kinds == {"shop": "service", "stock": "service", "pay": "service", "mysql db-1": "store"}


def test_a_line_has_its_root_and_says_when_that_is_missing() -> None:
    second, first = summaries(TABLE, [b"t2", b"t1", b"unknown"])
    assert (first["service"], first["operation"], first["spans"]) == ("shop", "shop a", 5)
    assert (first["duration_seconds"], first["errors"], first["complete"]) == (0.1, 1, True)
    assert first["services"] == [{"name": "shop", "spans": 3}, {"name": "stock", "spans": 2}]
    assert (second["service"], second["complete"]) == ("stock", False)


def test_of_very_many_spans_each_trace_gives_its_first_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert service_map(TABLE)["cut"] is False
    monkeypatch.setattr(trace_summary, "MAX_SPANS", 4)
    second, first = summaries(TABLE, [b"t2", b"t1"])
    assert (first["spans"], first["cut"], first["operation"]) == (5, True, "shop a")
    assert first["services"] == [{"name": "shop", "spans": 2}]
    assert (second["spans"], second["cut"]) == (2, False)
    drawn = service_map(TABLE)
    assert drawn["cut"] is True
    assert [(edge["from"], edge["to"]) for edge in drawn["edges"]] == [("stock", "pay")]


def search(world: World, **asked: str) -> list[str]:
    return [line["trace_id"] for line in world.get("/traces", **asked)["traces"]]


def test_traces_are_found_by_what_one_of_their_spans_is(world: World) -> None:
    now_ms = world.clock.now_ms
    world.ask("POST", "/v1/traces", json=product_list(now_ms))
    failed = span("f" * 16, "GET stock/", (now_ms - 50, now_ms), status={"code": 2}, kind=2)
    other = request([failed | {"traceId": "b" * 32}], "stock")
    world.ask("POST", "/v1/traces", json=other)
    assert set(search(world)) == {TRACE_ID, "b" * 32}
    assert search(world, service="stock") == ["b" * 32]
    assert search(world, tags='http.route="products/"') == [TRACE_ID]
    assert search(world, error="true") == ["b" * 32]
    assert search(world, min_duration="100ms") == [TRACE_ID]
    assert search(world, max_duration="0") == []
    assert search(world, operation="nothing") == []
    assert search(world, **{"from": "now-2h", "to": "now-1h"}) == []
    services = {s["name"]: s["operations"] for s in world.get("/traces/services")["services"]}
    assert services["stock"] == ["GET stock/"]
    drawn = world.get("/service-map", limit=1)
    assert (drawn["traces"], drawn["cut"]) == (1, True)


@pytest.mark.parametrize(
    "asked", [{"tags": "x"}, {"tags": 'a="b'}, {"min_duration": "long"}, {"limit": "0"}]
)
def test_a_wrong_search_is_explained(world: World, asked: dict[str, str]) -> None:
    answer = world.ask("GET", "/api/warroom/v1/traces", params=asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
