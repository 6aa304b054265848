"""Which span is under which, for all traces of a batch at once, by compiled loops over numbers.

Ids become numbers that are equal and ordered as their bytes are. An id says nothing of its own, so
tables compare the numbers and not only their hash.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from detectors.traces.columns import ints
from store.model import BoolArray, Int64Array

_TRACE_ID, _SPAN_ID, _WORD = 16, 8, 8
_SHORT = 64  # rows of a trace that are sorted in place; sorting many so would take for ever
_SHIFT = np.uint64(29)
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Tree:
    """Rows by trace and by parent.

    Attributes:
        trace: The number of each row's trace, by first appearance.
        first: The first row of each trace.
        own: The place of each row's (trace, span id): equal for copies of one span.
        above: The same place of its parent, whether it is here or not; -1 where none is named, or
            it names itself.
        holder: For each place the row of its span: the copy with the highest `seq`; -1 where the
            span is not here.
    """

    trace: Int64Array
    first: Int64Array
    own: Int64Array
    above: Int64Array
    holder: Int64Array
    _trace_words: Words
    _span_words: Words

    @classmethod
    def of(cls, spans: pa.Table) -> Tree:
        """The tree of spans with ids and `seq`."""
        traces = _words([spans["trace_id"]], _TRACE_ID)
        ids = _words([spans["span_id"], spans["parent_span_id"]], _SPAN_ID)[:, 0]
        own, above = ids[: len(spans)], ids[len(spans) :]
        named = np.asarray(spans["parent_span_id"].is_valid().to_numpy(), dtype=np.bool_)
        named &= own != above
        trace, first = _numbered(traces, _Table.of(len(spans)))
        own_place, parent_place, holder = _placed(
            trace, own, above, named, ints(spans, "seq"), _Table.of(len(spans))
        )
        return cls(trace, first, own_place, parent_place, holder, traces, own)

    @property
    def parent(self) -> Int64Array:
        """The row of each row's parent, or -1."""
        # An `above` of -1 reads the last place; it is put right by the second look.
        found = self.holder[self.above] if len(self.holder) else self.above
        return np.where(self.above >= 0, found, -1)

    def of_traces(self, rows: BoolArray) -> Tree:
        """The tree of these rows alone, which are all rows of some traces."""
        if rows.all():
            return self
        row = np.append(np.cumsum(rows) - 1, -1)
        traces = rows[self.first]
        number = np.cumsum(traces) - 1
        here = (self.holder >= 0) & rows[self.holder]
        return Tree(
            number[self.trace[rows]],
            row[self.first[traces]],
            self.own[rows],
            self.above[rows],
            row[np.where(here, self.holder, -1)],
            self._trace_words[rows],
            self._span_words[rows],
        )

    def order(self, start_ns: Int64Array) -> Int64Array:
        """One row of each span, sorted by trace, start and id: bytes, so that arrival is alike."""
        words = self._trace_words[self.first]
        rank = np.empty(len(words), dtype=np.int64)
        rank[np.lexsort((words[:, 1], words[:, 0]))] = np.arange(len(words))
        kept = self.holder[self.own] == np.arange(len(self.own))
        order, begins = _by_trace(rank[self.trace], kept, len(words))
        _sort_short(order, begins, start_ns, self._span_words)
        for trace in np.flatnonzero(np.diff(begins) > _SHORT).tolist():
            rows = order[begins[trace] : begins[trace + 1]]
            rows[:] = rows[np.lexsort((self._span_words[rows], start_ns[rows]))]
        return order


class _Table(NamedTuple):
    """Open addressing: entries by slot, -1 where it is free.

    The key is drawn anew each time, so that nobody can prepare ids that crowd one place.
    """

    slots: Int64Array
    seed: np.uint64
    odd: np.uint64

    @classmethod
    def of(cls, rows: int) -> _Table:
        """Room for two entries a row, half of it free."""
        slots = np.full(1 << (4 * rows + 2).bit_length(), -1, dtype=np.int64)
        return cls(slots, np.uint64(secrets.randbits(64)), np.uint64(secrets.randbits(64) | 1))


