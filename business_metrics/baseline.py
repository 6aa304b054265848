"""How many orders a minute are expected: last weeks' same minutes, brought to today's level.

Each minute's figure is the lower median over the last weeks of the orders around the same minute
on the wall clock. Past incidents are left out, and holes: minutes without any order where the other
weeks and today say that chance would have left some. On a sale day earlier sales of the same name
come first; weeks that were sales are no measure for a plain day. The level is how today's last
hours compare with their own baseline, as a median of blocks, so that neither a burst nor an outage
moves it.
Without history, or before today's level is known, the shop's own last half hour stands in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from business_metrics.calendar import (
    BLOCK_MIN,
    days_before,
    local_day,
    sale_on,
    same_sale_before,
)
from business_metrics.dispersion import Dispersion, dispersion
from business_metrics.expectation import NOTHING_EXPECTED, Expectation
from business_metrics.minute_history import MINUTE_MS, MinuteHistory
from business_metrics.reference_days import (
    LEAST_BLOCK_ORDERS,
    REACH_MIN,
    Reference,
    closed,
    holes,
    left_of,
    lower_median,
    mean,
    ratio,
    smoothed,
)
from business_metrics.season import SETTLED_ORDERS, UNKNOWN, Season, Usual, alike, usual_of
from business_metrics.settings import BusinessSettings
from store.model import BoolArray, Float64Array

Interval = tuple[int, int]
_MARGIN_MIN = 60
LEVEL_MIN = 180
_OWN_MIN = 30
_OWN_LOOKBACK_MIN = 90
_OWN_LEAST_MIN = 5
_OWN_LEAST_ORDERS = 20
_LEVEL_LEAST_MIN = 30
_PRIOR_ORDERS = 10.0
_USUAL_MIN = 3 * 1_440
# Read anew as often: on a sale day, and else.
_USUAL_EVERY_MIN = (60, 180)
# A small shop's hour says nothing.
_USUAL_BLOCKS_H = (1, 3, 6)
_FEW_WEEKS = 3
# Beyond these the weeks describe another shop.
_LEVEL_BOUNDS = (0.02, 50.0)
# How far a shop strays from its baseline beyond chance, by what the baseline rests on.
_MAX_CV = 0.3
_CV = {
    "sale": 0.08,
    "weeks": 0.06,
    "one_week": 0.12,
    "own_recent": 0.10,
    # It may as well be a holiday.
    "unlike_day": _MAX_CV,
    "unlike_sale": _MAX_CV,
}


@dataclass(frozen=True, slots=True)
class _Level:
    """Today against the baseline; `spread` is how unsure the factor is, as `Expectation.torn`."""

    factor: float
    known: bool
    spread: float = 0.0
    torn: float = 0.0


class Baseline:
    """Expectations from a history."""

    def __init__(self, history: MinuteHistory, settings: BusinessSettings) -> None:
        self._history = history
        self._settings = settings
        self._zone = settings.zone
        self._usual_known: tuple[tuple[object, ...], tuple[Usual, Dispersion]] | None = None

    def expect(
        self, start_minute: int, end_minute: int, until: int, excluded: Sequence[Interval]
    ) -> Expectation:
        """Expected orders for the minutes `[start, end)`.

        Args:
            start_minute: The first minute since the epoch.
            end_minute: The minute after the last.
            until: What is not judged yet begins here; it must not move the level.
            excluded: Spans of past incidents, in milliseconds.
        """
        season = self.season(start_minute, end_minute, until, excluded)
        return self.at_level(season, start_minute, end_minute, until, excluded)

    def where_known(
        self, span: Interval, until: int, excluded: Sequence[Interval]
    ) -> tuple[Expectation, BoolArray]:
        """As `expect`, of many minutes, and which of them anything is known of.

        The last half hour knows no night: it speaks for the last hours alone.
        """
        start, end = span
        season = self.season(start, end, until, excluded)
        wanted = season.per_minute[start - season.start_minute :][: end - start]
        known = ~np.isnan(wanted)
        found = self._levelled(season, np.where(known, wanted, 0.0), end, until, excluded)
        if found.source == "own_recent" or not known.any():
            found = self._own_recent(start, end, until, excluded)
            known = np.arange(start, end) >= until - LEVEL_MIN
        return found, known

    def season(
        self, start_minute: int, end_minute: int, until: int, excluded: Sequence[Interval]
    ) -> Season:
        """What earlier weeks say of these minutes and of those that give the level."""
        first = min(start_minute, until - LEVEL_MIN)
        middle, lowest, source, learned = self._seasonal(first, end_minute, until, excluded)
        sale = bool(sale_on(self._settings.calendar, local_day(end_minute - 1, self._zone)))
        usual, apart = self._usual(until, excluded, sale=sale)
        return Season(first, middle, lowest, source, learned, apart, usual, sale)

    def at_level(
        self,
        season: Season,
        start_minute: int,
        end_minute: int,
        level_until_minute: int,
        excluded: Sequence[Interval],
    ) -> Expectation:
        """A season brought to today's level, for the minutes `[start, end)` within it."""
        first = season.start_minute
        wanted = season.per_minute[start_minute - first : end_minute - first]
        if not len(wanted) or np.isnan(wanted).any():
            return self._own_recent(start_minute, end_minute, level_until_minute, excluded)
        return self._levelled(season, wanted, end_minute, level_until_minute, excluded)

    def _levelled(
        self,
        season: Season,
        wanted: Float64Array,
        end: int,
        until: int,
        excluded: Sequence[Interval],
    ) -> Expectation:
        start = end - len(wanted)
        level = self._level(season, until, end - 1, excluded)
        if level is None:
            return self._own_recent(start, end, until, excluded)
        source = season.source
        if not level.known and self._unlike(end - 1):
            source = "unlike_day" if source != "sale" else "unlike_sale"
        cv = min(float(np.hypot(_CV[source], level.spread)), _MAX_CV)
        sale = sale_on(self._settings.calendar, local_day(end - 1, self._zone))
        usual = level.factor
        if bool(sale) == season.sale and (season.usual.settled or not sale):
            usual = min(season.usual.factor, level.factor)
        least = min(usual, season.usual.least) if sale else usual / season.above_lowest(end)
        factors = np.full(len(wanted), level.factor)
        unlike = ~self._like(start, end, sale=bool(sale))
        if unlike.any():
            # A sale began or ended in this hour: minutes on its other side have their own level.
            other = self._level(season, until, start, excluded)
            plain = 1.0 if season.sale else season.usual.factor
            factors[unlike] = other.factor if other is not None else plain
        return Expectation(
            start,
            wanted * factors,
            cv,
            source,
            level.factor,
            usual,
            least,
            learned=season.learned / level.factor,
            dispersion=season.dispersion,
            season_cv=_CV[source],
            torn=level.torn,
        )

    def _usual(
        self, until: int, excluded: Sequence[Interval], *, sale: bool
    ) -> tuple[Usual, Dispersion]:
        """The level of the hours of the last days, on a sale day of the sale's, and the dispersion.

        By whole hours, so that it changes as seldom.
        """
        end = until - until % (_USUAL_EVERY_MIN[0] if sale else _USUAL_EVERY_MIN[1])
        key = (end, len(excluded), excluded[-1] if excluded else None, sale)
        if self._usual_known is None or self._usual_known[0] != key:
            usual = self._usual_at(end, excluded, sale=sale)
            self._usual_known = (key, (usual, self._dispersion(end, excluded)))
        return self._usual_known[1]

    def _usual_at(self, end: int, excluded: Sequence[Interval], *, sale: bool) -> Usual:
        start = end - _USUAL_MIN
        raw, _, source, _ = self._seasonal(start, end, end, excluded)
        if source == "none" or (source == "sale" and not sale):
            return UNKNOWN
        actual = self._history.slice(start, end)[0].astype(np.float64)
        valid = self._valid(start, end, excluded) & ~np.isnan(raw)
        valid &= self._like(start, end, sale=sale)
        found = UNKNOWN
        for hours in _USUAL_BLOCKS_H:
            due = np.where(valid, raw, 0.0).reshape(-1, hours * 60).sum(axis=1)
            seen = np.where(valid, actual, 0.0).reshape(-1, hours * 60).sum(axis=1)
            full = due >= LEAST_BLOCK_ORDERS
            known_h = valid.reshape(-1, hours * 60)[full].sum() / 60
            found = usual_of(seen[full] / due[full], known_h, found.least, sale=sale)
            if found.settled:
                break
        return found

    def _dispersion(self, end: int, excluded: Sequence[Interval]) -> Dispersion:
        start = end - _USUAL_MIN
        counts = self._history.slice(start, end)[0].astype(np.float64)
        return dispersion(counts, self._valid(start, end, excluded))

    def _unlike(self, minute: int) -> bool:
        """The day is a sale, or follows one: its level is not known from the hours before."""
        calendar = self._settings.calendar
        return any(
            sale_on(calendar, local_day(at, self._zone)) for at in (minute, minute - LEVEL_MIN)
        )

    def _seasonal(
        self, start: int, end: int, until: int, excluded: Sequence[Interval]
    ) -> tuple[Float64Array, Float64Array, str, int]:
        """The median and the least of the reference days, what they were, and how many."""
        source = "sale"
        earlier = len(same_sale_before(self._settings.calendar, end - 1, self._zone))
        runs = self._runs(start, end, until, [-1 - sale for sale in range(earlier)], excluded)
        if not runs:
            weeks = range(7, 7 * self._settings.baseline_weeks + 1, 7)
            runs = self._runs(start, end, until, weeks, excluded)
            source = "weeks" if len(runs) > 1 else "one_week"
        if not runs:
            nothing = np.full(end - start, np.nan)
            return nothing, nothing, "none", 0
        stacked = np.vstack(runs)
        lowest = np.fmin.reduce(stacked)
        if source != "sale" and len(runs) < _FEW_WEEKS:
            # A promotion in one of so few weeks: the other days tell what is sold without.
            days = self._runs(start, end, until, range(1, 7), excluded)
            if days:
                lowest = np.fmin(lowest, lower_median(np.vstack(days)))
        return lower_median(stacked), lowest, source, len(runs)

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
        begin, stop = start - _MARGIN_MIN - REACH_MIN, end + _MARGIN_MIN + REACH_MIN
        days = [self._laid(begin, stop, reference, excluded) for reference in references]
        days = [day for day in days if day.valid.any()]
        today = self._today(begin, stop, until, excluded)
        found = []
        for place, day in enumerate(days):
            others = mean([*days[:place], *days[place + 1 :], today])
            valid = day.valid & ~holes(day, others)
            run = smoothed(day.counts, valid & ~(shut := closed(day, valid, others)))
            run[shut[REACH_MIN:-REACH_MIN]] = 0.0
            run = run[_MARGIN_MIN:-_MARGIN_MIN]
            if not np.isnan(run).all():
                found.append(run)
        return found

    def _today(self, begin: int, stop: int, until: int, excluded: Sequence[Interval]) -> Reference:
        counts = self._history.slice(begin, stop)[0].astype(np.float64)
        valid = self._valid(begin, stop, excluded)
        valid[max(until - begin, 0) :] = False
        return Reference(counts, valid)

    def _laid(
        self, begin: int, stop: int, reference: int, excluded: Sequence[Interval]
    ) -> Reference:
        counts = np.zeros(stop - begin)
        valid = np.zeros(stop - begin, dtype=np.bool_)
        for first, last, shift in self._shifts(begin, stop, reference):
            here = slice(first - begin, last - begin)
            counts[here] = self._history.slice(first + shift, last + shift)[0]
            valid[here] = self._valid(first + shift, last + shift, excluded)
        return Reference(counts, valid)

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
        past = days_before(minute, reference, self._zone)
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
        self, season: Season, until: int, now: int, excluded: Sequence[Interval]
    ) -> _Level | None:
        """Today's level; None where too little of today was seen, or the baseline is no match."""
        start = until - LEVEL_MIN
        expected = season.per_minute[start - season.start_minute : until - season.start_minute]
        actual = self._history.slice(start, until)[0].astype(np.float64)
        valid = self._valid(start, until, excluded) & ~np.isnan(expected)
        valid &= ~holes(Reference(actual, valid), expected)
        if valid.sum() < _LEVEL_LEAST_MIN:
            return None
        sale = sale_on(self._settings.calendar, local_day(now, self._zone))
        valid &= self._like(start, until, sale=bool(sale))
        expected = np.where(valid, expected, 0.0)
        actual = np.where(valid, actual, 0.0)
        total, seen = float(expected.sum()), float(actual.sum())
        if total < _PRIOR_ORDERS:
            # So little was due; that much more says that the baseline knows nothing of this shop.
            if seen > 10 * _PRIOR_ORDERS:
                return None
            return _Level(season.usual.factor if season.usual.settled else 1.0, known=False)
        today, torn = ratio(expected, actual, valid)
        prior, weight = 1.0, _PRIOR_ORDERS
        settled = season.usual.settled and not season.sale and not sale
        if settled and alike(today * total, season.usual.factor * total):
            prior, weight = season.usual.factor, SETTLED_ORDERS
        factor = (today * total + prior * weight) / (total + weight)
        if not _LEVEL_BOUNDS[0] <= factor <= _LEVEL_BOUNDS[1]:
            return None
        # Today's orders are few, and so are those that were learned for the same hours.
        chance = math.hypot(
            1.0 / math.sqrt(seen + weight), 1.0 / math.sqrt(season.learned * (total + weight))
        )
        return _Level(factor, known=True, spread=max(torn, chance), torn=torn)

    def _like(self, start: int, end: int, *, sale: bool) -> BoolArray:
        """Which minutes are on a sale day, or on none."""
        blocks = range(start - start % BLOCK_MIN, end, BLOCK_MIN)
        days = [local_day(block, self._zone) for block in blocks]
        like = [bool(sale_on(self._settings.calendar, day)) == sale for day in days]
        begin = start % BLOCK_MIN
        return np.repeat(np.asarray(like, dtype=np.bool_), BLOCK_MIN)[begin : begin + end - start]

    def _own_recent(
        self, start: int, end: int, until: int, excluded: Sequence[Interval]
    ) -> Expectation:
        begin = until - _OWN_LOOKBACK_MIN
        counts = self._history.slice(begin, until)[0].astype(np.float64)
        valid = self._valid(begin, until, excluded)
        valid &= ~holes(Reference(counts, valid), np.ones(len(counts)))
        latest = np.flatnonzero(valid)[-_OWN_MIN:]
        orders = int(counts[latest].sum())
        if len(latest) < _OWN_LEAST_MIN or orders < _OWN_LEAST_ORDERS:
            return NOTHING_EXPECTED
        first = min(start, begin)
        days = self._runs(first, end, until, range(1, 7), excluded)
        left = left_of(days, latest + begin - first, slice(start - first, end - first))
        cv = float(min(np.hypot(_CV["own_recent"], 1.0 / np.sqrt(orders)), _MAX_CV))
        clumped = self._dispersion(until, excluded)
        per_minute = orders / len(latest) * left
        return Expectation(start, per_minute, cv, "own_recent", dispersion=clumped)
