"""Fields of protobuf messages, read by compiled code. Every read is checked against the end.

Numba checks no bounds: whoever reads bytes reads those that these have allowed.
"""


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
VARINT, FIXED64, LEN, FIXED32 = 0, 1, 2, 5


def compiled(function: Any) -> Any:
    """Compile on first use, keep on disk, release the GIL."""
    return njit(cache=True, nogil=True)(function)


@compiled
def varint(data: Bytes, place: int, end: int) -> tuple[np.uint64, int]:
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
def length(data: Bytes, place: int, end: int) -> tuple[int, int]:
    """Start and end of a length-delimited field; the end is minus an error code otherwise."""
    if place < end and data[place] < 0x80:
        stop = place + 1 + np.int64(data[place])
        return (place + 1, stop) if stop <= end else (0, -TRUNCATED)
    size, start = varint(data, place, end)
    if start < 0:
        return 0, start
    if size > np.uint64(end - start):
        return 0, -TRUNCATED
    return start, start + np.int64(size)


@compiled
def skip(data: Bytes, place: int, end: int, wire: int) -> int:
    """The place after a field of this wire type, or minus an error code."""
    if wire == VARINT:
        return varint(data, place, end)[1]
    if wire == LEN:
        return length(data, place, end)[1]
    size = 8 if wire == FIXED64 else 4 if wire == FIXED32 else 0
    if size == 0:
        return -BAD_WIRE_TYPE
    return place + size if place + size <= end else -TRUNCATED


@compiled
def tag(data: Bytes, place: int, end: int) -> tuple[int, int, int]:
    """Field number, wire type, next place (or minus an error code)."""
    if place < end and data[place] < 0x80:
        small = np.int64(data[place])
        return small >> 3, small & 7, place + 1
    key, place = varint(data, place, end)
    if place < 0:
        return 0, 0, place
    return np.int64(key >> np.uint64(3)), np.int64(key & np.uint64(7)), place
