"""How much more load each resource takes, told from how its use grew with load so far.

A straight line is fitted to use against throughput. Queues and contention bend the true curve the
wrong way, so the answer is an upper bound; its uncertainty comes from a moving-block bootstrap
(Kuensch 1989), which keeps the dependence of neighbouring minutes. Where the line proves nothing,
the answer is a reason and no figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_MIN_POINTS = 24
# Throughput must have varied by this much of its median, else no slope can be told.
_MIN_SPREAD = 0.3
_RESAMPLES = 400
_FAR = 2.0
# Use must be known within so many of the last steps, else nothing is known of now.
_RECENT_STEPS = 3


class Verdict(StrEnum):
    """What can be said of a resource."""

    PREDICTED = "predicted"
    OVER_LIMIT = "over_limit"
    NO_DATA = "no_data"
    STALE = "stale"
    TOO_FEW_POINTS = "too_few_points"
    LOAD_TOO_STEADY = "load_too_steady"
    NOT_DRIVEN_BY_LOAD = "not_driven_by_load"


@dataclass(frozen=True, slots=True)
class Headroom:
    """One resource. Use and limit are ratios; throughput is in requests per second.

    Attributes:
        used: Now; None where the resource has not been heard of lately.
        capacity: The throughput at which the line meets the limit.
        low, high: Where capacity lies with 90 % confidence; `high` may be infinite.
        multiple: Capacity over the usual peak.
        far: It lies beyond twice what was ever seen: a guess that only a load test can confirm.
    """

    verdict: Verdict
    limit: float
    used: float | None = None
    used_most: float | None = None
    capacity: float | None = None
    low: float | None = None
    high: float | None = None
    multiple: float | None = None
    far: bool = False


def headroom(throughput: FloatArray, used: FloatArray, limit: float, usual_peak: float) -> Headroom:
    """One resource's headroom.

    Args:
        throughput: Requests per second at each step; NaN where unknown.
        used: The resource's use at the same steps.
        limit: The use beyond which it should not go.
        usual_peak: The throughput that multiples are of.
    """
    known = np.isfinite(used)
    if not known[-_RECENT_STEPS:].any():
        return _unheard(used[known], limit)
    now, most = float(used[known][-1]), float(used[known].max())

    def told(verdict: Verdict) -> Headroom:
        return Headroom(verdict, limit, now, most)

    if now >= limit:
        return told(Verdict.OVER_LIMIT)
    both = known & np.isfinite(throughput)
    load, use = throughput[both], used[both]
    if len(load) < _MIN_POINTS:
        return told(Verdict.TOO_FEW_POINTS)
    low_load, high_load = np.percentile(load, (5, 95))
    if high_load - low_load < _MIN_SPREAD * float(np.median(load)) or high_load <= 0:
        return told(Verdict.LOAD_TOO_STEADY)
    slopes, crossings = _bootstrap(load, use, limit)
    if np.percentile(slopes, 5) <= 0:
        return told(Verdict.NOT_DRIVEN_BY_LOAD)
    middle, low, high = (float(v) for v in np.percentile(crossings, (50, 5, 95)))
    multiple = middle / usual_peak if usual_peak > 0 else None
    far = middle > _FAR * float(load.max())
    return Headroom(Verdict.PREDICTED, limit, now, most, middle, max(0.0, low), high, multiple, far)


def _unheard(used: FloatArray, limit: float) -> Headroom:
    """Of a resource whose use now is not known."""
    if not len(used):
        return Headroom(Verdict.NO_DATA, limit)
    return Headroom(Verdict.STALE, limit, None, float(used.max()))


def _bootstrap(load: FloatArray, use: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:
    """Slopes, and where each line meets the limit, over resampled blocks of neighbours."""
    count = len(load)
    block = max(1, math.ceil(count ** (1 / 3)) * 2)
    # Seeded: the same data must give the same answer at the next look.
    random = np.random.default_rng(20_251_128)
    starts = random.integers(0, count - block + 1, size=(_RESAMPLES, math.ceil(count / block)))
    picks = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :count]
    x, y = load[picks], use[picks]
    x_mean, y_mean = x.mean(axis=1), y.mean(axis=1)
    spread = ((x - x_mean[:, None]) ** 2).sum(axis=1)
    shared = ((x - x_mean[:, None]) * (y - y_mean[:, None])).sum(axis=1)
    slopes = np.divide(shared, spread, out=np.zeros(_RESAMPLES), where=spread > 0)
    rising = slopes > 0
    crossings = np.full(_RESAMPLES, np.inf)
    crossings[rising] = x_mean[rising] + (limit - y_mean[rising]) / slopes[rising]
    return slopes, crossings
