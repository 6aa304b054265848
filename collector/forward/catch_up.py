"""After a crash: what the store had acknowledged, and the queue had not yet on its disk.

A batch is durable in the store a moment before it is durable in the queue. The queue's records of
that time are compared with the store's samples; what is only in the store is queued again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from collector.remote_write.decode import Memory, decode, decompress
from store.model import METRIC_NAME, Int64Array, Labels, Matcher, MatchOp, SampleBatch
from store.ports import SeriesReader

# Longer than a batch waits in the hand-over, in the time of samples.
WINDOW_MS = 30_000
MAX_SAMPLES = 5_000_000
_FUTURE_MS = 3_600_000
_TS_BITS = 32  # 49 days of milliseconds
_ALL = (Matcher(METRIC_NAME, MatchOp.REGEX, ".+"),)

FinalLabels = Callable[[Labels], Labels | None]


def missing(
    payloads: Iterable[bytes],
    reader: SeriesReader,
    final_labels: FinalLabels,
    *,
    since_ms: int,
    now_ms: int,
) -> SampleBatch:
    """Samples of the store that are in none of the compressed requests.

    Args:
        payloads: The requests that were queued around and after `since_ms`.
        reader: The store.
        final_labels: What a series is called in a request; None where it is not sent.
        since_ms: Earlier samples are not looked at.
        now_ms: Samples an hour later than this are not looked at either.

    Raises:
        QueryError: The store holds more than five million samples of that time.
    """
    known: dict[Labels, int] = {}
    queued = _keys(payloads, known, since_ms)
    stored = reader.select(_ALL, since_ms, now_ms + _FUTURE_MS, max_samples=MAX_SAMPLES)
    counts = np.diff(stored.offsets)
    numbers = [_number(known, final_labels(labels)) for labels in stored.series]
    number = np.repeat(np.asarray(numbers, dtype=np.int64), counts)
    keys = number << _TS_BITS | (stored.ts_ms - since_ms)
    wanted = (number >= 0) & ~np.isin(keys, queued)
    if stored.histograms is not None:
        wanted &= stored.histograms == None  # noqa: E711  # of each element
    return SampleBatch(
        series=stored.series,
        series_index=np.repeat(np.arange(len(counts), dtype=np.int32), counts)[wanted],
        ts_ms=stored.ts_ms[wanted],
        values=stored.values[wanted],
    )


def _keys(payloads: Iterable[bytes], known: dict[Labels, int], since_ms: int) -> Int64Array:
    """One number for each series and time; fills the numbers of series."""
    memory = Memory()
    found: list[Int64Array] = [np.zeros(0, dtype=np.int64)]
    for payload in payloads:
        batch = decode(decompress(payload), memory).batch
        numbers = [_number(known, labels) for labels in batch.series]
        number = np.asarray(numbers, dtype=np.int64)[batch.series_index]
        recent = batch.ts_ms >= since_ms
        found.append(number[recent] << _TS_BITS | (batch.ts_ms[recent] - since_ms))
    return np.concatenate(found)


def _number(known: dict[Labels, int], labels: Labels | None) -> int:
    return -1 if labels is None else known.setdefault(labels, len(known))
