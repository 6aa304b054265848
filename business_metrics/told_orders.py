"""Orders that were told twice: a shop that tries again may give its purchase a fresh event id.

An order counts once, by its transaction id: at its earliest purchase, with what that one says. A
purchase less than a day after another one of the same order is a repeat. That rests on the events
alone, not on the order in which they came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from business_metrics.keyed_rows import worth_keeping
from store.model import BoolArray, Int64Array

REPEAT_MS = 86_400_000
# A purchase may come a day late and still meets all that it is compared with.
KEPT_MS = 2 * REPEAT_MS
_MAX_ROWS = 2_000_000
# The rows of a table of purchases.
_KEY, _AT, _SEQ, _UNITS, _COUNTS = range(5)


@dataclass(frozen=True, slots=True)
class Sold:
    """What more purchases change: which of them count, and what was counted and no longer does.

    Attributes:
        counts: One flag each.
        dropped_ms: The instants of earlier ones that turned out to be repeats.
        dropped_units: Their amounts.
    """

    counts: BoolArray
    dropped_ms: Int64Array
    dropped_units: Int64Array


def repeats(orders: pa.Table) -> BoolArray:
    """Which genuine purchases of a table tell again of an order that it holds before."""
    known = np.asarray(orders["order_id"].is_valid().to_numpy(), dtype=np.bool_)
    out = np.zeros(len(known), dtype=np.bool_)
    rows = _rows(orders.filter(pa.array(known)), np.zeros(int(known.sum()), dtype=np.int64))
    out[known] = ~_first(rows)
    return out


class ToldOrders:
    """Remembers the orders of the last two days; memory is bounded. An order without id counts."""

    def __init__(self) -> None:
        self._rows: Int64Array = np.empty((5, 0), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._rows.shape[1])

    def add(self, orders: pa.Table, units: Int64Array) -> Sold:
        """Take in more genuine purchases with their amounts, each once, in any order."""
        counts = np.ones(orders.num_rows, dtype=np.bool_)
        known = np.asarray(orders["order_id"].is_valid().to_numpy(), dtype=np.bool_)
        new = _rows(orders.filter(pa.array(known)), units[known])
        if not new.shape[1]:
            return Sold(counts, new[_AT], new[_UNITS])
        places = self._places(np.unique(new[_KEY]))
        near = self._rows[:, places]
        first = _first(np.hstack([near, new]))
        counts[known] = new[_COUNTS] = first[len(places) :]
        gone = ~first[: len(places)] & (near[_COUNTS] > 0)
        self._rows[_COUNTS, places[gone]] = 0
        self._keep(new)
        return Sold(counts, near[_AT, gone], near[_UNITS, gone])

    def _places(self, keys: Int64Array) -> Int64Array:
        """Where what is remembered of these orders is."""
        begin, end = (np.searchsorted(self._rows[_KEY], keys, side) for side in ("left", "right"))
        again = np.flatnonzero(end > begin).tolist()
        return np.concatenate(
            [np.empty(0, dtype=np.int64), *(np.arange(begin[n], end[n]) for n in again)]
        )

    def _keep(self, new: Int64Array) -> None:
        new = new[:, np.argsort(new[_KEY], kind="stable")]
        places = np.searchsorted(self._rows[_KEY], new[_KEY])
        self._rows = np.insert(self._rows, places, new, axis=1)

    def forget(self, now_ms: int) -> None:
        """Let go of what is too old to be compared with, when that is enough to be worth it."""
        chosen = worth_keeping(self._rows[_AT], now_ms - KEPT_MS, _MAX_ROWS)
        if chosen is not None:
            self._rows = self._rows[:, chosen]

    def forget_between(self, start_ms: int, end_ms: int) -> None:
        """Let go of a span that nothing more is compared with."""
        at = self._rows[_AT]
        self._rows = self._rows[:, (at < start_ms) | (at >= end_ms)]


def _rows(orders: pa.Table, units: Int64Array) -> Int64Array:
    """Columns of those with an id."""
    keys = np.fromiter(map(hash, orders["order_id"].to_pylist()), np.int64, orders.num_rows)
    at, seq = (orders[name].to_numpy() for name in ("ts_ms", "seq"))
    return np.vstack([keys, at, seq, units, np.ones_like(keys)]).astype(np.int64)


def _first(rows: Int64Array) -> BoolArray:
    """Which are not told within a day after another of the same order."""
    order = np.lexsort((rows[_SEQ], rows[_AT], rows[_KEY]))
    key, at = rows[_KEY][order], rows[_AT][order]
    out = np.ones(len(order), dtype=np.bool_)
    out[order[1:]] = (key[1:] != key[:-1]) | (at[1:] - at[:-1] >= REPEAT_MS)
    return out
