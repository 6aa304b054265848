"""Exponential histograms as native ones: the same buckets, numbered from another end."""

from __future__ import annotations

from typing import Any

from store.histogram_checks import validated
from store.histograms import (
    MAX_SCHEMA,
    MIN_SCHEMA,
    Buckets,
    HistogramError,
    NativeHistogram,
)

MAX_SCALE = 20
MAX_BUCKETS = 1280
# Prometheus's own width of a zero bucket where none is told.
DEFAULT_ZERO_THRESHOLD = 1e-128


def native_histogram(point: Any) -> NativeHistogram | None:
    """The native form of an `ExponentialHistogramDataPoint`; None when it is malformed.

    A scale above 8 is brought down to it, exactly: two buckets become one with each step.
    """
    sides = (point.positive, point.negative)
    if not MIN_SCHEMA <= point.scale <= MAX_SCALE or any(
        len(side.bucket_counts) > MAX_BUCKETS or abs(side.offset) > 1 << 30 for side in sides
    ):
        return None
    shift = max(0, point.scale - MAX_SCHEMA)
    try:
        return validated(
            NativeHistogram(
                schema=point.scale - shift,
                zero_threshold=point.zero_threshold or DEFAULT_ZERO_THRESHOLD,
                zero_count=float(point.zero_count),
                count=float(point.count),
                sum=point.sum,
                positive=_buckets(point.positive, shift),
                negative=_buckets(point.negative, shift),
            )
        )
    except HistogramError:
        return None


def _buckets(side: Any, shift: int) -> Buckets:
    """OTLP's bucket `i` begins at `base^i`, a native one ends there."""
    merged: dict[int, float] = {}
    for place, count in enumerate(side.bucket_counts):
        if count:
            index = ((side.offset + place) >> shift) + 1
            merged[index] = merged.get(index, 0.0) + count
    return Buckets.of(merged)
