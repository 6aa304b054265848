"""Between ingest and the queue on disk: a bounded hand-over that never makes ingest wait."""

from __future__ import annotations

import threading
from collections import deque

from store.model import SampleBatch

MAX_SAMPLES = 1_000_000
MAX_BATCHES = 20_000


class HandOver:
    """Batches wait here for the thread that writes them to disk. Bounded by samples and batches."""

    def __init__(self, max_samples: int = MAX_SAMPLES, max_batches: int = MAX_BATCHES) -> None:
        self._max_samples = max_samples
        self._max_batches = max_batches
        self._batches: deque[SampleBatch] = deque()
        self._samples = 0
        self._closed = False
        self._changed = threading.Condition()

    def offer(self, batch: SampleBatch) -> bool:
        """Leave a batch and go on; False when there is no room. A lone batch always fits."""
        with self._changed:
            full = len(self._batches) >= self._max_batches or (
                self._samples > 0 and self._samples + len(batch) > self._max_samples
            )
            if full or self._closed:
                return False
            self._batches.append(batch)
            self._samples += len(batch)
            self._changed.notify()
            return True

    def take(self, timeout_s: float) -> list[SampleBatch] | None:
        """What waits now, perhaps nothing; None when it was closed and nothing is left."""
        with self._changed:
            if not self._batches and not self._closed:
                self._changed.wait(timeout_s)
            taken = list(self._batches)
            self._batches.clear()
            self._samples = 0
            return None if self._closed and not taken else taken

    def close(self) -> None:
        """Take nothing more in."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
