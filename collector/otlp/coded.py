"""Texts that few of many rows differ in, as Arrow dictionaries: each text once, rows by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from store.model import Int64Array

_TEXTS: pa.DataType = pa.dictionary(pa.int32(), pa.string())


def coded_texts(
    lists: Mapping[str, Sequence[str | None]], index: Int64Array
) -> dict[str, pa.Array[Any]]:
    """Each list's texts at these places, as columns.

    All are numbered in one array and repeated at once: a call costs more than its rows.
    """
    held: list[list[str]] = []
    numbers = np.empty((len(lists), max(map(len, lists.values()), default=0)), dtype=np.int32)
    for row, texts in enumerate(lists.values()):
        distinct = [text for text in dict.fromkeys(texts) if text is not None]
        places: dict[str | None, int] = dict(zip(distinct, range(len(distinct)), strict=True))
        places[None] = -1
        numbers[row] = [*map(places.__getitem__, texts)]
        held.append(distinct)
    repeated = np.take(numbers, index, axis=1)
    present = repeated >= 0
    whole = np.all(present, axis=1)
    bits = np.packbits(present, axis=1, bitorder="little")
    columns: dict[str, pa.Array[Any]] = {}
    for row, name in enumerate(lists):
        columns[name] = pa.DictionaryArray.from_buffers(
            _TEXTS,
            len(index),
            [None if whole[row] else pa.py_buffer(bits[row]), pa.py_buffer(repeated[row])],
            pa.array(held[row], pa.string()),
        )
    return columns
