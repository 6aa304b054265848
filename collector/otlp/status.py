"""`google.rpc.Status` in both encodings, as the OTLP specification wants error bodies.

Written out by hand: two fields do not justify a runtime dependency on Google's common protos.
"""

from __future__ import annotations

import orjson

INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14

_RETRY_INFO_TYPE = b"type.googleapis.com/google.rpc.RetryInfo"


def status_protobuf(code: int, message: str, *, retry_after_s: int | None = None) -> bytes:
    """Status{code=1, message=2, details=3}; the detail is a RetryInfo{retry_delay=1}."""
    body = b"\x08" + _varint(code) + _field(2, message.encode("utf-8", "replace"))
    if retry_after_s is not None:
        duration = b"\x08" + _varint(retry_after_s)
        detail = _field(1, _RETRY_INFO_TYPE) + _field(2, _field(1, duration))
        body += _field(3, detail)
    return body


def status_json(code: int, message: str) -> bytes:
    """The same in JSON, without details."""
    return orjson.dumps({"code": code, "message": message})


def _field(number: int, payload: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
