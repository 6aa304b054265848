"""OTLP requests that several tests send."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

NOW_NS = 1_790_000_000_000 * 1_000_000


def trace_request(spans: int = 1, **fields: Any) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    name = resource.resource.attributes.add()
    name.key, name.value.string_value = "service.name", "shop"
    scope = resource.scope_spans.add()
    for place in range(spans):
        span = scope.spans.add(
            trace_id=bytes([1] * 16),
            span_id=(place + 1).to_bytes(8, "big"),
            name="GET",
            start_time_unix_nano=NOW_NS,
            end_time_unix_nano=NOW_NS + 1000,
        )
        for key, value in fields.items():
            setattr(span, key, value)
    return request
