"""OTLP attribute values as plain data, bounded."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import orjson

MAX_ATTRIBUTES = 128
MAX_VALUE_LENGTH = 32 * 1024
MAX_KEY_LENGTH = 256
_CUT = "…"

Plain = str | int | float | bool | list[Any] | dict[str, Any] | None


def plain(value: Any) -> Plain:
    """An `AnyValue` as JSON-ready data; bytes in base64, long text cut.

    >>> from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    >>> plain(AnyValue(int_value=3))
    3
    """
    text: str = value.string_value
    if text:
        return text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + _CUT
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values[:MAX_ATTRIBUTES]]
    if kind == "kvlist_value":
        return plain_dict(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value[:MAX_VALUE_LENGTH]).decode("ascii")
    found: Plain = getattr(value, kind)
    return found


def plain_dict(attributes: Iterable[Any]) -> dict[str, Any]:
    """Attributes as a dict; the first `MAX_ATTRIBUTES` are kept, the last of equal keys wins."""
    found: dict[str, Any] = {}
    for attribute in attributes:
        if len(found) >= MAX_ATTRIBUTES:
            break
        found[attribute.key[:MAX_KEY_LENGTH]] = plain(attribute.value)
    return found


def json_object(values: dict[str, Any]) -> str | None:
    """JSON text, or None when there is nothing to say. NaN and infinities become null."""
    return orjson.dumps(values).decode() if values else None


def label_text(value: Plain) -> str:
    """A value as a Prometheus label value: booleans in lower case, structures as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return orjson.dumps(value).decode()
