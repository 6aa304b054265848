"""A querier over counters that a test writes: instant and range reads with a 5 minute lookback."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from store.model import InstantVector, Labels, RangeMatrix

LOOKBACK_MS = 300_000
_SELECTOR = re.compile(r"^([\w:]+)(?:\{(.*)\})?$")
_PAIR = re.compile(r'(\w+)="([^"]*)"')


class Counters:
    """Samples by series. Only plain selectors are answered; others select nothing."""

    def __init__(self) -> None:
        self._samples: dict[Labels, list[tuple[int, float]]] = {}

    def add(self, name: str, labels: Mapping[str, str], ts_ms: int, value: float) -> None:
        series = Labels.of({"__name__": name, **labels})
        self._samples.setdefault(series, []).append((ts_ms, value))

    def forget(self) -> None:
        self._samples.clear()

    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        matrix = self.range(expr, ts_ms, ts_ms, 1)
        kept = np.flatnonzero(matrix.present[:, 0]).tolist()
        return InstantVector(tuple(matrix.series[place] for place in kept), matrix.values[kept, 0])

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        steps = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        chosen = self._select(expr)
        values = np.zeros((len(chosen), len(steps)))
        present = np.zeros((len(chosen), len(steps)), dtype=np.bool_)
        for place, series in enumerate(chosen):
            times = np.array([ts for ts, _ in self._samples[series]], dtype=np.int64)
            samples = np.array([value for _, value in self._samples[series]])
            at = np.searchsorted(times, steps, side="right") - 1
            present[place] = (at >= 0) & (times[at] > steps - LOOKBACK_MS)
            values[place] = samples[at]
        return RangeMatrix(tuple(chosen), steps, values, present)

    def _select(self, expr: str) -> list[Labels]:
        match = _SELECTOR.match(expr)
        if match is None:
            return []
        wanted = {"__name__": match.group(1), **dict(_PAIR.findall(match.group(2) or ""))}
        return [
            series
            for series in self._samples
            if all(series.get(name) == value for name, value in wanted.items())
        ]
