"""Small numbers by 128-bit hashes: an open-addressing table that compiled code reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from collector.wire.fields import compiled
from collector.wire.hashes import Words
from store.model import Int32Array

UNKNOWN = -1
_EMPTY = -1
_FIRST_ROOM = 512


@compiled
def _look_up(hashes: Words, slots: Int32Array, keys: Words, values: Int32Array, out: Any) -> int:
    """The value of each hash, `UNKNOWN` where there is none; how many there are none of.

    There are at least twice as many slots as keys, so a probe meets an empty one.
    """
    mask = len(slots) - 1
    missing = 0
    for row in range(len(hashes)):
        high, low = hashes[row, 0], hashes[row, 1]
        place = np.int64(high & np.uint64(mask))
        value = np.int32(UNKNOWN)
        for _ in range(len(slots)):
            entry = slots[place]
            if entry == _EMPTY:
                break
            if keys[entry, 0] == high and keys[entry, 1] == low:
                value = values[entry]
                break
            place = (place + 1) & mask
        out[row] = value
        if value == UNKNOWN:
            missing += 1
    return missing


@compiled
def _place(slots: Int32Array, keys: Words, first: int, last: int) -> int:
    """Put the keys of these entries into the slots."""
    mask = len(slots) - 1
    for entry in range(first, last):
        place = np.int64(keys[entry, 0] & np.uint64(mask))
        for _ in range(len(slots)):
            if slots[place] == _EMPTY:
                slots[place] = entry
                break
            place = (place + 1) & mask
    return 0


def slots_for(entries: int) -> Int32Array:
    """Empty slots for so many entries: a power of two, at most half full."""
    return np.full(max(2, 1 << (2 * entries - 1).bit_length()), _EMPTY, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class _Arrays:
    """Replaced as a whole when they grow, so that a reader sees one state."""

    slots: Int32Array
    keys: Words
    values: Int32Array


class HashTable:
    """Readers need no lock; writers hold one of their own.

    A reader that runs beside a writer sees an entry whole or not at all: keys and values are
    written before the slot that leads to them, and a value not yet there reads as `UNKNOWN`.
    """

    def __init__(self) -> None:
        self._entries = 0
        self._arrays = _arrays(_FIRST_ROOM)

    def __len__(self) -> int:
        return self._entries

    def find(self, hashes: Words) -> tuple[Int32Array, int]:
        """The value of each row of hashes, and how many are `UNKNOWN`."""
        found = np.empty(len(hashes), dtype=np.int32)
        arrays = self._arrays
        return found, int(_look_up(hashes, arrays.slots, arrays.keys, arrays.values, found))

    def add(self, hashes: Words, values: Int32Array) -> None:
        """Remember new hashes; values are not `UNKNOWN`."""
        first, last = self._entries, self._entries + len(hashes)
        arrays = self._arrays
        if last > len(arrays.keys):
            arrays = _arrays(max(last, 2 * len(arrays.keys)))
            arrays.keys[:first] = self._arrays.keys[:first]
            arrays.values[:first] = self._arrays.values[:first]
            _place(arrays.slots, arrays.keys, 0, first)
            self._arrays = arrays
        arrays.values[first:last] = values
        arrays.keys[first:last] = hashes
        _place(arrays.slots, arrays.keys, first, last)
        self._entries = last


def _arrays(room: int) -> _Arrays:
    return _Arrays(
        slots_for(room),
        np.zeros((room, 2), dtype=np.uint64),
        np.full(room, UNKNOWN, dtype=np.int32),
    )
