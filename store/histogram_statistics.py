"""What can be read off a native histogram: quantiles, shares, spread, and parts of it.

Positions within an exponential bucket are interpolated on a logarithmic scale, within the zero
bucket and custom buckets on a linear one, as in Prometheus's `promql/quantile.go`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from store.histograms import Bucket, Buckets, NativeHistogram


class NanEffect(StrEnum):
    """How observations that are not a number touched a result."""

    NONE = ""
    NO_RESULT = "result is NaN"
    SKEWED = "result is skewed higher"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number read off a histogram, and what to say beside it."""

    value: float
    nan_effect: NanEffect = NanEffect.NONE


def mean_of(histogram: NativeHistogram) -> float:
    """Sum over count; NaN of an empty histogram."""
    if histogram.count == 0:
        return math.nan if histogram.sum == 0 else math.copysign(math.inf, histogram.sum)
    return histogram.sum / histogram.count


def variance_of(histogram: NativeHistogram) -> float:
    """The variance, each bucket's observations taken at its middle; NaN of an empty one."""
    if histogram.count == 0:
        return math.nan
    mean = mean_of(histogram)
    if math.isinf(mean):
        return math.inf
    whole = math.fsum if math.isfinite(mean) else sum
    parts = (
        bucket.count * (_middle(histogram, bucket) - mean) ** 2
        for bucket in histogram.buckets()
        if bucket.count != 0
    )
    return float(whole(parts)) / histogram.count


def _middle(histogram: NativeHistogram, bucket: Bucket) -> float:
    if histogram.is_custom:
        return (bucket.upper + bucket.lower) / 2
    if bucket.lower <= 0 <= bucket.upper:
        return 0.0
    return math.copysign(math.sqrt(bucket.lower * bucket.upper), bucket.upper)


def quantile_of(histogram: NativeHistogram, q: float) -> Estimate:
    """The q-quantile; infinite for q outside 0 to 1, NaN of an empty histogram."""
    if q < 0:
        return Estimate(-math.inf)
    if q > 1:
        return Estimate(math.inf)
    if histogram.count == 0 or math.isnan(q):
        return Estimate(math.nan)
    # Observations of NaN are in the count but in no bucket: they lie above every bucket.
    forward = math.isnan(histogram.sum) or q < 0.5
    rank = (q if forward else 1 - q) * histogram.count
    buckets = [bucket for bucket in histogram.buckets() if bucket.count != 0]
    found, seen = _bucket_at(buckets if forward else reversed(buckets), rank)
    has_nan = math.isnan(histogram.sum)
    if found is None or (has_nan and seen < rank):
        return Estimate(math.nan, NanEffect.NO_RESULT if has_nan else NanEffect.NONE)
    effect = NanEffect.SKEWED if has_nan else NanEffect.NONE
    seen = min(seen, histogram.count)
    within = rank - (seen - found.count) if forward else seen - rank
    share = min(within / found.count, 1.0)
    return Estimate(_position(histogram, found, share), effect)


def _bucket_at(buckets: Iterable[Bucket], rank: float) -> tuple[Bucket | None, float]:
    seen, found = 0.0, None
    for found in buckets:
        seen += found.count
        if seen >= rank:
            break
    return found, seen


def _position(histogram: NativeHistogram, bucket: Bucket, share: float) -> float:
    """The value below which `share` of a bucket's observations lie."""
    lower, upper = _effective(histogram, bucket)
    if histogram.is_custom:
        if lower == -math.inf:
            return upper
        if upper == math.inf:
            return lower
    if histogram.is_custom or lower <= 0 <= upper:
        return lower + (upper - lower) * share
    low, high = math.log2(abs(lower)), math.log2(abs(upper))
    if lower > 0:
        return float(2.0 ** (low + (high - low) * share))
    return -float(2.0 ** (high + (low - high) * (1 - share)))


def _effective(histogram: NativeHistogram, bucket: Bucket) -> tuple[float, float]:
    """A bucket's bounds with what is known of its histogram: zero may be its edge."""
    lower, upper = bucket.lower, bucket.upper
    if histogram.is_custom:
        return (0.0 if lower == -math.inf and upper > 0 else lower), upper
    if lower < 0 < upper:
        if not histogram.negative and histogram.positive:
            lower = 0.0
        elif not histogram.positive and histogram.negative:
            upper = 0.0
    return lower, upper


