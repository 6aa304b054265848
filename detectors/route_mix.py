"""Two windows brought to the same mix of routes: more buyers on a slow page make no page slower.

Direct standardisation: each route counts in both windows with one weight, the smaller of its two
shares, so that no route stands on few requests. Counts are weighed; of sampled requests as many of
each route are left out, evenly over the window, as are too many. Pure.

Reference: J. L. Fleiss, B. Levin, M. C. Paik, "Statistical Methods for Rates and Proportions"
(2003), chapter 19.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from detectors.readings import Durations, Reading
from detectors.two_samples import Counted, Values

# Shares that differ by less in all need no other weights.
_ALIKE = 0.02
# With less in common, the windows are of different things.
_LEAST_COMMON = 0.1

Mix = Mapping[str, float]


def at_one_mix(before: Reading, after: Reading) -> tuple[Reading, Reading]:
    """Both as they would be, had each route had the same share; unchanged where it had."""
    counted = _common(*(_shares(one.errors.total, _requests(one)) for one in (before, after)))
    sampled = _common(*(_shares(len(one.wasted_s), _samples(one)) for one in (before, after)))
    sides = (_with_counts(one, counted) for one in (before, after))
    first, second = (_with_samples(one, sampled) for one in sides)
    return first, second


def _requests(reading: Reading) -> Mix:
    return {route: one.errors.total for route, one in reading.routes.items()}


def _samples(reading: Reading) -> Mix:
    return {route: float(len(one.wasted_s)) for route, one in reading.routes.items()}


def _shares(total: float, numbers: Mix) -> Mix:
    return {route: number / total for route, number in numbers.items() if number > 0}


def _common(one: Mix, other: Mix) -> Mix:
    """The share that each route is given; empty where all may stay as it is."""
    least = {route: min(one[route], other[route]) for route in one.keys() & other.keys()}
    common = sum(least.values())
    if len({*one, *other}) < 2 or not _LEAST_COMMON <= common <= 1 - _ALIKE:
        return {}
    return {route: share / common for route, share in sorted(least.items())}


def _with_counts(reading: Reading, mix: Mix) -> Reading:
    if not mix:
        return reading
    total = reading.errors.total
    weights = {
        route: share * total / reading.routes[route].errors.total for route, share in mix.items()
    }
    parts = [(weight, reading.routes[route]) for route, weight in weights.items()]
    errors = Counted(
        np.sum([weight * one.errors.some for weight, one in parts], axis=0),
        np.sum([weight * one.errors.all for weight, one in parts], axis=0),
    )
    known = [(weight, one.durations) for weight, one in parts if one.durations.total > 0]
    if len(known) < len(parts):
        return replace(reading, errors=errors)
    bounds = np.unique(np.concatenate([one.bounds_s for _, one in known]))
    counts = np.sum([weight * one.at_most(bounds) for weight, one in known], axis=0)
    return replace(reading, errors=errors, durations=Durations(bounds, counts))


def _with_samples(reading: Reading, mix: Mix) -> Reading:
    if not mix:
        return reading
    routes = {route: reading.routes[route] for route in mix}
    whole = min(len(one.wasted_s) / mix[route] for route, one in routes.items())
    kept = {route: round(mix[route] * whole) for route in mix}
    names = {name for one in routes.values() for name in one.counts}
    return replace(
        reading,
        wasted_s=_joined(_thinned(one.wasted_s, kept[route]) for route, one in routes.items()),
        counts={
            name: _joined(_thinned(one.counts[name], kept[route]) for route, one in routes.items())
            for name in sorted(names)
        },
    )


def _thinned(values: Values, count: int) -> Values:
    places = np.arange(min(count, len(values))) * len(values) // max(count, 1)
    return Values(values.values[places], values.parts[places])


def _joined(parts: Iterable[Values]) -> Values:
    known = list(parts)
    return Values(
        np.concatenate([one.values for one in known]), np.concatenate([one.parts for one in known])
    )
