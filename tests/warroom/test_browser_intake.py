"""What browsers send by other ways than beacons is wired through the whole service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.warroom.world import IN_MEMORY, NOW_MS, World, open_world

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, IN_MEMORY, {}) as opened:
        yield opened


def value_of(world: World, query: str) -> list[str]:
    parameters = {"query": query, "time": str(NOW_MS / 1000)}
    data = world.ask("GET", "/api/v1/query", params=parameters).json()["data"]
    return [series["value"][1] for series in data["result"]]


def test_a_web_vital_by_otlp_logs_is_counted_beside_the_beacons(world: World) -> None:
    told: list[tuple[str, dict[str, Any]]] = [
        ("browser.web_vital.name", {"stringValue": "lcp"}),
        ("browser.web_vital.value", {"doubleValue": 2400.0}),
        ("url.full", {"stringValue": "https://shop.example/cart?x=1"}),
    ]
    record = {
        "eventName": "browser.web_vital",
        "attributes": [{"key": key, "value": value} for key, value in told],
    }
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    assert world.ask("POST", "/v1/logs", json=document).json() == {}
    assert world.ask("POST", "/rum", json=[]).status_code == 204  # stores what has settled
    good = 'browser_web_vital_lcp_seconds_bucket{page="/cart",device="unknown",le="2.5"}'
    assert value_of(world, good) == ["1"]
    assert world.get("/logs")["logs"] == []


def test_a_faro_payload_gives_spans_logs_and_a_count_of_errors(world: World) -> None:
    span = {
        "traceId": TRACE,
        "spanId": "b7ad6b7169203331",
        "name": "HTTP GET",
        "kind": 3,
        "startTimeUnixNano": str((NOW_MS - 100) * 10**6),
        "endTimeUnixNano": str(NOW_MS * 10**6),
    }
    payload = {
        "meta": {"app": {"name": "shop-web"}, "page": {"url": "https://shop.example/cart"}},
        "exceptions": [{"type": "TypeError", "value": "x", "trace": {"trace_id": TRACE}}],
        "traces": {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]},
    }
    assert world.ask("POST", "/collect", json=payload).status_code == 202
    assert value_of(world, "rum_errors_total") == ["1"]
    traces = world.ask("GET", f"/jaeger/api/traces/{TRACE}").json()["data"]
    assert [found["operationName"] for found in traces[0]["spans"]] == ["HTTP GET"]
    answer = world.ask("GET", f"/api/warroom/v1/logs?trace_id={TRACE}").json()
    assert [found["body"] for found in answer["logs"]] == ["TypeError: x"]
