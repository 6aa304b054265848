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
    """Refuse nulls among the texts, which belong among the rows, and texts that are there twice.

    Raises:
        BadInput: There is one.
    """
    for field, column in zip(table.schema, table.columns, strict=True):
        if not pa.types.is_dictionary(field.type):
            continue
        chunks: list[Any] = column.chunks
        for texts in [chunk.dictionary for chunk in chunks]:
            if texts.null_count:
                raise BadInput(f"the dictionary of the column {field.name} has nulls")
            if len(texts.unique()) < len(texts):
                raise BadInput(f"the dictionary of the column {field.name} has a text twice")