def _words(columns: list[pa.ChunkedArray[Any]], width: int) -> Words:
    """Each id as numbers, big-endian, of all columns one after the other."""
    parts = [_of_width(column, width) for column in columns]
    if all(part is not None for part in parts):
        return np.concatenate(parts)  # type: ignore[arg-type]  # none is None
    # Ids of another width are ranked: equal and ordered as they are.
    values = [value or b"" for column in columns for value in column.to_pylist()]
    ranks = {value: rank for rank, value in enumerate(sorted(set(values)))}
    found = np.zeros((len(values), width // _WORD), dtype=np.uint64)
    found[:, 0] = [ranks[value] for value in values]
    return found


def _of_width(column: pa.ChunkedArray[Any], width: int) -> Words | None:
    """Ids of one width or null; None where one has another."""
    array: Any = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.binary())
    _, offsets, data = array.buffers()
    count = len(array)
    found = np.zeros((count, width // _WORD), dtype=np.uint64)
    if not count:
        return found
    places = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + count + 1]
    present = np.diff(places) == width
    if int(present.sum()) != count - array.null_count or places[-1] - places[0] != width * int(
        present.sum()
    ):
        return None
    if data is not None and present.any():
        raw = np.frombuffer(data, dtype=np.uint8)[places[0] : places[-1]]
        found[present] = raw.view(">u8").reshape(-1, width // _WORD)
    return found


def _compiled(function: Any) -> Any:
    return njit(cache=True, nogil=True)(function)


@_compiled
def _slot(high: np.uint64, low: np.uint64, table: _Table) -> Any:
    mixed = table.seed
    for word in (high, low, table.seed):
        mixed = (mixed ^ word) * table.odd
        mixed ^= mixed >> _SHIFT
    return np.int64(mixed & np.uint64(len(table.slots) - 1))


@_compiled
def _numbered(words: Words, table: _Table) -> tuple[Int64Array, Int64Array]:
    """A number for each distinct pair of words, and the first row of each number."""
    slots, last = table.slots, len(table.slots) - 1
    numbers = np.empty(len(words), dtype=np.int64)
    first = np.empty(len(words), dtype=np.int64)
    found = 0
    for row in range(len(words)):
        high, low = words[row, 0], words[row, 1]
        if row > 0 and words[row - 1, 0] == high and words[row - 1, 1] == low:
            numbers[row] = numbers[row - 1]
            continue
        place = _slot(high, low, table)
        while True:
            entry = slots[place]
            if entry < 0:
                slots[place] = found
                first[found] = row
                numbers[row] = found
                found += 1
                break
            if words[first[entry], 0] == high and words[first[entry], 1] == low:
                numbers[row] = entry
                break
            place = (place + 1) & last
    return numbers, first[:found].copy()


@_compiled
def _placed(
    trace: Int64Array,
    own: Words,
    above: Words,
    named: npt.NDArray[np.bool_],
    seq: Int64Array,
    table: _Table,
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """See `Tree`: places of rows and of their parents, and the holder of each place."""
    rows = len(trace)
    slots, last = table.slots, len(table.slots) - 1
    trace_of = np.empty(2 * rows, dtype=np.int64)
    id_of = np.empty(2 * rows, dtype=np.uint64)
    holder = np.full(2 * rows, -1, dtype=np.int64)
    places = np.full((2, rows), -1, dtype=np.int64)
    found = 0
    for turn in range(2):
        ids = own if turn == 0 else above
        for row in range(rows):
            if turn == 1 and not named[row]:
                continue
            in_trace, wanted = trace[row], ids[row]
            alike = row > 0 and trace[row - 1] == in_trace and ids[row - 1] == wanted
            if turn == 1 and alike and named[row - 1]:  # siblings come together, mostly
                places[1, row] = places[1, row - 1]
                continue
            slot = _slot(np.uint64(in_trace), wanted, table)
            while True:
                entry = slots[slot]
                if entry < 0:
                    entry = found
                    slots[slot] = entry
                    trace_of[entry] = in_trace
                    id_of[entry] = wanted
                    found += 1
                    break
                if id_of[entry] == wanted and trace_of[entry] == in_trace:
                    break
                slot = (slot + 1) & last
            places[turn, row] = entry
            if turn == 0 and (holder[entry] < 0 or seq[row] >= seq[holder[entry]]):
                holder[entry] = row
    return places[0], places[1], holder[:found].copy()


@_compiled
def _by_trace(
    rank: Int64Array, kept: npt.NDArray[np.bool_], traces: int
) -> tuple[Int64Array, Int64Array]:
    """Kept rows by trace, as they came, and where each trace begins."""
    begins = np.zeros(traces + 1, dtype=np.int64)
    for row in range(len(rank)):
        if kept[row]:
            begins[rank[row] + 1] += 1
    for trace in range(traces):
        begins[trace + 1] += begins[trace]
    free = begins.copy()
    order = np.empty(begins[traces], dtype=np.int64)
    for row in range(len(rank)):
        if kept[row]:
            order[free[rank[row]]] = row
            free[rank[row]] += 1
    return order, begins


@_compiled
def _sort_short(order: Int64Array, begins: Int64Array, start_ns: Int64Array, ids: Words) -> None:
    """Sort the rows of each trace that has few, in place: most of them are in order already."""
    for trace in range(len(begins) - 1):
        first, end = begins[trace], begins[trace + 1]
        if end - first > _SHORT:
            continue
        for place in range(first + 1, end):
            row = order[place]
            at = place
            while at > first:
                before = order[at - 1]
                if start_ns[before] < start_ns[row] or (
                    start_ns[before] == start_ns[row] and ids[before] <= ids[row]
                ):
                    break
                order[at] = before
                at -= 1
            order[at] = row
