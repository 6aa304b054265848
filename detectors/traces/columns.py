"""Arrow columns of spans to numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from store.model import BoolArray, Int32Array, Int64Array

_WORD = 8  # bytes of a span id


def places(keys: Int64Array, wanted: Int64Array) -> Int64Array:
    """For each wanted key its row, or -1. Negative ones are not looked for."""
    found = np.full(len(wanted), -1, dtype=np.int64)
    asked = np.flatnonzero(wanted >= 0)
    if not len(keys) or not len(asked):
        return found
    # Siblings ask for one parent, mostly one after the other: each run is looked up once.
    values = wanted[asked]
    begins = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    by_key = np.argsort(keys, kind="stable")
    ordered = keys[by_key]
    heads = values[begins]
    near = np.minimum(np.searchsorted(ordered, heads), len(keys) - 1)
    rows = np.where(ordered[near] == heads, by_key[near], -1)
    found[asked] = np.repeat(rows, np.diff(np.append(begins, len(values))))
    return found


def ints(spans: pa.Table, name: str) -> Int64Array:
    """An integer column, 0 where it is null."""
    column: Any = spans[name]
    if column.null_count:
        column = column.fill_null(0)
    return np.asarray(column.to_numpy(), dtype=np.int64)


def codes(column: pa.ChunkedArray[Any]) -> tuple[Int32Array, list[Any]]:
    """Dictionary codes of a column (-1 for null) and its distinct values."""
    numbers, distinct = _encoded(column)
    return numbers, distinct.to_pylist()


def numbered(column: pa.ChunkedArray[Any]) -> tuple[Int32Array, int]:
    """As `codes`, with the number of distinct values: making objects of ids takes long."""
    numbers, distinct = _encoded(column)
    return numbers, len(distinct)


def _encoded(column: pa.ChunkedArray[Any]) -> tuple[Int32Array, pa.Array[Any]]:
    if not len(column):
        return np.empty(0, dtype=np.int32), pa.nulls(0)
    encoded: Any = column.dictionary_encode().combine_chunks()
    indices = encoded.indices
    filled = indices.fill_null(-1) if indices.null_count else indices
    return np.asarray(filled.to_numpy(), dtype=np.int32), encoded.dictionary


def compact(table: pa.Table) -> pa.Table:
    """One chunk a column, texts as dictionaries: what is moved then is numbers."""
    columns: list[Any] = [
        (column.dictionary_encode() if pa.types.is_string(column.type) else column).combine_chunks()
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def rows(table: pa.Table, chosen: Int64Array) -> pa.Table:
    """Rows by their places."""
    places: Any = pa.array(chosen, pa.int64())
    return table.take(places)


def matching(table: pa.Table, mask: BoolArray) -> pa.Table:
    """Rows that are marked; all of them are not copied."""
    if mask.all():
        return table
    marked: Any = pa.array(mask, pa.bool_())
    return table.filter(marked)


def ranks(column: pa.ChunkedArray[Any]) -> Int64Array:
    """Numbers of a column's values: equal for equal values, ascending with them."""
    words = _words(column)
    if words is not None:
        return words
    numbers, distinct = codes(column)
    order = np.empty(len(distinct) + 1, dtype=np.int64)
    order[-1] = -1  # null
    order[sorted(range(len(distinct)), key=distinct.__getitem__)] = np.arange(len(distinct))
    return order[numbers]


def _words(column: pa.ChunkedArray[Any]) -> Int64Array | None:
    """Eight bytes each as one number that sorts like them; None where a value has another size."""
    array: Any = column.cast(pa.large_binary()).combine_chunks()
    if array.null_count or not len(array):
        return None
    _, offsets, data = array.buffers()
    places = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    if data is None or not (np.diff(places) == _WORD).all():
        return None
    raw = np.frombuffer(data, dtype=np.uint8)[places[0] : places[-1]]
    unsigned = raw.view(">u8").astype(np.uint64)
    return (unsigned ^ np.uint64(1 << 63)).view(np.int64)
