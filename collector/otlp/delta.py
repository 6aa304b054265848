"""Delta sums to cumulative ones, with a bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from store.model import Labels


@dataclass(slots=True)
class _Total:
    value: float
    ts_ms: int


class DeltaState:
    """Running totals a series. Safe to use from any thread.

    The least recently updated series is forgotten past `max_series`; it then restarts at its next
    delta, which readers see as an ordinary counter reset.
    """

    def __init__(self, *, max_series: int = 100_000) -> None:
        self._totals: OrderedDict[Labels, _Total] = OrderedDict()
        self._max_series = max_series
        self._lock = threading.Lock()

    def add(self, series: Labels, delta: float, ts_ms: int) -> float | None:
        """The total after a delta; None when the delta is older than the last one.

        A delta of the same instant as the last is a retry of it, and is not added again.
        """
        with self._lock:
            total = self._totals.get(series)
            if total is None:
                self._totals[series] = _Total(delta, ts_ms)
                if len(self._totals) > self._max_series:
                    self._totals.popitem(last=False)
                return delta
            if ts_ms < total.ts_ms:
                return None
            if ts_ms > total.ts_ms:
                total.value += delta
                total.ts_ms = ts_ms
                self._totals.move_to_end(series)
            return total.value

    def __len__(self) -> int:
        return len(self._totals)
