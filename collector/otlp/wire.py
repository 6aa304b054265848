"""OTLP's envelope messages with their leaves left as bytes.

The wire format does not tell a sub-message from bytes. Reading the leaves as bytes has two uses:
equal leaves (attributes above all) are recognised without being parsed again, and a leaf that is
malformed or not UTF-8 costs that leaf alone, not the whole request.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from collector.otlp import span_scanner as scanner
from collector.wire import fields
from store.errors import BadInput, LimitExceeded

# Of one request. Empty messages take two bytes each as they arrive, and fifty in memory.
MAX_RESOURCES, MAX_SCOPES, MAX_LEAVES = 5_000, 20_000, 100_000
_Field = descriptor_pb2.FieldDescriptorProto
_BYTES = _Field.TYPE_BYTES
_PACKAGE = "warroom.otlp"

# Field numbers: opentelemetry-proto 1.x, trace.proto, metrics.proto, logs.proto.
_SPAN: dict[str, tuple[int, int, bool]] = {
    "name": (5, _BYTES, False),
    "attributes": (9, _BYTES, True),
    "events": (11, _BYTES, True),
    "links": (13, _BYTES, True),
    "status": (15, _BYTES, False),
}
_METRIC: dict[str, tuple[int, int, bool]] = {
    "name": (1, _BYTES, False),
    "description": (2, _BYTES, False),
    "unit": (3, _BYTES, False),
    "gauge": (5, _BYTES, False),
    "sum": (7, _BYTES, False),
    "histogram": (9, _BYTES, False),
    "exponential_histogram": (10, _BYTES, False),
    "summary": (11, _BYTES, False),
}
# What any kind of metric holds: `Sum` has all three.
_METRIC_DATA: dict[str, tuple[int, int, bool]] = {
    "points": (1, _BYTES, True),
    "aggregation_temporality": (2, _Field.TYPE_INT32, False),
    "is_monotonic": (3, _Field.TYPE_BOOL, False),
}


def span_fields(encoded: bytes) -> Any:
    """A span, or any run of its fields, with attributes, events, links and status as bytes.

    Raises:
        DecodeError: It is no such run.
    """
    return _classes()["Span"].FromString(encoded)


def metric_fields(encoded: bytes) -> Any:
    """A metric, its texts and its data as bytes.

    Raises:
        DecodeError: It is none.
    """
    return _classes()["Metric"].FromString(encoded)


def metric_data(encoded: bytes) -> Any:
    """A metric's data of any kind, each point as bytes.

    Raises:
        DecodeError: It is none.
    """
    return _classes()["MetricData"].FromString(encoded)


def parse_leaf_envelope(body: bytes) -> Any:
    """Metrics or logs: `resources[].scopes[].leaves[]`, each leaf as bytes.

    Raises:
        BadInput: It is no such message.
        LimitExceeded: It holds too many of them.
    """
    resources, scopes, leaves = _counts(body)
    if resources > MAX_RESOURCES or scopes > MAX_SCOPES or leaves > MAX_LEAVES:
        raise LimitExceeded(
            f"one request holds {leaves} items of {scopes} scopes and {resources} resources",
            reason="too_many_items",
            hint=f"send at most {MAX_LEAVES}, {MAX_SCOPES} and {MAX_RESOURCES}",
        )
    return _parse(_classes()["LeafRequest"], body)


def count_messages(encoded: bytes) -> int:
    """How many messages of the field 1 a message holds.

    Raises:
        DecodeError: It is no message.
    """
    try:
        return _counts(encoded)[0]
    except BadInput as error:
        raise DecodeError(error.message) from error


def _counts(body: bytes) -> list[int]:
    """Messages of field 1, those of field 2 in them, and those of field 2 in these.

    Requests of traces, metrics and logs agree in these numbers.
    """
    rows = scanner.Rows.of(0, 0, 0)
    if scanner.scan(np.frombuffer(body, dtype=np.uint8), rows, scanner.COUNT) != fields.OK:
        raise unreadable()
    found: list[int] = rows.counts.tolist()
    return found


def _parse(message_class: Any, body: bytes) -> Any:
    try:
        return message_class.FromString(body)
    except DecodeError as error:
        raise unreadable() from error


def unreadable() -> BadInput:
    """The refusal of a body that is no OTLP message."""
    return BadInput(
        "the body is not a valid OTLP protobuf message",
        hint="it may be truncated, or its Content-Type may be wrong",
    )


@cache
def _classes() -> dict[str, Any]:
    # Of proto2, whose single fields tell whether they are there.
    file = descriptor_pb2.FileDescriptorProto(
        name="warroom_otlp.proto", package=_PACKAGE, syntax="proto2"
    )
    _message(file, "Span", _SPAN)
    _message(file, "LeafScope", {"scope": (1, _BYTES, False), "leaves": (2, _BYTES, True)})
    _nested(file, "LeafResource", (("resource", 1, ""), ("scopes", 2, "LeafScope")))
    _nested(file, "LeafRequest", (("resources", 1, "LeafResource"),))
    _message(file, "Metric", _METRIC)
    _message(file, "MetricData", _METRIC_DATA)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("Span", "LeafRequest", "Metric", "MetricData")
    }


def _message(
    file: descriptor_pb2.FileDescriptorProto, name: str, told: dict[str, tuple[int, int, bool]]
) -> None:
    message = file.message_type.add(name=name)
    for field_name, (number, kind, repeated) in told.items():
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        message.field.add(name=field_name, number=number, type=kind, label=label)


def _nested(
    file: descriptor_pb2.FileDescriptorProto, name: str, told: tuple[tuple[str, int, str], ...]
) -> None:
    """Fields without a message name are single bytes; those with one are repeated messages."""
    message = file.message_type.add(name=name)
    for field_name, number, child in told:
        if child:
            message.field.add(
                name=field_name,
                number=number,
                type=_Field.TYPE_MESSAGE,
                type_name=f".{_PACKAGE}.{child}",
                label=_Field.LABEL_REPEATED,
            )
        else:
            message.field.add(
                name=field_name, number=number, type=_BYTES, label=_Field.LABEL_OPTIONAL
            )
