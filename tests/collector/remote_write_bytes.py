"""Remote write's protobuf, written by hand so that tests need no generated code."""

import struct
from collections.abc import Sequence

Sample = tuple[int, float]


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def labels_bytes(pairs: Sequence[tuple[str, str]]) -> bytes:
    return b"".join(
        field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in pairs
    )


def sample_bytes(ts_ms: int, value: float) -> bytes:
    return b"\x09" + struct.pack("<d", value) + b"\x10" + varint(ts_ms)


def series_bytes(pairs: Sequence[tuple[str, str]], samples: Sequence[Sample]) -> bytes:
    body = labels_bytes(pairs) + b"".join(field(2, sample_bytes(*one)) for one in samples)
    return field(1, body)
