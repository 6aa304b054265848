"""A compiled scanner over protobuf's WriteRequest. Every read is checked against the end.

It finds what lies where and decodes the samples; labels, exemplars and metadata stay byte ranges,
to be decoded where they are new. Numba checks no bounds, so nothing here reads a byte that
`_varint` and `_length` have not allowed.
"""

# ruff: noqa: C901, PLR0912, PLR0913 -- compiled loops take columns one by
# one, have no keyword arguments, and read best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

OK, TRUNCATED, BAD_VARINT, BAD_WIRE_TYPE = 0, 1, 2, 3
ERRORS = {
    TRUNCATED: "a field reaches past the end of the message",
    BAD_VARINT: "a varint is longer than ten bytes",
    BAD_WIRE_TYPE: "a field has the wrong or an unknown wire type",
}
# Places in the array of counts that both passes keep.
SERIES, SAMPLES, EXEMPLARS, HISTOGRAMS, METADATA, COUNTS = 0, 1, 2, 3, 4, 5

_VARINT, _FIXED64, _LEN, _FIXED32 = 0, 1, 2, 5


def compiled(function: Any) -> Any:
    """Compile on first use, keep on disk, release the GIL."""
    return njit(cache=True, nogil=True)(function)


@compiled
def _varint(data: Bytes, place: int, end: int) -> tuple[np.uint64, int]:
    """Value and next place; the place is minus an error code where there is none."""
    value = np.uint64(0)
    shift = np.uint64(0)
    for _ in range(10):
        if place >= end:
            return value, -TRUNCATED
        byte = np.uint64(data[place])
        place += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            return value, place
        shift += np.uint64(7)
    return value, -BAD_VARINT


@compiled
def _length(data: Bytes, place: int, end: int) -> tuple[int, int]:
    """Start and end of a length-delimited field; the end is minus an error code otherwise."""
    size, start = _varint(data, place, end)
    if start < 0:
        return 0, start
    if size > np.uint64(end - start):
        return 0, -TRUNCATED
    return start, start + np.int64(size)


@compiled
def _skip(data: Bytes, place: int, end: int, wire: int) -> int:
    """The place after a field of this wire type, or minus an error code."""
    if wire == _VARINT:
        return _varint(data, place, end)[1]
    if wire == _LEN:
        return _length(data, place, end)[1]
    size = 8 if wire == _FIXED64 else 4 if wire == _FIXED32 else 0
    if size == 0:
        return -BAD_WIRE_TYPE
    return place + size if place + size <= end else -TRUNCATED


@compiled
def _tag(data: Bytes, place: int, end: int) -> tuple[int, int, int]:
    """Field number, wire type, next place (or minus an error code)."""
    key, place = _varint(data, place, end)
    if place < 0:
        return 0, 0, place
    return np.int64(key >> np.uint64(3)), np.int64(key & np.uint64(7)), place


@compiled
def _sample(
    data: Bytes, place: int, end: int, bits: npt.NDArray[np.uint64], ts: Ints, row: int
) -> int:
    """Decode one Sample into row `row` of the columns."""
    bits[row] = np.uint64(0)
    ts[row] = 0
    while place < end:
        field, wire, place = _tag(data, place, end)
        if place < 0:
            return place
        if field == 1 and wire == _FIXED64:
            if place + 8 > end:
                return -TRUNCATED
            value = np.uint64(0)
            for byte in range(8):
                value |= np.uint64(data[place + byte]) << np.uint64(8 * byte)
            bits[row] = value
            place += 8
        elif field == 2 and wire == _VARINT:
            stamp, place = _varint(data, place, end)
            if place < 0:
                return place
            ts[row] = np.int64(stamp)
        elif field in (1, 2):
            return -BAD_WIRE_TYPE
        else:
            place = _skip(data, place, end, wire)
            if place < 0:
                return place
    return place


@compiled
def _series(
    data: Bytes,
    place: int,
    end: int,
    series: Ints,
    bits: npt.NDArray[np.uint64],
    ts: Ints,
    owner: Ints,
    exemplars: Ints,
    counts: Ints,
    fill: int,
) -> int:
    """One TimeSeries. `series` rows: first and past-last byte of its labels, contiguous or not."""
    number = counts[SERIES]
    first, last, contiguous = -1, -1, 1
    while place < end:
        begin = place
        field, wire, place = _tag(data, place, end)
        if place < 0:
            return place
        if field < 1 or field > 4:
            place = _skip(data, place, end, wire)
            if place < 0:
                return place
            continue
        if wire != _LEN:
            return -BAD_WIRE_TYPE
        start, place = _length(data, place, end)
        if place < 0:
            return place
        if field == 1:
            if first < 0:
                first = begin
            elif begin != last:
                contiguous = 0
            last = place
        elif field == 2:
            if fill:
                done = _sample(data, start, place, bits, ts, counts[SAMPLES])
                if done < 0:
                    return done
                owner[counts[SAMPLES]] = number
            counts[SAMPLES] += 1
        elif field == 3:
            if fill:
                exemplars[3 * counts[EXEMPLARS]] = number
                exemplars[3 * counts[EXEMPLARS] + 1] = start
                exemplars[3 * counts[EXEMPLARS] + 2] = place
            counts[EXEMPLARS] += 1
        else:
            counts[HISTOGRAMS] += 1
    if fill:
        series[3 * number] = max(first, 0)
        series[3 * number + 1] = max(last, 0)
        series[3 * number + 2] = contiguous
    counts[SERIES] += 1
    return place


@compiled
def scan(
    data: Bytes,
    series: Ints,
    bits: npt.NDArray[np.uint64],
    ts: Ints,
    owner: Ints,
    exemplars: Ints,
    metadata: Ints,
    counts: Ints,
    fill: int,
) -> int:
    """Walk a WriteRequest: first only to count, then (`fill`) into arrays of that size.

    Returns OK or an error code.
    """
    counts[:] = 0
    place, end = 0, len(data)
    while place < end:
        field, wire, place = _tag(data, place, end)
        if place < 0:
            return -place
        if field not in (1, 3):
            place = _skip(data, place, end, wire)
            if place < 0:
                return -place
            continue
        if wire != _LEN:
            return BAD_WIRE_TYPE
        start, place = _length(data, place, end)
        if place < 0:
            return -place
        if field == 1:
            done = _series(data, start, place, series, bits, ts, owner, exemplars, counts, fill)
            if done < 0:
                return -done
        else:
            if fill:
                metadata[2 * counts[METADATA]] = start
                metadata[2 * counts[METADATA] + 1] = place
            counts[METADATA] += 1
    return OK
