"""Numba kernels that make five-minute buckets of samples, and put stored buckets in order.

Callers guarantee the bounds that Numba does not check. Values travel as bit patterns where a
staleness marker may be among them.
"""

# ruff: noqa: C901, PLR0915 -- compiled loops read best in one piece.

from __future__ import annotations

from typing import Any

import numpy as np

from store.backends.duckdb.compiled import compiled
from store.backends.duckdb.histograms import MARK_BITS
from store.model import STALE_NAN_BITS

_STALE = np.int64(STALE_NAN_BITS)
_HISTOGRAM = np.int64(MARK_BITS)  # native histograms have no roll-ups
NO_STALE = 1


@compiled
def count_buckets(offsets: Any, ts: Any, bucket_ms: int) -> int:
    """How many (series, bucket) pairs the samples fall into; times ascend within a series."""
    found = 0
    for slot in range(len(offsets) - 1):
        edge = np.int64(-(2**62))
        for row in range(offsets[slot], offsets[slot + 1]):
            if ts[row] > edge:
                edge = -(-ts[row] // bucket_ms) * bucket_ms
                found += 1
    return found


@compiled
def roll(offsets: Any, ts: Any, bits: Any, bucket_ms: int, buckets: int) -> tuple[Any, Any, Any]:
    """Buckets of samples that ascend within each slot.

    Returns:
        Integers (6 by buckets): slot, bucket, first_at, last_at, count, stale_at;
        numbers (7 by buckets): first, last, low, high, total, rest, resets; how many were made.
    """
    whole = np.zeros((6, buckets), np.int64)
    parts = np.zeros((7, buckets), np.float64)
    values = bits.view(np.float64)
    at = -1
    for slot in range(len(offsets) - 1):
        edge = np.int64(-(2**62))
        for row in range(offsets[slot], offsets[slot + 1]):
            if ts[row] > edge:
                edge = -(-ts[row] // bucket_ms) * bucket_ms
                at += 1
                whole[0, at] = slot
                whole[1, at] = edge
                whole[5, at] = NO_STALE
            if bits[row] == _STALE or bits[row] == _HISTOGRAM:
                whole[5, at] = ts[row] - edge
                continue
            value = values[row]
            whole[5, at] = NO_STALE
            whole[3, at] = ts[row] - edge
            if whole[4, at] == 0:
                whole[2, at] = ts[row] - edge
                parts[0, at] = value
                parts[2, at] = value
                parts[3, at] = value
                parts[4, at] = value
            else:
                if value < parts[1, at]:
                    parts[6, at] += parts[1, at]
                if value < parts[2, at] or np.isnan(parts[2, at]):
                    parts[2, at] = value
                if value > parts[3, at] or np.isnan(parts[3, at]):
                    parts[3, at] = value
                # Kahan's sum with Neumaier's correction, as Prometheus adds.
                total = parts[4, at]
                added = total + value
                if np.isinf(added):
                    parts[5, at] = 0.0
                elif abs(total) >= abs(value):
                    parts[5, at] += (total - added) + value
                else:
                    parts[5, at] += (value - added) + total
                parts[4, at] = added
            parts[1, at] = value
            whole[4, at] += 1
    return whole, parts, at + 1


@compiled
def order_by_slot(
    series: Any, buckets: Any, slot_of: Any, first_id: int, slots: int
) -> tuple[Any, Any]:
    """Places of rows grouped by their series' slot, ascending in bucket within each.

    `slot_of[id - first_id]` is a series' slot, or -1 to leave its rows out.
    """
    offsets = np.zeros(slots + 1, np.int64)
    for row in range(len(series)):
        slot = slot_of[series[row] - first_id]
        if slot >= 0:
            offsets[slot + 1] += 1
    for slot in range(slots):
        offsets[slot + 1] += offsets[slot]
    place = offsets[:-1].copy()
    order = np.empty(offsets[slots], np.int64)
    for row in range(len(series)):
        slot = slot_of[series[row] - first_id]
        if slot >= 0:
            order[place[slot]] = row
            place[slot] += 1
    for slot in range(slots):
        begin, end = offsets[slot], offsets[slot + 1]
        for row in range(begin + 1, end):
            if buckets[order[row]] < buckets[order[row - 1]]:
                mine = order[begin:end]
                order[begin:end] = mine[np.argsort(buckets[mine], kind="mergesort")]
                break
    return offsets, order


@compiled
def last_of_buckets(offsets: Any, whole: Any, last: Any, edges: tuple[int, int]) -> Any:
    """One sample a bucket, its last, and a staleness marker where one ended it.

    `whole` is 4 by rows: bucket, last_at, count, stale_at. `edges` are the first and the last
    time to give, both included. Returns offsets, times and bit patterns.
    """
    start_ms, end_ms = edges
    slots = len(offsets) - 1
    found = np.zeros(slots + 1, np.int64)
    most = 2 * (offsets[slots] - offsets[0])
    ts = np.empty(most, np.int64)
    bits = np.empty(most, np.int64)
    last_bits = last.view(np.int64)
    place = 0
    for slot in range(slots):
        for row in range(offsets[slot], offsets[slot + 1]):
            at = whole[0, row] + whole[1, row]
            if whole[2, row] > 0 and start_ms <= at <= end_ms:
                ts[place] = at
                bits[place] = last_bits[row]
                place += 1
            at = whole[0, row] + whole[3, row]
            if whole[3, row] != NO_STALE and start_ms <= at <= end_ms:
                ts[place] = at
                bits[place] = _STALE
                place += 1
        found[slot + 1] = place
    return found, ts[:place], bits[:place]
