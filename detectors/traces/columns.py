"""Arrow columns of spans to numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.model import BoolArray, Int32Array, Int64Array

# A dictionary that is hardly longer than its rows is not worth a renumbering.
_SPARE_TEXTS = 64
# So many texts are read at once: that is quicker than one after the other.
_FEW_TEXTS = 4_096
_FEW_IDS = 4


def ints(spans: pa.Table, name: str) -> Int64Array:
    """An integer column, 0 where it is null."""
    column: Any = spans[name]
    if column.null_count:
        column = column.fill_null(0)
    return np.array(column.to_numpy(), dtype=np.int64)  # its own: loops are compiled for those


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


class Columns:
    """The columns of some spans in an order of their own. What nobody asks for is not moved.

    Args:
        spans: One chunk a column, texts as dictionaries (`compact`).
        order: For each row its place in `spans`.
    """

    def __init__(self, spans: pa.Table, order: Int64Array) -> None:
        self._spans = spans
        self._order = order
        self._numbers: dict[str, Int32Array] = {}
        self._values: dict[str, list[Any]] = {}
        self._distinct: dict[str, Any] = {}
        self._ids: dict[str, _Ids] = {}

    def __len__(self) -> int:
        return len(self._order)

    def ints(self, name: str) -> Int64Array:
        """An integer column, 0 where it is null."""
        return ints(self._spans, name)[self._order]

    def valid(self, name: str) -> BoolArray:
        """Where a column is not null."""
        here: BoolArray = self.numbers(name) >= 0
        return here

    def numbers(self, name: str) -> Int32Array:
        """For each row the place of its value in `distinct`; -1 where it is null."""
        found = self._numbers.get(name)
        if found is None:
            indices = self._encoded(name).indices
            filled = indices.fill_null(-1) if indices.null_count else indices
            found = np.asarray(filled.to_numpy(), dtype=np.int32)[self._order]
            self._numbers[name] = found
        return found

    def distinct(self, name: str) -> Any:
        """The values of a column, each once, and some that no row has; still in Arrow."""
        return self._encoded(name).dictionary

    def values(self, name: str) -> list[Any]:
        """`distinct` as Python values, and None behind them, for the number -1."""
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = [*self.distinct(name).to_pylist(), None]
        return found

    def value(self, name: str, row: int) -> Any:
        """A cell as a Python value. Of a long dictionary only that text is read."""
        number = self.numbers(name)[row]
        if name in self._values or len(self.distinct(name)) <= _FEW_TEXTS:
            return self.values(name)[number]
        return self.distinct(name)[int(number)].as_py() if number >= 0 else None

    def ids(self, name: str, rows: Sequence[int]) -> list[str]:
        """Ids in hex, empty where null."""
        known = self._ids.get(name)
        if known is None:
            known = self._ids[name] = _Ids(self._spans[name], self._order)
        return known.of(rows)

    def raw(self, name: str) -> Any:
        """A column as it came, in no order."""
        return self._spans[name]

    def _encoded(self, name: str) -> Any:
        found = self._distinct.get(name)
        if found is None:
            column: Any = self._spans[name]
            if not pa.types.is_dictionary(column.type):
                column = column.dictionary_encode()
            found = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            if isinstance(found, pa.ChunkedArray):  # of no chunks
                found = pa.array([], column.type)
            self._distinct[name] = found
        return found


class _Ids:
    """Ids of spans as one text, since all are distinct: so they take no object a row."""

    def __init__(self, column: pa.ChunkedArray[Any], order: Int64Array) -> None:
        array: Any = column.cast(pa.large_binary()).combine_chunks()
        _, offsets, data = array.buffers()
        marks = 2 * np.frombuffer(offsets, dtype=np.int64)[array.offset :]
        self._lows, self._highs = marks[:-1][order], marks[1:][order]
        self._text = bytes(data or b"").hex()

    def of(self, rows: Sequence[int]) -> list[str]:
        lows, highs, text = self._lows, self._highs, self._text
        if len(rows) > _FEW_IDS:
            chosen = np.asarray(rows, dtype=np.int64)
            marks = zip(lows[chosen].tolist(), highs[chosen].tolist(), strict=True)
            return [text[low:high] for low, high in marks]
        return [text[lows[row] : highs[row]] for row in rows]


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
