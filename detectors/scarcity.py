"""How unlikely so few events are.

The Chernoff bound of a count whose mean is itself uncertain (gamma-mixed Poisson, that is negative
binomial, with variance `mean + (cv * mean)^2`); for `cv` 0 it is Poisson's. It is no less than the
exact chance, in closed form, so that thousands of routes are judged at once.

Reference: H. Chernoff, "A measure of asymptotic efficiency for tests of a hypothesis", Annals of
Mathematical Statistics 23 (1952).
"""

from __future__ import annotations

import math

# Below this the mean is as good as certain, and the other formula loses its digits.
_CERTAIN = 1e-4


def few_bound(count: float, mean: float, cv: float = 0.0) -> float:
    """No less than the chance of `count` events or fewer where `mean` are expected.

    >>> few_bound(0, 20) < 1e-8 < 1e-4 < few_bound(0, 20, cv=0.5)
    True
    """
    if mean <= 0 or count >= mean:
        return 1.0
    count = max(count, 0.0)
    part = count / mean
    exponent = count * math.log(part) if part > 0 else 0.0
    if cv < _CERTAIN:
        return math.exp(-max(exponent + mean - count, 0.0))
    size = 1.0 / (cv * cv)
    exponent -= (count + size) * math.log1p((count - mean) / (mean + size))
    return math.exp(-max(exponent, 0.0))
