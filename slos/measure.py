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
# Error ratios at which a decision turns: near them a reading is exact. None: everywhere.
Turns = tuple[float, ...] | None


class Meter(Protocol):
    """Reads the windows of one SLO."""

    def read(self, window_s: int, now_ms: int, turns: Turns = ()) -> WindowReading:
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

    A long window is what it was at its last full reading, plus what came since. What fell out at
    the far end of a rolling one in the meantime is at most 1/720 of it; it is read and taken off
    where that could turn a decision. Of a bare ratio each second is taken to weigh the same.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._anchors: dict[int, _Anchor] = {}
        self._fixed: dict[int, _Anchor] = {}
        # Composites and tiers ask for the same windows at one tick.
        self._tick_ms = 0
        self._asked: dict[tuple[int, Turns], WindowReading] = {}

    def read(self, window_s: int, now_ms: int, turns: Turns = ()) -> WindowReading:
        """One window that ends now.

        Raises:
            QueryError: A query failed, or answers several series.
        """
        if now_ms != self._tick_ms:
            self._tick_ms, self._asked = now_ms, {}
        known = self._asked.get((window_s, turns))
        if known is None:
            known = self._read(self._anchors, window_s, window_s, now_ms)
            anchor = self._anchors.get(window_s)
            if anchor is not None and anchor.at_ms < now_ms:
                known = self._without_tail(known, (now_ms - anchor.at_ms) // 1_000, now_ms, turns)
            self._asked[window_s, turns] = known
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
        if head_s < 1:
            return body
        bad, total = weights(self._reader(head_s, now_ms))
        if body.total is not None and body.bad is not None:
            return WindowReading.of_counts(window_s, body.bad + bad, body.total + total)
        bad_s = (body.error_ratio or 0.0) * body.window_s + bad
        return WindowReading(window_s, bad_s / (body.window_s + total))

    def _without_tail(
        self, grown: WindowReading, late_s: int, now_ms: int, turns: Turns
    ) -> WindowReading:
        """The window without what fell out of it since it was last read, where that matters."""
        if late_s < 1 or not _may_turn(grown, late_s, turns):
            return grown
        window_s = grown.window_s
        bad, total = weights(self._reader(late_s, now_ms - window_s * 1_000))
        if grown.bad is not None and grown.total is not None:
            return WindowReading.of_counts(window_s, grown.bad - bad, grown.total - total)
        seconds = window_s + late_s
        rest = (grown.error_ratio or 0.0) * seconds - bad
        return WindowReading(window_s, min(max(rest / (seconds - total), 0.0), 1.0))


class CompositeMeter:
    """Reads windows as what the members' readings add up to."""

    def __init__(self, method: str, members: Sequence[tuple[Meter, float]]) -> None:
        self._method = method
        self._members = tuple(members)

    def read(self, window_s: int, now_ms: int, turns: Turns = ()) -> WindowReading:
        # Where the composite's decisions turn says nothing of its members.
        near: Turns = None if turns or turns is None else ()
        parts = [(meter.read(window_s, now_ms, near), weight) for meter, weight in self._members]
        return combined(self._method, window_s, parts)

    def since(self, start_ms: int, now_ms: int) -> WindowReading:
        parts = [(meter.since(start_ms, now_ms), weight) for meter, weight in self._members]
        return combined(self._method, max((now_ms - start_ms) // 1_000, 1), parts)

    def between(self, start_ms: int, end_ms: int) -> WindowReading:
        parts = [(meter.between(start_ms, end_ms), weight) for meter, weight in self._members]
        return combined(self._method, max((end_ms - start_ms) // 1_000, 1), parts)


def weights(reading: WindowReading) -> tuple[float, float]:
    """Bad and all events; of a bare ratio bad and all seconds."""
    if reading.bad is not None and reading.total is not None:
        return reading.bad, reading.total
    if reading.error_ratio is None:
        return 0.0, 0.0
    return reading.error_ratio * reading.window_s, float(reading.window_s)


def _may_turn(grown: WindowReading, late_s: int, turns: Turns) -> bool:
    """Whether what fell out could lie between the reading and a ratio at which a decision turns.

    It may have been all bad, or all good.
    """
    if turns is None:
        return True
    ratio, share = grown.error_ratio or 0.0, late_s / grown.window_s
    # What falls out may have been busier than the rest of the window.
    lowest, highest = ratio - 4 * share, ratio * (1 + 4 * share)
    return any(lowest <= turn <= highest for turn in turns) and ratio > 0


def widened(
    meter: Meter, window_s: int, long: WindowReading, now_ms: int, turns: Turns = ()
) -> WindowReading:
    """A short window. Where it holds no event, the narrowest wider one that does.

    A series that is sampled every 60 s has no rate over 10 s, and at night requests are rare.
    Silence is no recovery, so the short window widens to the latest events that are known, at
    most to the long window.
    """
    reading = meter.read(window_s, now_ms, turns)
    wide_s = window_s
    while reading.error_ratio is None and long.error_ratio is not None and wide_s < long.window_s:
        wide_s = min(wide_s * 2, long.window_s)
        reading = long if wide_s == long.window_s else meter.read(wide_s, now_ms, turns)
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
        part = value(render(sli.query, window_s), at_ms) or 0.0
        units = (sli.per_unit(sli.query, window_s), sli.per_unit(sli.total_query, window_s))
        if units[0] is None or units[1] is None:
            share = min(max(part / total, 0.0), 1.0) if total > 0 else None
            bad = 1.0 - share if share is not None and sli.counts_good else share
            return WindowReading(window_s, bad)
        part, total = part * units[0], total * units[1]
        return WindowReading.of_counts(window_s, total - part if sli.counts_good else part, total)

    return counts if isinstance(sli, EventSli) else ratio


def composite_meter(sli: CompositeSli, meters: dict[str, Meter]) -> CompositeMeter:
    """The meter of a composite over those of its members, which must be known."""
    return CompositeMeter(sli.method, [(meters[m.slo_id], m.weight) for m in sli.members])
