"""Numba kernels over columns of samples. They hold no GIL and take values as bit patterns.

Values travel as int64 so that the payload bits of a NaN (staleness) are never touched.
Callers guarantee the bounds that Numba does not check.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from store.backends.duckdb.compiled import compiled


@compiled
def scatter_before(rows: Any, slot_of: Any, first_id: int, newer: Any) -> tuple[Any, Any, Any]:
    """Rows by the slot of their series, each slot's `newer` rows after them: a counting sort.

    `rows` are series, times and values, which keep their order; `newer` offsets, times and values
    of all slots. `slot_of[id - first_id]` is a series' slot, or -1 to leave its rows out.
    """
    series, ts, bits = rows
    new_offsets, new_ts, new_bits = newer
    slots = len(new_offsets) - 1
    offsets = np.zeros(slots + 1, np.int64)
    for row in range(len(series)):
        slot = slot_of[series[row] - first_id]
        if slot >= 0:
            offsets[slot + 1] += 1
    place = np.empty(slots, np.int64)
    for slot in range(slots):
        place[slot] = offsets[slot]
        offsets[slot + 1] += offsets[slot] + new_offsets[slot + 1] - new_offsets[slot]
    out_ts = np.empty(offsets[slots], np.int64)
    out_bits = np.empty(offsets[slots], np.int64)
    for row in range(len(series)):
        slot = slot_of[series[row] - first_id]
        if slot >= 0:
            at = place[slot]
            out_ts[at] = ts[row]
            out_bits[at] = bits[row]
            place[slot] = at + 1
    for slot in range(slots):
        at = place[slot]
        for row in range(new_offsets[slot], new_offsets[slot + 1]):
            out_ts[at] = new_ts[row]
            out_bits[at] = new_bits[row]
            at += 1
    return offsets, out_ts, out_bits


@compiled
def scatter_by_slot(
    series: Any, ts: Any, bits: Any, slot_of: Any, first_id: int, slots: int
) -> tuple[Any, Any, Any]:
    """Rows by the slot of their series, as `scatter_before` has them when nothing is newer."""
    none = np.empty(0, np.int64)
    newer = (np.zeros(slots + 1, np.int64), none, none)
    return scatter_before((series, ts, bits), slot_of, first_id, newer)


@compiled
def ascend_and_keep_last(offsets: Any, ts: Any, bits: Any) -> int:
    """Sort each slot's rows by time, in place; of equal times keep the row that came last.

    Rewrites `offsets` and compacts the columns. Returns how many rows are left.
    """
    kept = 0
    begin = offsets[0]
    for slot in range(len(offsets) - 1):
        end = offsets[slot + 1]
        ordered = True
        for row in range(begin + 1, end):
            if ts[row] <= ts[row - 1]:
                ordered = False
                break
        if ordered and kept == begin:  # nothing before it was dropped: it stays where it is
            offsets[slot] = kept
            kept = end
            begin = end
            continue
        if not ordered:
            order = np.argsort(ts[begin:end], kind="mergesort")
            sorted_ts = ts[begin:end][order]
            sorted_bits = bits[begin:end][order]
            ts[begin:end] = sorted_ts
            bits[begin:end] = sorted_bits
        offsets[slot] = kept
        for row in range(begin, end):
            if row + 1 < end and ts[row + 1] == ts[row]:
                continue
            ts[kept] = ts[row]
            bits[kept] = bits[row]
            kept += 1
        begin = end
    offsets[len(offsets) - 1] = kept
    return kept


@compiled
def group_rows(series: Any, ts: Any, bits: Any, group_of: Any, groups: int) -> tuple[Any, Any, Any]:
    """Rows by group, each group's in the order they came: a counting sort."""
    place = np.zeros(groups + 1, np.int64)
    for row in range(len(series)):
        place[group_of[row] + 1] += 1
    for group in range(groups):
        place[group + 1] += place[group]
    out_series = np.empty(len(series), np.int32)
    out_ts = np.empty(len(series), np.int64)
    out_bits = np.empty(len(series), np.int64)
    for row in range(len(series)):
        at = place[group_of[row]]
        place[group_of[row]] = at + 1
        out_series[at] = series[row]
        out_ts[at] = ts[row]
        out_bits[at] = bits[row]
    return out_series, out_ts, out_bits


