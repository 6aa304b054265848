"""A growing Bloom filter over 64-bit hashes: says "never seen" or "perhaps"."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from store.backends.duckdb.compiled import compiled

_BITS_PER_KEY = 24
_PROBES = 8
_FIRST_KEYS = 1 << 16

UInt64Array = npt.NDArray[np.uint64]


@compiled
def _set_bits(words: Any, keys: Any, probes: int) -> None:
    mask = np.uint64(len(words) * 64 - 1)
    for row in range(len(keys)):
        low = keys[row] & np.uint64(0xFFFFFFFF)
        step = (keys[row] >> np.uint64(32)) | np.uint64(1)
        for probe in range(probes):
            bit = (low * np.uint64(0x9E3779B97F4A7C15) + np.uint64(probe) * step) & mask
            words[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@compiled
def _test_bits(words: Any, keys: Any, probes: int, found: Any) -> None:
    mask = np.uint64(len(words) * 64 - 1)
    for row in range(len(keys)):
        low = keys[row] & np.uint64(0xFFFFFFFF)
        step = (keys[row] >> np.uint64(32)) | np.uint64(1)
        hit = True
        for probe in range(probes):
            bit = (low * np.uint64(0x9E3779B97F4A7C15) + np.uint64(probe) * step) & mask
            if not words[bit >> np.uint64(6)] & (np.uint64(1) << (bit & np.uint64(63))):
                hit = False
                break
        if hit:
            found[row] = True


class Bloom:
    """Layers of filters, each twice as large as the one before; about 1 in 100,000 false hits."""

    def __init__(self) -> None:
        self._layers: list[UInt64Array] = []
        self._room = 0

    def add(self, keys: UInt64Array) -> None:
        keys = np.ascontiguousarray(keys, dtype=np.uint64)
        while len(keys):
            if not self._room:
                self._grow()
            part, keys = keys[: self._room], keys[self._room :]
            _set_bits(self._layers[-1], part, _PROBES)
            self._room -= len(part)

    def _grow(self) -> None:
        size = _FIRST_KEYS << len(self._layers)
        bits = 1 << (size * _BITS_PER_KEY - 1).bit_length()
        self._layers.append(np.zeros(bits // 64, dtype=np.uint64))
        self._room = size

    def may_hold(self, keys: UInt64Array) -> npt.NDArray[np.bool_]:
        """For each key, False when it was surely never added."""
        keys = np.ascontiguousarray(keys, dtype=np.uint64)
        found = np.zeros(len(keys), dtype=np.bool_)
        for words in self._layers:
            _test_bits(words, keys, _PROBES, found)
        return found
