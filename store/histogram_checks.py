"""Whether a native histogram from outside can be what a client observed."""

from __future__ import annotations

import math
from itertools import pairwise

from store.histograms import (
    CUSTOM_SCHEMA,
    MAX_BUCKETS,
    MAX_SCHEMA,
    MIN_SCHEMA,
    Buckets,
    HistogramError,
    NativeHistogram,
)

_MAX_INDEX = 2**31 - 1


def validated(histogram: NativeHistogram) -> NativeHistogram:
    """The same histogram, if it can be what a client observed.

    Raises:
        HistogramError: It cannot; the message says what is wrong with it.
    """
    if not histogram.is_custom and not MIN_SCHEMA <= histogram.schema <= MAX_SCHEMA:
        raise HistogramError(
            f"schema {histogram.schema} is not known: write {MIN_SCHEMA} to {MAX_SCHEMA}, "
            f"or {CUSTOM_SCHEMA} for custom buckets"
        )
    if histogram.is_custom:
        _check_custom(histogram)
    elif histogram.custom_values:
        raise HistogramError("custom values belong to custom buckets (schema -53) only")
    if not histogram.zero_threshold >= 0 or math.isinf(histogram.zero_threshold):
        raise HistogramError(f"zero threshold {histogram.zero_threshold} is no finite width")
    for name, side in (("positive", histogram.positive), ("negative", histogram.negative)):
        _check_side(name, side)
    for what, number in (("count", histogram.count), ("zero count", histogram.zero_count)):
        if not number >= 0:
            raise HistogramError(f"{what} is {number}: it has to be zero or more")
    return histogram


def _check_custom(histogram: NativeHistogram) -> None:
    bounds = histogram.custom_values
    if len(bounds) > MAX_BUCKETS:
        raise HistogramError(f"{len(bounds)} custom values: at most {MAX_BUCKETS} are taken")
    if any(not before < after for before, after in pairwise(bounds)) or any(
        not abs(bound) < math.inf for bound in bounds
    ):
        raise HistogramError("custom values have to be finite and ascending")
    if histogram.negative or histogram.zero_count or histogram.zero_threshold:
        raise HistogramError("custom buckets have neither a zero bucket nor negative buckets")
    indexes = histogram.positive.indexes
    if indexes and not 0 <= indexes[0] <= indexes[-1] <= len(bounds):
        raise HistogramError(f"bucket {indexes[-1]} is outside {len(bounds)} custom values")


def _check_side(name: str, side: Buckets) -> None:
    if len(side.indexes) != len(side.counts) or len(side) > MAX_BUCKETS:
        raise HistogramError(f"{len(side.counts)} {name} counts for {len(side)} buckets")
    if any(after <= before for before, after in pairwise(side.indexes)):
        raise HistogramError(f"{name} buckets are not in ascending order")
    if side and max(abs(side.indexes[0]), abs(side.indexes[-1])) > _MAX_INDEX:
        raise HistogramError(f"a {name} bucket's index does not fit 32 bits")
    if any(not count >= 0 for count in side.counts):
        raise HistogramError(f"a {name} bucket's count is negative or not a number")
