"""Grafana Faro payloads over a real server: what is kept, what is counted, what is left out."""

from __future__ import annotations

import copy
import gzip
import json
import time
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.browser_privacy import is_personal, plain_spans, plain_text
from collector.faro import MAX_ITEMS, decode_faro
from collector.otlp.ingest import OtlpIngest, Signal
from collector.page_errors import PageErrors
from collector.receivers.rum import RumReceiver
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
        "page": {"id": "p", "url": "https://shop.example/cart/4711?coupon=SECRET#top"},
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
            "context": {"userEmail": "ann@secret.example", "step": "2"},
            "timestamp": "1999-01-01T00:00:00.000Z",
        }
    ],
    "events": [
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
        take_spans=lambda body: otlp.accept(Signal.TRACES, body, is_json=True),
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
    error, log, event = appender.logs()
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
    for word in ("SECRET", "SESSION", "secret.example", "10.1.2.3", "Mozilla", "4711", "userEmail"):
        assert word not in stored, word


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
    assert len(appender.logs()) == 3
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
    ],
)
def test_attributes_that_may_name_a_person_are_known(key: str) -> None:
    assert is_personal(key)


@pytest.mark.parametrize(
    "key", ["url.full", "http.method", "sku", "zip.file", "description", "server.address"]
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
    ],
)
def test_texts_lose_queries_users_and_ids(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@given(st.text(alphabet="ht:/?#@a. 1-", max_size=80))
def test_plain_texts_stay_plain(text: str) -> None:
    once = plain_text(text)
    assert plain_text(once) == once
    assert "?" not in once.partition("://")[2].partition(" ")[0]


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
        plain_spans(deep)
    document = {**PAYLOAD, "traces": {"resourceSpans": deep}}
    found = decode_faro(orjson.dumps(document), NOW_MS)
    assert found.traces is None
    assert found.not_kept["malformed_traces"] == 1


def test_too_many_of_a_kind_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        decode_faro(orjson.dumps({"events": [{}] * (MAX_ITEMS + 1)}), NOW_MS)
