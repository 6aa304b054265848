"""Native histograms: a whole distribution as one sample, with the arithmetic that PromQL needs.

Buckets are exponential (schema -4 to 8: 2^schema of them each doubling of the value) or custom
(schema -53: upper bounds in `custom_values`). Index `i` of a positive exponential bucket is the
range `(base^(i-1), base^i]` with `base = 2^(2^-schema)`; negative ones mirror it; what lies within
`zero_threshold` of zero is in the zero bucket. The model and every rule here are those of
Prometheus's `model/histogram/float_histogram.go`.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

CUSTOM_SCHEMA = -53
MIN_SCHEMA, MAX_SCHEMA = -4, 8
MAX_BUCKETS = 8192


class HistogramError(ValueError):
    """A histogram that cannot be: says which part of it and what it should be."""


class IncompatibleHistogramsError(Exception):
    """An exponential and a custom histogram, which no arithmetic can bring together."""


class ResetHint(IntEnum):
    """What a histogram says of the one before it; the numbers are those of remote write."""

    UNKNOWN = 0
    RESET = 1
    NOT_RESET = 2
    GAUGE = 3


@dataclass(frozen=True, slots=True)
class Buckets:
    """Bucket counts by index, ascending. A count of zero may be stated.

    Counts are floats and absolute (no deltas); the results of a subtraction may be negative.
    """

    indexes: tuple[int, ...] = ()
    counts: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.indexes)

    @classmethod
    def of(cls, counts: Mapping[int, float]) -> Buckets:
        ordered = sorted(counts.items())
        return cls(tuple(i for i, _ in ordered), tuple(c for _, c in ordered))

    @classmethod
    def of_spans(
        cls, spans: Iterable[tuple[int, int]], values: Sequence[float], *, deltas: bool = False
    ) -> Buckets:
        """From the wire: spans of (offset to the last, length) and counts or their differences.

        Raises:
            HistogramError: Spans and counts do not fit, go backwards or are too many.
        """
        indexes: list[int] = []
        at = 0
        for place, (offset, length) in enumerate(spans):
            if length < 0 or (place and offset < 0):
                raise HistogramError(f"span {place} has offset {offset} and length {length}")
            if len(indexes) + length > MAX_BUCKETS:
                raise HistogramError(f"more than {MAX_BUCKETS} buckets on one side")
            at += offset
            indexes.extend(range(at, at + length))
            at += length
        if len(indexes) != len(values):
            raise HistogramError(f"spans name {len(indexes)} buckets, {len(values)} counts given")
        return cls(tuple(indexes), _absolute(values) if deltas else tuple(map(float, values)))

    def spans(self) -> list[tuple[int, int]]:
        """(offset to the last, length) of each run of neighbouring buckets."""
        found: list[tuple[int, int]] = []
        end = 0
        for index in self.indexes:
            if found and index == end:
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((index - end, 1))
            end = index + 1
        return found

    def items(self) -> Iterator[tuple[int, float]]:
        return zip(self.indexes, self.counts, strict=True)

    def scaled(self, factor: float) -> Buckets:
        return Buckets(self.indexes, tuple(count * factor for count in self.counts))

    def without_empty(self) -> Buckets:
        if 0.0 not in self.counts:
            return self
        return Buckets.of({index: count for index, count in self.items() if count != 0})


def _absolute(values: Sequence[float]) -> tuple[float, ...]:
    total, out = 0.0, []
    for value in values:
        total += value
        out.append(total)
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket with its bounds."""

    lower: float
    upper: float
    count: float
    lower_inclusive: bool
    upper_inclusive: bool


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """A native histogram with float counts.

    Attributes:
        schema: Resolution, -4 to 8, or `CUSTOM_SCHEMA`.
        zero_threshold: Half the width of the zero bucket; always 0 for custom buckets.
        sum: Of all observations; NaN if one of them was.
        custom_values: Ascending upper bounds of custom buckets; the last bucket's +Inf is implied.
        reset_hint: Not part of equality.
    """

    schema: int = 0
    zero_threshold: float = 0.0
    zero_count: float = 0.0
    count: float = 0.0
    sum: float = 0.0
    positive: Buckets = Buckets()
    negative: Buckets = Buckets()
    custom_values: tuple[float, ...] = ()
    reset_hint: ResetHint = field(default=ResetHint.UNKNOWN, compare=False)

    @property
    def is_custom(self) -> bool:
        return self.schema == CUSTOM_SCHEMA

    @property
    def is_gauge(self) -> bool:
        return self.reset_hint is ResetHint.GAUGE

    def with_hint(self, hint: ResetHint) -> NativeHistogram:
        return self if hint is self.reset_hint else replace(self, reset_hint=hint)

    def buckets(self) -> Iterator[Bucket]:
        """Every bucket from the lowest to the highest; an empty zero bucket is left out."""
        for index, count in zip(
            reversed(self.negative.indexes), reversed(self.negative.counts), strict=True
        ):
            upper = -self.bound(index - 1)
            yield Bucket(-self.bound(index), upper, count, lower_inclusive=True,
                         upper_inclusive=upper > 0)  # fmt: skip
        if self.zero_count != 0:
            edge = self.zero_threshold
            yield Bucket(-edge, edge, self.zero_count, lower_inclusive=True, upper_inclusive=True)
        for index, count in self.positive.items():
            lower = self.bound(index - 1)
            inclusive = index == 0 if self.is_custom else lower < 0
            yield Bucket(lower, self.bound(index), count, lower_inclusive=inclusive,
                         upper_inclusive=True)  # fmt: skip

    def bound(self, index: int) -> float:
        """The upper bound of a positive bucket."""
        if self.is_custom:
            if index < 0:
                return -math.inf
            return self.custom_values[index] if index < len(self.custom_values) else math.inf
        return exponential_bound(index, self.schema)

    def equals(self, other: NativeHistogram) -> bool:
        """Field by field; NaN equals NaN. The hint does not count."""
        return _comparable(self) == _comparable(other)

    def compact(self) -> NativeHistogram:
        """Without empty buckets."""
        return replace(
            self, positive=self.positive.without_empty(), negative=self.negative.without_empty()
        )

    # -- scaling ------------------------------------------------------------

    def times(self, factor: float) -> NativeHistogram:
        """Every count and the sum multiplied; a negative factor makes it a gauge."""
        hint = ResetHint.GAUGE if factor < 0 else self.reset_hint
        return replace(
            self,
            zero_count=self.zero_count * factor,
            count=self.count * factor,
            sum=self.sum * factor,
            positive=self.positive.scaled(factor),
            negative=self.negative.scaled(factor),
            reset_hint=hint,
        )

    def over(self, divisor: float) -> NativeHistogram:
        """Every count and the sum divided; division by zero leaves no buckets but the zero one."""
        hint = ResetHint.GAUGE if divisor < 0 else self.reset_hint
        empty = divisor == 0
        return replace(
            self,
            zero_count=divided(self.zero_count, divisor),
            count=divided(self.count, divisor),
            sum=divided(self.sum, divisor),
            positive=Buckets() if empty else _over(self.positive, divisor),
            negative=Buckets() if empty else _over(self.negative, divisor),
            reset_hint=hint,
        )

    # -- bringing layouts together -------------------------------------------

    def to_schema(self, schema: int) -> NativeHistogram:
        """At a lower resolution; the same or a custom schema stays."""
        if schema >= self.schema or self.is_custom:
            return self
        steps = self.schema - schema
        return replace(
            self,
            schema=schema,
            positive=_coarser(self.positive, steps),
            negative=_coarser(self.negative, steps),
        )

    def to_bounds(self, bounds: tuple[float, ...]) -> NativeHistogram:
        """With custom bounds that are a part of its own; buckets between them fold together."""
        if bounds == self.custom_values:
            return self
        counts: dict[int, float] = {}
        for index, count in self.positive.items():
            place = bisect_left(bounds, self.bound(index))
            counts[place] = counts.get(place, 0.0) + count
        return replace(self, custom_values=bounds, positive=Buckets.of(counts))

    def with_zero_threshold(self, threshold: float) -> NativeHistogram:
        """With a wider zero bucket, at least as wide as asked: it ends at no bucket's inside."""
        count, wider = self._zero_count_within(threshold)
        if wider == self.zero_threshold:
            return self
        return replace(
            self,
            zero_threshold=wider,
            zero_count=count,
            positive=_outside(self.positive, self.schema, wider),
            negative=_outside(self.negative, self.schema, wider),
        )

    def _zero_count_within(self, threshold: float) -> tuple[float, float]:
        if threshold <= self.zero_threshold:
            return self.zero_count, self.zero_threshold
        while True:
            count, wider = self.zero_count, threshold
            for side in (self.positive, self.negative):
                for index, inside in side.items():
                    if exponential_bound(index - 1, self.schema) >= threshold:
                        break
                    count += inside
                    if inside:
                        wider = max(wider, exponential_bound(index, self.schema))
            if wider == threshold:
                return count, threshold
            threshold = wider

    # -- counters -----------------------------------------------------------

    def is_reset_of(self, previous: NativeHistogram) -> bool:
        """Whether a counter was reset between `previous` and this one."""
        if self.reset_hint in (ResetHint.RESET, ResetHint.NOT_RESET):
            return self.reset_hint is ResetHint.RESET
        if self.count < previous.count or self.is_custom != previous.is_custom:
            return True
        if self.is_custom:
            bounds = common_bounds(self.custom_values, previous.custom_values)
            return _fell(self.to_bounds(bounds).positive, previous.to_bounds(bounds).positive)
        if self.schema > previous.schema or self.zero_threshold < previous.zero_threshold:
            return True
        before = previous.with_zero_threshold(self.zero_threshold)
        if before.zero_threshold != self.zero_threshold or self.zero_count < before.zero_count:
            return True
        before = before.to_schema(self.schema)
        return _fell(self.positive, before.positive) or _fell(self.negative, before.negative)


