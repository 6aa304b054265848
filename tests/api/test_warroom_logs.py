"""`GET /api/warroom/v1/logs` of a whole service: what OTLP brings in is found."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.routers.logs import router
from store.model import LOG_READ_SCHEMA
from store.ports import LogQuery
from tests.warroom.world import NOW_MS, World

OWN = "/api/warroom/v1"
TRACE = "0af7651916cd43dd8448eb211c80319c"
FIELDS = {
    "at",
    "time_ns",
    "severity",
    "severity_number",
    "severity_text",
    "service",
    "event",
    "body",
    "trace_id",
    "span_id",
    "scope",
    "attributes",
    "resource",
}


def record(number: int, **other: Any) -> dict[str, Any]:
    return {
        "timeUnixNano": str((NOW_MS - number * 60_000) * 10**6),
        "severityNumber": 9,
        "body": {"stringValue": f"line {number}"},
        **other,
    }


def send(world: World, service: str, *records: dict[str, Any]) -> None:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    logs = {"resource": resource, "scopeLogs": [{"logRecords": list(records)}]}
    answer = world.ask("POST", "/v1/logs", json={"resourceLogs": [logs]})
    assert answer.json() == {}


@pytest.fixture
def filled(world: World) -> World:
    send(world, "shop", *(record(number) for number in range(5)))
    failed = {
        "severityNumber": 17,
        "traceId": TRACE,
        "spanId": "b7ad6b7169203331",
        "eventName": "order.failed",
        "attributes": [{"key": "order.id", "value": {"intValue": "7"}}],
    }
    send(world, "pay", record(30, **failed), record(90, traceId=TRACE))
    return world


def asked(world: World, query: str = "") -> dict[str, Any]:
    answer = world.ask("GET", f"{OWN}/logs{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def bodies(world: World, query: str = "") -> list[str]:
    return [found["body"] for found in asked(world, query)["logs"]]


def test_a_record_tells_all_that_was_sent(filled: World) -> None:
    (found,) = asked(filled, "?severity=error")["logs"]
    assert set(found) == FIELDS
    assert found["at"] == "2026-09-21T13:43:20.000Z"
    assert found["time_ns"] == str((NOW_MS - 1_800_000) * 10**6)
    assert (found["severity"], found["severity_number"]) == ("error", 17)
    assert (found["service"], found["event"]) == ("pay", "order.failed")
    assert (found["trace_id"], found["span_id"]) == (TRACE, "b7ad6b7169203331")
    assert found["attributes"] == {"order.id": 7}
    assert found["resource"] == {"service.name": "pay"}


def test_without_a_time_it_is_the_last_hour_the_latest_first(filled: World) -> None:
    assert bodies(filled) == ["line 0", "line 1", "line 2", "line 3", "line 4", "line 30"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?service=pay", ["line 30"]),
        ("?severity=ERROR", ["line 30"]),
        ("?severity=17", ["line 30"]),
        ("?severity=fatal", []),
        ("?q=LINE%203", ["line 3", "line 30"]),
        ("?q=order.failed", ["line 30"]),
        ("?q=order.id", ["line 30"]),
        ("?q=%25", []),
        ("?from=now-2m&to=now-1m", ["line 1", "line 2"]),
        (f"?trace_id={TRACE}", ["line 30", "line 90"]),
        (f"?trace_id={TRACE}&from=now-1h", ["line 30"]),
    ],
)
def test_filters_narrow(filled: World, query: str, found: list[str]) -> None:
    assert bodies(filled, query) == found


def test_pages_follow_each_other_to_the_end(filled: World) -> None:
    seen, after = [], ""
    for _ in range(10):
        page = asked(filled, f"?limit=2&after={after}")
        seen += [found["body"] for found in page["logs"]]
        after = page["next"] or ""
        if not after:
            break
    assert seen == bodies(filled)


def test_a_page_ends_before_it_becomes_too_large(world: World) -> None:
    large = {"stringValue": "x" * 32_000}
    attributes = [{"key": f"a{number}", "value": large} for number in range(3)]
    for start in range(0, 60, 20):
        numbers = range(start, start + 20)
        send(
            world,
            "shop",
            *(
                record(n, timeUnixNano=str((NOW_MS - n) * 10**6), attributes=attributes)
                for n in numbers
            ),
        )
    page = asked(world, "?limit=500")
    assert 40 <= len(page["logs"]) < 60
    rest = asked(world, f"?limit=500&after={page['next']}")
    assert len(page["logs"]) + len(rest["logs"]) == 60
    assert rest["next"] is None


@pytest.mark.parametrize(
    "query",
    ["severity=loud", "severity=25", "trace_id=abc", "after=x", "limit=501", "limit=0",
     "from=yesterday", "q=" + "x" * 300],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(still_world: World, query: str) -> None:
    assert still_world.refusal("GET", f"{OWN}/logs?{query}", 400)["code"] == "bad_input"


def test_negative_numbers_and_secrets_are_stored_as_json_and_found(world: World) -> None:
    attributes = [
        {"key": "cache.hash", "value": {"intValue": "-4111111111111111"}},
        {"key": "offset", "value": {"intValue": "-42"}},
        {"key": "password", "value": {"arrayValue": {"values": [{"stringValue": "hunter"}]}}},
    ]
    event = {"eventName": "login?password=hunter", "attributes": attributes}
    send(world, "shop", record(1, body={"stringValue": "{'password': 'hunter'}"}, **event))
    (found,) = asked(world)["logs"]
    masked = "[redacted]"
    assert found["attributes"] == {"cache.hash": masked, "offset": -42, "password": masked}
    assert (found["body"], found["event"]) == (
        f"{{'password': '{masked}'}}",
        f"login?password={masked}",
    )
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    span = {
        "traceId": TRACE,
        "spanId": "b7ad6b7169203331",
        "name": "GET /",
        "kind": 2,
        "startTimeUnixNano": str((NOW_MS - 9000) * 10**6),
        "endTimeUnixNano": str(NOW_MS * 10**6),
        "status": {"code": 2},
        "attributes": attributes,
    }
    spans = {"resource": resource, "scopeSpans": [{"spans": [span]}]}
    assert world.ask("POST", "/v1/traces", json={"resourceSpans": [spans]}).json() == {}
    for path in (
        f"/jaeger/api/traces/{TRACE}",
        "/jaeger/api/traces?service=shop",
        '/jaeger/api/traces?service=shop&tags={"cache.hash":"[redacted]"}',
        f"{OWN}/business/abandonment?by=cause",
    ):
        assert world.ask("GET", path).status_code == 200, path


def test_a_row_that_is_no_json_does_not_hide_the_others() -> None:
    rows = [log_row(1, attributes='{"a":-"x"}', resource="7"), log_row(2)]

    class Logs:
        def logs(self, query: LogQuery) -> pa.Table:
            return pa.Table.from_pylist(rows, schema=LOG_READ_SCHEMA)

    app = FastAPI()
    app.include_router(router(Logs(), lambda: NOW_MS))
    first, second = TestClient(app).get(f"{OWN}/logs").json()["logs"]
    assert first["attributes"] == {"unreadable": '{"a":-"x"}'}
    assert first["resource"] == {"unreadable": "7"}
    assert second["attributes"] == {}


def log_row(number: int, **other: Any) -> dict[str, Any]:
    told = {"seq": number, "ts_ns": NOW_MS * 10**6, "severity": 9, "service": "shop"}
    return {**told, "received_ms": NOW_MS, **other}
