"""Metadata of remote write 2.0: it comes with every series of every request, and rarely changes.

Compiled code hashes what each series says of its metric (name, type, help, unit) and finds it
among what was said before; only what is new is read in Python and handed on.
"""

# ruff: noqa: PLR0913 -- a compiled loop reads best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from collector.remote_write.hash_table import UNKNOWN, HashTable
from collector.remote_write.messages import TYPES, Symbols, bad_reference, text
from collector.remote_write.scanner import BEGIN, END, FIRST, LAST, Found
from collector.wire.fields import Bytes, Ints, compiled, skip, tag, varint
from collector.wire.hashes import Key, Words, closed, hash_bytes, mixed
from store.model import METRIC_NAME, MetricMetadata, MetricType

MAX_REMEMBERED = 50_000
_PARTS = {
    MetricType.HISTOGRAM: ("_bucket", "_count", "_sum"),
    MetricType.SUMMARY: ("_count", "_sum"),
}
_NONE, _SOME, _DAMAGED = 0, 1, 2
# Columns of a row that the kernel fills: the symbols of name, help and unit, and the type.
_NAME, _HELP, _UNIT, _TYPE, _COLUMNS = 0, 1, 2, 3, 4


@compiled
def _said(data: Bytes, place: int, end: int, out: Ints) -> int:
    """Fields of one Metadata into a row; whether it says anything."""
    some = _NONE
    while place < end:
        field, wire, place = tag(data, place, end)
        if place < 0:
            return _DAMAGED
        if wire == 0 and field in (1, 3, 4):
            value, place = varint(data, place, end)
            if place < 0:
                return _DAMAGED
            column = _TYPE if field == 1 else _HELP if field == 3 else _UNIT
            out[column] = np.int64(value & np.uint64(0x7FFFFFFFFFFFFFFF))
            some = _SOME
        else:
            place = skip(data, place, end, wire)
            if place < 0:
                return _DAMAGED
    return some


@compiled
def _name(references: Ints, first: int, last: int, symbols: Words, wanted: Words) -> int:
    """The symbol behind the label of this name, or 0."""
    for place in range(first, last, 2):
        label = references[place]
        if symbols[label, 0] == wanted[0] and symbols[label, 1] == wanted[1]:
            return references[place + 1]
    return 0


@compiled
def _keys(
    data: Bytes,
    series: Ints,
    references: Ints,
    symbols: Words,
    wanted: Words,
    key: Key,
    rows: Ints,
    keys: Words,
) -> int:
    """A row and its hash for each series that says something of its metric.

    How many there are, or -1 where one is damaged or refers to no symbol. The references of the
    series themselves have been checked.
    """
    count = 0
    for number in range(len(series)):
        begin, end = series[number, BEGIN], series[number, END]
        row = rows[count]
        row[:] = 0
        said = _said(data, begin, end, row)
        if said == _DAMAGED or max(row[_HELP], row[_UNIT]) >= len(symbols):
            return -1
        first, last = series[number, FIRST], series[number, LAST]
        row[_NAME] = _name(references, first, last, symbols, wanted)
        if said == _NONE or row[_NAME] == 0:
            continue
        high, low = wanted[0], np.uint64(row[_TYPE])
        for column in (_NAME, _HELP, _UNIT):
            symbol = row[column]
            high, low = mixed(high, low, symbols[symbol, 0], symbols[symbol, 1], key)
        keys[count, 0], keys[count, 1] = closed(high, low, np.uint64(_COLUMNS))
        count += 1
    return count


class MetadataMemory:
    """What senders have said of their metrics, by hash. Safe to use from any thread."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._table = HashTable()

    def forget(self) -> None:
        """Hand everything on again when it comes again: what was handed on may not be stored."""
        with self._lock:
            self._table = HashTable()

    def fresh(
        self, view: Bytes, found: Found, symbol_hashes: Words, symbols: Symbols | None
    ) -> tuple[MetricMetadata, ...] | None:
        """What is new; None when there is something, but no symbols to read it with.

        Raises:
            BadInput: A Metadata is damaged or refers to no symbol.
        """
        rows = np.zeros((len(found.series) + 1, _COLUMNS), dtype=np.int64)
        keys = np.empty((len(found.series), 2), dtype=np.uint64)
        label = np.frombuffer(METRIC_NAME.encode(), dtype=np.uint8)
        wanted = np.array(hash_bytes(label, 0, len(label), self._key), dtype=np.uint64)
        count = _keys(
            view, found.series, found.references, symbol_hashes, wanted, self._key, rows, keys
        )
        if count < 0:
            raise bad_reference()
        keys = keys[:count]
        table = self._table
        if not table.find(keys)[1]:
            return ()
        if symbols is None:
            return None
        with self._lock:
            return self._learn(rows, keys, symbols)

    def _learn(self, rows: Ints, keys: Words, symbols: Symbols) -> tuple[MetricMetadata, ...]:
        known, missing = self._table.find(keys)
        if len(self._table) + missing > MAX_REMEMBERED:
            self._table = HashTable()
            known, _ = self._table.find(keys)
        fresh: dict[bytes, MetricMetadata] = {}
        for row in np.flatnonzero(known == UNKNOWN).tolist():
            fresh.setdefault(keys[row].tobytes(), _metadata(rows[row].tolist(), symbols))
        added = np.frombuffer(b"".join(fresh), dtype=np.uint64).reshape(-1, 2)
        self._table.add(added, np.zeros(len(added), dtype=np.int32))
        return tuple(fresh.values())


def _metadata(row: Sequence[int], symbols: Symbols) -> MetricMetadata:
    kind = TYPES.get(row[_TYPE], MetricType.UNKNOWN)
    family = text(symbols[row[_NAME]])
    for part in _PARTS.get(kind, ()):
        if family.endswith(part):
            # A classic histogram's series are parts of one family.
            family = family.removesuffix(part)
            break
    return MetricMetadata(
        family, kind, help=text(symbols[row[_HELP]]), unit=text(symbols[row[_UNIT]])
    )
