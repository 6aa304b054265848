"""What was sold between two minutes of any day, exact.

The history of minutes holds the last weeks. It knows in part only what is older, and days of which
orders came more than two days late: two that tell of the same order are then not seen together.
Those days are counted from the events, each once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from business_metrics import queries
from business_metrics.events import EventFeed, genuine, money_units
from business_metrics.exact_sums import whole
from business_metrics.minute_history import DAY_MIN, MINUTE_MS, MinuteHistory
from business_metrics.settings import BusinessSettings
from store.model import Int64Array
from store.ports import EventReader

_DAY_MS = DAY_MIN * MINUTE_MS
# A year that is paged through by days costs some megabytes.
_DAYS_KEPT = 64
# While late orders go on coming, a day is read anew as often.
_READ_AGAIN_MS = 10_000


class DaysSold:
    """Counts over the history of a feed and over the events. Call `prepare` first: it reads."""

    def __init__(self, reader: EventReader, feed: EventFeed, settings: BusinessSettings) -> None:
        self._reader = reader
        self._feed = feed
        self._settings = settings
        self._days: OrderedDict[int, tuple[int, Int64Array]] = OrderedDict()

    def prepare(self, spans: Iterable[tuple[int, int]], now_ms: int) -> None:
        """Read those days of some spans of minutes that the history does not know as a whole."""
        wanted = {
            day
            for start, end in spans
            for day in range(start // DAY_MIN, -(-end // DAY_MIN))
            if self._feed.in_part(day * _DAY_MS)
        }
        for day in sorted(wanted):
            read_ms = self._days[day][0] if day in self._days else None
            late_ms = self._feed.late_days.get(day, 0)
            if read_ms is None or (late_ms >= read_ms and now_ms >= read_ms + _READ_AGAIN_MS):
                self._days[day] = (now_ms, self._count(day))
            self._days.move_to_end(day)
        while len(self._days) > _DAYS_KEPT:
            self._days.popitem(last=False)

    def _count(self, day: int) -> Int64Array:
        table = genuine(queries.sold(self._reader, day * _DAY_MS, (day + 1) * _DAY_MS))
        bought = table.filter(queries.is_purchase(table))
        counted = MinuteHistory(1)
        units = money_units(bought, self._settings.currency, self._settings.exchange_rates)
        counted.add(np.asarray(bought["ts_ms"].to_numpy(), dtype=np.int64), units)
        return counted.slice(day * DAY_MIN, (day + 1) * DAY_MIN)

    def sold(self, start_minute: int, end_minute: int) -> tuple[int, int]:
        """Orders and their money units of the minutes `[start, end)`."""
        orders = units = 0
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            begin, end = max(start_minute, day * DAY_MIN), min(end_minute, (day + 1) * DAY_MIN)
            counted = self._days.get(day)
            # Events that are gone leave what was recorded of them.
            if counted is None or not counted[1][0].any():
                more = self._feed.history.sold(begin, end)
            else:
                first, last = begin - day * DAY_MIN, end - day * DAY_MIN
                count, high, low = counted[1][:, first:last].sum(axis=1).tolist()
                more = count, whole(high, low)
            orders, units = orders + more[0], units + more[1]
        return orders, units
