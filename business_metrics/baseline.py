"""How many orders a minute are expected: last weeks' same minutes, brought to today's level.

Each minute's figure is the median over the last weeks of the orders around the same wall-clock
minute. Past incidents are left out, and holes: minutes without any order where the other weeks and
today say that chance would have left some. On a sale day earlier sales of the same name come first;
weeks that were sales are no measure for a plain day. The level is how today's last hours compare
with their own baseline, as a median of blocks, so that neither a burst nor an outage moves it.
Without history, or before today's level is known, the shop's own last half hour stands in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
_MARGIN_MIN = 60
_LEVEL_MIN = 180
_OWN_MIN = 30
_OWN_LOOKBACK_MIN = 90
_OWN_LEAST_MIN = 5
_OWN_LEAST_ORDERS = 20
_LEAST_BLOCK_ORDERS = 20.0
_LEVEL_LEAST_MIN = 30
_PRIOR_ORDERS = 10.0
# Beyond these the weeks describe another shop.
_LEVEL_BOUNDS = (0.02, 50.0)
# No order where so many were due is no chance: e to the power of -20.
_HOLE_ORDERS = 20.0
# How far a shop strays from its baseline beyond chance, by what the baseline rests on.
_MAX_CV = 0.3
_CV = {
    "sale": 0.08,
    "weeks": 0.06,
    "one_week": 0.12,
    "own_recent": 0.10,
    "unlike_day": 0.15,
    "unlike_sale": _MAX_CV,
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected orders a minute on a run of minutes.

    Attributes:
        start_minute: The first minute since the epoch.
        per_minute: One figure a minute.
        cv: Relative standard deviation of the expectation.
        source: `weeks`, `one_week`, `sale`, `unlike_day`, `unlike_sale`, `own_recent` or `none`.
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


@dataclass(frozen=True, slots=True)
class _Level:
    """Today against the baseline; `spread` is how unsure the factor is, relative to it."""

    factor: float
    known: bool
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class _Reference:
    """Orders by minute of one reference day, laid on today's minutes, and which of them count."""

    counts: Float64Array
    valid: BoolArray


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
        raw, source, spread = self._seasonal(first, end_minute, level_until_minute, excluded)
        wanted = raw[start_minute - first :]
        if not len(wanted) or np.isnan(wanted).any():
            return self._own_recent(start_minute, end_minute, level_until_minute, excluded)
        level = self._level(raw, first, level_until_minute, end_minute - 1, excluded)
        if level is None:
            return self._own_recent(start_minute, end_minute, level_until_minute, excluded)
        if not level.known and self._unlike(end_minute - 1):
            source = "unlike_day" if source != "sale" else "unlike_sale"
        cv = min(float(np.hypot(np.hypot(_CV[source], spread), level.spread)), _MAX_CV)
        return Expectation(start_minute, wanted * level.factor, cv, source, level.factor)

    def _unlike(self, minute: int) -> bool:
        """The day is a sale, or follows one: its level is not known from the hours before."""
        calendar = self._settings.calendar
        return any(
            sale_on(calendar, local_day(at, self._zone)) for at in (minute, minute - _LEVEL_MIN)
        )

    def _seasonal(
        self, start: int, end: int, until: int, excluded: Sequence[Interval]
    ) -> tuple[Float64Array, str, float]:
        """The median over reference days, what they were, and how unsure their counts leave it."""
        source = "sale"
        earlier = len(same_sale_before(self._settings.calendar, end - 1, self._zone))
        runs = self._runs(start, end, until, [-1 - sale for sale in range(earlier)], excluded)
        if not runs:
            weeks = range(1, self._settings.baseline_weeks + 1)
            runs = self._runs(start, end, until, weeks, excluded)
            source = "weeks" if len(runs) > 1 else "one_week"
        if not runs:
            return np.full(end - start, np.nan), "none", 0.0
        stacked = np.vstack(runs)
        known = ~np.isnan(stacked).all(axis=0)
        middle = np.full(end - start, np.nan)
        middle[known] = np.nanmedian(stacked[:, known], axis=0)
        orders = float(np.nanmean(middle)) * (2 * SMOOTH_MIN + 1) * len(runs) if known.any() else 0
        return middle, source, 1.0 / np.sqrt(max(orders, 1.0))

    def _runs(
        self,
        start: int,
        end: int,
        until: int,
        references: Iterable[int],
        excluded: Sequence[Interval],
    ) -> list[Float64Array]:
        """Smoothed orders a minute of each reference day that says something; NaN where not."""
        # An hour more on both sides, or a shop that closes now would not be seen to close.
        begin, stop = start - _MARGIN_MIN - SMOOTH_MIN, end + _MARGIN_MIN + SMOOTH_MIN
        days = [self._laid(begin, stop, reference, excluded) for reference in references]
        days = [day for day in days if day.valid.any()]
        today = self._today(begin, stop, until, excluded)
        found = []
        for place, day in enumerate(days):
            others = [*days[:place], *days[place + 1 :], today]
            valid = day.valid & ~_holes(day, _mean(others))
            run = _smoothed(day.counts, valid & ~(closed := _closed(day, valid)))
            run[closed[SMOOTH_MIN:-SMOOTH_MIN]] = 0.0
            run = run[_MARGIN_MIN:-_MARGIN_MIN]
            if not np.isnan(run).all():
                found.append(run)
        return found

    def _today(self, begin: int, stop: int, until: int, excluded: Sequence[Interval]) -> _Reference:
        counts = self._history.slice(begin, stop)[0].astype(np.float64)
        valid = self._valid(begin, stop, excluded)
        valid[max(until - begin, 0) :] = False
        return _Reference(counts, valid)

    def _laid(
        self, begin: int, stop: int, reference: int, excluded: Sequence[Interval]
    ) -> _Reference:
        counts = np.zeros(stop - begin)
        valid = np.zeros(stop - begin, dtype=np.bool_)
        for first, last, shift in self._shifts(begin, stop, reference):
            here = slice(first - begin, last - begin)
            counts[here] = self._history.slice(first + shift, last + shift)[0]
            valid[here] = self._valid(first + shift, last + shift, excluded)
        return _Reference(counts, valid)

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

    def _valid(self, start: int, end: int, excluded: Sequence[Interval]) -> BoolArray:
        """Minutes that may teach: collected, and in no incident."""
        valid = self._history.collected(start, end)
        for since_ms, until_ms in excluded:
            begin, stop = since_ms // MINUTE_MS - start, -(-until_ms // MINUTE_MS) - start
            if stop > 0 and begin < len(valid):
                valid[max(begin, 0) : stop] = False
        return valid

    def _level(
        self, raw: Float64Array, first: int, until: int, now: int, excluded: Sequence[Interval]
    ) -> _Level | None:
        """Today's level; None where too little of today was seen, or the baseline is no match."""
        start = until - _LEVEL_MIN
        expected = raw[start - first : until - first]
        actual = self._history.slice(start, until)[0].astype(np.float64)
        valid = self._valid(start, until, excluded) & ~np.isnan(expected)
        valid &= ~_holes(_Reference(actual, valid), expected)
        if valid.sum() < _LEVEL_LEAST_MIN:
            return None
        valid &= self._like_now(start, now)
        expected = np.where(valid, expected, 0.0)
        actual = np.where(valid, actual, 0.0)
        total, seen = float(expected.sum()), float(actual.sum())
        if total < _PRIOR_ORDERS:
            # So little was due; that much more says that the baseline knows nothing of this shop.
            return None if seen > 10 * _PRIOR_ORDERS else _Level(1.0, known=False)
        ratio = _ratio(expected, actual, valid)
        factor = (ratio * total + _PRIOR_ORDERS) / (total + _PRIOR_ORDERS)
        if not _LEVEL_BOUNDS[0] <= factor <= _LEVEL_BOUNDS[1]:
            return None
        return _Level(factor, known=True, spread=1.0 / np.sqrt(seen + _PRIOR_ORDERS))

    def _like_now(self, start: int, now: int) -> BoolArray:
        """Minutes of the last hours on a sale day as now, or on none as now."""
        today = sale_on(self._settings.calendar, local_day(now, self._zone))
        blocks = range(start, start + _LEVEL_MIN, BLOCK_MIN)
        days = [local_day(block, self._zone) for block in blocks]
        like = [sale_on(self._settings.calendar, day) == today for day in days]
        return np.repeat(np.asarray(like, dtype=np.bool_), BLOCK_MIN)

    def _own_recent(
        self, start: int, end: int, until: int, excluded: Sequence[Interval]
    ) -> Expectation:
        begin = until - _OWN_LOOKBACK_MIN
        counts = self._history.slice(begin, until)[0].astype(np.float64)
        valid = self._valid(begin, until, excluded)
        valid &= ~_holes(_Reference(counts, valid), np.ones(len(counts)))
        latest = np.flatnonzero(valid)[-_OWN_MIN:]
        orders = int(counts[latest].sum())
        if len(latest) < _OWN_LEAST_MIN or orders < _OWN_LEAST_ORDERS:
            return NOTHING_EXPECTED
        flat = np.full(end - start, orders / len(latest))
        cv = float(min(np.hypot(_CV["own_recent"], 1.0 / np.sqrt(orders)), _MAX_CV))
        return Expectation(start, flat, cv, "own_recent")