def _count_below(histogram: NativeHistogram, bucket: Bucket, value: float) -> float:
    """How many of a bucket's observations lie below a value inside it."""
    lower, upper = _effective(histogram, bucket)
    if histogram.is_custom or lower <= 0 <= upper:
        if lower == -math.inf:
            return bucket.count
        if upper == math.inf:
            return 0.0
        return bucket.count * (value - lower) / (upper - lower)
    low, high, at = math.log2(abs(lower)), math.log2(abs(upper)), math.log2(abs(value))
    share = (at - low) / (high - low) if value > 0 else 1 - (at - high) / (low - high)
    return bucket.count * share


def fraction_of(histogram: NativeHistogram, lower: float, upper: float) -> Estimate:
    """The share of observations between two values; NaN of an empty histogram."""
    if histogram.count == 0 or math.isnan(lower) or math.isnan(upper):
        return Estimate(math.nan)
    effect = NanEffect.NONE
    limit = histogram.count
    if math.isnan(histogram.sum):
        limit = math.fsum(bucket.count for bucket in histogram.buckets())
        if limit < histogram.count:
            effect = NanEffect.EXCLUDED
    if lower >= upper:
        return Estimate(0.0, effect)
    below = [min(_rank(histogram, value), limit) for value in (lower, upper)]
    return Estimate((below[1] - below[0]) / histogram.count, effect)


def _rank(histogram: NativeHistogram, value: float) -> float:
    """How many observations lie below a value; all of them above the last bucket."""
    rank = 0.0
    for bucket in histogram.buckets():
        lower, upper = _effective(histogram, bucket)
        if lower >= value:
            return rank
        if upper > value:
            return rank + _count_below(histogram, bucket, value)
        rank += bucket.count
    return math.inf


# -- trimming ---------------------------------------------------------------


def trim(histogram: NativeHistogram, cutoff: float, *, keep_below: bool) -> NativeHistogram:
    """The observations at most (`keep_below`) or above a value; the sum is an estimate then.

    The bucket around the cutoff is split by interpolation; one with an infinite bound is kept or
    dropped as a whole. If nothing is cut off, the histogram stays as it is.
    """
    kept = [
        (bucket, *_kept(histogram, bucket, cutoff, keep_below=keep_below))
        for bucket in histogram.buckets()
    ]
    if all(count == bucket.count for bucket, count, _ in kept):
        return histogram
    counts = iter([count for _, count, _ in kept])
    negative = [next(counts) for _ in histogram.negative.indexes]
    zero = next(counts) if histogram.zero_count != 0 else 0.0
    positive = [next(counts) for _ in histogram.positive.indexes]
    return replace(
        histogram,
        zero_count=zero,
        count=math.fsum(count for _, count, _ in kept),
        sum=math.fsum(count * middle for _, count, middle in kept if count),
        positive=Buckets(histogram.positive.indexes, tuple(positive)),
        negative=Buckets(histogram.negative.indexes, tuple(reversed(negative))),
    ).compact()


def _kept(
    histogram: NativeHistogram, bucket: Bucket, cutoff: float, *, keep_below: bool
) -> tuple[float, float]:
    """How many of a bucket's observations stay, and the value they are taken at."""
    lower, upper = _effective(histogram, bucket)
    if upper <= cutoff:
        whole = keep_below
    elif lower >= cutoff:
        # Of a first bucket that reaches above zero nothing is known below zero.
        unknown = bucket.lower == -math.inf and -math.inf < cutoff < 0
        whole = not keep_below and not unknown
    elif lower == -math.inf or upper == math.inf:
        return _kept_infinite(bucket, cutoff, keep_below=keep_below)
    else:
        below = _count_below(histogram, bucket, cutoff)
        count = below if keep_below else bucket.count - below
        ends = (lower, cutoff) if keep_below else (cutoff, upper)
        return count, _between(histogram, *ends)
    return (bucket.count if whole else 0.0), _between(histogram, lower, upper)


def _kept_infinite(bucket: Bucket, cutoff: float, *, keep_below: bool) -> tuple[float, float]:
    if keep_below:
        return (bucket.count if bucket.upper != math.inf else 0.0), cutoff
    return (bucket.count if bucket.lower != -math.inf else 0.0), cutoff


def _between(histogram: NativeHistogram, lower: float, upper: float) -> float:
    if lower == -math.inf:
        return upper if math.isfinite(upper) else 0.0
    if upper == math.inf:
        return lower
    if histogram.is_custom or lower <= 0 <= upper or lower * upper < 0:
        return (lower + upper) / 2
    if abs(lower) <= histogram.zero_threshold and abs(upper) <= histogram.zero_threshold:
        return (lower + upper) / 2
    return math.copysign(math.sqrt(lower * upper), upper)
