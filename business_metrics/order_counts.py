"""How many orders came between two instants: exact in the last hour, by whole minutes before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from business_metrics.events import EventFeed
from business_metrics.minute_history import MINUTE_MS
from store.model import Int64Array

EXACT_MS = 3_600_000


class OrderCounts:
    """Counts over a feed, that keeps instants for an hour at least, and its history of minutes.

    A span that begins before the last hour is counted from the beginning of its first minute.
    """

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed

    def between(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Orders and money units."""
        kept_ms = _kept_ms(end_ms)
        orders, units = self._feed.orders_between(max(start_ms, kept_ms), end_ms)
        if start_ms < kept_ms:
            old = self._feed.history.sold(start_ms // MINUTE_MS, kept_ms // MINUTE_MS)
            orders, units = orders + old[0], units + old[1]
        return orders, units

    def since(self, starts_ms: Sequence[int], end_ms: int) -> list[int]:
        """Orders from each of these instants on."""
        kept_ms = _kept_ms(end_ms)
        late = [max(start_ms, kept_ms) for start_ms in starts_ms]
        places: list[int] = np.searchsorted(self._feed.order_ms, [*late, end_ms]).tolist()
        counts = [places[-1] - place for place in places[:-1]]
        first_ms = min(starts_ms)
        if first_ms < kept_ms:
            sums = np.cumsum(self._minutes(first_ms, kept_ms)[::-1])
            kept, last = kept_ms // MINUTE_MS, len(sums)
            for place, start_ms in enumerate(starts_ms):
                if start_ms < kept_ms:
                    counts[place] += int(sums[min(kept - start_ms // MINUTE_MS, last) - 1])
        return counts

    def latest_ms(self, end_ms: int, since_ms: int) -> int:
        """The latest order since an instant; that instant where there is none."""
        last = int(np.searchsorted(self._feed.order_ms, end_ms))
        if last:
            return max(int(self._feed.order_ms[last - 1]), since_ms)
        sold = np.flatnonzero(self._minutes(since_ms, end_ms))
        if not len(sold):
            return since_ms
        return min((since_ms // MINUTE_MS + int(sold[-1]) + 1) * MINUTE_MS, end_ms)

    def instants(self, start_ms: int, end_ms: int) -> Int64Array:
        """When they came; those before the last hour at the end of their minute."""
        kept_ms = max(_kept_ms(end_ms), start_ms)
        first, last = np.searchsorted(self._feed.order_ms, [kept_ms, end_ms])
        exact: Int64Array = self._feed.order_ms[first:last]
        if start_ms >= kept_ms:
            return exact
        counts = self._minutes(start_ms, kept_ms)
        ends = (start_ms // MINUTE_MS + 1 + np.arange(len(counts), dtype=np.int64)) * MINUTE_MS
        return np.concatenate([np.repeat(ends, np.maximum(counts, 0)), exact])

    def _minutes(self, start_ms: int, end_ms: int) -> Int64Array:
        counts: Int64Array = self._feed.history.slice(start_ms // MINUTE_MS, end_ms // MINUTE_MS)[0]
        return counts


def _kept_ms(end_ms: int) -> int:
    """The whole minute from which on instants are kept."""
    return -(-(end_ms - EXACT_MS) // MINUTE_MS) * MINUTE_MS
