"""Label sets by the hash of the bytes that they were sent as, and small numbers for them.

Senders repeat the same series with each request. A known one costs a probe of a table in compiled
code; an unknown one is parsed in Python, once. The table is bounded: when it is full it starts
over as a new generation with a new `RefSpace`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.remote_write.hash_table import UNKNOWN, HashTable, slots_for
from collector.wire.fields import compiled
from collector.wire.hashes import Words
from store.model import Int32Array, Labels, RefSpace

MAX_KNOWN_SERIES = 500_000
# Of names and values together; a hundred bytes a series are usual.
MAX_KNOWN_BYTES = 128 * 1024 * 1024
_EMPTY = -1
_FIRST_ROOM = 512
# Values of the table below this are reasons of refusal.
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
    """One life of the table. Refs are numbers of `labels`; other values of `table` are reasons."""

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
        seeds: tuple[int, int] | None = None,
    ) -> None:
        high, low = seeds or (secrets.randbits(64), secrets.randbits(64))
        self.seeds = (np.uint64(high), np.uint64(low))
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
        generation = self._generation
        refs, missing = generation.table.find(hashes)
        full = len(generation.table) + missing > self._max_series
        if (full or generation.size_bytes > self._max_bytes) and len(generation.table):
            generation = self._generation = _Generation()
            refs, missing = generation.table.find(hashes)
        fresh: dict[bytes, int] = {}
        try:
            for row in np.flatnonzero(refs == UNKNOWN).tolist():
                key = hashes[row].tobytes()
                if key not in fresh:
                    fresh[key] = self._value_of(generation, parse(row))
                refs[row] = fresh[key]
        finally:
            # Also of a request that turns out damaged: what was read of it is right.
            keys = np.frombuffer(b"".join(fresh), dtype=np.uint64).reshape(-1, 2)
            generation.table.add(keys, np.array(list(fresh.values()), dtype=np.int32))
        return generation, refs

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
