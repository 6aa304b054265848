"""The Wilson score interval: what a share of counted events can be.

Reference: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
Journal of the American Statistical Association 22 (1927).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A share from 0 to 1 with its bounds."""

    share: float
    low: float
    high: float


def wilson(successes: float, total: float, z: float) -> Interval:
    """Bounds of a binomial share at `z` standard deviations; 0 to 1 without events.

    >>> round(wilson(0, 15, 3.5).high, 3)
    0.45
    """
    if total <= 0:
        return Interval(math.nan, 0.0, 1.0)
    share = min(max(successes / total, 0.0), 1.0)
    z2 = z * z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def tail_bound(successes: float, total: float, share: float) -> float:
    """No less than the chance of so many successes or more, when each has the chance `share`.

    Wilson's bounds are loose for a handful of events; this one is not. The Chernoff bound
    `exp(-n KL(k/n, p))`: W. Hoeffding, "Probability inequalities for sums of bounded random
    variables", Journal of the American Statistical Association 58 (1963).

    >>> tail_bound(4, 4, 0.1) < 1.1e-4
    True
    """
    share = min(max(share, 1e-12), 1.0)
    if total <= 0 or successes / total <= share:
        return 1.0
    seen = min(successes / total, 1.0)
    distance = seen * math.log(seen / share)
    if seen < 1:
        distance += (1 - seen) * math.log((1 - seen) / (1 - share))
    return math.exp(-total * distance)


def few_bound(count: float, expected: float) -> float:
    """No less than the chance of so few events or fewer, when `expected` come on average.

    The Chernoff bound of the Poisson distribution, `exp(-m) (e m / k)^k`.

    >>> few_bound(0, 20) < 2.1e-9
    True
    """
    if expected <= 0 or count >= expected:
        return 1.0
    if count <= 0:
        return math.exp(-expected)
    return math.exp(count - expected + count * math.log(expected / count))
