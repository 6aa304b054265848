"""Texts of spans as dictionaries: in memory and in the append log spans repeat theirs by number."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from store.errors import BadInput
from store.model import SPAN_CODED_READ_SCHEMA, SPAN_CODED_SCHEMA

_CODED = (SPAN_CODED_SCHEMA, SPAN_CODED_READ_SCHEMA)


def is_coded(table: pa.Table) -> bool:
    """Whether spans have their texts as dictionaries."""
    return any(table.schema.equals(schema) for schema in _CODED)


def coded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Spans of one of the plain schemas in the coded one with the same columns."""
    columns = [_coded(*pair) for pair in zip(table.columns, schema, strict=True)]
    return pa.table(columns, schema=schema)


def _coded(column: pa.ChunkedArray[Any], field: pa.Field[Any]) -> Any:
    if pa.types.is_dictionary(field.type):
        return column.cast(pa.string()).dictionary_encode()
    return column.cast(field.type)


def check_dictionaries(table: pa.Table) -> None:
    """Refuse nulls among the texts: they belong among the rows.

    Raises:
        BadInput: There is one.
    """
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_dictionary(field.type):
            chunks: list[Any] = column.chunks
            if any(chunk.dictionary.null_count for chunk in chunks):
                raise BadInput(f"the dictionary of the column {field.name} has nulls")
