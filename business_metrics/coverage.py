"""Since when is the feed of events known to be whole? Nothing is missing that was never collected.

A stop of the service, or ticks that came to a halt, leaves a hole: events of that time may be lost.
After a short one, of a shop that was heard just before, silence counts from the first tick on; the
verdict waits as long as a sender may pause between its attempts. After a long one, and in a new
shop, counting begins with the first event of any kind. A shop that was heard within a day and says
nothing for minutes is judged all the same.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np

from business_metrics.events import EventFeed

_SHORT_STOP_MS = 900_000
_LONG_STOP_MS = 86_400_000
_SILENT_MS = 300_000
# Senders pause up to 30 s between two attempts, and not longer than they have been failing.
_RETRY_MS = 30_000
_LATE_TICK_MS = 10_000
_LATE_TICK_TIMES = 3
_USUAL_TICKS = 5
_HOUR_MS = 3_600_000
_IMPROBABLE_ORDERS = 12.0


class FeedCoverage:
    """Follows the ticks and the feed. Call `observe` at each tick, after the feed's pull.

    Attributes:
        since_ms: Counts may begin here; None while nothing is known to be whole.
        quiet_until_ms: No new verdict before.
        watching_ms: The first tick after the latest hole.
    """

    def __init__(self) -> None:
        self.since_ms: int | None = None
        self.quiet_until_ms = 0
        self.watching_ms = 0
        self._steps: deque[int] = deque(maxlen=_USUAL_TICKS)
        self._last_ms: int | None = None
        self._stop_ms: int | None = None
        self._heard_ms: int | None = None

    def observe(self, feed: EventFeed, now_ms: int) -> None:
        """Note a tick."""
        if self._last_ms is None or self._halted(now_ms - self._last_ms):
            self._start(feed, now_ms)
        elif self.since_ms is None:
            self._await(feed, now_ms)
        if self._last_ms is not None:
            self._steps.append(now_ms - self._last_ms)
        self._last_ms = now_ms

    def hole(self, feed: EventFeed) -> tuple[int, int] | None:
        """The time before the first tick in which nothing was heard, in milliseconds.

        It shrinks when events of that time arrive late.
        """
        heard = feed.heard_before(self.watching_ms)
        if heard is not None:
            # The feed forgets after hours, and then it no longer knows.
            self._heard_ms = max(heard, self._heard_ms or heard)
        begin_ms = self.watching_ms - _LONG_STOP_MS if self._heard_ms is None else self._heard_ms
        end_ms = self.watching_ms if self.since_ms is None else max(self.since_ms, begin_ms)
        end_ms = max(end_ms, self.watching_ms)
        return (begin_ms, end_ms) if end_ms > begin_ms else None

    def _halted(self, step_ms: int) -> bool:
        if not self._steps or step_ms <= _LATE_TICK_MS:
            return False
        usual = median(self._steps)
        return step_ms > _LATE_TICK_TIMES * usual + _LATE_TICK_MS

    def _start(self, feed: EventFeed, now_ms: int) -> None:
        heard = feed.heard_before(now_ms)
        self.watching_ms, self._heard_ms = now_ms, heard
        self._stop_ms = None if heard is None else now_ms - heard
        self.since_ms = None
        self.quiet_until_ms = now_ms
        if self._stop_ms is not None and self._stop_ms <= _SHORT_STOP_MS:
            self.since_ms = _whole_since(feed, now_ms)
            self.quiet_until_ms = now_ms + min(self._stop_ms, _RETRY_MS)

    def _await(self, feed: EventFeed, now_ms: int) -> None:
        first = feed.heard_since(self.watching_ms)
        if first is not None:
            self.since_ms = first
            self.quiet_until_ms = first + _RETRY_MS
            return
        known = self._stop_ms is not None and self._stop_ms <= _LONG_STOP_MS
        if known and now_ms - self.watching_ms >= _SILENT_MS:
            self.since_ms = self.watching_ms


def _whole_since(feed: EventFeed, now_ms: int) -> int:
    """How far back the last hour's orders have no hole that chance would not leave."""
    begin_ms = now_ms - _HOUR_MS
    first, last = np.searchsorted(feed.order_ms, [begin_ms, now_ms])
    if first == last:
        return now_ms
    edges = np.concatenate([[begin_ms], feed.order_ms[first:last], [now_ms]])
    gaps = np.diff(edges) * ((last - first) / _HOUR_MS)
    wide = np.flatnonzero(gaps > _IMPROBABLE_ORDERS)
    return int(edges[wide[-1] + 1]) if len(wide) else begin_ms
