"""What a series is expected to do now: the same hours of earlier days, brought to today's level.

Each reference day is scaled so that the median of its ratio to today, over the last hours, is one;
the forecast is the median of the scaled references, its spread how far today and the references
stray from it. A median forgets one bad week, a ratio of medians neither a burst nor an outage. What
is judged now is not learned from, and steps that lie in an incident are NaN: score before learn.

Reference: P. J. Rousseeuw, C. Croux, "Alternatives to the median absolute deviation", Journal of
the American Statistical Association 88 (1993), for the factor 1.4826.

`business_metrics.baseline` forecasts one series of orders by the minute, with sales of other years,
closed shops and holes; this one thousands of series by five minutes. They share an idea and no
formula, so that neither room has to bend to the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.scarcity import few_bound
from store.model import BoolArray, Float64Array

STEP_MS = 300_000
LEAST_SPREAD = 0.03
RISE_STEPS = (3, 6, 12)
# Steps of a window, and the least drop that it may prove.
WINDOWS = ((1, 0.4), (3, 0.3), (6, 0.25), (12, 0.2))
_MAD = 1.4826
_LEAST_LEVEL_STEPS = 6
_LEAST_REFERENCES = 2
_OWN_SPREAD = 0.15
_OWN_STEPS = 12
# Beyond these the reference describes another shop.
_LEVEL_BOUNDS = (0.02, 50.0)
_FEW = 3
_FEW_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected values of N series on T steps of five minutes.

    Attributes:
        middle: N by T; NaN where nothing is known.
        spread: One a series: robust standard deviation of a step, relative to `middle`.
        seasonal: One a series: earlier days were known; else its own last hour stands in.
    """

    middle: Float64Array
    spread: Float64Array
    seasonal: BoolArray


