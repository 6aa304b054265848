"""Native histograms as compact bytes, for storage.

Layout, little-endian: version, flags, schema, hint (one byte each); zero threshold, zero count,
count, sum (doubles); for each side the number of buckets, the index differences as zigzag varints
and the counts; the number of custom values and the values as doubles. Counts are zigzag varints of
their differences where all of them are whole numbers below 2^53, else doubles; flags say which.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from store.histogram_checks import validated
from store.histograms import (
    MAX_BUCKETS,
    Buckets,
    HistogramError,
    NativeHistogram,
    ResetHint,
)

VERSION = 1
_HEAD = struct.Struct("<BBbBdddd")
_WHOLE_POSITIVE, _WHOLE_NEGATIVE = 1, 2
_EXACT = float(2**53)


def encode(histogram: NativeHistogram) -> bytes:
    """The bytes of a histogram."""
    positive, negative = _whole(histogram.positive), _whole(histogram.negative)
    flags = _WHOLE_POSITIVE * positive | _WHOLE_NEGATIVE * negative
    out = bytearray(
        _HEAD.pack(
            VERSION,
            flags,
            histogram.schema,
            histogram.reset_hint,
            histogram.zero_threshold,
            histogram.zero_count,
            histogram.count,
            histogram.sum,
        )
    )
    _put_side(out, histogram.positive, whole=positive)
    _put_side(out, histogram.negative, whole=negative)
    bounds = histogram.custom_values
    _put_varint(out, len(bounds))
    out += struct.pack(f"<{len(bounds)}d", *bounds)
    return bytes(out)


def decode(data: bytes) -> NativeHistogram:
    """The histogram of these bytes.

    Raises:
        HistogramError: They are not what `encode` writes: cut off, too long, or out of bounds.
    """
    if len(data) < _HEAD.size or data[0] != VERSION:
        raise HistogramError("stored histogram is cut off or of an unknown version")
    _, flags, schema, hint, threshold, zero_count, count, total = _HEAD.unpack_from(data)
    if hint > ResetHint.GAUGE:
        raise HistogramError(f"stored histogram has an unknown reset hint {hint}")
    place = _HEAD.size
    positive, place = _side(data, place, whole=bool(flags & _WHOLE_POSITIVE))
    negative, place = _side(data, place, whole=bool(flags & _WHOLE_NEGATIVE))
    number, place = _size(data, place)
    bounds, place = _doubles(data, place, number)
    if place != len(data):
        raise HistogramError(f"stored histogram has {len(data) - place} bytes too many")
    return validated(
        NativeHistogram(
            schema=schema,
            zero_threshold=threshold,
            zero_count=zero_count,
            count=count,
            sum=total,
            positive=positive,
            negative=negative,
            custom_values=bounds,
            reset_hint=ResetHint(hint),
        )
    )


def _whole(side: Buckets) -> bool:
    return all(count.is_integer() and abs(count) < _EXACT for count in side.counts)


def _put_side(out: bytearray, side: Buckets, *, whole: bool) -> None:
    _put_varint(out, len(side))
    for before, now in pairwise((0, *side.indexes)):
        _put_varint(out, _zigzag(now - before))
    if not whole:
        out += struct.pack(f"<{len(side)}d", *side.counts)
        return
    for before, now in pairwise((0, *map(int, side.counts))):
        _put_varint(out, _zigzag(now - before))


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _put_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise HistogramError("stored histogram is cut off within a number")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7


def _size(data: bytes, place: int) -> tuple[int, int]:
    number, place = _varint(data, place)
    if number > MAX_BUCKETS:
        raise HistogramError(f"stored histogram claims {number} entries, more than {MAX_BUCKETS}")
    return number, place


def _running(data: bytes, place: int, number: int) -> tuple[list[int], int]:
    values, total = [], 0
    for _ in range(number):
        raw, place = _varint(data, place)
        total += raw >> 1 if not raw & 1 else -((raw + 1) >> 1)
        values.append(total)
    return values, place


def _doubles(data: bytes, place: int, number: int) -> tuple[tuple[float, ...], int]:
    if place + 8 * number > len(data):
        raise HistogramError("stored histogram is cut off within its counts")
    return struct.unpack_from(f"<{number}d", data, place), place + 8 * number


def _side(data: bytes, place: int, *, whole: bool) -> tuple[Buckets, int]:
    number, place = _size(data, place)
    indexes, place = _running(data, place, number)
    if whole:
        counts, place = _running(data, place, number)
        return Buckets(tuple(indexes), tuple(map(float, counts))), place
    floats, place = _doubles(data, place, number)
    return Buckets(tuple(indexes), floats), place
