"""Cloudflare, Datadog and New Relic: loopback servers that answer as their public APIs tell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.pollers.cloudflare import _count
from collector.pollers.datadog import _points
from collector.pollers.newrelic import _value
from collector.polling.contract import Reading
from store.errors import ConfigError
from tests.collector.conftest import Serve
from tests.collector.pollers.asking import Asking, targets_of
from tests.collector.pollers.conftest import Ask

TAG = "0123456789abcdef0123456789abcdef"
SECRETS = {"KEY": "k3y-of-the-service", "APP": "4pp-key-of-the-service"}


class Service:
    """One endpoint; `reply` makes its next answers from a request's body."""

    def __init__(self, reply: Callable[[dict[str, Any]], Response]) -> None:
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        return self.reply(body)

    def routes(self) -> list[Any]:
        return [Route("/{path:path}", self.answer, methods=["POST"])]


def cloudflare(url: str, more: str = "") -> str:
    return (
        f"pollers: [{{type: cloudflare, name: cdn, url: '{url}', token_env: KEY, "
        f"zones: {{shop.example: {TAG}}}{more}}}]"
    )


def group(count: int, cache: str, status: int, size: int = 10) -> dict[str, Any]:
    return {
        "count": count,
        "sum": {"edgeResponseBytes": size},
        "dimensions": {"cacheStatus": cache, "edgeResponseStatus": status},
    }


def zones(*groups: dict[str, Any]) -> Response:
    found = [{"zoneTag": TAG, "httpRequestsAdaptiveGroups": list(groups)}]
    return JSONResponse({"data": {"viewer": {"zones": found}}, "errors": None})


def test_cloudflares_minutes_add_up_and_none_counts_twice(ask: Ask, serve: Serve) -> None:
    service = Service(lambda _body: zones(group(8, "hit", 200), group(2, "miss", 503)))
    asking = ask(cloudflare(serve(service.routes())), SECRETS)
    first = asking.poll(60_000)
    assert asking.status.error == ""
    assert first.value("cloudflare_zone_requests_total", zone="shop.example") == 10
    assert first.value("cloudflare_zone_requests_cached") == 8
    assert first.value("cloudflare_zone_requests_status", status="503") == 2
    assert first.value("cloudflare_zone_bandwidth_total") == 20
    again = asking.poll(10_000)
    assert again.value("cloudflare_zone_requests_total") == 10
    assert asking.poll(50_000).value("cloudflare_zone_requests_total") == 20
    asked = [body["variables"] for body in service.bodies]
    assert asked[0]["to"] == asked[1]["from"]
    assert all(window["tags"] == [TAG] for window in asked)
    assert service.headers[0]["authorization"] == f"Bearer {SECRETS['KEY']}"


def test_an_outage_is_caught_up_by_one_hour_at_most(ask: Ask, serve: Serve) -> None:
    service = Service(lambda _body: zones(group(1, "hit", 200)))
    asking = ask(cloudflare(serve(service.routes())), SECRETS)
    asking.poll(60_000)
    asking.poll(5 * 3_600_000)
    window = service.bodies[-1]["variables"]
    minutes = [int(window[end][11:13]) * 60 + int(window[end][14:16]) for end in ("from", "to")]
    assert (minutes[1] - minutes[0]) % 1440 == 60


@pytest.mark.parametrize(
    ("status", "body", "told", "waits"),
    [
        (429, "rate limiter budget depleted, try again after 5 minutes", "budget", True),
        (503, "too many queries in progress", "too many", False),
        (403, '{"errors": [{"message": "Authentication error"}]}', "Authentication", False),
        (200, '{"data": null, "errors": [{"message": "zone is not authorized"}]}', "not", False),
        (200, '{"errors": [{"message": "limit reached, try again later"}]}', "limit", True),
        (200, '{"data": {}}', "not one of Cloudflare", False),
    ],
)
def test_cloudflares_refusals_are_told_and_its_patience_is_kept(
    status: int, body: str, told: str, waits: bool, ask: Ask, serve: Serve
) -> None:
    service = Service(lambda _body: Response(body, status))
    asking = ask(cloudflare(serve(service.routes())), SECRETS)
    assert asking.poll(60_000).value("up") == 0
    assert told in asking.status.error
    assert SECRETS["KEY"] not in f"{asking.status}"
    asking.poll(60_000)
    asking.poll(60_000)
    assert (len(service.bodies) == 1) is waits


