"""Orders and revenue of each minute of the last weeks. Memory is bounded in days."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from store.model import BoolArray, Int64Array

MINUTE_MS = 60_000
DAY_MIN = 1_440
# A shop may be closed for a long weekend.
_NEAR_DAYS = 3


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
            np.add.at(table[1], place, units[here])

    def take_back(self, ts_ms: int, units: int) -> None:
        """Count an order no longer that was added before."""
        day, place = divmod(ts_ms // MINUTE_MS, DAY_MIN)
        if day in self._days:
            self._days[day][:, place] -= (1, units)

    def replace(self, start_minute: int, rows: Int64Array) -> None:
        """Put orders and money units, two rows, in the place of what is known of these minutes."""
        end_minute = start_minute + rows.shape[1]
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            begin, end = max(start_minute, day * DAY_MIN), min(end_minute, (day + 1) * DAY_MIN)
            self._day(day)[:, begin - day * DAY_MIN : end - day * DAY_MIN] = rows[
                :, begin - start_minute : end - start_minute
            ]

    def _day(self, day: int) -> Int64Array:
        if day not in self._days:
            self._days[day] = np.zeros((2, DAY_MIN), dtype=np.int64)
            if len(self._days) > self._max_days:
                gone = min(self._days)
                self._days.pop(gone)
                self._selling.discard(gone)
        return self._days.setdefault(day, np.zeros((2, DAY_MIN), dtype=np.int64))

    def collected(self, start_minute: int, end_minute: int) -> BoolArray:
        """Which minutes may count as collected, an order in them or not.

        A day counts when it sold, or when days near before and after did. Of the first day after a
        longer silence, only what follows its first order counts.
        """
        out = np.zeros(max(end_minute - start_minute, 0), dtype=np.bool_)
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            begin = self._collected_from(day)
            if begin is not None:
                first = max(begin, start_minute) - start_minute
                out[first : max((day + 1) * DAY_MIN - start_minute, 0)] = True
        return out

    def _collected_from(self, day: int) -> int | None:
        before = any(day - n in self._selling for n in range(1, _NEAR_DAYS + 1))
        if day in self._selling:
            if before:
                return day * DAY_MIN
            return day * DAY_MIN + int(np.argmax(self._days[day][0] > 0)) + 1
        after = any(day + n in self._selling for n in range(1, _NEAR_DAYS + 1))
        return day * DAY_MIN if before and (after or day > max(self._selling)) else None

    def slice(self, start_minute: int, end_minute: int) -> Int64Array:
        """Two rows, orders and money units, for the minutes `[start, end)`."""
        out = np.zeros((2, max(end_minute - start_minute, 0)), dtype=np.int64)
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            table = self._days.get(day)
            if table is None:
                continue
            begin, end = max(start_minute, day * DAY_MIN), min(end_minute, (day + 1) * DAY_MIN)
            out[:, begin - start_minute : end - start_minute] = table[
                :, begin - day * DAY_MIN : end - day * DAY_MIN
            ]
        return out
