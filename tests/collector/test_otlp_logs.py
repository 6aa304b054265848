"""OTLP logs: what a record becomes, what is refused and counted, over a real server too."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import httpx
import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from collector.otlp.ingest import OtlpIngest
from collector.otlp.logs import MAX_RECORD_BYTES, decode_logs, severity_of
from collector.receivers.otlp_http import routes
from collector.source_health import SourceRegistry
from collector.web_vitals import Vital
from store.errors import LimitExceeded, Overloaded

NOW_MS = 1_790_000_000_000
NOW_NS = NOW_MS * 10**6
PROTOBUF = {"Content-Type": "application/x-protobuf"}
TRACE = bytes(range(1, 17))


def logs_request(service: str = "shop") -> tuple[ExportLogsServiceRequest, Any]:
    """A request, and where its records go."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_logs.add()
    scope.scope.name = "orders"
    return request, scope.log_records


def rows_of(request: ExportLogsServiceRequest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = decode_logs(
        request.SerializeToString(), NOW_MS
    ).batch.table.to_pylist()
    return found


def test_a_record_keeps_what_it_says() -> None:
    request, records = logs_request()
    record = records.add(
        time_unix_nano=NOW_NS + 123,
        observed_time_unix_nano=NOW_NS + 999,
        severity_number=17,
        severity_text="ERROR",
        trace_id=TRACE,
        span_id=TRACE[:8],
        event_name="order.failed",
    )
    record.body.string_value = "no stock"
    record.attributes.add(key="order.id").value.int_value = 7
    assert rows_of(request) == [
        {
            "ts_ns": NOW_NS + 123,
            "severity": 17,
            "severity_text": "ERROR",
            "service": "shop",
            "event_name": "order.failed",
            "body": "no stock",
            "trace_id": TRACE,
            "span_id": TRACE[:8],
            "scope": "orders",
            "attributes": '{"order.id":7}',
            "resource": '{"service.name":"shop"}',
            "received_ms": NOW_MS,
        }
    ]


@pytest.mark.parametrize(
    ("fields", "ts_ns"),
    [
        ({"time_unix_nano": NOW_NS - 5, "observed_time_unix_nano": NOW_NS}, NOW_NS - 5),
        ({"observed_time_unix_nano": NOW_NS - 7}, NOW_NS - 7),
        ({"severity_number": 1}, NOW_NS),
    ],
)
def test_a_record_without_a_time_has_that_of_its_observation_or_now(
    fields: dict[str, int], ts_ns: int
) -> None:
    request, records = logs_request()
    records.add(**fields)
    assert rows_of(request)[0]["ts_ns"] == ts_ns


@pytest.mark.parametrize(
    ("number", "text", "severity"),
    [(9, "ERROR", 9), (0, "Warning", 13), (0, "fatal", 21), (0, "odd", 0), (25, "", 0)],
)
def test_a_severity_comes_from_its_number_else_its_text(
    number: int, text: str, severity: int
) -> None:
    assert severity_of(number, text) == severity


def test_a_structured_body_is_kept_as_json() -> None:
    request, records = logs_request()
    values = records.add(time_unix_nano=NOW_NS).body.kvlist_value.values
    values.add(key="order").value.int_value = 7
    values.add(key="sizes").value.array_value.values.add(double_value=float("nan"))
    assert rows_of(request)[0]["body"] == '{"order":7,"sizes":[null]}'


def test_a_wrong_trace_id_costs_the_id_not_the_record() -> None:
    request, records = logs_request()
    records.add(time_unix_nano=NOW_NS, trace_id=b"abc", span_id=bytes(8))
    assert [(row["trace_id"], row["span_id"]) for row in rows_of(request)] == [(None, None)]


def test_each_bad_record_is_counted_by_its_reason_and_the_rest_is_kept() -> None:
    request, records = logs_request()
    records.add()
    records.add(time_unix_nano=1)
    records.add(time_unix_nano=NOW_NS + 10**15)
    records.add(time_unix_nano=NOW_NS).body.string_value = "x" * MAX_RECORD_BYTES
    records.add(event_name="browser.web_vital")
    records.add(time_unix_nano=NOW_NS).body.string_value = "good"
    body = request.SerializeToString() + b"\x0a\x08\x12\x06\x12\x04\x2a\x02\x0a\x05"
    found = decode_logs(body, NOW_MS)
    assert [row["body"] for row in found.batch.table.to_pylist()] == ["good"]
    assert dict(found.rejections.counts) == {
        ("otlp:shop", "empty_record"): 1,
        ("otlp:shop", "absurd_time"): 2,
        ("otlp:shop", "log_too_large"): 1,
        ("otlp:shop", "not_a_web_vital"): 1,
        ("otlp:unknown_service", "malformed_or_not_utf8"): 1,
    }


def test_masses_of_records_are_refused_as_a_whole() -> None:
    leaf = b"\x12\x02\x10\x01"
    scope = b"\x12" + _varint(len(leaf) * 100_001) + leaf * 100_001
    with pytest.raises(LimitExceeded) as caught:
        decode_logs(b"\x0a" + _varint(len(scope)) + scope, NOW_MS)
    assert caught.value.reason == "too_many_items"


def test_a_large_resource_is_not_repeated_without_bound() -> None:
    request, records = logs_request()
    request.resource_logs[0].resource.attributes.add(key="x").value.string_value = "y" * 30_000
    for _ in range(3_000):
        records.add(severity_number=9)
    table = decode_logs(request.SerializeToString(), NOW_MS).batch.table
    assert table.num_rows == 3_000
    assert table.column("resource").null_count == 3_000


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def vital_record(records: Any, *, in_body: bool) -> None:
    told = {"name": "lcp", "value": 2400.0, "delta": 10.0, "id": "v5-1"}
    record = records.add(time_unix_nano=NOW_NS)
    if in_body:
        record.attributes.add(key="event.name").value.string_value = "browser.web_vital"
    else:
        record.event_name = "browser.web_vital"
    for key, value in told.items():
        target = (
            record.body.kvlist_value.values.add(key=key)
            if in_body
            else record.attributes.add(key=f"browser.web_vital.{key}")
        )
        if isinstance(value, str):
            target.value.string_value = value
        else:
            target.value.double_value = value
    record.attributes.add(key="url.full").value.string_value = "https://shop.example/p/77?q=ann"


@pytest.mark.parametrize("in_body", [True, False])
def test_a_web_vital_in_either_form_is_a_vital_and_no_log(in_body: bool) -> None:
    request, records = logs_request("web")
    attributes = request.resource_logs[0].resource.attributes
    attributes.add(key="browser.mobile").value.bool_value = True
    vital_record(records, in_body=in_body)
    found = decode_logs(request.SerializeToString(), NOW_MS)
    assert found.vitals == (Vital("LCP", 2.4, "v5-1", "/p/{id}", "mobile"),)
    assert len(found.batch) == 0


@pytest.fixture
def taken() -> list[Vital]:
    return []


@pytest.fixture
def url(pipeline: Any, serve: Any, taken: list[Vital]) -> str:
    return str(serve(routes(OtlpIngest(pipeline, on_vitals=taken.extend))))


@pytest.mark.parametrize("trace_id", ["r3mHZkfNQ92ESOslEYAxnA==", "xyz", "ab", "", "0" * 32])
def test_a_record_is_taken_without_an_id_that_is_none(
    url: str, appender: Any, trace_id: str
) -> None:
    record = {"timeUnixNano": str(NOW_NS), "traceId": trace_id, "body": {"stringValue": "told"}}
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    assert httpx.post(f"{url}/v1/logs", json=document).json() == {}
    (row,) = appender.logs()
    assert (row["body"], row["trace_id"]) == ("told", None)


def test_a_span_without_a_valid_id_is_refused(url: str) -> None:
    span = {"traceId": "r3mHZkfNQ92ESOslEYAxnA==", "spanId": "b7ad6b7169203331", "name": "GET"}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    answer = httpx.post(f"{url}/v1/traces", json=document).json()
    assert answer["partialSuccess"]["rejectedSpans"] == "1"


def test_logs_come_in_by_protobuf_and_by_json(url: str, appender: Any) -> None:
    request, records = logs_request()
    records.add(time_unix_nano=NOW_NS).body.string_value = "by protobuf"
    body = gzip.compress(request.SerializeToString())
    headers = {**PROTOBUF, "Content-Encoding": "gzip"}
    assert httpx.post(f"{url}/v1/logs", content=body, headers=headers).content == b""
    record = {
        "timeUnixNano": str(NOW_NS),
        "severityNumber": 13,
        "eventName": "cart.lost",
        "traceId": TRACE.hex(),
        "body": {"stringValue": "by json"},
    }
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, {"traceId": 7}]}]}]}
    answer = httpx.post(f"{url}/v1/logs", json=document).json()
    assert answer["partialSuccess"] == {
        "rejectedLogRecords": "1",
        "errorMessage": "rejected: 1 x malformed",
    }
    assert [row["body"] for row in appender.logs()] == ["by protobuf", "by json"]
    assert appender.logs()[1]["trace_id"] == TRACE


