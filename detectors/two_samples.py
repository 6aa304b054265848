"""Did a figure change between two samples? Tests on counts and ranks; pure, nothing is random.

Swapping the samples turns the answer round and changes no number. Two tests are enough:

- `compare_shares`: two shares of counted events. The interval of their difference is Newcombe's
  hybrid score interval, the chance that it is noise that of the z test with Yates's correction.
- `compare_ranks`: two samples of any distribution. The effect is Cliff's delta, the chance of
  Mann and Whitney's U in its normal approximation, ties corrected.

A quantile is compared as a share (Mood's test): which part of each sample lies above the quantile
of both together.

Events of one window are not independent: a busy minute is slow for everybody in it. So each test is
made twice, and the more careful one counts: as if each event came by itself, and by how much the
parts of a window differ from each other (a ratio estimator over clusters, with Student's t).

References: R. G. Newcombe, "Interval estimation for the difference between independent
proportions", Statistics in Medicine 17 (1998), method 10; H. B. Mann and D. R. Whitney, "On a test
of whether one of two random variables is stochastically larger than the other" (1947); N. Cliff,
"Dominance statistics" (1993); A. M. Mood, "Introduction to the Theory of Statistics" (1950);
W. G. Cochran, "Sampling Techniques" (1977), chapter 9; N. A. Obuchowski, "Nonparametric analysis of
clustered ROC curve data", Biometrics 53 (1997); D. L. Wallace, "Bounds on normal approximations to
Student's and the chi-square distributions" (1959).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from detectors.wilson import wilson
from store.model import Float64Array, Int64Array

ALPHA = 0.002
"""Chance of a false `better` or `worse` of one figure. Some six are compared at once (Bonferroni):
about 1 in 100 comparisons of equal windows says that anything changed."""
_Z = 3.0902  # two-sided, of ALPHA


class Verdict(StrEnum):
    """What a comparison comes to, seen from the first sample to the second."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    NOT_ENOUGH_DATA = "not enough data"


