"""The checkouts of the last hours, kept up to date by what comes: a tick never folds anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.abandonment import NEVER, SEGMENTS, Checkouts, by_checkout, codes_of
from business_metrics.keyed_rows import KeyedRows, worth_keeping
from store.model import Int64Array

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

_MAX_CHECKOUTS = 1_000_000
_NOT_YET = np.iinfo(np.int64).min
_UNKNOWN = 0


class CheckoutTable:
    """Says of all events that were added what `abandonment.fold` says of them, in any order.

    A checkout without activity since `forget`'s instant may be let go: an event of it that comes
    later begins a new one.
    """

    def __init__(self) -> None:
        blank = {"start": NEVER, "last": _NOT_YET, "bought": NEVER, "ignored": 0}
        self._rows = KeyedRows(blank | dict.fromkeys(SEGMENTS, _UNKNOWN))
        self._values: dict[str, dict[str, int]] = {name: {"": _UNKNOWN} for name in SEGMENTS}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, events: pa.Table) -> None:
        """Take in more events."""
        table = by_checkout(events)
        if not table.num_rows:
            return
        rows = self._rows.rows(map(str, table["id"].to_pylist()))
        for name, join, missing in (
            ("start", np.minimum, NEVER),
            ("last", np.maximum, _NOT_YET),
            ("bought", np.minimum, NEVER),
            ("ignored", np.maximum, 0),
        ):
            column = self._rows.column(name)
            told = pc.fill_null(pc.cast(table[name], pa.int64()), missing).to_numpy()
            column[rows] = join(column[rows], told)
        for name in SEGMENTS:
            self._add_segment(name, rows, table[name])

    def _add_segment(self, name: str, rows: Int64Array, told: Any) -> None:
        codes, values = codes_of(told)
        known = self._values[name]
        renamed = np.asarray([known.setdefault(value, len(known)) for value in values], np.int64)
        column = self._rows.column(name)
        before, now = column[rows], renamed[codes]
        apart = np.flatnonzero((before != now) & (before != _UNKNOWN) & (now != _UNKNOWN))
        column[rows] = np.where(now == _UNKNOWN, before, now)
        if len(apart):
            texts, choose = tuple(known), min if SEGMENTS[name] == "min" else max
            pairs = zip(before[apart].tolist(), now[apart].tolist(), strict=True)
            chosen = [choose(pair, key=texts.__getitem__) for pair in pairs]
            column[rows[apart]] = chosen

    def forget(self, before_ms: int) -> None:
        """Let go of what had no activity since, when that is enough to be worth it."""
        chosen = worth_keeping(self._rows.column("last"), before_ms, _MAX_CHECKOUTS)
        if chosen is None:
            return
        self._rows.keep(chosen)
        for name, known in self._values.items():
            column = self._rows.column(name)
            used, places = np.unique(np.append(column, _UNKNOWN), return_inverse=True)
            texts = tuple(known)
            self._values[name] = {texts[code]: place for place, code in enumerate(used.tolist())}
            column[:] = places[:-1]

    def started(self, start_ms: int, end_ms: int) -> Checkouts:
        """The genuine checkouts that were started in a span."""
        start = self._rows.column("start")
        inside = (start >= start_ms) & (start < end_ms) & (self._rows.column("ignored") == 0)
        return Checkouts(
            start_ms=start[inside],
            last_ms=self._rows.column("last")[inside],
            purchased_ms=self._rows.column("bought")[inside],
            segments={
                name: (self._rows.column(name)[inside], tuple(self._values[name]))
                for name in SEGMENTS
            },
        )
