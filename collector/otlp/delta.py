"""Delta sums and histograms to cumulative ones, with a bounded memory."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from store.histogram_sums import add
from store.histograms import NativeHistogram
from store.model import Labels

Value = TypeVar("Value")


@dataclass(slots=True)
class _Total(Generic[Value]):
    value: Value
    at_ns: int


class _Totals(Generic[Value]):
    """Running totals a series. Safe to use from any thread.

    The least recently updated series is forgotten past `max_series`; it then restarts at its next
    delta, which readers see as an ordinary counter reset.
    """

    def __init__(self, sum_of: Callable[[Value, Value], Value], max_series: int) -> None:
        self._sum_of = sum_of
        self._totals: OrderedDict[Labels, _Total[Value]] = OrderedDict()
        self._max_series = max_series
        self._lock = threading.Lock()

    def add(self, series: Labels, delta: Value, at_ns: int) -> Value | None:
        """The total after a delta; None when the delta is older than the last one.

        A delta of the same instant as the last is a retry of it, and is not added again.
        """
        with self._lock:
            total = self._totals.get(series)
            if total is None:
                self._totals[series] = _Total(delta, at_ns)
                if len(self._totals) > self._max_series:
                    self._totals.popitem(last=False)
                return delta
            if at_ns < total.at_ns:
                return None
            if at_ns > total.at_ns:
                total.value = self._sum_of(total.value, delta)
                total.at_ns = at_ns
                self._totals.move_to_end(series)
            return total.value

    def __len__(self) -> int:
        return len(self._totals)


class DeltaState(_Totals[float]):
    """Running totals of numbers."""

    def __init__(self, *, max_series: int = 100_000) -> None:
        super().__init__(operator.add, max_series)


class HistogramDeltaState(_Totals[NativeHistogram]):
    """Running totals of exponential histograms, at the coarsest resolution seen."""

    def __init__(self, *, max_series: int = 10_000) -> None:
        super().__init__(lambda left, right: add(left, right).histogram, max_series)
