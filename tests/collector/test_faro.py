"""Grafana Faro payloads over a real server: what is kept, what is counted, what is left out."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import re
import time
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from collector.browser_privacy import (
    MAX_TEXT,
    MAX_VALUES,
    is_personal,
    plain_spans,
    plain_text,
)
from collector.faro import MAX_ITEMS, decode_faro
from collector.otlp.ingest import OtlpIngest, Signal
from collector.page_errors import PageErrors
from collector.receivers.rum import RumReceiver, RumSettings
from collector.source_health import SourceRegistry
from store.errors import LimitExceeded, Overloaded, WarroomError
from store.model import LOG_SCHEMA, Labels

NOW_MS = 1_790_000_000_000
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

# The shape of the Faro web SDK 2, with all that it may say of a person.
PAYLOAD: dict[str, Any] = {
    "meta": {
        "sdk": {"name": "faro-core", "version": "2.12.1", "integrations": []},
        "app": {"name": "shop-web", "version": "1.4.0", "environment": "production"},
        "session": {"id": "abcSESSION", "attributes": {"previousSession": "abcSESSION"}},
        "user": {"id": "u-SECRET", "username": "annSECRET", "email": "ann@secret.example"},
        "page": {
            "id": "p",
            "url": "https://shop.example/cart/ann%40secret.example;jsessionid=SECRET?c=SECRET#top",
        },
        "browser": {
            "name": "Chrome",
            "version": "140.0",
            "os": "Android 16",
            "mobile": True,
            "userAgent": "Mozilla/5.0 SECRET",
        },
    },
    "measurements": [
        {
            "type": "web-vitals",
            "values": {"lcp": 2400.5, "delta": 2400.5, "element_render_delay": 12},
            "timestamp": "2026-09-21T14:13:20.000Z",
            "trace": {},
            "context": {"id": "v5-1", "rating": "good", "navigation_type": "navigate"},
        },
        {"type": "custom", "values": {"cart_size": 3}},
    ],
    "exceptions": [
        {
            "type": "TypeError",
            "value": "cannot read https://shop.example/api?token=SECRET of ann@secret.example",
            "timestamp": "2026-09-21T14:13:19.500Z",
            "stacktrace": {
                "frames": [
                    {
                        "filename": "https://shop.example/app.js?v=SECRET",
                        "function": "pay",
                        "lineno": 12,
                        "colno": 7,
                    }
                ]
            },
            "trace": {"trace_id": TRACE, "span_id": SPAN},
        }
    ],
    "logs": [
        {
            "message": "cart opened",
            "level": "warn",
            "context": {
                "userEmail": "ann@secret.example",
                "firstName": "SECRET",
                "login": "SECRET",
                "iban": "SECRET",
                "remote_addr": "10.1.2.3",
                "X-Forwarded-For": "10.1.2.3",
                "JSESSIONID": "SECRET",
                "step": "2",
            },
            "timestamp": "1999-01-01T00:00:00.000Z",
        }
    ],
    "events": [
        {
            "name": "click pay?card=SECRET",
            "attributes": {
                "path": "/users/ann@secret.example/u?x=SECRET",
                "relative": "u?x=SECRET",
                "text": "GET /api?email=ann%40secret.example&t=SECRET, then ?q=SECRET(SECRET)",
            },
        },
        {
            "name": "faro.performance.navigation",
            "domain": "browser",
            "attributes": {
                "requestTime": "120",
                "pageLoadTime": "900.5",
                "dnsLookupTime": "soon",
                "faroNavigationId": "n1",
            },
        },
        {"name": "faro.performance.resource", "attributes": {"name": "https://cdn/x.js"}},
        {"name": "add_to_cart", "attributes": {"sku": "B-1", "clientIp": "10.1.2.3"}},
    ],
    "traces": {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [
                        {"key": "service.name", "value": {"stringValue": "shop-web"}},
                        {"key": "user_agent.original", "value": {"stringValue": "SECRET"}},
                    ]
                },
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": TRACE,
                                "spanId": SPAN,
                                "name": "HTTP POST",
                                "kind": 3,
                                "startTimeUnixNano": str((NOW_MS - 100) * 10**6),
                                "endTimeUnixNano": str(NOW_MS * 10**6),
                                "attributes": [
                                    {
                                        "key": "http.url",
                                        "value": {
                                            "stringValue": "https://shop.example/o/4711?t=SECRET"
                                        },
                                    },
                                    {"key": "session.id", "value": {"stringValue": "abcSESSION"}},
                                    {
                                        "key": "http.target",
                                        "value": {"stringValue": "pay?card=SECRET"},
                                    },
                                    {
                                        "key": "network.peer.address",
                                        "value": {"stringValue": "10.1.2.3"},
                                    },
                                ],
                            }
                        ]
                    }
                ],
            }
        ]
    },
}


@pytest.fixture
def url(pipeline: Any, serve: Any) -> str:
    otlp = OtlpIngest(pipeline)
    receiver = RumReceiver(
        pipeline,
        settle_ms=20,
        take_spans=lambda body: otlp.accept(Signal.TRACES, body, is_json=True, source="rum"),
    )
    return str(serve(receiver.routes()))


def latest(appender: Any) -> dict[str, float]:
    return {
        repr(series): rows[-1][1]
        for series, rows in appender.samples().items()
        if series.metric.endswith(("_count", "_total"))
    }


def until_settled(appender: Any, clock: Any, name: str) -> None:
    deadline = time.monotonic() + 30
    while not any(name in series for series in latest(appender)):
        assert time.monotonic() < deadline
        clock.now_ms += 1000
        time.sleep(0.005)


def test_a_payload_gives_vitals_errors_logs_and_spans(url: str, appender: Any, clock: Any) -> None:
    assert httpx.post(f"{url}/collect", json=PAYLOAD).status_code == 202
    until_settled(appender, clock, "lcp")
    page = 'device="mobile", page="/cart/{id}"'
    assert latest(appender) == {
        f"rum_errors_total{{{page}}}": 1,
        f"browser_web_vital_lcp_seconds_count{{{page}}}": 1,
        f"browser_page_load_request_seconds_count{{{page}}}": 1,
        f"browser_page_load_seconds_count{{{page}}}": 1,
    }
    (span,) = appender.spans()
    assert (span["service"], span["url"]) == ("shop-web", "https://shop.example/o/{id}")
    error, log, _, event = appender.logs()
    assert error["body"] == "TypeError: cannot read https://shop.example/api of [mail]"
    assert (error["severity"], error["event_name"]) == (17, "exception")
    assert (error["trace_id"], error["span_id"]) == (bytes.fromhex(TRACE), bytes.fromhex(SPAN))
    assert error["ts_ns"] == (NOW_MS - 500) * 10**6
    stack = json.loads(error["attributes"])["exception.stacktrace"]
    assert stack == "at pay (https://shop.example/app.js:12:7)"
    assert (log["body"], log["severity"], log["severity_text"]) == ("cart opened", 13, "warn")
    assert log["ts_ns"] == NOW_MS * 10**6  # a browser's clock may be anything
    assert json.loads(log["attributes"]) == {
        "step": "2",
        "url.template": "/cart/{id}",
        "device": "mobile",
        "browser": "Chrome",
    }
    assert (event["event_name"], event["service"]) == ("add_to_cart", "shop-web")
    assert json.loads(event["resource"]) == {
        "service.name": "shop-web",
        "service.version": "1.4.0",
        "deployment.environment.name": "production",
    }


def test_nothing_of_a_payload_names_a_person(url: str, appender: Any, clock: Any) -> None:
    assert httpx.post(f"{url}/collect", json=PAYLOAD).status_code == 202
    until_settled(appender, clock, "lcp")
    stored = repr([appender.logs(), appender.spans(), list(appender.samples())])
    assert 'rum_errors_total{device="mobile", page="/cart/{id}"}' in stored
    for word in ("SECRET", "SESSION", "secret.example", "10.1.2.3", "Mozilla", "4711", "userEmail"):
        assert word not in stored, word


def test_a_page_cannot_pass_for_a_server(url: str, appender: Any, sources: Any) -> None:
    payload = copy.deepcopy(PAYLOAD)
    (resource,) = payload["traces"]["resourceSpans"]
    resource["resource"]["attributes"] = [
        {"key": "service.name", "value": {"stringValue": "payments"}},
        {"key": "service.namespace", "value": {"stringValue": "bank"}},
        {"key": "host.name", "value": {"stringValue": "h"}},
    ]
    (span,) = resource["scopeSpans"][0]["spans"]
    kinds: list[Any] = [2, "2", "SPAN_KIND_SERVER", "SPAN_KIND_CONSUMER", 3, "SPAN_KIND_CLIENT"]
    resource["scopeSpans"][0]["spans"] = [
        {**span, "kind": kind, "spanId": f"{number + 1:016x}"} for number, kind in enumerate(kinds)
    ]
    assert httpx.post(f"{url}/collect", json=payload).status_code == 202
    stored = appender.spans()
    assert {row["service"] for row in stored} == {"shop-web"}
    assert [row["kind"] for row in stored] == [1, 1, 1, 1, 3, 3]
    assert json.loads(stored[0]["resource"]) == {"host.name": "h", "service.name": "shop-web"}
    assert [one.name for one in sources.list(NOW_MS)] == ["rum"]


OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "https://shop.example"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://cdn.shop.example", "Sec-Fetch-Site": "same-site"}, 403),
        (OWN_PAGE, 202),
        ({"Origin": "https://shop.example", "Host": "shop.example"}, 202),
        ({"Origin": "https://shop.example", "X-Forwarded-Host": "shop.example"}, 202),
        ({}, 202),
    ],
)
def test_only_own_pages_report_where_nothing_else_is_set(
    url: str, appender: Any, sources: Any, headers: dict[str, str], status: int
) -> None:
    plain = {"Content-Type": "text/plain;charset=UTF-8", **headers}
    answer = httpx.post(f"{url}/collect", content=json.dumps(PAYLOAD), headers=plain)
    assert answer.status_code == status
    assert bool(appender.logs()) == (status == 202)
    refused = [one.dropped.get("foreign_origin", 0) for one in sources.list(NOW_MS)]
    assert sum(refused) == (1 if status == 403 else 0)


def test_listed_origins_and_keys_let_other_pages_report(pipeline: Any, serve: Any) -> None:
    elsewhere = {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
    listed = RumSettings(allowed_origins=frozenset({"https://shop.example"}))
    keyed = RumSettings(app_keys=frozenset({"k"}))
    for settings, headers in ((listed, elsewhere), (keyed, {**elsewhere, "x-api-key": "k"})):
        base = serve(RumReceiver(pipeline, settings=settings).routes())
        assert httpx.post(f"{base}/collect", json={}, headers=headers).status_code == 202
    base = serve(RumReceiver(pipeline, settings=listed).routes())
    other = {**elsewhere, "Origin": "https://evil.example"}
    assert httpx.post(f"{base}/collect", json={}, headers=other).status_code == 403


def test_a_payload_whose_spans_were_shed_goes_on_from_there(
    pipeline: Any, serve: Any, appender: Any
) -> None:
    refusals = [Overloaded("the queue is full")]
    taken: list[bytes] = []

    async def take_spans(body: bytes) -> None:
        if refusals:
            raise refusals.pop()
        taken.append(body)

    base = serve(RumReceiver(pipeline, take_spans=take_spans).routes())
    headers = {"Idempotency-Key": "k-2"}
    answers = [
        httpx.post(f"{base}/collect", json=PAYLOAD, headers=headers).status_code for _ in range(3)
    ]
    assert answers == [429, 202, 202]
    assert (len(appender.logs()), len(taken)) == (4, 1)


def test_two_requests_with_one_key_at_once_count_once(pipeline: Any, appender: Any) -> None:
    async def run() -> list[int]:
        first_came, go_on = asyncio.Event(), asyncio.Event()
        taken: list[bytes] = []

        async def take_spans(body: bytes) -> None:
            taken.append(body)
            first_came.set()
            await go_on.wait()

        app = Starlette(routes=RumReceiver(pipeline, take_spans=take_spans).routes())
        transport = httpx.ASGITransport(app)
        headers = {"Idempotency-Key": "k-3"}
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            first = asyncio.create_task(client.post("/collect", json=PAYLOAD, headers=headers))
            await first_came.wait()
            second = asyncio.create_task(client.post("/collect", json=PAYLOAD, headers=headers))
            for _ in range(100):  # the second goes as far as it can
                await asyncio.sleep(0)
            go_on.set()
            answers = await asyncio.gather(first, second)
        assert len(taken) == 1
        return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [202, 202]
    assert len(appender.logs()) == 4


def test_what_is_not_kept_is_counted_by_its_reason(url: str, sources: SourceRegistry) -> None:
    payload = {**PAYLOAD, "logs": ["odd"], "exceptions": [None, 3], "traces": {"resourceSpans": 3}}
    assert httpx.post(f"{url}/collect", json=payload).status_code == 202
    (status,) = [one for one in sources.list(NOW_MS) if one.name == "rum"]
    assert dict(status.dropped) == {
        "not_a_web_vital": 1,
        "custom_measurement": 1,
        "resource_timing": 1,
        "malformed_item": 3,
        "malformed_traces": 1,
    }


def test_a_payload_that_is_sent_again_counts_once(url: str, appender: Any, sources: Any) -> None:
    payload = gzip.compress(json.dumps(PAYLOAD).encode())
    headers = {
        "Idempotency-Key": "k-1",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }
    appender.refuse_with = Overloaded("the queue is full")
    assert httpx.post(f"{url}/collect", content=payload, headers=headers).status_code == 429
    appender.refuse_with = None
    for _ in range(2):
        assert httpx.post(f"{url}/collect", content=payload, headers=headers).status_code == 202
    assert len(appender.logs()) == 4
    assert sum(one.dropped.get("repeated_payload", 0) for one in sources.list(NOW_MS)) == 1


@pytest.mark.parametrize("header", ["Sec-GPC", "DNT"])
def test_who_objects_is_not_stored(url: str, appender: Any, header: str) -> None:
    answer = httpx.post(f"{url}/collect", json=PAYLOAD, headers={header: "1"})
    assert answer.status_code == 202
    assert appender.batches == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_input"),
        (b"[]", 400, "bad_input"),
        (b'{"logs": {"a": 1}}', 400, "bad_input"),
        (json.dumps({"logs": [{}] * (MAX_ITEMS + 1)}).encode(), 400, "too_many_items"),
        (b" " * (5 * 1024 * 1024 + 1), 413, "body_size"),
    ],
)
def test_what_is_no_payload_is_refused(url: str, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{url}/collect", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_errors_are_counted_from_zero_and_pages_are_bounded() -> None:
    errors = PageErrors()
    for number in range(300):
        errors.add(f"/page-{number}", "desktop", 2)
    batch = errors.due(NOW_MS)
    assert len(batch.series) == 201
    other = Labels.of(__name__="rum_errors_total", page="(other)", device="desktop")
    rows = [
        (at, value)
        for place, at, value in zip(batch.series_index, batch.ts_ms, batch.values, strict=True)
        if batch.series[place] == other
    ]
    assert rows == [(NOW_MS - 1000, 0.0), (NOW_MS, 200.0)]
    assert len(errors.due(NOW_MS)) == 0
    errors.add("/page-1", "desktop", 1)
    assert errors.due(NOW_MS).values.tolist() == [3.0]


@pytest.mark.parametrize(
    "key",
    [
        "user.id",
        "userId",
        "user_agent.original",
        "http.user_agent",
        "client.address",
        "clientIp",
        "net.peer.ip",
        "url.query",
        "session_id",
        "enduser.id",
        "customer.email",
        *("firstName", "last_name", "login", "customer", "ipaddress", "remote_addr", "iban"),
        *("network.peer.address", "X-Forwarded-For", "address", "emails", "emailaddress"),
        *("sid", "JSESSIONID", "deviceId", "billingAddress2", "accountId", "page.query"),
    ],
)
def test_attributes_that_may_name_a_person_are_known(key: str) -> None:
    assert is_personal(key)


@pytest.mark.parametrize(
    "key",
    [
        *("url.full", "http.method", "sku", "zip.file", "description", "server.address"),
        *("db.query.text", "query_time_ms", "tip", "name", "browser.name", "graphql.query"),
    ],
)
def test_others_are_kept(key: str) -> None:
    assert not is_personal(key)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://a:b@shop.example:8443/x?y=1#z", "https://shop.example:8443/x"),
        ("/orders/123?token=x", "/orders/{id}"),
        ("see (https://h/a?b=c), or ftp://u@h/d", "see (https://h/a), or ftp://h/d"),
        ("GET", "GET"),
        ("5 > 3 ? yes : no", "5 > 3 ? yes : no"),
        ("cannot read x at /cart?session=leak", "cannot read x at /cart"),
        ("u?x=leak", "u"),
        ("a?.b is undefined, issue #42. why?", "a?.b is undefined, issue #42. why?"),
        ("/users/ann@mail.example/orders/7", "/users/{id}/orders/{id}"),
        ("https://h/users/ann%40mail.example", "https://h/users/{id}"),
        ("of ann%2540mail.example&x", "of [mail]&x"),
        ("Firefox pay@https://h/a.js:1:2", "Firefox pay@https://h/a.js:1:2"),
    ],
)
def test_texts_lose_queries_users_and_ids(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@given(st.text(alphabet="ht:/?#@a. 1-", max_size=80))
def test_plain_texts_stay_plain(text: str) -> None:
    once = plain_text(text)
    assert plain_text(once) == once
    assert not re.search(r"\b[a-z][a-z0-9+.\-]{1,20}://\S*[?#]", once)


@pytest.mark.parametrize("piece", ["a", "a.", "%40a", "a@", "?(", "x://", "a@b.", "&a", "/"])
def test_long_texts_cost_no_more_than_their_length(piece: str) -> None:
    # What is tried anew at each place of such a text takes hours.
    assert len(plain_text(piece * 1_000_000)) <= MAX_TEXT
    assert len(plain_text(piece * 100_000 + "@", 100_000)) <= 100_000


def test_a_mail_address_is_known_across_a_cut() -> None:
    text = "x" * (MAX_TEXT - 10) + " ann.long@secret.example"
    assert "ann" not in plain_text(text)


def test_spans_of_too_many_values_are_left_out() -> None:
    document = {"resourceSpans": [{"x": [""] * MAX_VALUES}]}
    found = decode_faro(orjson.dumps({"traces": document}), NOW_MS)
    assert (found.traces, found.not_kept["malformed_traces"]) == (None, 1)


NAMES = [*PAYLOAD["exceptions"][0], *PAYLOAD["events"][0], *PAYLOAD["logs"][0], "lcp", "id"]
NAMES += ["frames", "values", "spans", "key", "trace_id"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**60), 2**60)
    | st.sampled_from(["web-vitals", "/a", TRACE, "faro.performance.navigation", "2026-01-01"])
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.lists(values, max_size=4) | values
            for name in ("meta", "measurements", "exceptions", "logs", "events", "traces")
        },
    )
)
def test_no_document_breaks_the_decoder(document: Any) -> None:
    with suppress(WarroomError):
        found = decode_faro(orjson.dumps(document), NOW_MS)
        assert found.logs.table.schema == LOG_SCHEMA
        found.logs.table.validate(full=True)


@given(
    st.lists(
        st.tuples(st.sampled_from(["meta", "exceptions", "logs", "events", "traces"]), values),
        max_size=3,
    )
)
def test_no_change_of_a_real_payload_breaks_the_decoder(changes: list[tuple[str, Any]]) -> None:
    document = copy.deepcopy(PAYLOAD)
    for name, value in changes:
        part = document[name]
        if isinstance(part, list):
            part.insert(0, value)
        elif isinstance(part, dict) and isinstance(value, dict):
            part.update(value)
        else:
            document[name] = value
    with suppress(WarroomError):
        decode_faro(orjson.dumps(document), NOW_MS)


@given(st.binary(max_size=100))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    with suppress(WarroomError):
        decode_faro(body, NOW_MS)


def test_spans_nested_without_end_are_left_out() -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match="deep"):
        plain_spans({"resourceSpans": deep}, "shop-web")
    document = {**PAYLOAD, "traces": {"resourceSpans": deep}}
    found = decode_faro(orjson.dumps(document), NOW_MS)
    assert found.traces is None
    assert found.not_kept["malformed_traces"] == 1


def test_too_many_of_a_kind_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        decode_faro(orjson.dumps({"events": [{}] * (MAX_ITEMS + 1)}), NOW_MS)
