"""Counts of one SLO's events over its windows, without reading long windows at every tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slos.burn_rate import WindowReading
from slos.definition import EventSli, Slo, events_per_unit, render
from store.errors import QueryError
from store.ports import Querier

# Windows up to this are read anew at every tick.
_ALWAYS_READ_S = 3_600
# A longer window is read anew this many times in its own length; between, only its head is added.
_REFRESHES = 720


@dataclass(frozen=True, slots=True)
class _Anchor:
    at_ms: int
    reading: WindowReading


class WindowMeter:
    """Reads one SLO's windows.

    A long window is what it was at its last full reading, plus what came since. What falls out at
    its far end in the meantime is at most 1/720 of it.
    """

    def __init__(self, slo: Slo, querier: Querier) -> None:
        self._slo = slo
        self._querier = querier
        self._anchors: dict[int, _Anchor] = {}

    def read(self, window_s: int, now_ms: int) -> WindowReading:
        """One window that ends now.

        Raises:
            QueryError: A query failed, or answers several series.
        """
        if window_s <= _ALWAYS_READ_S:
            return self._query(window_s, now_ms)
        anchor = self._anchors.get(window_s)
        age_ms = now_ms - anchor.at_ms if anchor else 0
        fresh = 0 <= age_ms < window_s * 1_000 // _REFRESHES
        # An empty window is read again at once: a young service must not show "no data" for long.
        if anchor is None or anchor.reading.error_ratio is None or not fresh:
            reading = self._query(window_s, now_ms)
            self._anchors[window_s] = _Anchor(now_ms, reading)
            return reading
        return self._with_head(anchor.reading, age_ms // 1_000, now_ms)

    def read_short(self, window_s: int, long: WindowReading, now_ms: int) -> WindowReading:
        """A short window. Where it holds no event, the narrowest wider one that does.

        A series that is sampled every 60 s has no rate over 10 s, and at night requests are rare.
        Silence is no recovery, so the short window widens to the latest events that are known, at
        most to the long window.
        """
        reading = self.read(window_s, now_ms)
        widened_s = window_s
        while (
            reading.error_ratio is None
            and long.error_ratio is not None
            and widened_s < long.window_s
        ):
            widened_s = min(widened_s * 2, long.window_s)
            reading = long if widened_s == long.window_s else self.read(widened_s, now_ms)
        return reading

    def between(self, start_ms: int, end_ms: int) -> WindowReading:
        """The events of a span in the past."""
        return self._query(max((end_ms - start_ms) // 1_000, 1), end_ms)

    def _with_head(self, body: WindowReading, head_s: int, now_ms: int) -> WindowReading:
        if head_s < 1 or body.total is None or body.bad is None:
            return body
        head = self._query(head_s, now_ms)
        bad, total = head.bad or 0.0, head.total or 0.0
        return WindowReading.of_counts(body.window_s, body.bad + bad, body.total + total)

    def _query(self, window_s: int, at_ms: int) -> WindowReading:
        sli = self._slo.sli
        if not isinstance(sli, EventSli):
            ratio = self._value(render(sli.query, window_s), at_ms)
            bounded = None if ratio is None else min(max(ratio, 0.0), 1.0)
            return WindowReading(window_s, bounded)
        total = self._count(sli.total_query, window_s, at_ms)
        if total is None:
            return WindowReading(window_s)
        part = self._count(sli.query, window_s, at_ms) or 0.0
        return WindowReading.of_counts(window_s, total - part if sli.counts_good else part, total)

    def _count(self, query: str, window_s: int, at_ms: int) -> float | None:
        value = self._value(render(query, window_s), at_ms)
        return None if value is None else value * events_per_unit(query, window_s)

    def _value(self, expr: str, at_ms: int) -> float | None:
        vector = self._querier.instant(expr, at_ms)
        if len(vector) > 1:
            raise QueryError(
                f"a query of {self._slo.name!r} answers {len(vector)} series, not one: {expr}",
                kind="bad_data",
                hint="wrap it in sum(...)",
            )
        value = float(vector.values[0]) if len(vector) else math.nan
        return value if math.isfinite(value) else None
