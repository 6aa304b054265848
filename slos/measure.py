"""Counts of one SLO's events over its windows, without reading long windows at every tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from slos.burn_rate import WindowReading
from slos.composite import combined
from slos.definition import CompositeSli, EventSli, RatioSli, render
from store.errors import QueryError
from store.ports import Querier

# Windows up to this are read anew at every tick.
_ALWAYS_READ_S = 3_600
# A longer window is read anew this many times in its own length; between, only its head is added.
_REFRESHES = 720
# Of fixed beginnings: an SLO's own period, and those of composites that it is a member of.
_PERIODS_KEPT = 8

# The reading of a window, in seconds, that ends at an instant, in milliseconds.
Reader = Callable[[int, int], WindowReading]


class Meter(Protocol):
    """Reads the windows of one SLO."""

    def read(self, window_s: int, now_ms: int) -> WindowReading:
        """A window that ends now."""
        ...

    def since(self, start_ms: int, now_ms: int) -> WindowReading:
        """What came since an instant."""
        ...

    def between(self, start_ms: int, end_ms: int) -> WindowReading:
        """A span in the past."""
        ...


@dataclass(frozen=True, slots=True)
class _Anchor:
    at_ms: int
    reading: WindowReading


class WindowMeter:
    """Reads windows by queries.

    A long window is what it was at its last full reading, plus what came since. What falls out at
    the far end of a rolling one in the meantime is at most 1/720 of it.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._anchors: dict[int, _Anchor] = {}
        self._fixed: dict[int, _Anchor] = {}
        # Composites and tiers ask for the same windows at one tick.
        self._tick_ms = 0
        self._asked: dict[int, WindowReading] = {}

    def read(self, window_s: int, now_ms: int) -> WindowReading:
        """One window that ends now.

        Raises:
            QueryError: A query failed, or answers several series.
        """
        if now_ms != self._tick_ms:
            self._tick_ms, self._asked = now_ms, {}
        known = self._asked.get(window_s)
        if known is None:
            known = self._asked[window_s] = self._read(self._anchors, window_s, window_s, now_ms)
        return known

    def since(self, start_ms: int, now_ms: int) -> WindowReading:
        """A window with a fixed beginning: nothing falls out of it."""
        if start_ms not in self._fixed:
            # A new period: those of before are over.
            self._fixed = dict(list(self._fixed.items())[-_PERIODS_KEPT:])
        return self._read(self._fixed, start_ms, max((now_ms - start_ms) // 1_000, 1), now_ms)

    def between(self, start_ms: int, end_ms: int) -> WindowReading:
        return self._reader(max((end_ms - start_ms) // 1_000, 1), end_ms)

    def _read(
        self, anchors: dict[int, _Anchor], key: int, window_s: int, now_ms: int
    ) -> WindowReading:
        if window_s <= _ALWAYS_READ_S:
            return self._reader(window_s, now_ms)
        anchor = anchors.get(key)
        age_ms = now_ms - anchor.at_ms if anchor else 0
        fresh = 0 <= age_ms < window_s * 1_000 // _REFRESHES
        # An empty window is read again at once: a young service must not show "no data" for long.
        if anchor is None or anchor.reading.error_ratio is None or not fresh:
            reading = self._reader(window_s, now_ms)
            anchors[key] = _Anchor(now_ms, reading)
            return reading
        return self._with_head(anchor.reading, window_s, age_ms // 1_000, now_ms)

    def _with_head(
        self, body: WindowReading, window_s: int, head_s: int, now_ms: int
    ) -> WindowReading:
        if head_s < 1 or body.total is None or body.bad is None:
            return body
        head = self._reader(head_s, now_ms)
        bad, total = head.bad or 0.0, head.total or 0.0
        return WindowReading.of_counts(window_s, body.bad + bad, body.total + total)


class CompositeMeter:
    """Reads windows as what the members' readings add up to."""

    def __init__(self, method: str, members: Sequence[tuple[Meter, float]]) -> None:
        self._method = method
        self._members = tuple(members)

    def read(self, window_s: int, now_ms: int) -> WindowReading:
        parts = [(meter.read(window_s, now_ms), weight) for meter, weight in self._members]
        return combined(self._method, window_s, parts)

    def since(self, start_ms: int, now_ms: int) -> WindowReading:
        parts = [(meter.since(start_ms, now_ms), weight) for meter, weight in self._members]
        return combined(self._method, max((now_ms - start_ms) // 1_000, 1), parts)

    def between(self, start_ms: int, end_ms: int) -> WindowReading:
        parts = [(meter.between(start_ms, end_ms), weight) for meter, weight in self._members]
        return combined(self._method, max((end_ms - start_ms) // 1_000, 1), parts)


def widened(meter: Meter, window_s: int, long: WindowReading, now_ms: int) -> WindowReading:
    """A short window. Where it holds no event, the narrowest wider one that does.

    A series that is sampled every 60 s has no rate over 10 s, and at night requests are rare.
    Silence is no recovery, so the short window widens to the latest events that are known, at
    most to the long window.
    """
    reading = meter.read(window_s, now_ms)
    wide_s = window_s
    while reading.error_ratio is None and long.error_ratio is not None and wide_s < long.window_s:
        wide_s = min(wide_s * 2, long.window_s)
        reading = long if wide_s == long.window_s else meter.read(wide_s, now_ms)
    return reading


def query_reader(name: str, sli: EventSli | RatioSli, querier: Querier) -> Reader:
    """What reads windows of an SLI by its queries; `name` is for errors."""

    def value(expr: str, at_ms: int) -> float | None:
        vector = querier.instant(expr, at_ms)
        if len(vector) > 1:
            raise QueryError(
                f"a query of {name!r} answers {len(vector)} series, not one: {expr}",
                kind="bad_data",
                hint="wrap it in sum(...)",
            )
        found = float(vector.values[0]) if len(vector) else math.nan
        return found if math.isfinite(found) else None

    def ratio(window_s: int, at_ms: int) -> WindowReading:
        found = value(render(sli.query, window_s), at_ms)
        return WindowReading(window_s, None if found is None else min(max(found, 0.0), 1.0))

    def counts(window_s: int, at_ms: int) -> WindowReading:
        assert isinstance(sli, EventSli)  # chosen below
        total = value(render(sli.total_query, window_s), at_ms)
        if total is None:
            return WindowReading(window_s)
        total *= sli.per_unit(sli.total_query, window_s)
        part = value(render(sli.query, window_s), at_ms) or 0.0
        part *= sli.per_unit(sli.query, window_s)
        return WindowReading.of_counts(window_s, total - part if sli.counts_good else part, total)

    return counts if isinstance(sli, EventSli) else ratio


def composite_meter(sli: CompositeSli, meters: dict[str, Meter]) -> CompositeMeter:
    """The meter of a composite over those of its members, which must be known."""
    return CompositeMeter(sli.method, [(meters[m.slo_id], m.weight) for m in sli.members])
