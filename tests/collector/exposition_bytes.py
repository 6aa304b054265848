"""Prometheus's protobuf format written by hand, from client_model's metrics.proto."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)
CONTENT_TYPE = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def number(place: int, value: int) -> bytes:
    return varint(place << 3) + varint(value)


def double(place: int, value: float) -> bytes:
    return varint(place << 3 | 1) + struct.pack("<d", value)


def part(place: int, body: bytes | str) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    return varint(place << 3 | 2) + varint(len(raw)) + raw


def labels(given: dict[str, str], place: int = 1) -> bytes:
    return b"".join(part(place, part(1, name) + part(2, text)) for name, text in given.items())


def exemplar(given: dict[str, str], value: float, at_ms: int | None = None) -> bytes:
    at = b""
    if at_ms is not None:
        at = part(3, number(1, at_ms // 1000) + number(2, at_ms % 1000 * 1_000_000))
    return labels(given) + double(2, value) + at


def counter(value: float, told: bytes = b"") -> bytes:
    return part(3, double(1, value) + (part(2, told) if told else b""))


def gauge(value: float) -> bytes:
    return part(2, double(1, value))


def untyped(value: float) -> bytes:
    return part(5, double(1, value))


def summary(count: int, total: float, quantiles: dict[float, float]) -> bytes:
    parts = (part(3, double(1, q) + double(2, value)) for q, value in quantiles.items())
    return part(4, number(1, count) + double(2, total) + b"".join(parts))


def bucket(count: int, bound: float, told: bytes = b"") -> bytes:
    return part(3, number(1, count) + double(2, bound) + (part(3, told) if told else b""))


def histogram(count: int, total: float, *buckets: bytes, native: bytes = b"") -> bytes:
    return part(7, number(1, count) + double(2, total) + b"".join(buckets) + native)


def native(
    schema: int,
    spans: Sequence[tuple[int, int]],
    deltas: Iterable[int],
    *,
    zero_threshold: float = 0.001,
    zero_count: int = 0,
    negative: tuple[Sequence[tuple[int, int]], Iterable[int]] = ((), ()),
) -> bytes:
    """The fields of a native histogram; deltas one by one, as proto2 writes them."""
    return (
        number(5, zigzag(schema))
        + double(6, zero_threshold)
        + number(7, zero_count)
        + _side(9, *negative)
        + _side(12, spans, deltas)
    )


def _side(place: int, spans: Sequence[tuple[int, int]], deltas: Iterable[int]) -> bytes:
    written = b"".join(part(place, number(1, zigzag(at)) + number(2, run)) for at, run in spans)
    return written + b"".join(number(place + 1, zigzag(delta)) for delta in deltas)


def metric(value: bytes, given: dict[str, str] | None = None, at_ms: int | None = None) -> bytes:
    return labels(given or {}) + value + (b"" if at_ms is None else number(6, at_ms))


def family(name: str, kind: int, *metrics: bytes, told: str = "", unit: str = "") -> bytes:
    body = part(1, name) + (part(2, told) if told else b"") + number(3, kind)
    body += b"".join(part(4, one) for one in metrics)
    body += part(5, unit) if unit else b""
    return varint(len(body)) + body
