"""Sums, differences and means of native histograms, compensated as Prometheus's are.

Histograms of different resolution meet at the coarser one, different zero buckets at the wider,
custom buckets at the bounds that all of them have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.histograms import (
    Buckets,
    IncompatibleHistogramsError,
    NativeHistogram,
    ResetHint,
    common_bounds,
)


@dataclass(frozen=True, slots=True)
class Combined:
    """A sum, difference or mean, and what it took to make it.

    Attributes:
        conflicting_resets: Some parts said that a counter was reset, others that it was not.
        reconciled: Custom bounds differed and were cut down to the common ones.
    """

    histogram: NativeHistogram
    conflicting_resets: bool = False
    reconciled: bool = False


def add(left: NativeHistogram, right: NativeHistogram) -> Combined:
    """`left + right`.

    Raises:
        IncompatibleHistogramsError: One is exponential, the other custom.
    """
    return total((left, right))


def subtract(left: NativeHistogram, right: NativeHistogram) -> Combined:
    """`left - right`, a gauge.

    Raises:
        IncompatibleHistogramsError: One is exponential, the other custom.
    """
    negated = right.times(-1.0).with_hint(right.reset_hint)
    found = total((left, negated))
    return Combined(
        found.histogram.with_hint(ResetHint.GAUGE), found.conflicting_resets, found.reconciled
    )


def total(parts: Iterable[NativeHistogram]) -> Combined:
    """The sum of at least one histogram; empty buckets are left out.

    Raises:
        IncompatibleHistogramsError: Exponential and custom histograms are mixed.
    """
    found = list(parts)
    aligned, reconciled = _aligned(found)
    hint, conflict = _joint_hint(found)
    return Combined(_summed(aligned, hint), conflict, reconciled)


def mean(parts: Iterable[NativeHistogram]) -> Combined:
    """The arithmetic mean of at least one histogram, also where the sum would overflow.

    Raises:
        IncompatibleHistogramsError: Exponential and custom histograms are mixed.
    """
    found = list(parts)
    aligned, reconciled = _aligned(found)
    hint, conflict = _joint_hint(found)
    number = len(found)
    whole = _summed(aligned, hint)
    if _overflows(whole) and not any(map(_overflows, found)):
        whole = _summed([part.over(number) for part in aligned], hint)
    else:
        whole = whole.over(number)
    return Combined(whole, conflict, reconciled)


def _overflows(histogram: NativeHistogram) -> bool:
    numbers = (histogram.count, histogram.sum, histogram.zero_count)
    sides = (histogram.positive.counts, histogram.negative.counts)
    return any(map(math.isinf, numbers)) or any(any(map(math.isinf, side)) for side in sides)


def _joint_hint(parts: list[NativeHistogram]) -> tuple[ResetHint, bool]:
    hints = {part.reset_hint for part in parts}
    conflict = {ResetHint.RESET, ResetHint.NOT_RESET} <= hints
    if ResetHint.GAUGE in hints:
        return ResetHint.GAUGE, conflict
    return (hints.pop() if len(hints) == 1 else ResetHint.UNKNOWN), conflict


def _aligned(parts: list[NativeHistogram]) -> tuple[list[NativeHistogram], bool]:
    """All parts in one layout, and whether custom bounds had to be cut down."""
    if len({part.is_custom for part in parts}) > 1:
        raise IncompatibleHistogramsError
    first = parts[0]
    if first.is_custom:
        bounds = first.custom_values
        for part in parts[1:]:
            bounds = common_bounds(bounds, part.custom_values)
        reconciled = any(part.custom_values != bounds for part in parts)
        return [part.to_bounds(bounds) for part in parts], reconciled
    threshold = max(part.zero_threshold for part in parts)
    while True:
        parts = [part.with_zero_threshold(threshold) for part in parts]
        wider = max(part.zero_threshold for part in parts)
        if wider == threshold:
            break
        threshold = wider
    schema = min(part.schema for part in parts)
    return [part.to_schema(schema) for part in parts], False


def _summed(parts: list[NativeHistogram], hint: ResetHint) -> NativeHistogram:
    first = parts[0]
    return NativeHistogram(
        schema=first.schema,
        zero_threshold=first.zero_threshold,
        zero_count=_compensated([part.zero_count for part in parts]),
        count=_compensated([part.count for part in parts]),
        sum=_compensated([part.sum for part in parts]),
        positive=_bucket_sums([part.positive for part in parts]),
        negative=_bucket_sums([part.negative for part in parts]),
        custom_values=first.custom_values,
        reset_hint=hint,
    )


def _bucket_sums(sides: list[Buckets]) -> Buckets:
    indexes = sides[0].indexes
    if all(side.indexes == indexes for side in sides):
        sums = map(_compensated, zip(*(side.counts for side in sides), strict=True))
        return Buckets(indexes, tuple(sums)).without_empty()
    counts: dict[int, list[float]] = {}
    for side in sides:
        for index, count in side.items():
            counts.setdefault(index, []).append(count)
    return Buckets.of(
        {index: _compensated(found) for index, found in counts.items()}
    ).without_empty()


def _compensated(values: Sequence[float]) -> float:
    """Kahan's sum with Neumaier's correction."""
    if len(values) <= 2:  # nothing to correct: one addition rounds but once
        return sum(values)
    whole = rest = 0.0
    for value in values:
        added = whole + value
        if math.isinf(added):
            rest = 0.0
        elif abs(whole) >= abs(value):
            rest += (whole - added) + value
        else:
            rest += (value - added) + whole
        whole = added
    return whole if math.isinf(whole) else whole + rest
