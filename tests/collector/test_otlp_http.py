"""OTLP/HTTP against the real SDK exporters and against bad input."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest
import zstandard
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import CollectorRegistry

from collector.otlp.ingest import OtlpIngest
from collector.pipeline import Pipeline
from collector.receivers.otlp_http import routes
from collector.source_health import SourceRegistry, SourceState
from store.errors import Overloaded, StoreUnavailable
from store.model import Labels
from tests.collector.otlp_bodies import NOW_NS, trace_request

PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture
def url(pipeline: Pipeline, serve: Any) -> str:
    return str(serve(routes(OtlpIngest(pipeline))))


def partial(response: httpx.Response) -> tuple[int, str]:
    assert response.status_code == 200, response.content
    success = ExportTraceServiceResponse.FromString(response.content).partial_success
    return success.rejected_spans, success.error_message


def status_message(response: httpx.Response) -> str:
    """The `message` of a protobuf google.rpc.Status: field 2."""
    body = response.content
    assert response.headers["content-type"] == "application/x-protobuf"
    assert body[0] == 0x08
    assert body[2] == 0x12
    return body[4 : 4 + body[3]].decode() if body[3] < 128 else body[5:].decode("utf-8", "ignore")


def test_the_sdk_exporter_delivers_spans_with_their_promoted_columns(
    url: str, appender: Any, clock: Any, sources: SourceRegistry
) -> None:
    import time

    clock.now_ms = time.time_ns() // 1_000_000 + 1000
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    tracer = provider.get_tracer("shop.scope")
    with (
        tracer.start_as_current_span(
            "GET products/<int:pk>/",
            kind=SpanKind.SERVER,
            attributes={
                "http.method": "GET",
                "http.route": "products/<int:pk>/",
                "http.status_code": 200,
                "http.target": "/products/1/",
            },
        ) as parent,
        tracer.start_as_current_span(
            "SELECT",
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": "sqlite",
                "db.query.text": "SELECT 1",
                "db.statement": "SELECT one",
                "code.file.path": "shop/views.py",
                "code.line.number": 7,
                "code.function.name": "product_list",
                "server.address": "db",
                "list": ["a", "b"],
            },
        ) as child,
    ):
        child.record_exception(ValueError("boom"))
        child.set_status(Status(StatusCode.ERROR, "boom"))
    provider.shutdown()

    query, server = appender.spans()
    assert query["service"] == "shop"
    assert query["scope"] == "shop.scope"
    assert query["parent_span_id"] == parent.get_span_context().span_id.to_bytes(8, "big")
    assert (query["db_system"], query["statement"]) == ("sqlite", "SELECT 1")
    assert (query["code_file"], query["code_line"]) == ("shop/views.py", 7)
    assert query["code_function"] == "product_list"
    assert query["server_address"] == "db"
    assert (query["kind"], query["status"], query["status_message"]) == (3, 2, "boom")
    assert json.loads(query["attributes"]) == {"db.statement": "SELECT one", "list": ["a", "b"]}
    assert json.loads(query["events"])[0]["name"] == "exception"
    assert json.loads(query["resource"])["service.name"] == "shop"
    assert server["parent_span_id"] is None
    assert (server["http_method"], server["http_route"]) == ("GET", "products/<int:pk>/")
    assert (server["http_status"], server["url"]) == (200, "/products/1/")
    (status,) = sources.list(clock.now_ms)
    assert (status.name, status.kind, status.state) == ("otlp:shop", "otlp", SourceState.OK)


def test_the_sdk_exporter_delivers_metrics_under_prometheus_names(
    url: str, appender: Any, clock: Any
) -> None:
    import time

    clock.now_ms = time.time_ns() // 1_000_000 + 1000
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics"), 3_600_000)
    provider = MeterProvider(
        [reader],
        Resource.create({"service.name": "shop", "service.instance.id": "i-1", "zone": "a"}),
    )
    meter = provider.get_meter("m")
    meter.create_counter("orders.placed", "{order}").add(3, {"http.method": "GET"})
    meter.create_histogram(
        "http.server.request.duration", "s", explicit_bucket_boundaries_advisory=[0.1, 1]
    ).record(0.5)
    meter.create_up_down_counter("queue.length").add(2)
    meter.create_gauge("cpu.used", "1").set(0.25)
    provider.shutdown()

    target = {"job": "shop", "instance": "i-1"}
    found = {series: rows[-1][1] for series, rows in appender.samples().items()}
    assert found[Labels.of(target, __name__="orders_placed_total", http_method="GET")] == 3
    assert found[Labels.of(target, __name__="queue_length")] == 2
    assert found[Labels.of(target, __name__="cpu_used_ratio")] == 0.25
    base = "http_server_request_duration_seconds"
    buckets = {"0.1": 0, "1": 1, "+Inf": 1}
    for le, count in buckets.items():
        assert found[Labels.of(target, __name__=f"{base}_bucket", le=le)] == count
    assert found[Labels.of(target, __name__=f"{base}_count")] == 1
    assert found[Labels.of(target, __name__=f"{base}_sum")] == 0.5
    info = [series for series in found if series.metric == "target_info"]
    assert [series.get("zone") for series in info] == ["a"]


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("", lambda body: body),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-15)),
        ("zstd", zstandard.ZstdCompressor().compress),
    ],
)
def test_every_encoding_is_taken(url: str, appender: Any, encoding: str, compress: Any) -> None:
    body = compress(trace_request(3000).SerializeToString())
    response = httpx.post(
        f"{url}/v1/traces", content=body, headers={**PROTOBUF, "Content-Encoding": encoding}
    )
    assert partial(response) == (0, "")
    assert len(appender.spans()) == 3000


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"\x0a\xff\x01abc", PROTOBUF, 400, "not a valid OTLP protobuf message"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "Content-Type 'text/plain'"),
        (b"x", {**PROTOBUF, "Content-Encoding": "br"}, 415, "Content-Encoding 'br'"),
        (b"nogzip", {**PROTOBUF, "Content-Encoding": "gzip"}, 400, "damaged"),
        (
            gzip.compress(b"a" * 99, mtime=0)[:-9],
            {**PROTOBUF, "Content-Encoding": "gzip"},
            400,
            "damaged",
        ),
        (b"nozstd", {**PROTOBUF, "Content-Encoding": "zstd"}, 400, "damaged"),
        (gzip.compress(bytes(64 << 20)), {**PROTOBUF, "Content-Encoding": "gzip"}, 413, "larger"),
        (
            zstandard.ZstdCompressor().compress(bytes(64 << 20)),
            {**PROTOBUF, "Content-Encoding": "zstd"},
            413,
            "larger",
        ),
        (
            zlib.compress(bytes(64 << 20)),
            {**PROTOBUF, "Content-Encoding": "deflate"},
            413,
            "larger",
        ),
    ],
)
def test_a_bad_request_is_refused_in_one_sentence(
    url: str, appender: Any, body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    good = httpx.post(
        f"{url}/v1/traces", content=trace_request().SerializeToString(), headers=PROTOBUF
    )
    response = httpx.post(f"{url}/v1/traces", content=body, headers=headers)
    assert good.status_code == 200
    assert response.status_code == status
    assert says in status_message(response)
    assert len(appender.spans()) == 1


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"resourceSpans": 3}', b'{"resourceSpans": [null]}', b"\xff", b"[" * 5000],
)
def test_bad_json_is_answered_in_json(url: str, body: bytes) -> None:
    response = httpx.post(
        f"{url}/v1/traces", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["code"] == 3
    assert response.json()["message"]


def test_json_spans_have_hex_ids_and_text_integers(url: str, appender: Any) -> None:
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "GET",
        "kind": 2,
        "startTimeUnixNano": str(NOW_NS),
        "endTimeUnixNano": NOW_NS + 5,
        "somethingNew": {"a": 1},
        "attributes": [
            {"key": "http.response.status_code", "value": {"intValue": "503"}},
            {"key": "n", "value": {"doubleValue": 1.5}},
        ],
    }
    bad = {**span, "traceId": "zz"}
    body = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]
                },
                "scopeSpans": [{"scope": {"name": "s"}, "spans": [span, bad, 7]}],
            }
        ]
    }
    response = httpx.post(f"{url}/v1/traces", json=body)
    assert response.status_code == 200
    success = response.json()["partialSuccess"]
    assert success["rejectedSpans"] == "2"
    assert "malformed" in success["errorMessage"]
    (row,) = appender.spans()
    assert row["trace_id"].hex() == span["traceId"]
    assert row["http_status"] == 503
    assert json.loads(row["attributes"]) == {"n": 1.5}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trace_id": b"short"}, "bad_trace_id"),
        ({"trace_id": bytes(16)}, "bad_trace_id"),
        ({"span_id": bytes(8)}, "bad_span_id"),
        ({"parent_span_id": b"abc"}, "bad_parent_span_id"),
        ({"end_time_unix_nano": NOW_NS - 1}, "end_before_start"),
        ({"start_time_unix_nano": 0}, "absurd_time"),
        ({"end_time_unix_nano": 2**64 - 1}, "absurd_time"),
    ],
)
def test_a_bad_span_costs_only_itself(
    url: str, appender: Any, sources: SourceRegistry, fields: dict[str, Any], reason: str
) -> None:
    request = trace_request()
    request.MergeFrom(trace_request(2, **fields))
    response = httpx.post(f"{url}/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert partial(response) == (2, f"rejected: 2 x {reason}")
    assert len(appender.spans()) == 1
    assert sources.list(0)[0].dropped == {reason: 2}


def test_a_span_that_is_not_utf8_costs_only_itself(url: str, appender: Any) -> None:
    request = trace_request(2, name="MARKED")
    body = request.SerializeToString().replace(b"MARKED", b"\xff\xfe\xff\xfe\xff\xfe", 1)
    response = httpx.post(f"{url}/v1/traces", content=body, headers=PROTOBUF)
    assert partial(response) == (1, "rejected: 1 x malformed_or_not_utf8")
    assert [row["name"] for row in appender.spans()] == ["MARKED"]


def test_a_huge_attribute_is_cut_not_stored_whole(url: str, appender: Any) -> None:
    request = trace_request()
    attribute = request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="big")
    attribute.value.string_value = "x" * (1 << 20)
    response = httpx.post(f"{url}/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert partial(response) == (0, "")
    assert len(appender.spans()[0]["attributes"]) < 40_000


def test_secrets_do_not_reach_the_store(url: str, appender: Any) -> None:
    request = trace_request()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for key, value in {
        "http.url": "https://ann@shop.example:hunter2@shop.example/?token=tok123&page=2",
        "db.statement": "SELECT 1 FROM u WHERE password = 'hunter2' AND c = '4111 1111 1111 1111'",
        "http.request.header.authorization": "Bearer hunter2hunter2",
        "user.password": "hunter2",
    }.items():
        span.attributes.add(key=key).value.string_value = value
    httpx.post(f"{url}/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    (row,) = appender.spans()
    stored = " ".join(str(value) for value in row.values())
    assert "hunter2" not in stored
    assert "tok123" not in stored
    assert "4111" not in stored
    assert "ann@" not in stored
    assert "page=2" in row["url"]


def test_overload_is_429_with_retry_after_and_shown_as_shedding(
    url: str, appender: Any, sources: SourceRegistry, clock: Any, registry: CollectorRegistry
) -> None:
    appender.refuse_with = Overloaded("the queue is full", retry_after_s=7)
    body = trace_request(5).SerializeToString()
    response = httpx.post(f"{url}/v1/traces", content=body, headers=PROTOBUF)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"
    assert sources.list(clock.now_ms)[0].state is SourceState.SHEDDING
    dropped = registry.get_sample_value(
        "warroom_collector_dropped_total", {"source": "otlp:shop", "reason": "overloaded"}
    )
    assert dropped == 5


def test_a_store_that_cannot_write_is_503(
    url: str, appender: Any, sources: Any, clock: Any
) -> None:
    appender.refuse_with = StoreUnavailable("the disk is full", hint="free some space")
    response = httpx.post(
        f"{url}/v1/traces", content=trace_request().SerializeToString(), headers=PROTOBUF
    )
    assert response.status_code == 503
    assert "retry-after" in response.headers
    (status,) = sources.list(clock.now_ms)
    assert (status.state, status.error) == (SourceState.ERROR, "the disk is full")
    assert status.remedy == "free some space"
