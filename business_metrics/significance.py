"""Tails and quantiles of counts, without a statistics library.

A count around an expected mean is Poisson when the mean is known for sure. Where the mean is
itself uncertain (`cv`, its relative standard deviation), it is negative binomial: gamma-mixed
Poisson, with variance `mean + (cv * mean)^2`.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from store.model import Float64Array

Z_99_ONE_SIDED = 2.326347874
_EXACT_UP_TO = 50_000
_LEAST_CV = 1e-6
_NORMAL = NormalDist()
MONTH_S = 30 * 86_400
# Overlapping looks at one window count as about four independent ones, and the windows, of which
# neighbours see nearly the same, as about three.
_LOOKS = 4 * 3


def level_of_a_look(window_s: float, false_alarms_per_month: float) -> float:
    """The level of significance of one look at a window, however often it is looked at.

    >>> level_of_a_look(3_600, 1) * 30 * 24 * 12
    1.0
    """
    return false_alarms_per_month * window_s / (MONTH_S * _LOOKS)


def _log_probabilities(count: int, mean: float, cv: float) -> Float64Array:
    """The log probabilities of 0 to `count`, by the ratio of neighbours."""
    k = np.arange(count, dtype=np.float64)
    if cv <= _LEAST_CV:
        start, steps = -mean, np.log(mean / (k + 1))
    else:
        size = 1.0 / (cv * cv)
        start = -size * math.log1p(mean / size)
        steps = np.log((k + size) / (k + 1) * (mean / (mean + size)))
    return start + np.concatenate([[0.0], np.cumsum(steps)])


def lower_tail(count: float, mean: float, cv: float = 0.0) -> float:
    """The chance of `count` or fewer.

    >>> lower_tail(23, 47) < 1e-4 < lower_tail(23, 46)
    True
    """
    if count < 0:
        return 0.0
    if mean <= 0:
        return 1.0
    whole = math.floor(count)
    if whole == 0:
        size = 1.0 / (cv * cv) if cv > _LEAST_CV else math.inf
        return math.exp(-mean if size == math.inf else -size * math.log1p(mean / size))
    if whole > _EXACT_UP_TO:
        return _NORMAL.cdf((whole + 0.5 - mean) / _deviation(mean, cv))
    return float(min(np.exp(_log_probabilities(whole, mean, cv)).sum(), 1.0))


def binomial_lower_tail(count: int, total: int, share: float) -> float:
    """The chance of `count` or fewer of `total`, each with the chance `share`.

    >>> round(binomial_lower_tail(6, 10, 0.98) * 1e5, 2)
    3.04
    """
    if count >= total or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    k = np.arange(count, dtype=np.float64)
    steps = np.log((total - k) / (k + 1) * (share / (1 - share)))
    logs = total * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])
    return float(min(np.exp(logs).sum(), 1.0))


def upper_tail(count: float, mean: float, cv: float = 0.0) -> float:
    """The chance of `count` or more."""
    return max(1.0 - lower_tail(math.ceil(count) - 1, mean, cv), 0.0)


def quantile(share: float, mean: float, cv: float = 0.0) -> int:
    """The smallest count that `share` of all draws do not pass.

    >>> quantile(0.5, 10)
    10
    """
    if mean <= 0:
        return 0
    top = math.ceil(mean + 10 * _deviation(mean, cv) + 20)
    if top > _EXACT_UP_TO:
        return max(round(mean + _NORMAL.inv_cdf(share) * _deviation(mean, cv)), 0)
    sums = np.cumsum(np.exp(_log_probabilities(top, mean, cv)))
    return min(int(np.searchsorted(sums, share)), top)


def _deviation(mean: float, cv: float) -> float:
    return math.sqrt(mean + (cv * mean) ** 2)


def wilson(successes: float, total: float, z: float = Z_99_ONE_SIDED) -> tuple[float, float]:
    """The bounds of a ratio by Wilson's score; with the default, each holds with 99 % certainty.

    >>> [wilson(n, of)[0] > 0.4 for n, of in ((14, 20), (13, 20), (226, 500), (225, 500))]
    [True, False, True, False]
    """
    if total <= 0:
        return 0.0, 1.0
    share, square = successes / total, z * z
    centre = share + square / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    scale = 1 + square / total
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)