@compiled
def widen_ranges(series: Any, ts: Any, first_ms: Any, last_ms: Any) -> None:
    """Note the first and the last time of each series."""
    for row in range(len(series)):
        place = series[row]
        first_ms[place] = min(first_ms[place], ts[row])
        last_ms[place] = max(last_ms[place], ts[row])


@compiled
def push_blocks(
    rows: tuple[Any, Any, Any],
    floor_ms: int,
    last_block: Any,
    pool: tuple[Any, Any, Any, Any],
    used: int,
) -> tuple[int, int]:
    """Append rows at or above the floor to their series' chain of blocks.

    The pool must have room for a block of each `size` rows and one more for each series of them.
    Returns (blocks in use, rows taken).
    """
    series, ts, bits = rows
    block_ts, block_bits, block_len, block_prev = pool
    size = block_ts.shape[1]
    taken = 0
    for row in range(len(series)):
        if ts[row] < floor_ms:
            continue
        place = series[row]
        block = last_block[place]
        if block < 0 or block_len[block] == size:
            block_prev[used] = block
            block_len[used] = 0
            block = used
            last_block[place] = block
            used += 1
        at = block_len[block]
        block_ts[block, at] = ts[row]
        block_bits[block, at] = bits[row]
        block_len[block] = at + 1
        taken += 1
    return used, taken


@compiled
def gather_blocks(
    ids: Any, start_ms: int, end_ms: int, last_block: Any, pool: tuple[Any, Any, Any, Any]
) -> tuple[Any, Any, Any]:
    """Rows of these series within the range, grouped by series in the order they came."""
    block_ts, block_bits, block_len, block_prev = pool
    offsets = np.zeros(len(ids) + 1, np.int64)
    for slot in range(len(ids)):
        count = 0
        block = last_block[ids[slot]]
        while block >= 0:
            for at in range(block_len[block]):
                if start_ms <= block_ts[block, at] <= end_ms:
                    count += 1
            block = block_prev[block]
        offsets[slot + 1] = offsets[slot] + count
    ts = np.empty(offsets[len(ids)], np.int64)
    bits = np.empty(offsets[len(ids)], np.int64)
    for slot in range(len(ids)):
        place = offsets[slot + 1]
        block = last_block[ids[slot]]
        while block >= 0:
            for at in range(block_len[block] - 1, -1, -1):
                if start_ms <= block_ts[block, at] <= end_ms:
                    place -= 1
                    ts[place] = block_ts[block, at]
                    bits[place] = block_bits[block, at]
            block = block_prev[block]
    return offsets, ts, bits


@compiled
def flatten_blocks(
    floor_ms: int, last_block: Any, pool: tuple[Any, Any, Any, Any], rows: int
) -> tuple[Any, Any, Any]:
    """All rows at or above the floor as columns, each series' rows in the order they came."""
    block_ts, block_bits, block_len, block_prev = pool
    series = np.empty(rows, np.int32)
    ts = np.empty(rows, np.int64)
    bits = np.empty(rows, np.int64)
    place = rows
    for owner in range(len(last_block)):
        block = last_block[owner]
        while block >= 0:
            for at in range(block_len[block] - 1, -1, -1):
                if block_ts[block, at] >= floor_ms:
                    place -= 1
                    series[place] = owner
                    ts[place] = block_ts[block, at]
                    bits[place] = block_bits[block, at]
            block = block_prev[block]
    return series[place:], ts[place:], bits[place:]


@compiled
def join_slots(
    old: tuple[Any, Any, Any], new: tuple[Any, Any, Any], slots: int
) -> tuple[Any, Any, Any]:
    """Concatenate two groupings slot by slot, `old` first."""
    old_offsets, old_ts, old_bits = old
    new_offsets, new_ts, new_bits = new
    offsets = np.zeros(slots + 1, np.int64)
    ts = np.empty(len(old_ts) + len(new_ts), np.int64)
    bits = np.empty(len(old_ts) + len(new_ts), np.int64)
    place = 0
    for slot in range(slots):
        for row in range(old_offsets[slot], old_offsets[slot + 1]):
            ts[place] = old_ts[row]
            bits[place] = old_bits[row]
            place += 1
        for row in range(new_offsets[slot], new_offsets[slot + 1]):
            ts[place] = new_ts[row]
            bits[place] = new_bits[row]
            place += 1
        offsets[slot + 1] = place
    return offsets, ts, bits