def forecast(
    references: Float64Array, today: Float64Array, latest: Float64Array | None = None
) -> Forecast:
    """The expectation of each step, those of today included.

    Args:
        references: N series by R earlier days by T steps, NaN where not known.
        today: N by T, NaN where not known, not to be learned from, or still to be judged.
        latest: As `today`, but up to the last steps: what stands in where no day is known.
    """
    scaled = _at_todays_level(_smoothed(references), today)
    count = np.isfinite(scaled).sum(axis=1)
    middle = np.where(count >= _LEAST_REFERENCES, _median(scaled, 1), np.nan)
    seasonal: BoolArray = np.asarray(np.isfinite(middle).any(axis=1))
    strays = _MAD * _median(np.abs(_ratio(today, middle) - 1), 1)
    apart = np.abs(_ratio(scaled, middle[:, None, :]) - 1)
    apart = _MAD * _median(apart.reshape(len(apart), apart.shape[1] * apart.shape[2]), 1)
    spread = np.fmax(np.fmax(strays, apart), LEAST_SPREAD)
    spread *= np.where(count.max(axis=1, initial=0) < _FEW, _FEW_FACTOR, 1.0)
    own, own_spread = _own(today if latest is None else latest)
    middle = np.where(seasonal[:, None], middle, own[:, None])
    return Forecast(middle, np.where(seasonal, spread, own_spread), seasonal)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What came in a window, and what was expected there."""

    window_s: float
    seen: float
    expected: float

    @property
    def missing(self) -> float:
        """The part that did not come, from 0 to 1; below 0 where more came."""
        return 1 - self.seen / self.expected if self.expected > 0 else 0.0


def shortfall(
    seen: Float64Array, expected: Float64Array, spread: float, *, max_chance: float, min_drop: float
) -> Shortfall | None:
    """The shortest window up to the last step in which too few events came, by `WINDOWS`.

    A window of `w` steps strays by `spread * sqrt((1 + (w - 1) / 2) / w)`: neighbours are taken to
    be half correlated.

    Args:
        seen: Events a second in each of the last steps of five minutes, the latest last.
        expected: What was expected there; NaN where nothing is known.
        spread: Relative deviation of one step.
        max_chance: Greatest chance of so few though nothing is wrong.
        min_drop: Least part that is missing.
    """
    for steps, least in WINDOWS:
        came, due = seen[-steps:], expected[-steps:]
        if len(came) < steps or not (np.isfinite(came) & np.isfinite(due)).all():
            return None
        window_s = steps * STEP_MS / 1_000
        drop = Shortfall(window_s, float(came.mean()) * window_s, float(due.mean()) * window_s)
        if drop.missing < max(least, min_drop):
            continue
        cv = spread * float(np.sqrt((1 + (steps - 1) / 2) / steps))
        if few_bound(drop.seen, drop.expected, cv) <= max_chance:
            return drop
    return None


@dataclass(frozen=True, slots=True)
class Rise:
    """The mean of a window, and what was expected there."""

    window_s: float
    seen: float
    expected: float

    @property
    def factor(self) -> float:
        return self.seen / self.expected


def rise(
    seen: Float64Array, expected: Float64Array, spread: float, *, min_factor: float, min_z: float
) -> Rise | None:
    """The shortest window of `RISE_STEPS` up to the last step whose mean is far above the expected.

    It is when it is `min_factor` times it or more, and above it by `min_z` deviations; a window
    strays as in `shortfall`.
    """
    for steps in RISE_STEPS:
        came, due = seen[-steps:], expected[-steps:]
        if len(came) < steps or not (np.isfinite(came) & (due > 0)).all():
            return None
        found = Rise(steps * STEP_MS / 1_000, float(came.mean()), float(due.mean()))
        deviation = spread * float(np.sqrt((1 + (steps - 1) / 2) / steps))
        if found.factor >= min_factor and found.factor - 1 >= min_z * deviation:
            return found
    return None


def _at_todays_level(references: Float64Array, today: Float64Array) -> Float64Array:
    """References times their level; NaN where today and the reference hardly meet."""
    ratios = _ratio(today[:, None, :], references)
    level = _median(ratios, 2)
    level[np.isfinite(ratios).sum(axis=2) < _LEAST_LEVEL_STEPS] = np.nan
    level[(level < _LEVEL_BOUNDS[0]) | (level > _LEVEL_BOUNDS[1])] = np.nan
    scaled: Float64Array = references * level[:, :, None]
    return scaled


def _smoothed(values: Float64Array) -> Float64Array:
    """The mean of each step and its two neighbours, of those that are known."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 1)], constant_values=np.nan)
    known = np.isfinite(padded)
    filled = np.where(known, padded, 0.0)
    sums = filled[..., :-2] + filled[..., 1:-1] + filled[..., 2:]
    counts = known[..., :-2].astype(np.int64) + known[..., 1:-1] + known[..., 2:]
    return np.where(np.isfinite(values), sums / np.maximum(counts, 1), np.nan)


def _own(today: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The median of today's last hour, and how far its steps stray from it."""
    known = np.isfinite(today)
    # The latest steps that are known: as many from the end of each row.
    later = known[:, ::-1].cumsum(axis=1)[:, ::-1]
    latest = np.where(known & (later <= _OWN_STEPS), today, np.nan)
    middle = _median(latest, 1)
    middle[known.sum(axis=1) < _LEAST_LEVEL_STEPS] = np.nan
    strays = _MAD * _median(np.abs(_ratio(latest, middle[:, None]) - 1), 1)
    return middle, np.fmax(strays, _OWN_SPREAD)


def _ratio(above: Float64Array, below: Float64Array) -> Float64Array:
    below = np.where(below > 0, below, np.nan)
    ratio: Float64Array = above / below
    return ratio


def _median(values: Float64Array, axis: int) -> Float64Array:
    """The median of what is known along an axis, NaN where nothing is."""
    if not values.shape[axis]:
        shape = [size for place, size in enumerate(values.shape) if place != axis]
        return np.full(shape, np.nan)
    ordered = np.sort(values, axis=axis)  # NaN comes last
    known = np.isfinite(ordered).sum(axis=axis, keepdims=True)
    low = np.maximum((known - 1) // 2, 0)
    high = np.maximum(known // 2, 0)
    high = np.minimum(high, values.shape[axis] - 1)
    middle = (np.take_along_axis(ordered, low, axis) + np.take_along_axis(ordered, high, axis)) / 2
    return np.where(known > 0, middle, np.nan).squeeze(axis)
