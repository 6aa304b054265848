"""The same hours of earlier days, read from the store in blocks of two hours and kept.

A block is read once with one query a reference day, roll-ups included: seven hours of five-minute
steps, which is long enough for the store to answer from roll-ups. What is kept is bounded by
`max_series`, whatever the store holds; so is what a tick costs, for between two blocks only today's
latest step is read.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from types import MappingProxyType

import numpy as np
import structlog

from detectors.episodes import outside
from detectors.seasonal import STEP_MS, forecast
from store.errors import QueryError
from store.model import METRIC_NAME, BoolArray, Float64Array, Int64Array, Labels, RangeMatrix
from store.ports import Querier

_log = structlog.get_logger()

Interval = tuple[int, int]
BLOCK_MS = 2 * 3_600_000
LEVEL_MS = 5 * 3_600_000
_WEEKS = tuple(timedelta(weeks=number) for number in (1, 2, 3, 4))
_DAYS = tuple(timedelta(days=number) for number in range(1, 7))
_LEAST_WEEKS = 2
# What is judged is not learned from: an hour where earlier days are known, else ten minutes.
_JUDGED_MS = 3_600_000
_JUDGED_SOON_MS = 600_000
_UNSURE = 0.15


@dataclass(frozen=True, slots=True)
class Calendar:
    """What of the past is no measure, and by which clock people live.

    Attributes:
        zone: Earlier days are compared at the same time on this clock's wall.
        incidents: Spans `(start_ms, end_ms)` that are never learned from.
        sales: Spans of sale days: no measure for other days. What of today lies on the other side
            of their ends is not learned from either.
    """

    zone: tzinfo = UTC
    incidents: tuple[Interval, ...] = ()
    sales: tuple[Interval, ...] = ()

    def teaches(self, steps_ms: Int64Array, now_ms: int | None = None) -> BoolArray:
        """Steps to learn from: of an earlier day, or with `now_ms` of today."""
        plain = outside(steps_ms, STEP_MS, self.sales)
        if now_ms is not None and any(start <= now_ms < end for start, end in self.sales):
            plain = ~plain
        return outside(steps_ms, STEP_MS, self.incidents) & plain


@dataclass(frozen=True, slots=True)
class Expected:
    """What one series is expected to be now.

    Attributes:
        value: In the unit of the expression.
        spread: Robust standard deviation of five minutes, relative to `value`.
        seasonal: By earlier days; else by the series' own last hour.
        steps_seen: The last hour in steps of five minutes, as it was; NaN where not known.
        steps_expected: And as it was expected.
    """

    value: float
    spread: float
    seasonal: bool
    steps_seen: Float64Array
    steps_expected: Float64Array


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of each series at one step."""

    places: Mapping[Labels, int]
    values: Float64Array
    spreads: Float64Array
    seasonal: BoolArray
    steps_seen: Float64Array
    steps_expected: Float64Array

    def of(self, labels: Labels, before: float = np.nan) -> Expected | None:
        """None where nothing is known.

        Args:
            labels: The series.
            before: What was expected when a finding began that still holds: after hours of it
                nothing of today is left to learn a level from.
        """
        place = self.places.get(labels)
        if place is None:
            return None
        if not np.isfinite(self.values[place]):
            if not np.isfinite(before):
                return None
            seen = self.steps_seen[place]
            due = np.full(len(seen), before)
            return Expected(before, _UNSURE, seasonal=True, steps_seen=seen, steps_expected=due)
        return Expected(
            float(self.values[place]),
            float(self.spreads[place]),
            bool(self.seasonal[place]),
            self.steps_seen[place],
            self.steps_expected[place],
        )


# Spans of one series that may not be learned from.
Unlearned = Mapping[Labels, tuple[Interval, ...]]


@dataclass(slots=True)
class _Block:
    """What was read of the earlier days for one expression."""

    start_ms: int
    series: tuple[Labels, ...]
    references: Float64Array