def test_what_is_accepted_and_refused_is_counted_by_sender(
    url: str, sources: SourceRegistry, registry: Any
) -> None:
    request, records = logs_request()
    records.add(time_unix_nano=NOW_NS).body.string_value = "good"
    records.add(time_unix_nano=1)
    records.add(time_unix_nano=NOW_NS).body.bytes_value = b"x" * 20_000
    response = httpx.post(f"{url}/v1/logs", content=request.SerializeToString(), headers=PROTOBUF)
    success = ExportLogsServiceResponse.FromString(response.content).partial_success
    assert success.rejected_log_records == 1
    (status,) = sources.list(NOW_MS)
    assert (status.name, dict(status.dropped)) == ("otlp:shop", {"absurd_time": 1})
    labels = {"source": "otlp:shop", "signal": "logs"}
    assert registry.get_sample_value("warroom_collector_accepted_total", labels) == 2


def test_a_record_past_its_bound_is_dropped_and_counted(
    url: str, appender: Any, sources: SourceRegistry
) -> None:
    request, records = logs_request()
    record = records.add(time_unix_nano=NOW_NS)
    for number in range(6):
        record.attributes.add(key=f"a{number}").value.string_value = "x" * 30_000
    httpx.post(f"{url}/v1/logs", content=request.SerializeToString(), headers=PROTOBUF)
    assert appender.logs() == []
    assert sources.list(NOW_MS)[0].dropped == {"log_too_large": 1}


