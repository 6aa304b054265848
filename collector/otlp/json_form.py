"""OTLP/JSON to OTLP/protobuf: ids are hex, integers may be text, unknown fields are ignored.

A span with an id that is no hex is refused; a log record or an exemplar tells something without it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from store.errors import BadInput

MAX_DEPTH = 64
_ID_KEYS = frozenset({"traceId", "spanId", "parentSpanId"})
_TRACES = "traces"
_UNREADABLE = (json_format.Error, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class _Shape:
    request: Any
    resources: tuple[str, str]  # in JSON, in protobuf
    scopes: tuple[str, str]
    leaves: tuple[str, str]


_SHAPES = {
    "traces": _Shape(
        ExportTraceServiceRequest,
        ("resourceSpans", "resource_spans"),
        ("scopeSpans", "scope_spans"),
        ("spans", "spans"),
    ),
    "metrics": _Shape(
        ExportMetricsServiceRequest,
        ("resourceMetrics", "resource_metrics"),
        ("scopeMetrics", "scope_metrics"),
        ("metrics", "metrics"),
    ),
    "logs": _Shape(
        ExportLogsServiceRequest,
        ("resourceLogs", "resource_logs"),
        ("scopeLogs", "scope_logs"),
        ("logRecords", "log_records"),
    ),
}


def protobuf_of_json(signal: str, body: bytes) -> tuple[bytes, int]:
    """The request in protobuf, and how many items were unreadable and left out.

    Raises:
        BadInput: It is no JSON, or not of OTLP's shape.
    """
    shape = _SHAPES[signal]
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not valid JSON: {error}") from error
    request = shape.request()
    rejected = 0
    for resource in _list(document, shape.resources[0]):
        scopes = _list(resource, shape.scopes[0])
        target = getattr(request, shape.resources[1]).add()
        _fill(target.resource, resource.get("resource"))
        for scope in scopes:
            documents = _list(scope, shape.leaves[0])
            scope_target = getattr(target, shape.scopes[1]).add()
            _fill(scope_target.scope, scope.get("scope"))
            leaves = getattr(scope_target, shape.leaves[1])
            for leaf in documents:
                rejected += not _add(leaves, leaf, needs_ids=signal == _TRACES)
    return request.SerializeToString(), rejected


def _list(parent: Any, key: str) -> list[Any]:
    if not isinstance(parent, dict):
        raise BadInput(f"a JSON object holding {key!r} is expected")
    found = parent.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadInput(f"{key!r} must be a list")
    return found


def _fill(message: Any, document: Any) -> None:
    if document is None:
        return
    try:
        json_format.ParseDict(document, message, ignore_unknown_fields=True)
    except _UNREADABLE as error:
        raise BadInput("a resource or scope is not of OTLP's shape") from error


def _add(leaves: Any, document: Any, *, needs_ids: bool) -> bool:
    message = leaves.add()
    try:
        fields = _ids_in_base64(document, 0, needed=needs_ids)
        json_format.ParseDict(fields, message, ignore_unknown_fields=True)
        message.SerializeToString()
    except _UNREADABLE:
        del leaves[-1]
        return False
    return True


def _ids_in_base64(value: Any, depth: int, *, needed: bool) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(value, list):
        return [_ids_in_base64(item, depth + 1, needed=needed) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _base64_of_hex(item, needed=needed)
        if key in _ID_KEYS
        else _ids_in_base64(item, depth + 1, needed=needed)
        for key, item in value.items()
    }


def _base64_of_hex(text: Any, *, needed: bool) -> str:
    """The id in base64; none where the text is no hex and is not needed.

    Raises:
        TypeError, ValueError: It is no text, or needed and no hex.
    """
    if not isinstance(text, str):
        raise TypeError("an id must be text in hex")
    try:
        return base64.b64encode(binascii.unhexlify(text)).decode("ascii")
    except ValueError as error:
        if needed:
            raise ValueError("an id must be hex") from error
        return ""
