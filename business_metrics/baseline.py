"""How many orders a minute are expected: last weeks' same minutes, brought to today's level.

Each minute's figure is the median over the last weeks of the orders around the same wall-clock
minute. Past incidents are left out. On a sale day earlier sales of the same name come first; weeks
that were sales are no measure for a plain day. The level is how today's last hours compare with
their own baseline, as a median of blocks, so that neither a burst nor an outage moves it.
Without history the shop's own last half hour stands in, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from business_metrics.calendar import (
    BLOCK_MIN,
    local_day,
    sale_on,
    same_sale_before,
    weeks_before,
)
from business_metrics.events import MINUTE_MS, MinuteHistory
from business_metrics.settings import BusinessSettings
from store.model import BoolArray, Float64Array

Interval = tuple[int, int]
SMOOTH_MIN = 15
_LEVEL_MIN = 180
_OWN_MIN = 30
_OWN_LOOKBACK_MIN = 1_440
_OWN_LEAST_MIN = 2
_OWN_LEAST_ORDERS = 20
_LEAST_BLOCK_ORDERS = 20.0
_PRIOR_ORDERS = 10.0
_LEVEL_BOUNDS = (0.3, 50.0)
# How far a shop strays from its baseline beyond chance, by what the baseline rests on.
_CV = {"sale": 0.08, "weeks": 0.06, "one_week": 0.12, "own_recent": 0.10, "unlike_day": 0.15}
_MAX_CV = 0.3


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected orders a minute on a run of minutes.

    Attributes:
        start_minute: The first minute since the epoch.
        per_minute: One figure a minute.
        cv: Relative standard deviation of the expectation.
        source: `weeks`, `one_week`, `sale`, `unlike_day`, `own_recent` or `none`.
        level: What last weeks' figures were multiplied with.
    """

    start_minute: int
    per_minute: Float64Array
    cv: float
    source: str
    level: float = 1.0

    def expected(self, start_ms: float, end_ms: float) -> float:
        """Expected orders between two instants; the first and last figure hold beyond the run."""
        if end_ms <= start_ms or not len(self.per_minute):
            return 0.0
        sums = np.concatenate([[0.0], np.cumsum(self.per_minute)])
        grid = np.arange(len(sums), dtype=np.float64)
        places = np.asarray([start_ms, end_ms]) / MINUTE_MS - self.start_minute
        inside = np.interp(places, grid, sums)
        before = np.minimum(places, 0.0) * self.per_minute[0]
        after = np.maximum(places - grid[-1], 0.0) * self.per_minute[-1]
        ends = inside + before + after
        return float(ends[1] - ends[0])


NOTHING_EXPECTED = Expectation(0, np.empty(0), 1.0, "none")


