"""Jaeger's query API over stored traces, as Grafana and Jaeger's own page ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.routers.jaeger import Search
from store.errors import BadInput
from store.model import SPAN_SCHEMA, SpanBatch
from tests.warroom.traces import ROOT_ID, TRACE_ID, product_list, request, span
from tests.warroom.world import NOW_MS, World, open_world

JAEGER = "/jaeger/api"
FAILED_ID = "f" * 32
ENVELOPE = {"data", "total", "limit", "offset", "errors"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two traces: a page of the shop, and a payment that failed after two seconds."""
    directory: Path = tmp_path_factory.mktemp("jaeger")
    with open_world(directory) as opened:
        failed = span(
            "aaaaaaaaaaaaaaaa",
            "POST /pay",
            (NOW_MS - 5_000, NOW_MS - 3_000),
            kind=2,
            status={"code": 2, "message": "card refused"},
            attributes={"http.response.status_code": 502, "cart.paid": False},
            events=[
                {
                    "name": "exception",
                    "timeUnixNano": str((NOW_MS - 3_500) * 1_000_000),
                    "attributes": [{"key": "exception.type", "value": {"stringValue": "Refused"}}],
                }
            ],
            links=[{"traceId": TRACE_ID, "spanId": ROOT_ID}],
        )
        failed["traceId"] = FAILED_ID
        for body in (product_list(NOW_MS), request([failed], "payment")):
            answer = opened.ask("POST", "/v1/traces", json=body)
            assert answer.status_code == 200, answer.text
        yield opened


def data(world: World, path: str, **parameters: Any) -> Any:
    answer = world.ask("GET", JAEGER + path, params=parameters)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == ENVELOPE
    assert body["errors"] is None
    assert body["total"] == len(body["data"])
    return body["data"]


def refusal(world: World, path: str, status: int, **parameters: Any) -> dict[str, Any]:
    """An error in Jaeger's envelope."""
    answer = world.ask("GET", JAEGER + path, params=parameters)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == ENVELOPE
    assert body["data"] is None
    (error,) = body["errors"]
    assert error["code"] == status
    return dict(error)


def test_services_and_their_operations(world: World) -> None:
    assert data(world, "/services") == ["payment", "shop"]
    assert data(world, "/services/shop/operations") == ["GET products/", "SELECT brand"]
    pay = [{"name": "POST /pay", "spanKind": "server"}]
    assert data(world, "/operations", service="payment") == pay
    assert data(world, "/operations", service="payment", spanKind="server") == pay
    assert data(world, "/operations", service="payment", spanKind="client") == []
    assert data(world, "/operations", service="payment", spanKind="unheard of") == []
    (query,) = data(world, "/operations", service="shop", spanKind="CLIENT")
    assert query == {"name": "SELECT brand", "spanKind": "client"}
    assert query in data(world, "/operations", service="shop")
    assert data(world, "/services/nothing/operations") == []
    # A slash in a service's name begins no other path.
    assert data(world, "/services/eu%2Fnothing/operations") == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {TRACE_ID, FAILED_ID}),
        ({"service": "shop"}, {TRACE_ID}),
        ({"service": "payment", "operation": "POST /pay"}, {FAILED_ID}),
        ({"service": "shop", "operation": "POST /pay"}, set()),
        ({"tags": json.dumps({"error": "true"})}, {FAILED_ID}),
        ({"tags": json.dumps({"error": True})}, {FAILED_ID}),
        ({"tags": json.dumps({"http.response.status_code": "502"})}, {FAILED_ID}),
        ({"tags": json.dumps({"http.response.status_code": 502})}, {FAILED_ID}),
        ({"tags": json.dumps({"http.route": "products/"})}, {TRACE_ID}),
        ({"tags": json.dumps({"span.kind": "server"})}, {TRACE_ID, FAILED_ID}),
        ({"tags": json.dumps({"db.system.name": "mysql"})}, set()),
        ({"tags": "{}"}, {TRACE_ID, FAILED_ID}),
        ({"minDuration": "1s"}, {FAILED_ID}),
        ({"minDuration": "1.5s", "maxDuration": "1m"}, {FAILED_ID}),
        ({"service": "shop", "minDuration": "150ms", "maxDuration": "250000us"}, {TRACE_ID}),
        ({"minDuration": "1h30m"}, set()),
        ({"end": (NOW_MS - 10_000) * 1_000}, set()),
        ({"tag": "http.route:products/"}, {TRACE_ID}),
        ({"tag": ["error:true", "http.response.status_code:502"]}, {FAILED_ID}),
        ({"tag": ["error:true", "http.route:products/"]}, set()),
        ({"traceID": [TRACE_ID, TRACE_ID, "1" * 32, "no id"]}, {TRACE_ID}),
        ({"traceID": TRACE_ID.lstrip("0"), "service": "payment"}, {TRACE_ID}),
        ({"lookback": "custom", "start": (NOW_MS - 1_000) * 1_000}, {TRACE_ID}),
        ({"lookback": "2d", "service": "shop"}, {TRACE_ID}),
        ({"lookback": "1h", "end": (NOW_MS + 7_200_000) * 1_000}, set()),
        ({"start": (NOW_MS - 1_000) * 1_000, "end": NOW_MS * 1_000}, {TRACE_ID}),
    ],
    ids=lambda given: str(sorted(given) if isinstance(given, set) else given),
)
def test_traces_are_searched_by(world: World, asked: dict[str, Any], found: set[str]) -> None:
    assert {trace["traceID"] for trace in data(world, "/traces", **asked)} == found