def hinted(current: NativeHistogram, previous: NativeHistogram | None) -> NativeHistogram:
    """A stored histogram with the hint that it is read with.

    As from Prometheus's chunks: a gauge stays one; what directly follows a histogram of the same
    layout without a reset is no reset; of anything else nothing is known.
    """
    if current.is_gauge:
        return current
    plain = current.with_hint(ResetHint.UNKNOWN)
    if previous is None or previous.is_gauge or _layout(previous) != _layout(current):
        return plain
    if current.reset_hint is ResetHint.RESET or plain.is_reset_of(previous):
        return plain
    return current.with_hint(ResetHint.NOT_RESET)


def _layout(histogram: NativeHistogram) -> tuple[object, ...]:
    return histogram.schema, histogram.zero_threshold, histogram.custom_values


def exponential_bound(index: int, schema: int) -> float:
    """The upper bound of a positive exponential bucket."""
    if schema <= 0:
        exponent, fraction = index << -schema, 0.0
    else:
        exponent = index >> schema
        fraction = (index & ((1 << schema) - 1)) / (1 << schema)
    if exponent == 1024 and not fraction:
        return 1.7976931348623157e308  # the last finite bucket ends at the greatest float
    try:
        return math.ldexp(2.0**fraction, exponent)
    except OverflowError:
        return math.inf