@dataclass(slots=True)
class SeasonalHistory:
    """Reads and keeps the past of a few expressions. A function of store and time, remembered."""

    max_series: int = 2_000
    _blocks: dict[str, _Block] = field(default_factory=dict)
    _outlooks: dict[str, tuple[Hashable, Outlook]] = field(default_factory=dict)

    def outlook(
        self,
        querier: Querier,
        expr: str,
        now_ms: int,
        calendar: Calendar,
        unlearned: Unlearned = MappingProxyType({}),
    ) -> Outlook:
        """What is expected now of every series of `expr`, those with the most first.

        The last hour is judged, not learned from.

        Args:
            querier: The store.
            expr: PromQL whose value at an aligned step is that of the five minutes before it.
            now_ms: The tick.
            calendar: What is left out of every series.
            unlearned: What is left out of one.

        Raises:
            QueryError: Today's series cannot be read; earlier days that cannot are left out.
        """
        key = (now_ms // STEP_MS, calendar, frozenset(unlearned.items()))
        known = self._outlooks.get(expr)
        if known is not None and known[0] == key:
            return known[1]
        steps_ms = _grid(now_ms - now_ms % BLOCK_MS)
        until_ms = now_ms - now_ms % STEP_MS
        matrix = querier.range(expr, int(steps_ms[0]), until_ms, STEP_MS)
        block = self._block(querier, expr, int(steps_ms[0]), matrix, calendar)
        places = {labels: place for place, labels in enumerate(block.series)}
        seen = np.full((len(places), len(steps_ms)), np.nan)
        _lay(seen, matrix, places)
        latest = np.where(calendar.teaches(steps_ms, now_ms), seen, np.nan)
        for labels, spans in unlearned.items():
            if labels in places:
                latest[places[labels], ~outside(steps_ms, STEP_MS, spans)] = np.nan
        latest[:, steps_ms > until_ms - _JUDGED_SOON_MS] = np.nan
        today = np.where(steps_ms > until_ms - _JUDGED_MS, np.nan, latest)
        expected = forecast(block.references, today, latest)
        column = min(int(np.searchsorted(steps_ms, now_ms)), len(steps_ms) - 1)
        over = int(np.searchsorted(steps_ms, until_ms, side="right"))
        hour = slice(over - _JUDGED_MS // STEP_MS, over)
        outlook = Outlook(
            places,
            expected.middle[:, column],
            expected.spread,
            expected.seasonal,
            seen[:, hour],
            expected.middle[:, hour],
        )
        self._outlooks[expr] = (key, outlook)
        return outlook

    def _block(
        self, querier: Querier, expr: str, start_ms: int, now: RangeMatrix, calendar: Calendar
    ) -> _Block:
        known = self._blocks.get(expr)
        series = _largest(now, self.max_series)
        if known is not None and known.start_ms == start_ms and known.series:
            return self._joined(known, series)
        steps_ms = np.arange(start_ms, start_ms + LEVEL_MS + BLOCK_MS + 1, STEP_MS, dtype=np.int64)
        weeks = self._references(querier, expr, steps_ms, series, _WEEKS, calendar)
        if _known(weeks) < _LEAST_WEEKS:
            days = self._references(querier, expr, steps_ms, series, _DAYS, calendar)
            weeks = np.concatenate([weeks, days], axis=1)
        block = _Block(start_ms, series, weeks)
        self._blocks[expr] = block
        return block

    def _joined(self, block: _Block, series: tuple[Labels, ...]) -> _Block:
        """The block with those series that have come since; they have no earlier days yet."""
        known = set(block.series)
        room = self.max_series - len(known)
        new = tuple(labels for labels in series if labels not in known)[: max(room, 0)]
        if new:
            block.series += new
            empty = np.full((len(new), *block.references.shape[1:]), np.nan)
            block.references = np.concatenate([block.references, empty])
        return block

    def _references(
        self,
        querier: Querier,
        expr: str,
        steps_ms: Int64Array,
        series: tuple[Labels, ...],
        back: Sequence[timedelta],
        calendar: Calendar,
    ) -> Float64Array:
        places = {labels: place for place, labels in enumerate(series)}
        found = np.full((len(series), len(back), len(steps_ms)), np.nan)
        for number, delta in enumerate(back if series else ()):
            past_ms = _earlier_steps(steps_ms, delta, calendar.zone)
            start_ms, end_ms = int(past_ms.min()), int(past_ms.max())
            if start_ms <= 0:
                continue
            try:
                matrix = querier.range(expr, start_ms, end_ms, STEP_MS)
            except QueryError as exc:
                # One day less to compare with; today's own hour remains at worst.
                _log.warning("an earlier day cannot be read", expr=expr, error=str(exc)[:300])
                continue
            day = np.full((len(series), (end_ms - start_ms) // STEP_MS + 1), np.nan)
            _lay(day, matrix, places)
            found[:, number] = day[:, (past_ms - start_ms) // STEP_MS]
            found[:, number, ~calendar.teaches(past_ms)] = np.nan
        return found


def earlier(at_ms: int, delta: timedelta, zone: tzinfo) -> int:
    """The instant with the same wall-clock time some days before: people keep to the clock."""
    moment = datetime.fromtimestamp(at_ms / 1_000, UTC).astimezone(zone)
    wall = moment.replace(tzinfo=None) - delta
    return round(wall.replace(tzinfo=zone, fold=moment.fold).timestamp()) * 1_000


def _earlier_steps(steps_ms: Int64Array, delta: timedelta, zone: tzinfo) -> Int64Array:
    """The same five minutes some days before, step by step.

    In a night when the clocks change an hour is missing or comes twice, so that one shift is not
    true of all steps. A step is the end of its five minutes; their middle tells the hour.
    """
    middles_ms = (steps_ms - STEP_MS // 2).tolist()
    past_ms = np.array([earlier(at_ms, delta, zone) for at_ms in middles_ms], dtype=np.int64)
    return past_ms + STEP_MS // 2


def _grid(start_ms: int) -> Int64Array:
    return np.arange(start_ms - LEVEL_MS, start_ms + BLOCK_MS + 1, STEP_MS, dtype=np.int64)


def _lay(rows: Float64Array, matrix: RangeMatrix, places: dict[Labels, int]) -> None:
    """Write what a range answer has of these series into their rows."""
    width = min(matrix.values.shape[1], rows.shape[1]) if len(matrix.series) else 0
    values = np.where(matrix.present, matrix.values, np.nan)
    for number, series in enumerate(matrix.series):
        place = places.get(series.drop((METRIC_NAME,)))
        if place is not None:
            rows[place, :width] = values[number, :width]


def _largest(matrix: RangeMatrix, most: int) -> tuple[Labels, ...]:
    sums = np.nansum(np.where(matrix.present, matrix.values, 0.0), axis=1)
    order = np.argsort(-sums, kind="stable")[:most].tolist()
    return tuple(matrix.series[place].drop((METRIC_NAME,)) for place in order)


def _known(references: Float64Array) -> int:
    """How many reference days say anything of the series that has the most."""
    if not references.size:
        return 0
    return int(np.isfinite(references).any(axis=2).sum(axis=1).max())
