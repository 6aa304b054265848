"""Requests a second as shops have them, a value each five minutes: regular ones, and odd ones.

`regular` is a day and a weekend, noise whose neighbours are alike, a trend, campaigns, a holiday,
and outages in the weeks behind. `odd` draws for each series from families no detector was fitted
to: the noise (heavy tails, jumps, as alike as one to nearly a walk), the shape of a day (one wave,
two peaks, office hours with steep flanks), each weekday its own, a level that walks and once jumps,
quiet nights, and values that are missing. NaN is a value that never came.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.seasonal import STEP_MS

Floats = npt.NDArray[np.float64]

HOUR = 3_600_000 // STEP_MS
DAY = 24 * HOUR
WEEK = 7 * DAY
LEARNED = 4 * WEEK + DAY


def regular(judged: int, random: np.random.Generator) -> Floats:
    """One series: `LEARNED` steps that are only learned from, then those that are judged."""
    steps = LEARNED + judged
    at = np.arange(steps)
    hour = 2 * np.pi * at / DAY
    phase, second = random.uniform(0, 2 * np.pi, 2)
    day = 1 + 0.7 * np.sin(hour + phase) + 0.2 * np.sin(2 * hour + second)
    weekend = np.where(at // DAY % 7 >= 5, random.uniform(0.7, 1.3), 1.0)
    trend = 1 + random.uniform(-0.01, 0.04) * at / WEEK
    values: Floats = 10 ** random.uniform(0, 2) * np.maximum(day, 0.1) * weekend * trend
    values *= np.exp(_alike(steps, 0.7, random.uniform(0.02, 0.06), random))
    _campaigns(values, random)
    for begin in random.integers(0, LEARNED, 2).tolist():
        values[begin : begin + int(random.integers(6, 2 * HOUR))] *= 0.2
    holiday = LEARNED + DAY * int(random.integers(0, judged // DAY))
    # People sleep longer: a free day leaves the usual one over the morning, not at midnight.
    apart = np.sin(np.pi * np.arange(DAY) / DAY) ** 2
    values[holiday : holiday + DAY] *= 1 - random.uniform(0.1, 0.4) * apart
    return values


def odd(judged: int, random: np.random.Generator) -> Floats:
    """Likewise, from the other families; about one value in a hundred is missing."""
    steps = LEARNED + judged
    at = np.arange(steps)
    weekdays = random.uniform(0.6, 1.4, 7)[at // DAY % 7]
    values: Floats = 10 ** random.uniform(0, 2.5) * _day(at, random) * weekdays
    values *= np.exp(np.cumsum(random.normal(0, 0.02, steps // DAY + 1)))[at // DAY]
    jump = int(random.integers(0, LEARNED - 2 * WEEK))
    values[jump:] *= random.uniform(0.6, 1.6)
    values *= np.exp(_odd_noise(steps, random))
    _campaigns(values, random)
    for begin in random.integers(0, LEARNED, 3).tolist():
        values[begin : begin + int(random.integers(6, 4 * HOUR))] *= random.uniform(0, 0.5)
    for begin in random.integers(0, steps, 3 * steps // WEEK).tolist():
        values[begin : begin + int(random.integers(1, HOUR + 1))] = np.nan
    return values


def _day(at: npt.NDArray[np.int64], random: np.random.Generator) -> Floats:
    """The shape of a day: one wave, two peaks, or office hours."""
    hour = (at % DAY / HOUR + random.uniform(0, 24)) % 24
    floor = random.uniform(0.03, 0.3)
    shapes = (
        0.5 + 0.5 * np.cos((hour - 15) / 12 * np.pi),
        np.exp(-((hour - 12) ** 2) / 6) + np.exp(-((hour - 20) ** 2) / 4),
        1 / (1 + np.exp(-3 * (hour - 8))) - 1 / (1 + np.exp(-3 * (hour - 18))),
    )
    shape: Floats = floor + (1 - floor) * shapes[int(random.integers(len(shapes)))]
    return shape


def _odd_noise(steps: int, random: np.random.Generator) -> Floats:
    strength = random.uniform(0.02, 0.1)
    family = int(random.integers(3))
    if family == 0:
        return _alike(steps, float(random.choice([0.0, 0.5, 0.9, 0.97])), strength, random)
    if family == 1:
        heavy: Floats = random.standard_t(4, steps) * strength / np.sqrt(2)
        return heavy
    shape = 1 / strength**2
    noise: Floats = np.log(random.gamma(shape, 1 / shape, steps))
    return noise


def _alike(steps: int, alike: float, strength: float, random: np.random.Generator) -> Floats:
    """Noise whose neighbours are alike (AR(1))."""
    shocks = random.normal(0, strength * np.sqrt(1 - alike**2), steps)
    noise = np.empty(steps)
    noise[0] = shocks[0]
    for place in range(1, steps):
        noise[place] = alike * noise[place - 1] + shocks[place]
    return noise


def _campaigns(values: Floats, random: np.random.Generator) -> None:
    steps = len(values)
    for begin in random.integers(0, steps, 2 * steps // WEEK).tolist():
        length = int(random.integers(3, HOUR + 1))
        more = random.uniform(0.3, 1.5) * np.linspace(1, 0, length)
        values[begin : begin + length] *= 1 + more[: steps - begin]