def divided(value: float, divisor: float) -> float:
    """Division as IEEE 754 has it."""
    if divisor:
        return value / divisor
    if value == 0 or math.isnan(value) or math.isnan(divisor):
        return math.nan
    return math.copysign(math.inf, value) * math.copysign(1.0, divisor)


def _over(buckets: Buckets, divisor: float) -> Buckets:
    return Buckets(buckets.indexes, tuple(count / divisor for count in buckets.counts))


def _coarser(buckets: Buckets, steps: int) -> Buckets:
    counts: dict[int, float] = {}
    for index, count in buckets.items():
        place = ((index - 1) >> steps) + 1
        counts[place] = counts.get(place, 0.0) + count
    return Buckets.of(counts)


def _outside(buckets: Buckets, schema: int, threshold: float) -> Buckets:
    return Buckets.of(
        {i: c for i, c in buckets.items() if exponential_bound(i - 1, schema) >= threshold}
    )


def _fell(now: Buckets, before: Buckets) -> bool:
    current = dict(now.items())
    return any(current.get(index, 0.0) < count for index, count in before.items())


def _comparable(histogram: NativeHistogram) -> tuple[object, ...]:
    numbers = (
        histogram.zero_threshold,
        histogram.zero_count,
        histogram.count,
        histogram.sum,
        *histogram.positive.counts,
        *histogram.negative.counts,
        *histogram.custom_values,
    )
    layout = (histogram.schema, histogram.positive.indexes, histogram.negative.indexes)
    # Adding 0.0 makes -0.0 a 0.0; NaN has to equal itself.
    return (*layout, struct.pack(f"<{len(numbers)}d", *(number + 0.0 for number in numbers)))


def common_bounds(left: tuple[float, ...], right: tuple[float, ...]) -> tuple[float, ...]:
    """The custom bounds that both have."""
    if left == right:
        return left
    there = frozenset(right)
    return tuple(bound for bound in left if bound in there)