def test_a_zone_that_is_not_told_of_is_missing_and_the_others_are_not(
    ask: Ask, serve: Serve
) -> None:
    service = Service(lambda _body: zones(group(5, "hit", 200)))
    url = serve(service.routes())
    other = "f" * 32
    text = cloudflare(url).replace(f"shop.example: {TAG}", f"a: {TAG}, b: {other}")
    asking = ask(text, SECRETS)
    assert asking.poll(60_000).value("cloudflare_zone_requests_total", zone="a") == 5
    assert "zone b" in asking.status.error


def datadog(url: str) -> str:
    return (
        f"pollers: [{{type: datadog, name: dd, url: '{url}', api_key_env: KEY, app_key_env: APP, "
        "queries: {dd_cpu: 'avg:system.cpu.user{*} by {host}'}}]"
    )


def points(now_ms: int) -> Response:
    attributes = {
        "times": [now_ms - 120_000, now_ms - 60_000],
        "values": [[1.5, None], [2.0, 3.0]],
        "series": [
            {"group_tags": ["host:web-1"], "query_index": 0, "unit": None},
            {"group_tags": ["host:web-2", "env"], "query_index": 0, "unit": None},
        ],
    }
    return JSONResponse({"data": {"type": "timeseries_response", "attributes": attributes}})


def stored(asking: Asking, name: str, tag: str) -> list[tuple[int, float]]:
    return next(
        rows
        for series, rows in asking.appender.samples().items()
        if series.metric == name and series.get("tag_host") == tag
    )


def test_datadogs_points_keep_their_own_times(ask: Ask, serve: Serve) -> None:
    service = Service(lambda body: points(body["data"]["attributes"]["to"]))
    asking = ask(datadog(serve(service.routes())), SECRETS)
    asking.poll(60_000)
    assert asking.status.error == ""
    now_ms = asking.clock.now_ms
    assert stored(asking, "dd_cpu", "web-1") == [(now_ms - 120_000, 1.5)]
    assert stored(asking, "dd_cpu", "web-2") == [(now_ms - 120_000, 2), (now_ms - 60_000, 3)]
    sent = service.bodies[0]["data"]["attributes"]
    assert sent["queries"][0]["query"] == "avg:system.cpu.user{*} by {host}"
    assert sent["to"] - sent["from"] == 300_000
    keys = {name: service.headers[0][name] for name in ("dd-api-key", "dd-application-key")}
    assert list(keys.values()) == list(SECRETS.values())


def test_datadogs_limit_is_kept(ask: Ask, serve: Serve) -> None:
    headers = {"X-RateLimit-Reset": "300", "X-RateLimit-Remaining": "0"}
    service = Service(lambda _body: JSONResponse({"errors": ["Rate limited"]}, 429, headers))
    asking = ask(datadog(serve(service.routes())), SECRETS)
    for _ in range(4):
        assert asking.poll(60_000).value("up") == 0
    assert len(service.bodies) == 1
    assert "Rate limited" in asking.status.error


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, {"errors": ["Forbidden"]}, "Forbidden"),
        (401, {"errors": ["Unauthorized"]}, "Unauthorized"),
        (400, {"errors": ["Error parsing query: unable to parse"]}, "unable to parse"),
        (200, {"errors": "query too broad"}, "query too broad"),
        (200, {"data": []}, "not one of Datadog"),
        (503, {"errors": ["Service Unavailable"]}, "Unavailable"),
    ],
)
def test_datadogs_refusals_are_told(
    status: int, body: Any, told: str, ask: Ask, serve: Serve
) -> None:
    service = Service(lambda _body: JSONResponse(body, status))
    asking = ask(datadog(serve(service.routes())), SECRETS)
    assert asking.poll(60_000).value("up") == 0
    assert told in asking.status.error
    assert asking.status.remedy
    assert not any(secret in f"{asking.status}" for secret in SECRETS.values())


