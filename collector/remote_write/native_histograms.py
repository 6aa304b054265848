"""Native histograms of remote write: the message `Histogram`, which 1.0 and 2.0 write alike.

Integer histograms carry bucket counts as differences, float ones as they are; both become float
counts. A histogram whose sum has the staleness bits says that its series ended.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from collector.remote_write.messages import fields, read_varint
from store.errors import BadInput
from store.histogram_checks import validated
from store.histograms import (
    MAX_BUCKETS,
    Buckets,
    HistogramError,
    NativeHistogram,
    ResetHint,
)
from store.model import STALE_NAN_BITS

_COUNT, _COUNT_FLOAT, _SUM, _SCHEMA, _THRESHOLD, _ZERO, _ZERO_FLOAT = range(1, 8)
_NEGATIVE, _POSITIVE = 8, 11  # spans; the next two numbers are deltas and float counts
_HINT, _TIME, _CUSTOM = 14, 15, 16
_NUMBERS = frozenset({_COUNT, _SCHEMA, _ZERO, _HINT, _TIME})
_DOUBLES = frozenset({_COUNT_FLOAT, _SUM, _THRESHOLD, _ZERO_FLOAT})
_MOST_SPANS = MAX_BUCKETS


@dataclass(slots=True)
class _Side:
    spans: list[tuple[int, int]] = field(default_factory=list)
    deltas: list[int] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)

    def buckets(self, *, floats: bool) -> Buckets:
        if floats:
            return Buckets.of_spans(self.spans, self.counts)
        return Buckets.of_spans(self.spans, self.deltas, deltas=True)


@dataclass(frozen=True, slots=True)
class Received:
    """One histogram of a request; None where it says that the series ended."""

    ts_ms: int
    histogram: NativeHistogram | None


def received(data: bytes) -> Received:
    """The histogram of a message's bytes.

    Raises:
        BadInput: They are no such message.
        HistogramError: The histogram cannot be.
    """
    numbers: dict[int, int] = {}
    doubles: dict[int, int] = {}
    custom: list[float] = []
    sides = {_NEGATIVE: _Side(), _POSITIVE: _Side()}
    for number, value in fields(data):
        if number in _NUMBERS:
            numbers[number] = _integer(value)
        elif number in _DOUBLES:
            doubles[number] = _bits(value)
        elif number == _CUSTOM:
            custom.extend(_floats(value))
        elif _NEGATIVE <= number < _HINT:
            first = _NEGATIVE if number < _POSITIVE else _POSITIVE
            _take(sides[first], number - first, value)
        if len(custom) > MAX_BUCKETS:
            raise HistogramError(f"more than {MAX_BUCKETS} custom values")
    ts_ms = _signed(numbers.get(_TIME, 0))
    if doubles.get(_SUM) == STALE_NAN_BITS:
        return Received(ts_ms, None)
    return Received(ts_ms, _histogram(numbers, doubles, tuple(custom), sides))


def _histogram(
    numbers: dict[int, int],
    doubles: dict[int, int],
    custom: tuple[float, ...],
    sides: dict[int, _Side],
) -> NativeHistogram:
    floats = _COUNT_FLOAT in doubles
    hint = numbers.get(_HINT, 0)
    return validated(
        NativeHistogram(
            schema=_zigzag(numbers.get(_SCHEMA, 0)),
            zero_threshold=_double(doubles.get(_THRESHOLD, 0)),
            zero_count=_either(numbers, doubles, _ZERO),
            count=_either(numbers, doubles, _COUNT),
            sum=_double(doubles.get(_SUM, 0)),
            positive=sides[_POSITIVE].buckets(floats=floats),
            negative=sides[_NEGATIVE].buckets(floats=floats),
            custom_values=custom,
            reset_hint=ResetHint(hint) if hint <= ResetHint.GAUGE else ResetHint.UNKNOWN,
        )
    )


def _take(side: _Side, kind: int, value: int | bytes) -> None:
    if kind == 0:
        side.spans.append(_span(value))
        most = len(side.spans) > _MOST_SPANS
    elif kind == 1:
        side.deltas.extend(map(_zigzag, _varints(value)))
        most = len(side.deltas) > MAX_BUCKETS
    else:
        side.counts.extend(_floats(value))
        most = len(side.counts) > MAX_BUCKETS
    if most:
        raise HistogramError(f"more than {MAX_BUCKETS} buckets on one side")


def _span(value: int | bytes) -> tuple[int, int]:
    offset = length = 0
    for number, part in fields(_message(value)):
        if number == 1:
            offset = _zigzag(_integer(part))
        elif number == 2:
            length = _integer(part) & 0xFFFFFFFF
    return offset, length


def _either(numbers: dict[int, int], doubles: dict[int, int], number: int) -> float:
    if number + 1 in doubles:
        return _double(doubles[number + 1])
    return float(numbers.get(number, 0))


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise _malformed()
    return value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _malformed()
    return value


def _bits(value: int | bytes) -> int:
    data = _message(value)
    if len(data) != 8:
        raise _malformed()
    return int.from_bytes(data, "little")


def _double(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def _floats(value: int | bytes) -> tuple[float, ...]:
    """Packed doubles, or a single one: protobuf lets both be sent."""
    data = _message(value)
    if len(data) % 8:
        raise _malformed()
    return struct.unpack(f"<{len(data) // 8}d", data)


def _varints(value: int | bytes) -> Iterator[int]:
    """Packed varints, or a single one."""
    if isinstance(value, int):
        yield value
        return
    place = 0
    while place < len(value):
        number, place = read_varint(value, place)
        yield number


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _malformed() -> BadInput:
    return BadInput("proto: a field of a native histogram has the wrong wire type")
