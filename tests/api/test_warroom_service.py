"""SLOs, sources, boards, health, metrics, errors and the OpenAPI document of the whole service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.warroom.traces import product_list
from tests.warroom.world import IN_MEMORY, NOW_MS, World, open_world

OWN = "/api/warroom/v1"
SLO = {
    "name",
    "service",
    "objective",
    "window",
    "sli",
    "error_budget_remaining",
    "burn_rates",
    "tiers",
    "state",
    "exhausts_at",
}
SOURCE = {
    "name",
    "kind",
    "state",
    "last_success_at",
    "delay_seconds",
    "rate_per_second",
    "dropped",
    "error",
    "remedy",
}


def checkouts(world: World, failing: float) -> None:
    """An hour of ten checkouts a second, some of which fail."""
    for place in range(0, 3_601, 15):
        at_ms = NOW_MS - 3_600_000 + place * 1_000
        bad = place * 10 * failing
        world.samples(
            ({"__name__": "checkouts_total", "result": "ok"}, at_ms, place * 10 - bad),
            ({"__name__": "checkouts_total", "result": "failed"}, at_ms, bad),
        )


def test_an_slo_without_data_says_so(world: World) -> None:
    world.evaluate()
    (slo,) = world.get("/slos")["slos"]
    assert set(slo) >= SLO
    assert (slo["name"], slo["service"], slo["objective"]) == ("checkout", "shop", 0.99)
    assert slo["state"] == "no_data"
    assert slo["sli"] is None
    assert slo["exhausts_at"] is None


def test_an_slo_whose_budget_burns_says_how_fast_and_who_is_told(world: World) -> None:
    checkouts(world, 0.5)
    world.evaluate()
    slo = world.get("/slos/checkout")
    assert slo["state"] in {"burning", "exhausted"}
    assert slo["burn_rates"]
    assert all(re.fullmatch(r"\d+[smhdw]", window) for window in slo["burn_rates"])
    fields = {"severity", "factor", "long", "short", "firing"}
    assert all(set(tier) >= fields for tier in slo["tiers"])
    pages = [tier for tier in slo["tiers"] if tier["firing"] and tier["severity"] == "page"]
    assert pages
    names = {alert["labels"].get("slo") for alert in world.get("/alerts")["alerts"]}
    assert "checkout" in names


def test_a_healthy_slo_keeps_its_budget(world: World) -> None:
    checkouts(world, 0.0)
    world.evaluate()
    slo = world.get("/slos/checkout")
    assert (slo["state"], slo["sli"], slo["error_budget_remaining"]) == ("ok", 1.0, 1.0)
    assert not any(tier["firing"] for tier in slo["tiers"])


def test_an_unknown_slo_is_a_404(still_world: World) -> None:
    assert still_world.refusal("GET", f"{OWN}/slos/nothing", 404)["code"] == "not_found"


def test_a_source_is_listed_once_it_sent_something_and_falls_silent(world: World) -> None:
    assert world.get("/sources")["sources"] == []
    world.ask("POST", "/v1/traces", json=product_list(NOW_MS))
    (source,) = world.get("/sources")["sources"]
    assert set(source) == SOURCE
    assert (source["name"], source["kind"], source["state"]) == ("otlp:shop", "otlp", "ok")
    assert source["last_success_at"] == "2026-09-21T14:13:20.000Z"
    assert source["rate_per_second"] > 0
    assert source["dropped"] == {}
    world.clock.now_ms += 600_000
    (source,) = world.get("/sources")["sources"]
    assert source["state"] == "silent"
    assert source["error"]
    assert source["remedy"]


def test_what_a_source_sent_in_vain_is_counted_by_reason(world: World) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "no_such_type", "data": {}}
    good = {**event, "id": "2", "type": "view_item"}
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    world.ask("POST", "/events", json=[event, good], headers=headers)
    (source,) = world.get("/sources")["sources"]
    assert sum(source["dropped"].values()) == 1


def test_the_shipped_boards_are_there(still_world: World) -> None:
    boards = still_world.get("/boards")["boards"]
    assert {"war-room", "business"} <= {board["name"] for board in boards}
    board = still_world.get("/boards/war-room")
    assert board["name"] == "war-room"
    assert board["rows"][0]["panels"]
    path = f"{OWN}/boards/nothing"
    assert still_world.refusal("GET", path, 404)["code"] == "not_found"


@pytest.mark.parametrize("board", ["war-room", "business"])
def test_a_board_of_a_service_without_data_is_honest(world: World, board: str) -> None:
    world.evaluate()
    world.publish()
    shown = world.get(f"/boards/{board}/snapshot")
    assert set(shown) >= {"board", "tick", "now_ms", "interval_ms", "range_ms", "panels"}
    named = {panel["id"]: panel for row in shown["board"]["rows"] for panel in row["panels"]}
    assert set(named) == set(shown["panels"])
    for name, panel in shown["panels"].items():
        assert panel["state"] in {"ok", "no_data"}, (name, panel)
        assert panel["as_of_ms"] <= shown["now_ms"]
        if named[name]["kind"] in {"slo", "golden_signals", "freshness"}:
            assert panel["state"] == "no_data", name
        if panel["state"] == "no_data" and named[name]["kind"] == "stat":
            assert (panel["value"], panel["status"]) == (None, "unknown")


def test_the_live_stream_begins_with_a_snapshot_and_goes_on_with_deltas(world: World) -> None:
    """Over a real socket: the stream has no end, which an in-process client would wait for."""
    service = world.service

    async def watch() -> list[tuple[str, dict[str, Any]]]:
        await service.listen()
        url = f"http://{service.main.address}{OWN}/live"
        await service.web.live.publish(world.clock.now_ms)
        messages = []
        async with (
            httpx.AsyncClient(trust_env=False, timeout=10) as client,
            client.stream("GET", url, params={"board": "war-room"}) as answer,
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["content-encoding"] == "gzip"
            text = ""
            async for chunk in answer.aiter_text():
                text += chunk
                while "\n\n" in text:
                    message, text = text.split("\n\n", 1)
                    fields = dict(line.split(": ", 1) for line in message.split("\n"))
                    if "data" not in fields:
                        continue
                    messages.append((fields["event"], orjson.loads(fields["data"])))
                    assert int(fields["id"]) == messages[-1][1]["tick"]
                    world.clock.now_ms += 5_000
                    await service.web.live.publish(world.clock.now_ms)
                if len(messages) >= 3:
                    return messages
        return messages

    messages = world.run(watch())
    assert [kind for kind, _ in messages] == ["snapshot", "delta", "delta"]
    ticks = [data["tick"] for _, data in messages]
    assert ticks == sorted(set(ticks))
    assert messages[0][1]["board"]["name"] == "war-room"


def test_an_unknown_board_has_no_stream(still_world: World) -> None:
    error = still_world.refusal("GET", f"{OWN}/live", 404, params={"board": "nothing"})
    assert "nothing" in error["message"]


def test_alive_before_ready(world: World) -> None:
    assert world.ask("GET", "/-/healthy").status_code == 200
    waiting = world.ask("GET", "/-/ready")
    assert waiting.status_code == 503
    assert waiting.headers["retry-after"]
    assert "starting" in waiting.text
    world.service.waiting_for = None
    assert world.ask("GET", "/-/ready").status_code == 200


def test_own_metrics_are_read_by_prometheus(world: World) -> None:
    world.evaluate()
    answer = world.ask("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    steps = {s.labels["step"] for s in families["warroom_tick_duration_seconds"].samples}
    assert steps >= {"record", "detect", "burn", "trade", "rules", "sources", "alert"}
    unhealthy = [s.labels["unit"] for s in families["warroom_unit_healthy"].samples if not s.value]
    assert unhealthy == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{OWN}/nothing", 404, "not_found"),
        ("GET", f"{OWN}/findings/", 404, "not_found"),
        ("DELETE", f"{OWN}/findings", 405, "method_not_allowed"),
        ("GET", f"{OWN}/annotations", 405, "method_not_allowed"),
        ("POST", f"{OWN}/slos", 405, "method_not_allowed"),
        ("GET", f"{OWN}/incidents?limit=0", 400, "bad_input"),
        ("GET", f"{OWN}/live?board={'x' * 100}", 400, "bad_input"),
    ],
)
def test_every_failure_of_our_own_api_has_one_shape(
    still_world: World, method: str, path: str, status: int, code: str
) -> None:
    assert still_world.refusal(method, path, status)["code"] == code


@pytest.mark.parametrize(
    ("method", "headers", "code"),
    [
        ("GET", {"Host": "evil.example"}, "host_not_allowed"),
        ("POST", {"Origin": "https://evil.example"}, "cross_origin"),
    ],
)
def test_a_strangers_page_is_told_no_in_the_same_shape(
    still_world: World, method: str, headers: dict[str, str], code: str
) -> None:
    path = f"{OWN}/annotations" if method == "POST" else f"{OWN}/findings"
    assert still_world.refusal(method, path, 403, headers=headers)["code"] == code


@pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/api/warroom", "/index.php"])
def test_an_unknown_path_elsewhere_is_a_plain_404(still_world: World, path: str) -> None:
    answer = still_world.ask("GET", path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_failure_nobody_foresaw_tells_nothing_of_the_inside(world: World) -> None:
    world.service.ticker.readings = None  # type: ignore[assignment]  # what cannot be
    error = world.refusal("GET", f"{OWN}/slos", 500)
    assert error["code"] == "internal"
    assert "NoneType" not in json.dumps(error)


@pytest.fixture(scope="module")
def document(still_world: World) -> dict[str, Any]:
    answer = still_world.ask("GET", "/api/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_openapi_document_holds_together(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"] == "Warroom"
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for reference in references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    for path, _, operation in operations(document):
        asked = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert asked == set(re.findall(r"{(\w+)}", path)), path
        assert operation["responses"]


@pytest.mark.parametrize(
    "route",
    [
        "get /findings",
        "get /findings/{finding_id}",
        "post /findings/{finding_id}/suppress",
        "post /findings/{finding_id}/reopen",
        "post /findings/{finding_id}/fixed",
        "get /traces/{trace_id}/explain",
        "get /slos",
        "get /slos/{name}",
        "get /alerts",
        "get /alerts/{fingerprint}/why",
        "get /incidents",
        "get /incidents/{incident_id}",
        "post /incidents/{incident_id}/ack",
        "post /incidents/{incident_id}/notes",
        "get /timeline",
        "post /annotations",
        "get /business/orders",
        "get /business/funnel",
        "get /business/abandonment",
        "get /sources",
        "get /boards",
        "get /boards/{name}",
        "get /live",
    ],
)
def test_the_document_names_every_promised_route(document: dict[str, Any], route: str) -> None:
    method, path = route.split(" ")
    assert method in document["paths"][OWN + path]


def test_two_services_live_in_one_process_and_know_nothing_of_each_other(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with open_world(tmp_path_factory.mktemp("other"), IN_MEMORY) as other:
        body = {"kind": "deploy", "title": "only here"}
        world.post("/annotations", body, 201)
        world.ask("POST", "/v1/traces", json=product_list(NOW_MS))
        world.evaluate()
        other.evaluate()
        assert other.get("/timeline")["events"] == []
        assert other.get("/sources")["sources"] == []
        assert other.ask("GET", "/jaeger/api/services").json()["data"] == []


def test_questions_at_once_are_all_answered(world: World) -> None:
    checkouts(world, 0.1)
    world.evaluate()

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app=world.app)
        base = "http://127.0.0.1:8600"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            paths = ("findings", "slos", "alerts", "incidents", "timeline", "sources") * 5
            answers = await asyncio.gather(*(client.get(f"{OWN}/{path}") for path in paths))
        return [answer.status_code for answer in answers]

    assert set(world.run(ask())) == {200}


def test_a_flood_of_series_is_refused_and_its_metric_and_label_are_named(tmp_path: Path) -> None:
    configuration = f"{IN_MEMORY}limits: {{max_series: 1000}}\n"
    headers = {"Content-Type": "application/json"}

    def sent(world: World, values: range, name: str = "carts") -> httpx.Response:
        points = [
            {
                "timeUnixNano": str(NOW_MS * 1_000_000),
                "asDouble": 1.0,
                "attributes": [{"key": "session", "value": {"stringValue": f"s{n}"}}],
            }
            for n in values
        ]
        metric = {"name": name, "gauge": {"dataPoints": points}}
        body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
        return world.ask("POST", "/v1/metrics", content=json.dumps(body), headers=headers)

    with open_world(tmp_path, configuration) as world:
        assert sent(world, range(800)).status_code == 200
        assert sent(world, range(800, 1_500)).status_code == 400
        told = world.get("/sources/series", limit=3)
        assert 800 <= told["series"] <= told["max_series"] == 1_000
        assert told["by_metric"][0]["metric"] == "carts"
        assert told["by_label"][0]["label"] == "session"
        (source,) = [s for s in world.get("/sources")["sources"] if s["dropped"]]
        assert source["dropped"] == {"max_series": 700}
        # Those that are known go on.
        assert sent(world, range(10)).status_code == 200
