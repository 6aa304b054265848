"""A compiled scanner over `ExportTraceServiceRequest`. Every read is checked against the end.

It finds where each span's parts lie and reads ids' places, times and kinds; whatever repeats itself
(attributes, names, statuses) stays a byte range, so that equal ones are decoded once. Numba checks
no bounds: nothing here reads a byte that `tag`, `length` or `skip` has not allowed, and no row is
written beyond the arrays, which a first pass has counted.
"""

# ruff: noqa: C901, PLR0911, PLR0912, PLR0915 -- compiled loops take columns one by one, and read best in
# one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from collector.wire.fields import (
    FIXED64,
    LEN,
    OK,
    TRUNCATED,
    VARINT,
    Bytes,
    Ints,
    compiled,
    length,
    skip,
    tag,
    varint,
)
from collector.wire.hashes import Key, Words, closed, hash_bytes, mixed

# Places in the array of counts that both passes keep.
RESOURCES, GROUPS, SPANS, COUNTS = 0, 1, 2, 3
COUNT, FILL = 0, 1
# Columns of a row of `resources`: the message's bytes.
RESOURCE_COLUMNS = 2
# Columns of a row of `groups`: the scope message's bytes and the row of its resource.
SCOPE, SCOPE_END, RESOURCE, GROUP_COLUMNS = 0, 1, 2, 3
# Columns of a row of `spans`. Ranges are start and end; ATTRIBUTES runs from the first one's tag to
# the last one's end. EVENTS and LINKS are counts. BEGIN and END bound the span itself.
TRACE, TRACE_END, ID, ID_END, PARENT, PARENT_END = 0, 1, 2, 3, 4, 5
NAME, NAME_END, STATUS, STATUS_END, ATTRIBUTES, ATTRIBUTES_END = 6, 7, 8, 9, 10, 11
KIND, EVENTS, LINKS, GROUP, BEGIN, END, COLUMNS = 12, 13, 14, 15, 16, 17, 18
# Columns of a row of `times`, nanoseconds.
START_NS, END_NS, TIME_COLUMNS = 0, 1, 2

_MAX_KIND = 5
# Neighbouring numbers fall apart: 2**31 / golden ratio, odd.
_SPREAD = 1_327_217_885

Codes32 = npt.NDArray[np.int32]


class Rows(NamedTuple):
    """What a walk fills, a row each, and how many there are."""

    resources: Ints
    groups: Ints
    spans: Ints
    times: Words
    counts: Ints

    @classmethod
    def of(cls, resources: int, groups: int, spans: int) -> Rows:
        """Room for so many."""
        return cls(
            np.zeros((resources, RESOURCE_COLUMNS), dtype=np.int64),
            np.zeros((groups, GROUP_COLUMNS), dtype=np.int64),
            np.zeros((spans, COLUMNS), dtype=np.int64),
            np.zeros((spans, TIME_COLUMNS), dtype=np.uint64),
            np.zeros(COUNTS, dtype=np.int64),
        )


@compiled
def scan(data: Bytes, rows: Rows, aim: int) -> int:
    """Walk a request; COUNT only, or also FILL the rows. Answers OK or an error code.

    Before FILL, the arrays have as many rows as a walk to COUNT has found.
    """
    rows.counts[:] = 0
    end = len(data)
    place = 0
    while place < end:
        field, wire, place = tag(data, place, end)
        if place < 0:
            return -place
        if field == 1 and wire == LEN:
            start, place = length(data, place, end)
            if place < 0:
                return -place
            code = _resource(data, start, place, rows, aim)
            if code != OK:
                return code
        else:
            place = skip(data, place, end, wire)
            if place < 0:
                return -place
    return OK


@compiled
def resources_of(data: Bytes, ends: Ints, counts: Ints) -> int:
    """Count the resources of requests that end at these places, each within its own bytes."""
    place = 0
    for request in range(len(ends)):
        end = ends[request]
        counts[request] = 0
        while place < end:
            field, wire, place = tag(data, place, end)
            if place < 0:
                return -place
            if field == 1 and wire == LEN:
                counts[request] += 1
            place = skip(data, place, end, wire)
            if place < 0:
                return -place
    return OK


