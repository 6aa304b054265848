"""Which times' samples have changed: what a cache of answers must know.

A writer notes a change after readers can see it and before it is acknowledged. A reader takes the
version before it reads. What it read is then as new as that version, or newer; and whoever was
told that a write is done never gets an answer from before it.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from store.model import Int64Array

EVER_MS = 2**62
Span = tuple[int, int]
_CLOSE_MS = 60_000
_MOST_SPANS = 64
_MOST_ENTRIES = 4096


class ChangeLog:
    """Spans of time, both ends included, in which samples were written or deleted, by version.

    Bounded: of very old versions it only says that it no longer knows. Safe from any thread.

    Example:
        >>> log = ChangeLog()
        >>> before = log.version()
        >>> log.note_span(1_000, 2_000)
        >>> log.changed_since(before)
        [(1000, 2000)]
        >>> log.changed_since(log.version())
        []
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sealed: deque[list[Span]] = deque(maxlen=_MOST_ENTRIES)
        self._open: list[Span] = []
        self._version = 0

    def note(self, ts_ms: Int64Array) -> None:
        """Samples of these times were written."""
        if not len(ts_ms):
            return
        low, high = int(ts_ms.min()), int(ts_ms.max())
        spans = [(low, high)] if high - low <= _CLOSE_MS else _spans_of(ts_ms)
        with self._lock:
            self._open = _merged([*self._open, *spans])

    def note_span(self, start_ms: int, end_ms: int) -> None:
        """Anything within the span may have been written or deleted."""
        with self._lock:
            self._open = _merged([*self._open, (start_ms, end_ms)])

    def version(self) -> int:
        """A number that goes up with changes."""
        with self._lock:
            if self._open:
                self._sealed.append(self._open)
                self._open = []
                self._version += 1
            return self._version

    def changed_since(self, version: int) -> list[Span] | None:
        """Spans with changes after a version, or None where that is no longer known."""
        with self._lock:
            later = self._version - version
            if not 0 <= later <= len(self._sealed):
                return None
            spans = [*self._open]
            for place in range(len(self._sealed) - later, len(self._sealed)):
                spans.extend(self._sealed[place])
            return _merged(spans)


def _spans_of(ts_ms: Int64Array) -> list[Span]:
    """The minutes that hold these times, neighbours joined."""
    minutes = np.unique(ts_ms // _CLOSE_MS)
    breaks = np.flatnonzero(np.diff(minutes) > 1)
    first = minutes[np.append(0, breaks + 1)] * _CLOSE_MS
    last = minutes[np.append(breaks, len(minutes) - 1)] * _CLOSE_MS + _CLOSE_MS - 1
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _merged(spans: list[Span]) -> list[Span]:
    """Ascending, neighbours joined; too many become one that covers them all."""
    merged: list[Span] = []
    for low, high in sorted(spans):
        if merged and low - merged[-1][1] <= _CLOSE_MS:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged if len(merged) <= _MOST_SPANS else [(merged[0][0], merged[-1][1])]