def test_secrets_in_logs_never_reach_the_store(url: str, appender: Any) -> None:
    request, records = logs_request()
    record = records.add(time_unix_nano=NOW_NS)
    record.body.string_value = (
        "login of https://bob:hunter2@shop.example/?token=tok123 with Bearer hunter2hunter2 "
        '{"password": "hunter2"} card 4111 1111 1111 1111'
    )
    record.attributes.add(key="db.password").value.string_value = "hunter2"
    httpx.post(f"{url}/v1/logs", content=request.SerializeToString(), headers=PROTOBUF)
    stored = json.dumps(appender.logs(), default=str)
    assert not [word for word in ("hunter2", "tok123", "4111") if word in stored]
    assert "login of https" in stored


def test_web_vitals_by_logs_are_handed_on_once_the_rest_is_stored(
    url: str, appender: Any, taken: list[Vital]
) -> None:
    request, records = logs_request("web")
    vital_record(records, in_body=False)
    records.add(time_unix_nano=NOW_NS).body.string_value = "clicked"
    body = request.SerializeToString()
    appender.refuse_with = Overloaded("the queue is full")
    assert httpx.post(f"{url}/v1/logs", content=body, headers=PROTOBUF).status_code == 429
    assert taken == []
    appender.refuse_with = None
    assert httpx.post(f"{url}/v1/logs", content=body, headers=PROTOBUF).status_code == 200
    assert [vital.name for vital in taken] == ["LCP"]
    assert [row["body"] for row in appender.logs()] == ["clicked"]


def test_the_sdk_exporter_delivers_a_record_within_its_trace(
    url: str, appender: Any, clock: Any
) -> None:
    clock.now_ms = time.time_ns() // 1_000_000 + 1000
    resource = Resource.create({"service.name": "shop"})
    tracers = TracerProvider(resource=resource)
    provider = LoggerProvider(resource)
    exporter = OTLPLogExporter(f"{url}/v1/logs")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    with tracers.get_tracer("t").start_as_current_span("checkout") as span:
        provider.get_logger("orders").emit(
            body="paid", severity_number=SeverityNumber.WARN, timestamp=time.time_ns()
        )
    provider.shutdown()
    tracers.shutdown()
    (row,) = appender.logs()
    assert (row["body"], row["severity"], row["scope"]) == ("paid", 13, "orders")
    assert row["trace_id"] == span.get_span_context().trace_id.to_bytes(16, "big")