@compiled
def _resource(data: Bytes, place: int, end: int, rows: Rows, aim: int) -> int:
    row = rows.counts[RESOURCES]
    rows.counts[RESOURCES] += 1
    if aim == FILL and row >= len(rows.resources):
        return TRUNCATED
    if aim == FILL:
        rows.resources[row, :] = 0
    while place < end:
        field, wire, place = tag(data, place, end)
        if place < 0:
            return -place
        if wire == LEN and (field == 1 or field == 2):
            start, place = length(data, place, end)
            if place < 0:
                return -place
            if field == 1:
                if aim == FILL:
                    rows.resources[row, 0] = start
                    rows.resources[row, 1] = place
                continue
            code = _scope(data, start, place, row, rows, aim)
            if code != OK:
                return code
        else:
            place = skip(data, place, end, wire)
            if place < 0:
                return -place
    return OK


@compiled
def _scope(data: Bytes, place: int, end: int, resource: int, rows: Rows, aim: int) -> int:
    row = rows.counts[GROUPS]
    rows.counts[GROUPS] += 1
    if aim == FILL and row >= len(rows.groups):
        return TRUNCATED
    if aim == FILL:
        rows.groups[row, :] = 0
        rows.groups[row, RESOURCE] = resource
    while place < end:
        field, wire, place = tag(data, place, end)
        if place < 0:
            return -place
        if wire == LEN and (field == 1 or field == 2):
            start, place = length(data, place, end)
            if place < 0:
                return -place
            if field == 1:
                if aim == FILL:
                    rows.groups[row, SCOPE] = start
                    rows.groups[row, SCOPE_END] = place
                continue
            number = rows.counts[SPANS]
            rows.counts[SPANS] += 1
            if aim == FILL:
                if number >= len(rows.spans):
                    return TRUNCATED
                rows.spans[number, :] = 0
                rows.times[number, :] = np.uint64(0)
                rows.spans[number, GROUP] = row
                code = _span(data, start, place, rows.spans[number], rows.times[number])
                if code != OK:
                    return code
        else:
            place = skip(data, place, end, wire)
            if place < 0:
                return -place
    return OK


@compiled
def _span(data: Bytes, place: int, end: int, row: Ints, times: Words) -> int:
    """Field numbers: opentelemetry-proto 1.x, trace.proto. Of a repeated single field the last."""
    row[BEGIN] = place
    row[END] = end
    while place < end:
        before = place
        field, wire, place = tag(data, place, end)
        if place < 0:
            return -place
        if wire == LEN:
            start, place = length(data, place, end)
            if place < 0:
                return -place
            if field == 9:
                if row[ATTRIBUTES_END] == 0:
                    row[ATTRIBUTES] = before
                row[ATTRIBUTES_END] = place
            elif field == 1:
                row[TRACE] = start
                row[TRACE_END] = place
            elif field == 2:
                row[ID] = start
                row[ID_END] = place
            elif field == 4:
                row[PARENT] = start
                row[PARENT_END] = place
            elif field == 5:
                row[NAME] = start
                row[NAME_END] = place
            elif field == 15:
                row[STATUS] = start
                row[STATUS_END] = place
            elif field == 11:
                row[EVENTS] += 1
            elif field == 13:
                row[LINKS] += 1
        elif wire == FIXED64:
            if place + 8 > end:
                return TRUNCATED
            if field == 7:
                times[START_NS] = _fixed64(data, place)
            elif field == 8:
                times[END_NS] = _fixed64(data, place)
            place += 8
        elif wire == VARINT:
            value, place = varint(data, place, end)
            if place < 0:
                return -place
            if field == 6:
                row[KIND] = np.int64(value) if value <= np.uint64(_MAX_KIND) else 0
        else:
            place = skip(data, place, end, wire)
            if place < 0:
                return -place
    return OK


@compiled
def _fixed64(data: Bytes, place: int) -> np.uint64:
    value = np.uint64(0)
    for byte in range(8):
        value |= np.uint64(data[place + byte]) << np.uint64(8 * byte)
    return value


