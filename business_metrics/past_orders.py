"""Days of the past whose events are gone: the recorded orders a minute stand in for them."""

from __future__ import annotations

import numpy as np

from business_metrics.calendar import same_sale_before
from business_metrics.events import EventFeed
from business_metrics.minute_history import DAY_MIN, MINUTE_MS
from business_metrics.settings import BusinessSettings
from store.model import Int64Array
from store.ports import Querier

RECORDED = "warroom_business_orders_per_minute"
_DAY_MS = DAY_MIN * MINUTE_MS


class PastOrders:
    """Fills the history once for the weeks behind, and daily for earlier sales of today's name."""

    def __init__(self, querier: Querier, feed: EventFeed, settings: BusinessSettings) -> None:
        self._querier = querier
        self._feed = feed
        self._settings = settings
        self._filled: set[int] = set()
        self._checked_day = -1

    def fill(self, now_ms: int) -> None:
        """Look at most once a day; a day that has events is left as it is."""
        today = now_ms // _DAY_MS
        if today == self._checked_day:
            return
        weeks = range(1, self._settings.baseline_weeks + 1)
        days = {today - 7 * week + shift for week in weeks for shift in (-1, 0, 1)}
        minute = now_ms // MINUTE_MS
        sales = same_sale_before(self._settings.calendar, minute, self._settings.zone)
        earlier = {past // DAY_MIN + shift for past in sales for shift in (-1, 0, 1)}
        for day in sorted((days | earlier) - self._filled):
            if day in earlier and not self._has_orders(day):
                self._feed.load_day(day * _DAY_MS)
            if not self._has_orders(day):
                self._from_recorded(day)
            self._filled.add(day)
        self._checked_day = today

    def _has_orders(self, day: int) -> bool:
        return bool(self._feed.history.slice(day * DAY_MIN, (day + 1) * DAY_MIN)[0].any())

    def _from_recorded(self, day: int) -> None:
        start_ms = day * _DAY_MS
        # A sample at the end of a minute counts the orders within it.
        matrix = self._querier.range(RECORDED, start_ms + MINUTE_MS, start_ms + _DAY_MS, MINUTE_MS)
        if not len(matrix.series):
            return
        counts = np.nan_to_num(np.where(matrix.present, matrix.values, 0.0)).sum(axis=0)
        minutes: Int64Array = matrix.steps_ms - MINUTE_MS
        ts = np.repeat(minutes, np.maximum(np.rint(counts), 0).astype(np.int64))
        self._feed.history.add(ts, np.zeros(len(ts), dtype=np.int64))
