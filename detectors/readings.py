"""What was read of a window of time: counts, durations and values, part by part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from detectors.two_samples import Counted, Values
from store.model import Float64Array, Int64Array

PARTS = 12
"""Parts of a window, by whose differences a figure's uncertainty is told."""
_EMPTY: Float64Array = np.empty(0)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, `start_ms <= t < end_ms`, and what it is called."""

    start_ms: int
    end_ms: int
    label: str = ""

    @property
    def length_s(self) -> float:
        return (self.end_ms - self.start_ms) / 1_000


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations of requests, cumulative, for each part of the window.

    Attributes:
        parts: `parts[p, i]` of part `p` took at most `bounds_s[i]`; the last all.
    """

    bounds_s: Float64Array
    parts: Float64Array

    @property
    def counts(self) -> Float64Array:
        """Those of the whole window."""
        whole: Float64Array = self.parts.sum(axis=0)
        return whole

    @property
    def total(self) -> float:
        return float(self.parts[:, -1].sum()) if self.parts.size else 0.0

    def at_most(self, bounds_s: Float64Array) -> Float64Array:
        """Requests of each part that took no longer than each; exact where it is one of ours."""
        places = np.searchsorted(self.bounds_s, bounds_s, side="right")
        none = np.zeros((len(self.parts), 1))
        return np.concatenate((none, self.parts), axis=1)[:, places]


NO_WINDOW = Window(0, 0)
NO_DURATIONS = Durations(_EMPTY, np.empty((0, 0)))
NO_EVENTS = Counted(_EMPTY, _EMPTY)
NO_VALUES = Values(_EMPTY, np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Reading:
    """One window of one subject.

    Attributes:
        errors: Requests that the server failed, of all.
        rates: Requests a second at each step of the window; empty where they are not counted.
        durations: Of every request, or of the sampled ones.
        counts: For each sampled request how many `query`, `call` and `cache` spans it made.
        wasted_s: For each sampled request the time that detectors call wasted.
        hits: Cache gets that were answered, of all.
        signal: Values of the finding's own series, a step each.
        source: Where requests were counted: `metrics` or `spans`.
        routes: The busiest routes by themselves, where no single one was asked for.
    """

    window: Window
    errors: Counted = NO_EVENTS
    rates: Values = NO_VALUES
    durations: Durations = NO_DURATIONS
    counts: Mapping[str, Values] = field(default_factory=dict)
    wasted_s: Values = NO_VALUES
    hits: Counted = NO_EVENTS
    signal: Values = NO_VALUES
    source: str = "spans"
    routes: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def requests(self) -> float:
        return self.errors.total


def added(readings: Iterable[Reading]) -> Reading:
    """Counted requests of several routes, whose bounds are the same, as those of one."""
    every = list(readings)
    errors = [one.errors for one in every]
    known = [one.durations for one in every if one.durations.total > 0]
    durations = NO_DURATIONS
    if known:
        durations = Durations(known[0].bounds_s, np.sum([one.parts for one in known], axis=0))
    return replace(
        every[0],
        errors=Counted(
            np.sum([one.some for one in errors], axis=0),
            np.sum([one.all for one in errors], axis=0),
        ),
        rates=in_order(np.sum([one.rates.values for one in every], axis=0)),
        durations=durations,
    )


def durations_of(durations_s: Float64Array, parts: Int64Array) -> Durations:
    """Durations of single requests, each its own bound."""
    order = np.argsort(durations_s, kind="stable")
    ones = parts[order] == np.arange(PARTS)[:, None]
    return Durations(durations_s[order], np.cumsum(ones, axis=1, dtype=np.float64))


def in_order(values: Float64Array) -> Values:
    """Values that are evenly spread over the window."""
    return Values(values, _places(len(values)))


def in_parts(values: Float64Array) -> Float64Array:
    """Sums of each part of the window, of values that are evenly spread over it."""
    return summed_by_part(values, _places(len(values)))


def summed_by_part(values: Float64Array, parts: Int64Array) -> Float64Array:
    """Sums of each part of the window."""
    return np.bincount(parts, values, PARTS).astype(np.float64)


def _places(count: int) -> Int64Array:
    places: Int64Array = np.arange(count, dtype=np.int64) * PARTS // max(count, 1)
    return places
