"""Remote write's protobuf, written by hand so that tests need no generated code.

1.0: prometheus.WriteRequest; 2.0: io.prometheus.write.v2.Request, after the specifications.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

Sample = tuple[int, float]
Pairs = Sequence[tuple[str, str]]


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else -value * 2 - 1)


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def labels_bytes(pairs: Pairs) -> bytes:
    return b"".join(
        field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in pairs
    )


def sample_bytes(ts_ms: int, value: float) -> bytes:
    return b"\x09" + struct.pack("<d", value) + b"\x10" + varint(ts_ms)


def series_bytes(pairs: Pairs, samples: Sequence[Sample]) -> bytes:
    body = labels_bytes(pairs) + b"".join(field(2, sample_bytes(*one)) for one in samples)
    return field(1, body)


@dataclass(frozen=True)
class HistogramBody:
    """prometheus.Histogram with integer counts; spans are (offset, length)."""

    ts_ms: int
    count: int = 0
    total: float = 0.0
    schema: int = 0
    zero_threshold: float = 0.0
    zero_count: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    deltas: tuple[int, ...] = ()

    def encoded(self) -> bytes:
        spans = b"".join(
            field(11, varint(8) + zigzag(offset) + integer(2, length))
            for offset, length in self.spans
        )
        return (
            integer(1, self.count)
            + double(3, self.total)
            + varint(4 << 3)
            + zigzag(self.schema)
            + double(5, self.zero_threshold)
            + integer(6, self.zero_count)
            + spans
            + field(12, b"".join(map(zigzag, self.deltas)))
            + integer(15, self.ts_ms)
        )


@dataclass
class RequestV2:
    """A Request of 2.0 in the making: symbols are interned as series are added."""

    symbols: list[str] = dataclass_field(default_factory=lambda: [""])
    series: list[bytes] = dataclass_field(default_factory=list)

    def symbol(self, text: str) -> int:
        if text not in self.symbols:
            self.symbols.append(text)
        return self.symbols.index(text)

    def references(self, pairs: Pairs) -> bytes:
        places = [self.symbol(text) for pair in pairs for text in pair]
        return field(1, b"".join(map(varint, places)))

    def metadata(self, kind: int, text: str = "", unit: str = "") -> bytes:
        return field(
            5, integer(1, kind) + integer(3, self.symbol(text)) + integer(4, self.symbol(unit))
        )

    def exemplar(self, pairs: Pairs, ts_ms: int, value: float) -> bytes:
        return field(4, self.references(pairs) + double(2, value) + integer(3, ts_ms))

    def add(self, pairs: Pairs, samples: Sequence[Sample], *rest: bytes) -> None:
        """A TimeSeries with samples; `rest` are further fields of it."""
        body = self.references(pairs)
        body += b"".join(
            # The third field is the start timestamp of the sample.
            field(2, double(1, value) + integer(2, ts_ms) + integer(3, 1))
            for ts_ms, value in samples
        )
        self.series.append(field(5, body + b"".join(rest)))

    def encoded(self) -> bytes:
        symbols = b"".join(field(4, text.encode()) for text in self.symbols)
        return symbols + b"".join(self.series)