def _mean(days: Sequence[_Reference]) -> Float64Array:
    """Orders a minute over those days that count; NaN where none does."""
    valid = np.vstack([day.valid for day in days])
    sums = np.where(valid, np.vstack([day.counts for day in days]), 0.0).sum(axis=0)
    known = valid.sum(axis=0)
    return np.where(known > 0, sums / np.maximum(known, 1), np.nan)


def _holes(day: _Reference, witness: Float64Array) -> BoolArray:
    """Runs of minutes without an order in which, by the shape of the witness, many were due.

    Only the shape counts: the witness is brought to the day's own level first.
    """
    both = day.valid & ~np.isnan(witness)
    due, seen = float(witness[both].sum()), float(day.counts[both].sum())
    if due < _HOLE_ORDERS:
        return np.zeros(len(day.counts), dtype=np.bool_)
    if not seen:
        return both
    # An invalid minute stands between two runs: it must not join them.
    silent = (both & (day.counts == 0)).astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent, [0]])))
    sums = np.concatenate([[0.0], np.cumsum(np.where(both, witness, 0.0))])
    holes = np.zeros(len(day.counts), dtype=np.bool_)
    for begin, stop in edges.reshape(-1, 2).tolist():
        if (sums[stop] - sums[begin]) * seen / due > _HOLE_ORDERS:
            holes[begin:stop] = True
    return holes