@dataclass(frozen=True, slots=True)
class Difference:
    """The second sample less the first.

    Attributes:
        effect: Difference of the shares, or Cliff's delta; from -1 to 1.
        low: Bounds of the effect at `1 - ALPHA`.
        high: As `low`.
        p_value: Chance of such a difference, or a larger one, when there is none.
    """

    effect: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and how sure it is, 0 to 1.

    Of `better` and `worse` it is the chance that this is no noise; of `same` the chance that the
    true effect lies within the margin; of `not enough data` 0.
    """

    verdict: Verdict
    confidence: float


UNKNOWN = Judgement(Verdict.NOT_ENOUGH_DATA, 0.0)


@dataclass(frozen=True, slots=True)
class Counted:
    """Events of a window and those of a kind among them, an entry each part of the window."""

    some: Float64Array
    all: Float64Array

    @property
    def total(self) -> float:
        return float(self.all.sum())

    @property
    def share(self) -> float | None:
        """None without events."""
        return float(self.some.sum()) / self.total if self.total > 0 else None


@dataclass(frozen=True, slots=True)
class Values:
    """Values of a window, and the part of the window that each is of."""

    values: Float64Array
    parts: Int64Array

    def __len__(self) -> int:
        return len(self.values)


def compare_shares(one: Counted, other: Counted) -> Difference:
    """Compare the share of one window's events with that of another's."""
    found = _independent(float(one.some.sum()), one.total, float(other.some.sum()), other.total)
    return _careful(found, _error(one), _error(other))


def _independent(
    first: float, first_total: float, second: float, second_total: float
) -> Difference:
    """Compare `first` of `first_total` events with `second` of `second_total`.

    >>> _independent(10, 100, 60, 100).p_value < 1e-6
    True
    """
    if first_total <= 0 or second_total <= 0:
        return Difference(0.0, -1.0, 1.0, 1.0)
    a, b = wilson(first, first_total, _Z), wilson(second, second_total, _Z)
    effect = b.share - a.share
    low = effect - math.hypot(b.share - b.low, a.high - a.share)
    high = effect + math.hypot(b.high - b.share, a.share - a.low)
    pooled = (first + second) / (first_total + second_total)
    correction = (1 / first_total + 1 / second_total) / 2
    spread = math.sqrt(max(pooled * (1 - pooled), 0.0) * (1 / first_total + 1 / second_total))
    z = max(abs(effect) - correction, 0.0) / spread if spread > 0 else 0.0
    return Difference(effect, low, high, two_sided(z))


def compare_ranks(one: Values, other: Values) -> Difference:
    """Compare the values of two windows by their order."""
    found = _independent_ranks(one.values, other.values)
    return _careful(found, _error(_placed(one, other)), _error(_placed(other, one)), scale=2.0)


def _independent_ranks(first: Float64Array, second: Float64Array) -> Difference:
    """Compare two samples by the order of their values.

    >>> _independent_ranks(np.arange(40.0), np.arange(40.0) + 100).effect
    1.0
    """
    n, m = len(first), len(second)
    if not n or not m:
        return Difference(0.0, -1.0, 1.0, 1.0)
    _, places, counts = np.unique(
        np.concatenate((first, second)), return_inverse=True, return_counts=True
    )
    # The mean rank of each group of ties.
    mid = np.cumsum(counts) - (counts - 1) / 2
    above = float(mid[places[n:]].sum()) - m * (m + 1) / 2
    effect = 2 * above / (n * m) - 1
    ties = float((counts.astype(np.float64) ** 3 - counts).sum())
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    away = max(abs(above - n * m / 2) - 0.5, 0.0)
    z = away / math.sqrt(variance) if variance > 0 else 0.0
    half = _Z * 2 * math.sqrt(max(variance, 0.0)) / (n * m)
    return Difference(effect, max(-1.0, effect - half), min(1.0, effect + half), two_sided(z))


@dataclass(frozen=True, slots=True)
class _Error:
    """A standard error, and its degrees of freedom."""

    size: float = 0.0
    freedom: int = 0


def _placed(one: Values, other: Values) -> Counted:
    """For each value the share of the other sample that it exceeds, summed for each part."""
    if not len(one) or not len(other):
        return Counted(np.empty(0), np.empty(0))
    order = np.sort(other.values)
    sides = (np.searchsorted(order, one.values, side) for side in ("left", "right"))
    exceeded = sum(sides, start=np.zeros(len(one))) / (2 * len(order))
    summed = np.bincount(one.parts, exceeded).astype(np.float64)
    return Counted(summed, np.bincount(one.parts).astype(np.float64))


def _error(counted: Counted) -> _Error:
    """By how much a share is uncertain, told by how it varies from part to part.

    A part that is like the one before it is no new proof (L. P. Hansen and R. J. Hodrick, 1980).
    """
    used = counted.all > 0
    parts = int(used.sum())
    if parts < 2:
        return _Error()
    share = counted.some.sum() / counted.all.sum()
    away = counted.some[used] - share * counted.all[used]
    squares = float(away @ away) + 2 * max(float(away[1:] @ away[:-1]), 0.0)
    size = math.sqrt(parts / (parts - 1) * squares) / counted.total
    return _Error(size, parts - 1)


def _careful(found: Difference, one: _Error, other: _Error, scale: float = 1.0) -> Difference:
    """The difference with the wider bounds and the larger chance of both ways to judge it."""
    size = scale * math.hypot(one.size, other.size)
    if size <= 0:
        return found
    # Welch and Satterthwaite.
    squared = [(error.size * scale) ** 4 / error.freedom for error in (one, other) if error.freedom]
    z = _as_normal(abs(found.effect) / size, size**4 / sum(squared))
    half = _Z * size
    return Difference(
        found.effect,
        max(-1.0, min(found.low, found.effect - half)),
        min(1.0, max(found.high, found.effect + half)),
        max(found.p_value, two_sided(z)),
    )


def _as_normal(t: float, freedom: float) -> float:
    """The normal value as unlikely as this one of Student's distribution (Wallace).

    >>> round(_as_normal(2.074, 22), 2)
    1.96
    """
    shrunk = math.sqrt(freedom * math.log1p(t * t / freedom))
    return (8 * freedom + 1) / (8 * freedom + 3) * shrunk


def decide(difference: Difference, *, margin: float, relevant: bool, lower: bool) -> Judgement:
    """A verdict of a difference.

    Args:
        difference: The second sample less the first.
        margin: An effect below it matters to nobody; only the confidence of `same` needs it.
        relevant: The figures are so far apart that somebody would care.
        lower: Less is better.
    """
    if difference.p_value < ALPHA and relevant:
        fell = difference.effect < 0
        verdict = Verdict.BETTER if fell == lower else Verdict.WORSE
        return Judgement(verdict, min(1 - difference.p_value, 0.9999))
    spread = (difference.high - difference.low) / (2 * _Z)
    if spread <= 0:
        return Judgement(Verdict.SAME, 0.9999)
    # Of the size alone: a swap must not touch the last digit.
    effect = abs(difference.effect)
    inside = _below((margin - effect) / spread) - _below((-margin - effect) / spread)
    return Judgement(Verdict.SAME, min(max(inside, 0.0), 0.9999))


def apart(first: float, second: float, *, ratio: float, floor: float) -> bool:
    """Two figures differ by `floor` or more, and the larger is `ratio` times the smaller or more.

    >>> apart(0.2, 0.1, ratio=1.1, floor=0.01), apart(0.101, 0.1, ratio=1.1, floor=0.001)
    (True, False)
    """
    small, large = min(first, second), max(first, second)
    return large - small >= floor and large >= ratio * small


def two_sided(z: float) -> float:
    """Chance that a standard normal value lies `z` or more away from zero."""
    return math.erfc(z / math.sqrt(2))


def _below(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2