class Distinct(NamedTuple):
    """Spans numbered by what they share.

    Attributes:
        hashes: The 128-bit hash of each number; `firsts` is a span with it.
        numbers: The number of each span.
        slots: A power of two, at least twice as many as the spans, all -1 at first.
    """

    hashes: Words
    firsts: Ints
    numbers: Ints
    slots: Ints

    @classmethod
    def of(cls, spans: int) -> Distinct:
        """Room for so many spans."""
        return cls(
            np.empty((spans, 2), dtype=np.uint64),
            np.empty(spans, dtype=np.int64),
            np.empty(spans, dtype=np.int64),
            np.full(1 << (2 * spans + 1).bit_length(), -1, dtype=np.int64),
        )


@compiled
def number(data: Bytes, spans: Ints, key: Key, into: Distinct) -> int:
    """Number spans by name, status and attributes. Answers how many numbers there are."""
    hashes, firsts, slots = into.hashes, into.firsts, into.slots
    mask = len(slots) - 1
    found = 0
    for row in range(len(spans)):
        high, low = key[0], key[1]
        for column in (NAME, STATUS, ATTRIBUTES):
            one, two = hash_bytes(data, spans[row, column], spans[row, column + 1], key)
            high, low = mixed(high, low, one, two, key)
        high, low = closed(high, low, np.uint64(3))
        place = np.int64(high & np.uint64(mask))
        mine = -1
        for _ in range(len(slots)):
            entry = slots[place]
            if entry == -1:
                slots[place] = found
                hashes[found, 0] = high
                hashes[found, 1] = low
                firsts[found] = row
                mine = found
                found += 1
                break
            if hashes[entry, 0] == high and hashes[entry, 1] == low:
                mine = entry
                break
            place = (place + 1) & mask
        into.numbers[row] = mine
    return found


class Codes(NamedTuple):
    """Rows of a table of numbers, numbered anew for each of its columns from 0.

    Attributes:
        places: For each column and row the new number, -1 where there is none.
        codes: For each column the old number of each new one.
        counts: For each column how many new ones there are.
        slots: A power of two, at least twice as many as the rows.
    """

    places: Codes32
    codes: Codes32
    counts: Ints
    slots: Codes32

    @classmethod
    def of(cls, columns: int, rows: int) -> Codes:
        """Room for so many."""
        return cls(
            np.empty((columns, rows), dtype=np.int32),
            np.empty((columns, rows), dtype=np.int32),
            np.zeros(columns, dtype=np.int64),
            np.empty(1 << (2 * rows + 1).bit_length(), dtype=np.int32),
        )


@compiled
def renumber(table: Codes32, rows: Ints, into: Codes) -> int:
    """Number what these rows (-1: an empty one) of the table hold, column by column."""
    slots = into.slots
    mask = len(slots) - 1
    for column in range(len(into.places)):
        slots[:] = -1
        found = 0
        for row in range(len(rows)):
            code = table[rows[row], column] if rows[row] >= 0 else -1
            if code < 0:
                into.places[column, row] = -1
                continue
            slot = (np.int64(code) * _SPREAD) & mask
            while slots[slot] >= 0 and into.codes[column, slots[slot]] != code:
                slot = (slot + 1) & mask
            if slots[slot] < 0:
                slots[slot] = found
                into.codes[column, found] = code
                found += 1
            into.places[column, row] = slots[slot]
        into.counts[column] = found
    return OK


@compiled
def gather(data: Bytes, spans: Ints, rows: Ints, column: int, width: int, out: Bytes) -> int:
    """Copy the ranges that begin in this column, which are empty or this wide.

    Answers how many bytes were copied; there is room for all.
    """
    place = 0
    for row in rows:
        start = spans[row, column]
        if spans[row, column + 1] == start:
            continue
        for byte in range(width):
            out[place + byte] = data[start + byte]
        place += width
    return place


@compiled
def all_zero(data: Bytes, spans: Ints, column: int, out: npt.NDArray[np.bool_]) -> int:
    """Which ranges hold nothing but zero bytes."""
    for row in range(len(spans)):
        zero = True
        for place in range(spans[row, column], spans[row, column + 1]):
            if data[place] != 0:
                zero = False
                break
        out[row] = zero
    return 0