def _closed(day: _Reference, valid: BoolArray) -> BoolArray:
    """Half an hour and more without an order, no hole: a shop that was shut. It has sharp edges."""
    silent = _holes(_Reference(day.counts, valid), np.ones(len(valid)))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
    for begin, stop in edges.reshape(-1, 2).tolist():
        if stop - begin < 2 * SMOOTH_MIN:
            silent[begin:stop] = False
    return silent


def _smoothed(counts: Float64Array, valid: BoolArray) -> Float64Array:
    """The mean around each minute but the first and last `SMOOTH_MIN`."""
    width = 2 * SMOOTH_MIN + 1
    totals = _moving_sum(np.where(valid, counts, 0.0), width)
    minutes = _moving_sum(valid.astype(np.float64), width)
    return np.where(minutes >= width / 3, totals / np.maximum(minutes, 1.0), np.nan)


def _ratio(expected: Float64Array, actual: Float64Array, valid: BoolArray) -> float:
    """Actual by expected: the median of the shortest blocks that hold enough orders, or of all."""
    for length in (15, 30, 60):
        blocks = expected.reshape(-1, length).sum(axis=1)
        seen = actual.reshape(-1, length).sum(axis=1)
        full = (valid.reshape(-1, length).mean(axis=1) >= 0.5) & (blocks > 0)
        if full.any() and np.median(blocks[full]) >= _LEAST_BLOCK_ORDERS:
            full &= blocks >= _LEAST_BLOCK_ORDERS / 2
            return float(np.median(seen[full] / blocks[full]))
    return float(actual.sum()) / float(expected.sum())


def _moving_sum(values: Float64Array, width: int) -> Float64Array:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    moved: Float64Array = sums[width:] - sums[:-width]
    return moved
