"""The sessions of the last hours, kept up to date by what comes: who came, bought and searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.abandonment import Checkouts
from business_metrics.events import genuine
from business_metrics.keyed_rows import KeyedRows, worth_keeping
from business_metrics.searches import Hunts, Steps, follow, joined, of_searches, times_and_looks
from store.model import BoolArray, Int64Array

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

_MAX_SESSIONS = 2_000_000
_MAX_STEPS = 8_000_000
_NOT_YET = np.iinfo(np.int64).min
_NOTHING: Int64Array = np.empty(0, dtype=np.int64)
_NO_HUNTS = Hunts(_NOTHING, _NOTHING, _NOTHING, _NOTHING)


class SessionTable:
    """Says of all events that were added what counting them all anew would say, in any order."""

    def __init__(self, timeout_s: int) -> None:
        self._timeout_s = timeout_s
        self._rows = KeyedRows({"last": _NOT_YET, "bought": _NOT_YET})
        self._steps = Steps(_NOTHING, _NOTHING, _NOTHING.astype(np.bool_))
        self._fresh: list[Steps] = []
        self._hunts = _NO_HUNTS

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, events: pa.Table) -> None:
        """Take in more events."""
        events = genuine(events.filter(pc.is_valid(events["session_id"])))
        if not events.num_rows:
            return
        bought = pc.equal(events["type"], "purchase")
        nothing = pa.scalar(None, pa.int64())
        columns = {
            "id": events["session_id"],
            "last": events["ts_ms"],
            "bought": pc.if_else(bought, events["ts_ms"], nothing),
        }
        table = pa.table(columns).group_by("id").aggregate([("last", "max"), ("bought", "max")])
        rows = self._rows.rows(map(str, table["id"].to_pylist()))
        for name in ("last", "bought"):
            column = self._rows.column(name)
            told = pc.fill_null(table[f"{name}_max"], _NOT_YET).to_numpy()
            column[rows] = np.maximum(column[rows], told)
        steps = of_searches(events)
        if steps.num_rows:
            session = self._rows.rows(map(str, steps["session_id"].to_pylist()))
            self._fresh.append(Steps(session, *times_and_looks(steps)))

    def counts(self, since_ms: int) -> tuple[int, int]:
        """Sessions that did anything since, and those that bought since."""
        visited, bought = (
            int((self._rows.column(name) >= since_ms).sum()) for name in ("last", "bought")
        )
        return visited, bought

    def hunts(self) -> Checkouts:
        """All hunts, without segments: only sessions that did something since are followed anew."""
        if self._fresh:
            changed = np.zeros(len(self._rows), dtype=np.bool_)
            for steps in self._fresh:
                changed[steps.session] = True
            self._steps = joined([self._steps, *self._fresh])
            self._fresh = []
            mine = self._steps.take(changed[self._steps.session])
            found, _ = follow(mine.take(mine.order()), self._timeout_s)
            self._hunts = _replaced(self._hunts, found, changed)
        return Checkouts(self._hunts.start_ms, self._hunts.last_ms, self._hunts.found_ms, {})

    def forget(self, before_ms: int) -> None:
        """Let go of sessions that did nothing since, when that is enough to be worth it."""
        chosen = worth_keeping(self._rows.column("last"), before_ms, _MAX_SESSIONS)
        if chosen is None and len(self._steps.ts_ms) <= _MAX_STEPS:
            return
        if chosen is None:
            chosen = np.ones(len(self._rows), dtype=np.bool_)
        self.hunts()
        now = self._rows.keep(chosen)
        kept = self._steps.take((now[self._steps.session] >= 0) & (self._steps.ts_ms >= before_ms))
        if len(kept.ts_ms) > _MAX_STEPS:
            kept = kept.take(np.arange(len(kept.ts_ms) - _MAX_STEPS // 2, len(kept.ts_ms)))
        self._steps = Steps(now[kept.session], kept.ts_ms, kept.look)
        left = _replaced(self._hunts, _NO_HUNTS, ~chosen)
        self._hunts = Hunts(now[left.session], left.start_ms, left.last_ms, left.found_ms)


def _replaced(known: Hunts, found: Hunts, changed: BoolArray) -> Hunts:
    """The hunts of changed sessions give way to those that were found."""
    stay = ~changed[known.session]
    return Hunts(
        np.concatenate([known.session[stay], found.session]),
        np.concatenate([known.start_ms[stay], found.start_ms]),
        np.concatenate([known.last_ms[stay], found.last_ms]),
        np.concatenate([known.found_ms[stay], found.found_ms]),
    )
