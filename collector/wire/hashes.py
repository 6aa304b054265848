"""128-bit hashes of bytes: MurmurHash3 x64 128 (A. Appleby, public domain) with a secret key.

A table that is looked up by them trusts all 128 bits. With the published multipliers there are
pairs of inputs that collide under every seed, so the multipliers are secret to the process, too:
the key is two seeds and two odd multipliers. This hinders prepared collisions; it proves nothing.
"""


# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.wire.fields import Bytes, Ints, compiled

Words = npt.NDArray[np.uint64]
Key = tuple[np.uint64, np.uint64, np.uint64, np.uint64]
"""Two seeds, and two odd multipliers."""

_N1, _N2 = np.uint64(0x52DCE729), np.uint64(0x38495AB5)
_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_FIVE, _EIGHT, _FIFTEEN, _SIXTEEN = np.uint64(5), np.uint64(8), np.uint64(15), np.uint64(16)
_SHIFT = np.uint64(33)


def new_key() -> Key:
    """A key of its own for a process or a table."""
    seed_high, seed_low, first, second = (np.uint64(secrets.randbits(64)) for _ in range(4))
    return seed_high, seed_low, first | np.uint64(1), second | np.uint64(1)


@compiled
def _word(data: Bytes, place: np.uint64, size: int) -> np.uint64:
    """Up to eight bytes, little-endian."""
    value = np.uint64(0)
    for byte in range(size):
        value |= np.uint64(data[place + np.uint64(byte)]) << np.uint64(8 * byte)
    return value


@compiled
def _rotated(value: np.uint64, bits: int) -> np.uint64:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@compiled
def mixed(high: np.uint64, low: np.uint64, one: np.uint64, two: np.uint64, key: Key) -> Any:
    """One round: two words into the state."""
    high ^= _rotated(one * key[2], 31) * key[3]
    high = (_rotated(high, 27) + low) * _FIVE + _N1
    low ^= _rotated(two * key[3], 33) * key[2]
    low = (_rotated(low, 31) + high) * _FIVE + _N2
    return high, low


@compiled
def _finished(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _SHIFT)) * _M1
    value = (value ^ (value >> _SHIFT)) * _M2
    return value ^ (value >> _SHIFT)


@compiled
def closed(high: np.uint64, low: np.uint64, size: np.uint64) -> Any:
    """The hash that a state ends in."""
    high ^= size
    low ^= size
    high += low
    low += high
    high = _finished(high)
    low = _finished(low)
    high += low
    return high, low + high


@compiled
def hash_bytes(data: Bytes, start: int, end: int, key: Key) -> Any:
    """Both halves of the hash of `data[start:end]`; the caller vouches for the bounds."""
    high, low = key[0], key[1]
    size = np.uint64(end - start)
    place = np.uint64(start)
    stop = place + (size & ~_FIFTEEN)
    while place < stop:
        high, low = mixed(high, low, _word(data, place, 8), _word(data, place + _EIGHT, 8), key)
        place += _SIXTEEN
    left = size & _FIFTEEN
    if left > _EIGHT:
        tail = _word(data, place + _EIGHT, np.int64(left) - 8)
        low ^= _rotated(tail * key[3], 33) * key[2]
    if left > np.uint64(0):
        tail = _word(data, place, min(np.int64(left), 8))
        high ^= _rotated(tail * key[2], 31) * key[3]
    return closed(high, low, size)


@compiled
def hash_ranges(data: Bytes, ranges: Ints, key: Key, out: Words) -> int:
    """The hash of each range of bytes: its first two columns are start and end."""
    for row in range(len(ranges)):
        start, end = ranges[row, 0], ranges[row, 1]
        out[row, 0], out[row, 1] = hash_bytes(data, start, end, key)
    return 0


@compiled
def hash_references(references: Ints, series: Ints, symbols: Words, key: Key, out: Words) -> int:
    """The hash of each series' run of references, by the hashes of the symbols behind them.

    `series` has the run's start and end in its first two columns. Answers with the number of
    the first series that refers to no symbol or to an odd number of them, or with -1.
    """
    many = len(symbols)
    for row in range(len(series)):
        high, low = key[0], key[1]
        start, end = series[row, 0], series[row, 1]
        if (end - start) % 2:
            return row
        for place in range(start, end):
            symbol = references[place]
            if symbol < 0 or symbol >= many:
                return row
            high, low = mixed(high, low, symbols[symbol, 0], symbols[symbol, 1], key)
        out[row, 0], out[row, 1] = closed(high, low, np.uint64(end - start))
    return -1
