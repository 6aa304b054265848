"""Compiled loops over one trace: whose request a span is, who waited for it, what repeats take."""

# ruff: noqa: C901, PLR0912, PLR0915 -- a compiled loop takes columns one by one, and reads best in
# one piece.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from store.model import BoolArray, Int32Array, Int64Array

_UNSEEN = -2


@njit(cache=True, nogil=True)
def entries(begins: BoolArray, parent: Int64Array, max_depth: int) -> Any:
    """For each span the nearest one at or above it that begins a request; -1 where there is none.

    Args:
        begins: Whether a request begins with the span.
        parent: The place of each span's parent here, or negative.
        max_depth: So far up is looked.
    """
    entry = np.full(len(parent), _UNSEEN, dtype=np.int64)
    path = np.empty(max_depth, dtype=np.int64)
    for span in range(len(parent)):
        current, steps = span, 0
        while entry[current] == _UNSEEN and steps < max_depth:
            path[steps] = current
            steps += 1
            entry[current] = -1  # also ends a cycle of parents
            if begins[current]:
                entry[current] = current
            elif parent[current] >= 0:
                current = parent[current]
        found = max(entry[current], -1)  # of one too deep to look at nothing is known
        for step in range(steps):
            entry[path[step]] = found
    return entry


@njit(cache=True, nogil=True)
def timing(start_ns: Int64Array, end_ns: Int64Array, rows: Int64Array, most_ns: int) -> Any:
    """What repeats take: see `traces.trace.Timing`. `rows` ascend in start and are not empty."""
    first = rows[0]
    durations = np.empty(len(rows), dtype=np.int64)
    covered, between, until, last = np.int64(0), np.int64(0), np.int64(-1), end_ns[first]
    for place in range(len(rows)):
        start, end = start_ns[rows[place]], end_ns[rows[place]]
        durations[place] = end - start
        if start > last:
            between += min(start - last, most_ns)
        last = max(last, end)
        if end > until:
            covered += end - max(start, until)
            until = end
    durations.sort()
    half = len(rows) // 2
    low = durations[half] if len(rows) % 2 else durations[half - 1]
    return covered, between, last, durations[-1], low, durations[half]


@njit(cache=True, nogil=True)
def _skew(parent: int, child: int, start_ns: Int64Array, end_ns: Int64Array) -> Any:
    """What to add to the clock of a child of another service, so that it lies in its parent."""
    if start_ns[child] < start_ns[parent]:
        return start_ns[parent] - start_ns[child]
    longer = end_ns[child] - start_ns[child] > end_ns[parent] - start_ns[parent]
    if end_ns[child] > end_ns[parent] and not longer:
        return end_ns[parent] - end_ns[child]
    return np.int64(0)


@njit(cache=True, nogil=True)
def _latest_last(ends: Int64Array, starts: Int64Array) -> Any:
    """The order of spans by end and start; of equal ones as they are."""
    for place in range(1, len(ends)):
        before = place - 1
        if ends[before] > ends[place] or (
            ends[before] == ends[place] and starts[before] > starts[place]
        ):
            by_start = np.argsort(starts, kind="mergesort")
            return by_start[np.argsort(ends[by_start], kind="mergesort")]
    return np.arange(len(ends))


@njit(cache=True, nogil=True)
def waited_ns(
    parent: Int64Array, service: Int32Array, start_ns: Int64Array, end_ns: Int64Array
) -> Any:
    """For each span, how long it (with all below it) kept the request waiting; -1 for never.

    Backwards from the end of each root: the child that ended last is waited for until it started,
    then the one that ended last before that (Yang, Miller 1988, on a tree of spans). A child on
    another host may have a skewed clock; it is moved into its parent.

    `parent` is the place of each span's parent here, or negative; spans ascend in start.
    """
    spans = len(parent)
    waited = np.full(spans, -1, dtype=np.int64)
    begins = np.zeros(spans + 1, dtype=np.int64)
    for span in range(spans):
        if parent[span] >= 0:
            begins[parent[span] + 1] += 1
    for span in range(spans):
        begins[span + 1] += begins[span]
    free = begins.copy()
    children = np.empty(begins[spans], dtype=np.int64)
    work = np.empty((spans, 4), dtype=np.int64)
    left = 0
    for span in range(spans):
        above = parent[span]
        if above >= 0:
            children[free[above]] = span
            free[above] += 1
        else:
            work[left, 0], work[left, 1], work[left, 2], work[left, 3] = (
                span, start_ns[span], end_ns[span], 0,
            )  # fmt: skip
            left += 1
    while left:
        left -= 1
        span, low, high, shift = work[left, 0], work[left, 1], work[left, 2], work[left, 3]
        if high < low or waited[span] >= 0:
            continue
        waited[span] = high - low
        below = children[begins[span] : begins[span + 1]]
        if not len(below):
            continue
        moves = np.empty(len(below), dtype=np.int64)
        for place in range(len(below)):
            child = below[place]
            moves[place] = shift
            if service[child] != service[span]:
                moves[place] += _skew(span, child, start_ns, end_ns)
        starts, ends = start_ns[below] + moves, end_ns[below] + moves
        order = _latest_last(ends, starts)
        cursor = high
        for turn in range(len(order) - 1, -1, -1):
            place = order[turn]
            if starts[place] >= cursor:
                continue
            if cursor <= low:
                break
            until, since = min(cursor, ends[place]), max(low, starts[place])
            if until > since:
                work[left, 0], work[left, 1], work[left, 2], work[left, 3] = (
                    below[place], since, until, moves[place],
                )  # fmt: skip
                left += 1
                cursor = since
    return waited
