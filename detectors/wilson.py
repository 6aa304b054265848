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
