"""Exponential histograms as classic buckets, exactly: bounds only ever merge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_BUCKETS = 160
# At scale 1 a bucket is 41 % wide; finer ones would cost a series each for little.
FINEST_SCALE = 1
MAX_SCALE = 20
MIN_SCALE = -10


@dataclass(frozen=True, slots=True)
class ClassicBuckets:
    """Upper bounds and cumulative counts; the +Inf bucket is the point's count."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]


def classic_buckets(point: Any) -> ClassicBuckets | None:
    """The classic form of an `ExponentialHistogramDataPoint`; None when it is malformed."""
    sides = (point.positive, point.negative)
    if not MIN_SCALE <= point.scale <= MAX_SCALE or any(
        len(side.bucket_counts) > MAX_BUCKETS * 8 or abs(side.offset) > 1 << 30 for side in sides
    ):
        return None
    scale = min(point.scale, FINEST_SCALE)
    while True:
        positive = _merged(point.positive, point.scale - scale)
        negative = _merged(point.negative, point.scale - scale)
        if _span(positive) + _span(negative) <= MAX_BUCKETS:
            break
        scale -= 1
    return _cumulative(positive, negative, point.zero_count, point.zero_threshold, scale)


def _merged(side: Any, shift: int) -> dict[int, int]:
    merged: Counter[int] = Counter()
    for place, count in enumerate(side.bucket_counts):
        merged[(side.offset + place) >> shift] += count
    return dict(merged)


def _span(buckets: dict[int, int]) -> int:
    return max(buckets) - min(buckets) + 1 if buckets else 0


def _bound(index: int, scale: int) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.exp2(np.float64(index) * 2.0**-scale))


def _cumulative(
    positive: dict[int, int], negative: dict[int, int], zeros: int, zero_bound: float, scale: int
) -> ClassicBuckets:
    bounds: list[float] = []
    counts: list[int] = []
    total = 0
    # Negative bucket i holds [-base^(i+1), -base^i): the largest index comes first.
    for index in sorted(negative, reverse=True):
        total += negative[index]
        bounds.append(-_bound(index, scale))
        counts.append(total)
    total += zeros
    if zeros or negative:
        bounds.append(max(0.0, zero_bound))
        counts.append(total)
    for index in sorted(positive):
        total += positive[index]
        bounds.append(_bound(index + 1, scale))
        counts.append(total)
    ascending = [
        (bound, count)
        for place, (bound, count) in enumerate(zip(bounds, counts, strict=True))
        if np.isfinite(bound) and (place == 0 or bound > bounds[place - 1])
    ]
    return ClassicBuckets(tuple(b for b, _ in ascending), tuple(c for _, c in ascending))
