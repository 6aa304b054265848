"""Arrow columns of spans to numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.model import BoolArray, Int32Array, Int64Array

# A dictionary that is hardly longer than its rows is not worth a renumbering.
_SPARE_TEXTS = 64


def ints(spans: pa.Table, name: str) -> Int64Array:
    """An integer column, 0 where it is null."""
    column: Any = spans[name]
    if column.null_count:
        column = column.fill_null(0)
    return np.array(column.to_numpy(), dtype=np.int64)  # its own: loops are compiled for those


def codes(column: pa.ChunkedArray[Any]) -> tuple[Int32Array, list[Any]]:
    """Dictionary codes of a column (-1 for null) and its distinct values."""
    if not len(column):
        return np.empty(0, dtype=np.int32), []
    encoded: Any = column.dictionary_encode().combine_chunks()
    indices = encoded.indices
    filled = indices.fill_null(-1) if indices.null_count else indices
    return np.array(filled.to_numpy(), dtype=np.int32), encoded.dictionary.to_pylist()


def coded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, texts as dictionaries."""
    columns = [_coded(table[field.name], field.type) for field in schema]
    return pa.table(columns, schema=schema)


def _coded(column: pa.ChunkedArray[Any], kind: pa.DataType) -> Any:
    if column.type.equals(kind):
        return column
    return column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)


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
    """Rows that are marked; all of them are not copied. Texts of the others are let go."""
    if not mask.all():
        marked: Any = pa.array(mask, pa.bool_())
        table = table.filter(marked)
    columns = [_lean(column) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def _lean(column: pa.ChunkedArray[Any]) -> Any:
    """A column without the texts that no row has, where they are the most.

    A filter keeps the whole dictionary of what it filters, and joined chunks have all of theirs:
    a row that waits would keep every text that was ever read beside it.
    """
    if not pa.types.is_dictionary(column.type):
        return column
    chunks: list[Any] = column.chunks
    if all(len(chunk.dictionary) <= 2 * len(chunk) + _SPARE_TEXTS for chunk in chunks):
        return column
    return pa.chunked_array([_used(chunk) for chunk in chunks])


def _used(chunk: Any) -> Any:
    known = chunk.indices.drop_null().unique()
    numbers = pc.index_in(chunk.indices, value_set=known)
    texts = chunk.dictionary.take(known)
    return pa.DictionaryArray.from_arrays(numbers.cast(chunk.type.index_type), texts)
