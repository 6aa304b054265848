"""The newest minutes in memory: what rules and panels ask for, many times a tick.

The head holds every committed sample at or above its floor, as chains of small blocks by series.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from store.backends.duckdb import kernels
from store.backends.duckdb.limits import StoreLimits
from store.model import Int32Array, Int64Array

EVERYTHING = -(2**62)
NOTHING = 2**62
_BLOCK = 16
_ROUNDS_BELOW = 64


@dataclass(frozen=True, slots=True)
class Columns:
    """Samples as columns in commit order; values as bit patterns."""

    series: Int32Array
    ts_ms: Int64Array
    bits: Int64Array

    def __len__(self) -> int:
        return len(self.ts_ms)


@dataclass(frozen=True, slots=True)
class Grouped:
    """Samples by slot: slot `i` owns `[offsets[i], offsets[i + 1])`; values as bit patterns."""

    offsets: Int64Array
    ts_ms: Int64Array
    bits: Int64Array


class _Blocks:
    """Chains of blocks, one a series."""

    def __init__(self, series: int, rows: int) -> None:
        self.last = np.full(max(series, 64), -1, dtype=np.int32)
        self.used = 0
        self.rows = 0
        blocks = max(rows // _BLOCK * 5 // 4, 256)
        self.pool = (
            np.empty((blocks, _BLOCK), dtype=np.int64),
            np.empty((blocks, _BLOCK), dtype=np.int64),
            np.zeros(blocks, dtype=np.int32),
            np.full(blocks, -1, dtype=np.int32),
        )

    def push(self, columns: Columns, floor_ms: int) -> None:
        rows = (columns.series, columns.ts_ms, columns.bits)
        self.make_room(int(columns.series.max()) + 1, len(columns))
        self.used, taken = kernels.push_blocks(rows, floor_ms, self.last, self.pool, self.used)
        self.rows += taken

    def make_room(self, series: int, rows: int) -> None:
        if series > len(self.last):
            grown = np.full(max(series, len(self.last) * 2), -1, dtype=np.int32)
            grown[: len(self.last)] = self.last
            self.last = grown
        # A series with n rows fills n // size blocks and begins one more.
        blocks = rows // _BLOCK + min(rows, len(self.last))
        if self.used + blocks > len(self.pool[2]):
            self._grow_pool(self.used + max(blocks, self.used // 4))

    def _grow_pool(self, blocks: int) -> None:
        ts, bits, length, prev = self.pool
        self.pool = (_taller(ts, blocks), _taller(bits, blocks), *_longer(length, prev, blocks))


def _taller(old: Int64Array, blocks: int) -> Int64Array:
    new = np.empty((blocks, _BLOCK), dtype=np.int64)
    new[: len(old)] = old
    return new


def _longer(length: Int32Array, prev: Int32Array, blocks: int) -> tuple[Int32Array, Int32Array]:
    new_length = np.zeros(blocks, dtype=np.int32)
    new_prev = np.full(blocks, -1, dtype=np.int32)
    new_length[: len(length)] = length
    new_prev[: len(prev)] = prev
    return new_length, new_prev


class Head:
    """Samples at or above `floor_ms`. One thread writes; any thread reads."""

    def __init__(self, limits: StoreLimits) -> None:
        self._lock = threading.Lock()
        self._window_ms = limits.head_window_ms
        self._most = limits.head_max_samples
        self._blocks = _Blocks(0, 0)
        self._newest_ms = EVERYTHING
        self._oldest_ms = NOTHING
        self._below = 0
        self.floor_ms = EVERYTHING if self._window_ms else NOTHING

    @property
    def rows(self) -> int:
        return self._blocks.rows

    @property
    def blocks(self) -> int:
        """Blocks of up to 16 samples in use."""
        return self._blocks.used

    def push(self, columns: Columns) -> None:
        """Take committed samples. Those below the floor stay on disk only."""
        if not self._window_ms or not len(columns):
            return
        # The middle of the round, so that a few stamps from the future do not move the window.
        typical_ms = int(np.median(columns.ts_ms[:: max(1, len(columns) // 64)]))
        if self._newest_ms != EVERYTHING:  # nor a whole round of them by more than a window
            typical_ms = min(typical_ms, self._newest_ms + self._window_ms)
        below = typical_ms < self.floor_ms
        self._below = self._below + 1 if below else max(0, self._below - 1)
        with self._lock:
            self._blocks.push(columns, self.floor_ms)
        self._oldest_ms = max(self.floor_ms, min(self._oldest_ms, int(columns.ts_ms.min())))
        self._newest_ms = max(self._newest_ms, typical_ms)
        self._slide()

    def _slide(self) -> None:
        if self._newest_ms - self._oldest_ms > self._window_ms * 3 // 2:
            self._raise_floor(self._newest_ms - self._window_ms)
        if self._blocks.rows > self._most:
            self._shrink()

    def _shrink(self) -> None:
        """Keep the newest, in one rebuild; a quarter stays free so that the next is not soon."""
        old = self._blocks
        ts_ms = kernels.flatten_blocks(self.floor_ms, old.last, old.pool, old.rows)[1]
        place = len(ts_ms) - max(1, self._most * 3 // 4)
        floor_ms = int(np.partition(ts_ms, place)[place])
        if int(np.count_nonzero(ts_ms >= floor_ms)) > self._most:  # many of one time
            floor_ms += 1
        self._raise_floor(floor_ms)

    def _raise_floor(self, floor_ms: int) -> None:
        old = self._blocks
        kept = Columns(*kernels.flatten_blocks(floor_ms, old.last, old.pool, old.rows))
        self._replace(kept, floor_ms)

    def _replace(self, columns: Columns, floor_ms: int) -> None:
        new = _Blocks(len(self._blocks.last), len(columns))
        if len(columns):
            new.push(columns, floor_ms)
        with self._lock:
            self._blocks = new
            self.floor_ms = floor_ms
        self._oldest_ms = int(columns.ts_ms.min()) if len(columns) else NOTHING

    def misses(self) -> bool:
        """Whether writing has been going on below the floor for long: the window is misplaced."""
        return self._below >= _ROUNDS_BELOW

    def reload(self, columns: Columns, floor_ms: int, newest_ms: int) -> None:
        """Start again from what the database holds at or above a floor."""
        if not self._window_ms:
            return
        self._replace(columns, floor_ms)
        self._newest_ms = newest_ms
        self._below = 0
        self._slide()

    def read(self, ids: Int32Array, start_ms: int, end_ms: int) -> tuple[int, Grouped]:
        """Samples within the range and at or above the floor; and that floor."""
        with self._lock:
            floor_ms, blocks = self.floor_ms, self._blocks
            if len(ids) and int(ids[-1]) >= len(blocks.last):
                blocks.make_room(int(ids[-1]) + 1, 0)  # ids newer than any sample
            start_ms = max(start_ms, floor_ms)
            found = kernels.gather_blocks(ids, start_ms, end_ms, blocks.last, blocks.pool)
        return floor_ms, Grouped(*found)
