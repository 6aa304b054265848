"""Orders and revenue of each minute of the last weeks. Memory is bounded in days."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from business_metrics.exact_sums import halves, whole
from store.model import BoolArray, Int64Array

MINUTE_MS = 60_000
DAY_MIN = 1_440
# A shop may be closed for a long weekend.
_SILENT_DAYS = 3
# Of each day: orders, and the two halves of their money units.
_ROWS = 3


class MinuteHistory:
    """Orders and revenue of each minute, in days of UTC; the oldest go first."""

    def __init__(self, max_days: int) -> None:
        self._max_days = max_days
        self._days: OrderedDict[int, Int64Array] = OrderedDict()
        self._selling: set[int] = set()
        self.first_minute: int | None = None

    def add(self, ts_ms: Int64Array, units: Int64Array) -> None:
        """Count orders at these instants, each with its amount."""
        if not len(ts_ms):
            return
        minutes = ts_ms // MINUTE_MS
        first = int(minutes.min())
        self.first_minute = first if self.first_minute is None else min(self.first_minute, first)
        days = minutes // DAY_MIN
        for day in np.unique(days).tolist():
            here = days == day
            table = self._day(day)
            self._selling.add(day)
            place = minutes[here] - day * DAY_MIN
            np.add.at(table[0], place, 1)
            for row, half in zip(table[1:], halves(units[here]), strict=True):
                np.add.at(row, place, half)

    def take_back(self, ts_ms: int, units: int) -> None:
        """Count an order no longer that was added before."""
        day, place = divmod(ts_ms // MINUTE_MS, DAY_MIN)
        if day in self._days:
            self._days[day][0, place] -= 1
            self._days[day][1:, place] -= halves(np.asarray([units], dtype=np.int64))[:, 0]

    def replace(self, start_minute: int, rows: Int64Array) -> None:
        """Put rows as `slice` gives them in the place of what is known of these minutes."""
        end_minute = start_minute + rows.shape[1]
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            begin, end = max(start_minute, day * DAY_MIN), min(end_minute, (day + 1) * DAY_MIN)
            self._day(day)[:, begin - day * DAY_MIN : end - day * DAY_MIN] = rows[
                :, begin - start_minute : end - start_minute
            ]

    def _day(self, day: int) -> Int64Array:
        if day not in self._days:
            self._days[day] = np.zeros((_ROWS, DAY_MIN), dtype=np.int64)
            if len(self._days) > self._max_days:
                gone = min(self._days)
                self._days.pop(gone)
                self._selling.discard(gone)
        return self._days.setdefault(day, np.zeros((_ROWS, DAY_MIN), dtype=np.int64))

    def collected(self, start_minute: int, end_minute: int) -> BoolArray:
        """Which minutes may count as collected, an order in them or not.

        A silence of days counts as collected too. Of a longer one nothing does, from the last order
        before it to the first one after it.
        """
        out = np.zeros(max(end_minute - start_minute, 0), dtype=np.bool_)
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            begin, end = self._collected_of(day)
            out[max(begin - start_minute, 0) : max(end - start_minute, 0)] = True
        return out

    def _collected_of(self, day: int) -> tuple[int, int]:
        """The minutes of a day that may count, `[begin, end)`."""
        begin, end = day * DAY_MIN, (day + 1) * DAY_MIN
        before, after = self._days_to_sale(day, -1), self._days_to_sale(day, 1)
        # What follows the latest order is silence, not a hole.
        latest = not after and day >= max(self._selling, default=day)
        if day not in self._selling:
            silent = before - 1 + after if after else before
            quiet = before and (after or latest) and silent <= _SILENT_DAYS
            return (begin, end) if quiet else (begin, begin)
        sold = np.flatnonzero(self._days[day][0] > 0)
        if not before and len(sold):
            begin += int(sold[0]) + 1
        if not after and not latest and len(sold):
            end = day * DAY_MIN + int(sold[-1])
        return begin, end

    def _days_to_sale(self, day: int, step: int) -> int:
        """How many days before or after it sold; 0: a longer silence lies between."""
        days = range(1, _SILENT_DAYS + 2)
        return next((n for n in days if day + step * n in self._selling), 0)

    def slice(self, start_minute: int, end_minute: int) -> Int64Array:
        """Rows for the minutes `[start, end)`: orders first, then what `sold` makes money of."""
        out = np.zeros((_ROWS, max(end_minute - start_minute, 0)), dtype=np.int64)
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            table = self._days.get(day)
            if table is None:
                continue
            begin, end = max(start_minute, day * DAY_MIN), min(end_minute, (day + 1) * DAY_MIN)
            out[:, begin - start_minute : end - start_minute] = table[
                :, begin - day * DAY_MIN : end - day * DAY_MIN
            ]
        return out

    def sold(self, start_minute: int, end_minute: int) -> tuple[int, int]:
        """Orders and their money units of the minutes `[start, end)`, exact."""
        orders, high, low = self.slice(start_minute, end_minute).sum(axis=1).tolist()
        return orders, whole(high, low)
