"""OTLP/gRPC against the real SDK exporters and against bad input."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from collector.otlp.ingest import OtlpIngest
from collector.otlp.status import status_protobuf
from store.errors import Overloaded, StoreUnavailable
from tests.collector.otlp_bodies import trace_request

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@pytest.fixture
def address(pipeline: Any, grpc_server: Callable[[OtlpIngest], str]) -> str:
    return grpc_server(OtlpIngest(pipeline))


def call(address: str, method: str, body: bytes, **options: Any) -> bytes:
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary(method)(body, timeout=10, **options)
        return answer


def test_the_sdk_exporters_deliver_spans_and_metrics(
    address: str, appender: Any, clock: Any
) -> None:
    clock.now_ms = time.time_ns() // 1_000_000 + 1000
    resource = Resource.create({"service.name": "shop"})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(address, insecure=True, compression=grpc.Compression.Gzip)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("GET"):
        pass
    provider.shutdown()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(address, insecure=True), 3_600_000)
    meters = MeterProvider([reader], resource)
    meters.get_meter("m").create_counter("orders").add(2)
    meters.shutdown()

    assert [(row["service"], row["name"]) for row in appender.spans()] == [("shop", "GET")]
    found = {series.metric: rows[-1][1] for series, rows in appender.samples().items()}
    assert found["orders_total"] == 2


@pytest.mark.parametrize("body", [b"\x0a\xff\x01abc", b"\xff" * 40])
def test_a_malformed_message_is_an_invalid_argument(address: str, body: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(address, TRACES, body)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not a valid OTLP protobuf message" in caught.value.details()


def test_a_message_past_the_bound_is_refused(address: str) -> None:
    for options in ({}, {"compression": grpc.Compression.Gzip}):
        with pytest.raises(grpc.RpcError) as caught:
            call(address, TRACES, bytes(5 << 20), **options)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_overload_tells_when_to_retry(address: str, appender: Any) -> None:
    body = trace_request().SerializeToString()
    appender.refuse_with = Overloaded("the queue is full", retry_after_s=9)
    with pytest.raises(grpc.RpcError) as caught:
        call(address, TRACES, body)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(caught.value.trailing_metadata())
    assert trailers["grpc-status-details-bin"] == status_protobuf(
        8, "the queue is full", retry_after_s=9
    )
    appender.refuse_with = StoreUnavailable("closed")
    with pytest.raises(grpc.RpcError) as caught:
        call(address, TRACES, body)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_retry_details_are_googles_own_message() -> None:
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

    status = Status.FromString(status_protobuf(8, "x" * 300, retry_after_s=200))
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, len(status.message), info.retry_delay.seconds) == (8, 300, 200)


def test_logs_are_stored_and_bad_ones_counted(address: str, appender: Any) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    records.add(severity_text="INFO")
    records.add(time_unix_nano=1)
    answer = ExportLogsServiceResponse.FromString(call(address, LOGS, request.SerializeToString()))
    assert answer.partial_success.rejected_log_records == 1
    assert answer.partial_success.error_message == "rejected: 1 x absurd_time"
    assert [row["severity"] for row in appender.logs()] == [9]


def test_the_sdk_exporter_delivers_logs(address: str, appender: Any, clock: Any) -> None:
    clock.now_ms = time.time_ns() // 1_000_000 + 1000
    provider = LoggerProvider(Resource.create({"service.name": "shop"}))
    provider.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(address, insecure=True))
    )
    record = LogRecord(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber.ERROR,
        body={"order": 7},
        attributes={"password": "hunter2"},
        event_name="order.failed",
    )
    provider.get_logger("orders").emit(record)
    provider.shutdown()
    (row,) = appender.logs()
    assert (row["service"], row["scope"], row["severity"]) == ("shop", "orders", 17)
    assert (row["event_name"], row["body"]) == ("order.failed", '{"order":7}')
    assert row["attributes"] == '{"password":"[redacted]"}'