class Baseline:
    """Expectations from a history. It holds no state but its history."""

    def __init__(self, history: MinuteHistory, settings: BusinessSettings) -> None:
        self._history = history
        self._settings = settings
        self._zone = settings.zone

    def expect(
        self,
        start_minute: int,
        end_minute: int,
        level_until_minute: int,
        excluded: Sequence[Interval],
    ) -> Expectation:
        """Expected orders for the minutes `[start, end)`.

        Args:
            start_minute: The first minute since the epoch.
            end_minute: The minute after the last.
            level_until_minute: What is not judged yet begins here; it must not move the level.
            excluded: Spans of past incidents, in milliseconds.
        """
        first = min(start_minute, level_until_minute - _LEVEL_MIN)
        raw, source, spread = self._seasonal(first, end_minute, excluded)
        wanted = raw[start_minute - first :]
        if not len(wanted) or np.isnan(wanted).any():
            return self._own_recent(start_minute, end_minute, level_until_minute, excluded)
        level, known = self._level(raw, first, level_until_minute, end_minute - 1, excluded)
        if source != "sale" and not known and self._unlike(end_minute - 1):
            source = "unlike_day"
        cv = min(np.hypot(_CV[source], spread), _MAX_CV)
        return Expectation(start_minute, wanted * level, float(cv), source, level)

    def _unlike(self, minute: int) -> bool:
        """The day is a sale, or follows one: its level is not known from the hours before."""
        calendar = self._settings.calendar
        return any(
            sale_on(calendar, local_day(at, self._zone)) for at in (minute, minute - _LEVEL_MIN)
        )

    def _seasonal(
        self, start: int, end: int, excluded: Sequence[Interval]
    ) -> tuple[Float64Array, str, float]:
        """The median over reference days, what they were, and how unsure their counts leave it."""
        source = "sale"
        earlier = len(same_sale_before(self._settings.calendar, end - 1, self._zone))
        runs = [self._run(start, end, -1 - sale, excluded) for sale in range(earlier)]
        runs = [run for run in runs if not np.isnan(run).all()]
        if not runs:
            weeks = range(1, self._settings.baseline_weeks + 1)
            runs = [self._run(start, end, week, excluded) for week in weeks]
            runs = [run for run in runs if not np.isnan(run).all()]
            source = "weeks" if len(runs) > 1 else "one_week"
        if not runs:
            return np.full(end - start, np.nan), "none", 0.0
        stacked = np.vstack(runs)
        known = ~np.isnan(stacked).all(axis=0)
        middle = np.full(end - start, np.nan)
        middle[known] = np.nanmedian(stacked[:, known], axis=0)
        orders = float(np.nanmean(middle)) * (2 * SMOOTH_MIN + 1) * len(runs) if known.any() else 0
        return middle, source, 1.0 / np.sqrt(max(orders, 1.0))

    def _run(
        self, start: int, end: int, reference: int, excluded: Sequence[Interval]
    ) -> Float64Array:
        """One reference day's smoothed orders a minute; NaN where it says nothing."""
        out = np.full(end - start, np.nan)
        for begin, stop, shift in self._shifts(start, end, reference):
            smoothed = self._smoothed(begin + shift, stop + shift, excluded)
            out[begin - start : stop - start] = smoothed
        return out

    def _shifts(self, start: int, end: int, reference: int) -> list[tuple[int, int, int]]:
        """Runs of minutes with one distance to their reference: `(begin, stop, shift)`."""
        runs: list[tuple[int, int, int]] = []
        for block in range(start - start % BLOCK_MIN, end, BLOCK_MIN):
            past = self._reference(block, reference)
            if past is None:
                continue
            begin, stop, shift = max(block, start), min(block + BLOCK_MIN, end), past - block
            if runs and runs[-1][1:] == (begin, shift):
                runs[-1] = (runs[-1][0], stop, shift)
            else:
                runs.append((begin, stop, shift))
        return runs

    def _reference(self, minute: int, reference: int) -> int | None:
        calendar = self._settings.calendar
        if reference < 0:
            earlier = same_sale_before(calendar, minute, self._zone)
            return earlier[-1 - reference] if len(earlier) >= -reference else None
        past = weeks_before(minute, reference, self._zone)
        sold = sale_on(calendar, local_day(past, self._zone))
        return None if sold else past

    def _smoothed(self, start: int, end: int, excluded: Sequence[Interval]) -> Float64Array:
        begin, stop = start - SMOOTH_MIN, end + SMOOTH_MIN
        counts = self._history.slice(begin, stop)[0].astype(np.float64)
        valid = self._valid(begin, stop, excluded)
        width = 2 * SMOOTH_MIN + 1
        totals = _moving_sum(np.where(valid, counts, 0.0), width)
        minutes = _moving_sum(valid.astype(np.float64), width)
        return np.where(minutes >= width / 3, totals / np.maximum(minutes, 1.0), np.nan)

    def _valid(self, start: int, end: int, excluded: Sequence[Interval]) -> BoolArray:
        """Minutes that may teach: after the first order ever (partly seen), in no incident."""
        valid = np.ones(max(end - start, 0), dtype=np.bool_)
        first = self._history.first_minute
        teaching = end if first is None else first + 1
        valid[: max(teaching - start, 0)] = False
        for since_ms, until_ms in excluded:
            begin, stop = since_ms // MINUTE_MS - start, -(-until_ms // MINUTE_MS) - start
            if stop > 0 and begin < len(valid):
                valid[max(begin, 0) : stop] = False
        return valid

    def _level(
        self, raw: Float64Array, first: int, until: int, now: int, excluded: Sequence[Interval]
    ) -> tuple[float, bool]:
        """Today's level against the baseline, and whether enough was seen to know it."""
        start = until - _LEVEL_MIN
        expected = raw[start - first : until - first]
        actual = self._history.slice(start, until)[0].astype(np.float64)
        today = sale_on(self._settings.calendar, local_day(now, self._zone))
        valid = self._valid(start, until, excluded) & ~np.isnan(expected)
        for block in range(0, _LEVEL_MIN, BLOCK_MIN):
            day = local_day(start + block, self._zone)
            if sale_on(self._settings.calendar, day) != today:
                valid[block : block + BLOCK_MIN] = False
        expected = np.where(valid, expected, 0.0)
        actual = np.where(valid, actual, 0.0)
        total = float(expected.sum())
        if total < _PRIOR_ORDERS:
            return 1.0, False
        ratio = float(actual.sum()) / total
        for length in (15, 30, 60):
            blocks = expected.reshape(-1, length).sum(axis=1)
            if np.median(blocks) >= _LEAST_BLOCK_ORDERS:
                seen = actual.reshape(-1, length).sum(axis=1)
                full = valid.reshape(-1, length).mean(axis=1) >= 0.5
                ratio = float(np.median(seen[full] / blocks[full])) if full.any() else 1.0
                break
        shrunk = (ratio * total + _PRIOR_ORDERS) / (total + _PRIOR_ORDERS)
        return float(np.clip(shrunk, *_LEVEL_BOUNDS)), True

    def _own_recent(
        self, start: int, end: int, until: int, excluded: Sequence[Interval]
    ) -> Expectation:
        begin = until - _OWN_LOOKBACK_MIN
        valid = np.flatnonzero(self._valid(begin, until, excluded))[-_OWN_MIN:]
        orders = int(self._history.slice(begin, until)[0][valid].sum())
        if len(valid) < _OWN_LEAST_MIN or orders < _OWN_LEAST_ORDERS:
            return NOTHING_EXPECTED
        flat = np.full(end - start, orders / len(valid))
        cv = float(min(np.hypot(_CV["own_recent"], 1.0 / np.sqrt(orders)), _MAX_CV))
        return Expectation(start, flat, cv, "own_recent")


def _moving_sum(values: Float64Array, width: int) -> Float64Array:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    moved: Float64Array = sums[width:] - sums[:-width]
    return moved
