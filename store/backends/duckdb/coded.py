"""Texts of spans as dictionaries: in memory and in the append log spans repeat theirs by number."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from store.errors import BadInput
from store.model import SPAN_CODED_READ_SCHEMA, SPAN_CODED_SCHEMA

_FEW_TEXTS = 64
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

    The table must be valid.

    Raises:
        BadInput: There is one.
    """
    places = [at for at, field in enumerate(table.schema) if pa.types.is_dictionary(field.type)]
    for batch in table.to_batches():
        for at in places:
            column: Any = batch.column(at)
            texts = column.dictionary
            if texts.null_count:
                raise BadInput(f"the dictionary of the column {_name(table, at)} has nulls")
            if _has_repeats(texts):
                raise BadInput(f"the dictionary of the column {_name(table, at)} has a text twice")


def _name(table: pa.Table, at: int) -> str:
    return table.schema.field(at).name


def _has_repeats(texts: Any) -> bool:
    if len(texts) <= _FEW_TEXTS:  # a call of Arrow costs as much as so many of Python's texts
        return len(texts) > 1 and len(set(texts.to_pylist())) < len(texts)
    return len(texts.unique()) < len(texts)
