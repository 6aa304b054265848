"""Texts that few of many rows differ in, as Arrow dictionaries: each text once, rows by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
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
    return coded_columns(list(lists), numbers, held, index)


def coded_columns(
    names: Sequence[str],
    numbers: npt.NDArray[np.int32],
    held: Sequence[Sequence[str]],
    index: Int64Array,
) -> dict[str, pa.Array[Any]]:
    """A column for each name: its texts by their numbers (-1: null), repeated at these places.

    Args:
        names: The columns' names.
        numbers: A row for each column, of places in its texts.
        held: The distinct texts of each column.
        index: Places in the rows of `numbers`.
    """
    repeated = np.take(numbers, index, axis=1)
    present = repeated >= 0
    whole = np.all(present, axis=1)
    bits = np.packbits(present, axis=1, bitorder="little")
    # One array and its slices: `pa.array` costs more than most columns' texts.
    texts: Any = pa.array([*chain.from_iterable(held)], pa.string())
    begin = 0
    columns: dict[str, pa.Array[Any]] = {}
    for row, name in enumerate(names):
        columns[name] = pa.DictionaryArray.from_buffers(
            _TEXTS,
            len(index),
            [None if whole[row] else pa.py_buffer(bits[row]), pa.py_buffer(repeated[row])],
            texts.slice(begin, len(held[row])),
        )
        begin += len(held[row])
    return columns