def test_a_query_that_datadog_refuses_leaves_the_others(ask: Ask, serve: Serve) -> None:
    def reply(body: dict[str, Any]) -> Response:
        attributes = body["data"]["attributes"]
        if attributes["queries"][0]["query"] == "bad":
            return JSONResponse({"errors": ["Error parsing query"]}, 400)
        return points(attributes["to"])

    service = Service(reply)
    text = datadog(serve(service.routes())).replace("queries: {", "queries: {dd_bad: bad, ")
    asking = ask(text, SECRETS)
    assert asking.poll(60_000).value("up") == 1
    assert stored(asking, "dd_cpu", "web-2")
    assert "dd_bad: " in asking.status.error


def newrelic(url: str) -> str:
    return (
        f"pollers: [{{type: newrelic, name: nr, url: '{url}', account: 42, api_key_env: KEY, "
        "queries: {nr_orders: 'SELECT count(*) AS value FROM Order FACET country'}}]"
    )


def results(*rows: Any) -> Response:
    return JSONResponse({"data": {"actor": {"account": {"nrql": {"results": list(rows)}}}}})


def test_new_relics_rows_are_series_by_their_facets(ask: Ask, serve: Serve) -> None:
    service = Service(
        lambda _body: results(
            {"facet": "DE", "country": "DE", "value": 12}, {"facet": ["FR", "web"], "value": 3.5}
        )
    )
    asking = ask(newrelic(serve(service.routes())), SECRETS)
    answer = asking.poll(60_000)
    assert asking.status.error == ""
    assert answer.value("nr_orders", facet="DE") == 12
    assert answer.value("nr_orders", facet="FR", facet_1="web") == 3.5
    variables = service.bodies[0]["variables"]
    assert variables["id"] == 42
    assert variables["nrql"].startswith("SELECT count(*)")
    assert service.headers[0]["api-key"] == SECRETS["KEY"]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, {"errors": [{"message": "NRQL Syntax Error: near 'SELEC'"}]}, "Syntax"),
        (200, {"data": {"actor": {"account": None}}}, "not one of NerdGraph"),
        (401, {"errors": [{"message": "Api-Key header required"}]}, "Api-Key"),
        (429, {"message": "concurrency limit"}, "concurrency"),
    ],
)
def test_new_relics_refusals_are_told(
    status: int, body: Any, told: str, ask: Ask, serve: Serve
) -> None:
    service = Service(lambda _body: JSONResponse(body, status))
    asking = ask(newrelic(serve(service.routes())), SECRETS)
    assert asking.poll(60_000).value("up") == 0
    assert told in asking.status.error
    assert SECRETS["KEY"] not in f"{asking.status}"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("type: cloudflare, token_env: KEY", "1 to 10 zones"),
        ("type: cloudflare, token_env: KEY, zones: {a: b}", "32 hexadecimal"),
        (f"type: cloudflare, zones: {{a: {TAG}}}", "token_env"),
        ("type: datadog, api_key_env: KEY, app_key_env: APP", "1 to 20"),
        ("type: datadog, site: 'evil.example/x', queries: {a: b}", "no site"),
        ("type: newrelic, api_key_env: KEY, queries: {a: b}", "the account's number"),
        ("type: newrelic, account: 1, region: mars, queries: {a: b}", "us or eu"),
        ("type: newrelic, account: 1, api_key_env: KEY, queries: {'a-b': b}", "no metric name"),
    ],
)
def test_a_mistake_is_refused_at_the_start(fields: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        targets_of(f"pollers: [{{{fields}}}]", SECRETS)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["times", "values", "series", "group_tags", "count", "sum", "value", "a"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(JSON)
def test_any_answer_is_read_without_raising(answer: Any) -> None:
    reading = Reading()
    _points(reading, "a", answer)
    totals: Counter[tuple[str, str]] = Counter()
    _count(totals, answer)
    _value(answer if isinstance(answer, dict) else {})
    assert all(sample.name == "a" for sample in reading.samples)
