"""OTLP's envelope messages with their leaves left as bytes.

The wire format does not tell a sub-message from bytes. Reading the leaves as bytes has two uses:
equal leaves (attributes above all) are recognised without being parsed again, and a leaf that is
malformed or not UTF-8 costs that leaf alone, not the whole request.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from store.errors import BadInput

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


def span_fields(encoded: bytes) -> Any:
    """A span, or any run of its fields, with attributes, events, links and status as bytes.

    Raises:
        DecodeError: It is no such run.
    """
    return _classes()["Span"].FromString(encoded)


def parse_leaf_envelope(body: bytes) -> Any:
    """Metrics or logs: `resources[].scopes[].leaves[]`, each leaf as bytes."""
    return _parse(_classes()["LeafRequest"], body)


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
    file = descriptor_pb2.FileDescriptorProto(
        name="warroom_otlp.proto", package=_PACKAGE, syntax="proto3"
    )
    _message(file, "Span", _SPAN)
    _message(file, "LeafScope", {"scope": (1, _BYTES, False), "leaves": (2, _BYTES, True)})
    _nested(file, "LeafResource", (("resource", 1, ""), ("scopes", 2, "LeafScope")))
    _nested(file, "LeafRequest", (("resources", 1, "LeafResource"),))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("Span", "LeafRequest")
    }


def _message(
    file: descriptor_pb2.FileDescriptorProto, name: str, fields: dict[str, tuple[int, int, bool]]
) -> None:
    message = file.message_type.add(name=name)
    for field_name, (number, kind, repeated) in fields.items():
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        message.field.add(name=field_name, number=number, type=kind, label=label)


def _nested(
    file: descriptor_pb2.FileDescriptorProto, name: str, fields: tuple[tuple[str, int, str], ...]
) -> None:
    """Fields without a message name are single bytes; those with one are repeated messages."""
    message = file.message_type.add(name=name)
    for field_name, number, child in fields:
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
