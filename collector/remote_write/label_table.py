"""Label sets by the hash of the bytes that they were sent as, and small numbers for them.

Senders repeat the same series with each request. A known one costs a probe of a table in compiled
code; an unknown one is parsed in Python, once. One that may not be stored is parsed each time: a
refusal is nobody's to leave behind for another series of the same hash. The table is bounded: when
it is full it starts over as a new generation with a new `RefSpace`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.remote_write.hash_table import UNKNOWN, HashTable, slots_for
from collector.wire.fields import compiled
from collector.wire.hashes import Key, Words, new_key
from store.model import Int32Array, Labels, RefSpace

MAX_KNOWN_SERIES = 500_000
# Of names and values together; a hundred bytes a series are usual.
MAX_KNOWN_BYTES = 128 * 1024 * 1024
_EMPTY = -1
_FIRST_ROOM = 512
# Refs of a request from this down are reasons of refusal.
_FIRST_REASON = -2

Parse = Callable[[int], "Labels | str"]
"""The label set of a row of the request, or the reason why it may not be stored."""


@compiled
def _distinct(refs: Int32Array, items: Any, seen: Int32Array, places: Any, out: Any) -> int:
    """Number the series with items as they come; how many distinct ones there are.

    `places` gets each row's number, or -1 where it has no items or may not be stored; `out` gets
    the refs by number. `seen` is empty and at least twice as large as there are rows.
    """
    mask = len(seen) - 1
    count = 0
    for row in range(len(refs)):
        ref = refs[row]
        places[row] = -1
        if ref < 0 or items[row] == 0:
            continue
        place = np.int64(ref) & mask
        for _ in range(len(seen)):
            number = seen[place]
            if number == _EMPTY:
                seen[place] = count
                out[count] = ref
                places[row] = count
                count += 1
                break
            if out[number] == ref:
                places[row] = number
                break
            place = (place + 1) & mask
    return count


@dataclass(slots=True)
class _Generation:
    """One life of the table. Refs are numbers of `labels`."""

    table: HashTable = field(default_factory=HashTable)
    space: RefSpace = field(default_factory=RefSpace)
    by_labels: dict[Labels, int] = field(default_factory=dict)
    size_bytes: int = 0
    labels: npt.NDArray[np.object_] = field(
        default_factory=lambda: np.empty(_FIRST_ROOM, dtype=np.object_)
    )

    def ref_of(self, labels: Labels) -> int:
        """One ref for all the orders in which a label set is sent."""
        known = self.by_labels.get(labels)
        if known is not None:
            return known
        ref = self.by_labels[labels] = len(self.by_labels)
        self.size_bytes += sum(len(name) + len(value) for name, value in labels.pairs)
        if ref >= len(self.labels):
            grown = np.empty(2 * len(self.labels), dtype=np.object_)
            grown[:ref] = self.labels
            self.labels = grown
        self.labels[ref] = labels
        return ref


@dataclass(frozen=True, slots=True)
class Resolved:
    """The series of a request.

    Attributes:
        space: Whose refs they are.
        refs: The ref of each distinct series that has items and may be stored.
        series: Their labels.
        bound: Every ref of the space is below it.
        places: For each row of the request its place in `series`, or -1.
        refused: Reasons by row, of the rows that may not be stored.
    """

    space: RefSpace
    refs: Int32Array
    series: tuple[Labels, ...]
    bound: int
    places: Int32Array
    refused: dict[int, str]


class LabelTable:
    """Remembers label sets between requests. Safe to use from any thread."""

    def __init__(
        self,
        max_series: int = MAX_KNOWN_SERIES,
        *,
        max_bytes: int = MAX_KNOWN_BYTES,
    ) -> None:
        self.key: Key = new_key()
        self._max_series = max_series
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._reasons: list[str] = []
        self._generation = _Generation()

    def __len__(self) -> int:
        return len(self._generation.table)

    def resolve(self, hashes: Words, items: Any, parse: Parse | None) -> Resolved | None:
        """The series behind the hashes of a request's label sets.

        Args:
            hashes: A row for each series of the request.
            items: How many samples and the like each of them has.
            parse: Reads a row's labels where the table does not know them; with None nothing is
                read, and the answer is None when something would have to be.
        """
        generation = self._generation
        refs, missing = generation.table.find(hashes)
        if missing:
            if parse is None:
                return None
            with self._lock:
                generation, refs = self._learn(hashes, parse)
        return self._resolved(generation, refs, items)

    def _learn(self, hashes: Words, parse: Parse) -> tuple[_Generation, Int32Array]:
        fresh: dict[bytes, Labels | str] = {}
        try:
            unknown, refs = self._read(hashes, parse, fresh)
            if self._is_full(fresh) and len(self._generation.table):
                self._generation = _Generation()
                unknown, refs = self._read(hashes, parse, fresh)
        finally:
            # Also of a request that turns out damaged: what was read of it is right.
            values = self._add(fresh)
        for row in unknown:
            refs[row] = values[hashes[row].tobytes()]
        return self._generation, refs

    def _read(
        self, hashes: Words, parse: Parse, fresh: dict[bytes, Labels | str]
    ) -> tuple[list[int], Int32Array]:
        """Parse what is not known into `fresh`; the rows of it, and the refs of the others."""
        refs, _ = self._generation.table.find(hashes)
        unknown: list[int] = np.flatnonzero(refs == UNKNOWN).tolist()
        for row in unknown:
            key = hashes[row].tobytes()
            if key not in fresh:
                fresh[key] = parse(row)
        return unknown, refs

    def _is_full(self, fresh: Mapping[bytes, Labels | str]) -> bool:
        generation = self._generation
        more = sum(not isinstance(found, str) for found in fresh.values())
        full = len(generation.table) + more > self._max_series
        return more > 0 and (full or generation.size_bytes > self._max_bytes)

    def _add(self, fresh: Mapping[bytes, Labels | str]) -> dict[bytes, int]:
        """The values of what was read; label sets are remembered, reasons of refusal are not."""
        generation = self._generation
        if self._is_full(fresh) and len(generation.table):
            return {}
        values = {key: self._value_of(generation, found) for key, found in fresh.items()}
        known = {key: value for key, value in values.items() if value >= 0}
        keys = np.frombuffer(b"".join(known), dtype=np.uint64).reshape(-1, 2)
        generation.table.add(keys, np.array(list(known.values()), dtype=np.int32))
        return values

    def _value_of(self, generation: _Generation, found: Labels | str) -> int:
        if not isinstance(found, str):
            return generation.ref_of(found)
        if found not in self._reasons:
            self._reasons.append(found)
        return _FIRST_REASON - self._reasons.index(found)

    def _resolved(self, generation: _Generation, refs: Int32Array, items: Any) -> Resolved:
        places = np.empty(len(refs), dtype=np.int32)
        distinct = np.empty(len(refs), dtype=np.int32)
        count = _distinct(refs, items, slots_for(len(refs)), places, distinct)
        distinct = distinct[:count]
        refused = {
            row: self._reasons[_FIRST_REASON - int(refs[row])]
            for row in np.flatnonzero(refs <= _FIRST_REASON).tolist()
        }
        # A ref is handed out after its labels are in place, so they are all there.
        labels = generation.labels
        series: tuple[Labels, ...] = tuple(labels[distinct].tolist())
        return Resolved(generation.space, distinct, series, len(labels), places, refused)
