"""Columns of whole numbers with one row a text key, and room to grow: what is followed by its id.

A key's row is found in constant time, so a tick costs what came, not what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from typing import Any

import numpy as np

from store.model import BoolArray, Int64Array

_FIRST_ROOM = 1_024


def numbers_of(column: Any) -> tuple[Int64Array, Int64Array]:
    """Each row's place among the distinct texts of a column (-1: null), and a number for each text.

    The number is the same all through this process. It is 64 bits of a hash: among ten million
    texts two share one with a chance of 1 in 400,000.
    """
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    numbers = np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))
    places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.asarray(places, dtype=np.int64), numbers


class KeyedRows:
    """Rows by key. `blank` names the columns and says what a new row holds."""

    def __init__(self, blank: Mapping[str, int]) -> None:
        self._blank = dict(blank)
        self._places: dict[str, int] = {}
        self._columns = {
            name: np.full(_FIRST_ROOM, value, dtype=np.int64) for name, value in blank.items()
        }

    def __len__(self) -> int:
        return len(self._places)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each row, in order."""
        return tuple(self._places)

    def column(self, name: str) -> Int64Array:
        """A column as it is now. Writing to it changes the rows, until the next call of `rows`."""
        return self._columns[name][: len(self._places)]

    def rows(self, keys: Iterable[str]) -> Int64Array:
        """The row of each key; a new key gets a new one."""
        places = self._places
        found = np.asarray([places.setdefault(key, len(places)) for key in keys], dtype=np.int64)
        room = len(next(iter(self._columns.values())))
        if len(places) > room:
            more = max(len(places) - room, room // 2)
            for name, value in self._blank.items():
                fresh = np.full(more, value, dtype=np.int64)
                self._columns[name] = np.concatenate([self._columns[name], fresh])
        return found

    def keep(self, chosen: BoolArray) -> Int64Array:
        """Let the other rows go; where each row is now, -1 where it went."""
        names = compress(self._places, chosen.tolist())
        self._places = {key: place for place, key in enumerate(names)}
        for name, value in self._blank.items():
            kept = self._columns[name][: len(chosen)][chosen]
            room = np.full(max(len(kept) // 2, _FIRST_ROOM), value, dtype=np.int64)
            self._columns[name] = np.concatenate([kept, room])
        return np.where(chosen, np.cumsum(chosen) - 1, -1)


def worth_keeping(
    last_ms: Int64Array, before_ms: int, most: int, *, spare: float = 0.25
) -> BoolArray | None:
    """Which rows to keep, or None while too few are old for the work to pay.

    Never more than `most`: of too many the latest three quarters of it, so that it pays.
    """
    chosen: BoolArray = last_ms >= before_ms
    left = int(chosen.sum())
    if left > most:
        chosen = np.zeros(len(last_ms), dtype=np.bool_)
        kept = most - most // 4
        chosen[np.argpartition(last_ms, -kept)[-kept:]] = True
        return chosen
    gone = len(last_ms) - left
    return chosen if gone > max(_FIRST_ROOM, spare * len(last_ms)) else None