def test_the_dependency_graph_tells_which_service_calls_which(tmp_path: Path) -> None:
    checkout, charge, second = (f"{n:032x}" for n in (1, 2, 3))
    with open_world(tmp_path) as world:
        for trace_id in (checkout, charge, second):
            start = NOW_MS - (7_200_000 if trace_id == second else 1_000)
            times = (start, start + 100)
            called = span("00000000000000a2", "POST /pay", times, kind=3)
            called["parentSpanId"] = "00000000000000a1"
            asked = [span("00000000000000a1", "GET /cart", times, kind=2), called]
            stored = span("00000000000000a4", "INSERT", times, kind=3)
            stored["attributes"] = [{"key": "db.system.name", "value": {"stringValue": "mysql"}}]
            answered = [span("00000000000000a3", "pay", times, kind=2), stored]
            answered[0]["parentSpanId"] = "00000000000000a2"
            stored["parentSpanId"] = "00000000000000a3"
            for one in (*asked, *answered):
                one["traceId"] = trace_id
            for body in (request(asked, "web"), request(answered, "payment")):
                assert world.ask("POST", "/v1/traces", json=body).status_code == 200
        # As Grafana asks: milliseconds.
        link = {"parent": "web", "child": "payment", "callCount": 2}
        hour = {"endTs": NOW_MS + 1_000, "lookback": 3_600_000}
        assert data(world, "/dependencies", **hour) == [link]
        day = {"endTs": NOW_MS + 1_000}
        assert data(world, "/dependencies", **day) == [link | {"callCount": 3}]
        assert data(world, "/dependencies", endTs=1_000, lookback=500) == []
        for wrong in ({"endTs": "x"}, {"lookback": -1}, {"endTs": 10**30}):
            refusal(world, "/dependencies", 400, **wrong)


def test_the_latest_traces_come_first_and_no_more_than_asked(world: World) -> None:
    assert [t["traceID"] for t in data(world, "/traces")] == [TRACE_ID, FAILED_ID]
    assert [t["traceID"] for t in data(world, "/traces", limit=1)] == [TRACE_ID]


def test_a_trace_has_jaegers_shape(world: World) -> None:
    (trace,) = data(world, f"/traces/{TRACE_ID}")
    assert set(trace) == {"traceID", "spans", "processes", "warnings"}
    assert len(trace["spans"]) == 21
    (process,) = trace["processes"].values()
    assert process["serviceName"] == "shop"
    assert {"key": "service.version", "type": "string", "value": "1.2"} in process["tags"]
    spans = {span["spanID"]: span for span in trace["spans"]}
    root = spans[ROOT_ID]
    assert root["references"] == []
    assert root["startTime"] == (NOW_MS - 200) * 1_000
    assert root["duration"] == 200_000
    assert {"key": "span.kind", "type": "string", "value": "server"} in root["tags"]
    child = spans[f"{1:016x}"]
    assert child["processID"] in trace["processes"]
    assert child["references"] == [{"refType": "CHILD_OF", "traceID": TRACE_ID, "spanID": ROOT_ID}]
    assert {"key": "code.line.number", "type": "int64", "value": 42} in child["tags"]


