"""Arrow columns of spans to numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.model import BoolArray, Int32Array, Int64Array


def places(keys: Int64Array, wanted: Int64Array) -> Int64Array:
    """For each wanted key its row, or -1."""
    if not len(keys):
        return np.empty(0, dtype=np.int64)
    by_key = np.argsort(keys, kind="stable")
    ordered = keys[by_key]
    found = np.minimum(np.searchsorted(ordered, wanted), len(keys) - 1)
    return np.where(ordered[found] == wanted, by_key[found], -1).astype(np.int64)


def ints(spans: pa.Table, name: str) -> Int64Array:
    """An integer column, 0 where it is null."""
    column: Any = spans[name]
    if column.null_count:
        column = column.fill_null(0)
    return np.asarray(column.to_numpy(), dtype=np.int64)


def codes(column: pa.ChunkedArray[Any]) -> tuple[Int32Array, list[Any]]:
    """Dictionary codes of a column (-1 for null) and its distinct values."""
    if not len(column):
        return np.empty(0, dtype=np.int32), []
    encoded: Any = column.dictionary_encode().combine_chunks()
    indices = encoded.indices
    filled = indices.fill_null(-1) if indices.null_count else indices
    return np.asarray(filled.to_numpy(), dtype=np.int32), encoded.dictionary.to_pylist()


def rows(table: pa.Table, chosen: Int64Array) -> pa.Table:
    """Rows by their places."""
    places: Any = pa.array(chosen, pa.int64())
    return table.take(places)


def matching(table: pa.Table, mask: BoolArray) -> pa.Table:
    """Rows that are marked."""
    marked: Any = pa.array(mask, pa.bool_())
    return table.filter(marked)


def ranks(column: pa.ChunkedArray[Any]) -> Int64Array:
    """Dense ranks of a column's values: equal for equal values, ascending with them."""
    ranked: Any = pc.rank(column, sort_keys="ascending", tiebreaker="dense")
    return np.asarray(ranked.to_numpy(), dtype=np.int64)