def test_a_failed_span_shows_its_error_its_log_and_its_link(world: World) -> None:
    (trace,) = data(world, f"/traces/{FAILED_ID}")
    (shown,) = trace["spans"]
    tags = {tag["key"]: tag["value"] for tag in shown["tags"]}
    assert tags["error"] is True
    assert tags["otel.status_description"] == "card refused"
    assert tags["cart.paid"] is False
    (log,) = shown["logs"]
    assert log["timestamp"] == (NOW_MS - 3_500) * 1_000
    fields = {field["key"]: field["value"] for field in log["fields"]}
    assert fields == {"event": "exception", "exception.type": "Refused"}
    (link,) = shown["references"]
    assert link == {"refType": "FOLLOWS_FROM", "traceID": TRACE_ID, "spanID": ROOT_ID}


@pytest.mark.parametrize("trace_id", ["1" * 32, "abc", "nonsense", "1" * 40])
def test_an_unknown_trace_is_a_404_in_jaegers_shape(world: World, trace_id: str) -> None:
    refusal(world, f"/traces/{trace_id}", 404)


def test_leading_zeros_of_a_trace_id_may_be_left_out(world: World) -> None:
    (trace,) = data(world, f"/traces/{TRACE_ID.lstrip('0')}")
    assert trace["traceID"] == TRACE_ID


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": 100_000},
        {"limit": "many"},
        {"tags": "error"},
        {"tags": "[]"},
        {"tags": "{"},
        {"tags": json.dumps({str(n): "x" for n in range(200)})},
        {"minDuration": "fast"},
        {"maxDuration": "10"},
        {"minDuration": "-1s"},
        {"minDuration": "2s", "maxDuration": "1500ms"},
        {"start": "yesterday"},
        {"start": -1},
        {"end": 10**30},
        {"tag": "error"},
        {"tag": ["a:b"] * 33},
        {"traceID": ["1"] * 101},
        {"lookback": "-1h"},
        {"lookback": "1000000000y"},
    ],
    ids=lambda asked: str(asked)[:40],
)
def test_a_search_that_makes_no_sense_is_refused_in_jaegers_shape(
    world: World, asked: dict[str, Any]
) -> None:
    refusal(world, "/traces", 400, **asked)


def test_operations_need_a_service(world: World) -> None:
    assert "service" in refusal(world, "/operations", 400)["msg"]


@given(text=st.text(max_size=32))
def test_no_duration_breaks_the_search(text: str) -> None:
    try:
        query = Search.model_validate({"minDuration": text}).query(NOW_MS)
    except BadInput:
        return
    assert query.min_duration_ns is None or 0 <= query.min_duration_ns < 2**63


BROKEN = {"attributes": "{no json", "resource": "[1]", "events": "7", "links": '[1, {"a": 2}]'}
ODD_EVENTS = '[{"name": "odd", "time_ns": "soon", "attributes": 5}]'


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service of its own: others count what is in theirs."""
    with open_world(tmp_path_factory.mktemp("spoiled")) as opened:
        yield opened


@pytest.mark.parametrize("columns", [BROKEN, {**BROKEN, "events": ODD_EVENTS}, {"events": "[{"}])
def test_a_row_that_another_hand_spoiled_is_shown_as_far_as_it_can_be_read(
    spoiled: World, columns: dict[str, str]
) -> None:
    trace_id = f"{len(str(columns)):032x}"
    row = {
        "trace_id": bytes.fromhex(trace_id),
        "span_id": b"spanspan",
        "start_ns": (NOW_MS - 5_000) * 1_000_000,
        "end_ns": (NOW_MS - 4_000) * 1_000_000,
        "service": "broken",
        "name": "GET /",
        "kind": 2,
        "status": 0,
        "received_ms": NOW_MS,
        **columns,
    }
    table = pa.Table.from_pylist([row], schema=SPAN_SCHEMA)
    spoiled.service.store.append(SpanBatch(table)).result(30)
    (trace,) = data(spoiled, f"/traces/{trace_id}")
    (shown,) = trace["spans"]
    assert shown["operationName"] == "GET /"
    unreadable = [tag["value"] for tag in shown["tags"] if tag["key"] == "unreadable"]
    assert unreadable == ([BROKEN["attributes"]] if columns.get("attributes") else [])
    assert shown["references"] == []
