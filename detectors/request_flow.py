"""The requests that a route or a service gets, and how they vary from window to window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from detectors.fingerprint import fingerprint
from detectors.http_requests import HttpFamily
from detectors.seasonal import Shortfall
from detectors.seasonal_history import Expected
from store.model import BoolArray, Float64Array, Int64Array
from store.ports import Querier

KIND = "throughput_drop"
STEP_MS = 5_000
RECENT_S = 600
# Counts of longer windows are as over-dispersed as those of this one; the rest is in the spread.
_DISPERSION_S = 30
_COUNT_ERROR_S = 300.0
_LEAST_SPREAD = 0.03
# Of a service that is new: so long it must be known, and what is judged.
_LEAST_KNOWN_S = 90
_JUDGED_S = 60
_UNSURE = 0.1
_NONE: Float64Array = np.empty(0)


@dataclass(frozen=True, slots=True)
class Flow:
    """Requests of a route, or of a whole service (`route` empty), and what is expected.

    Attributes:
        learned: Steps that lie in no earlier drop.
    """

    job: str
    route: str
    series: str
    steps_ms: Int64Array
    requests: Float64Array
    expected: Expected
    learned: BoolArray

    @property
    def key(self) -> str:
        return key_of(self.job, self.route)

    @property
    def service(self) -> str:
        return self.job.rpartition("/")[2]

    @property
    def name(self) -> str:
        return self.route or self.service


def key_of(job: str, route: str) -> str:
    """The fingerprint of a drop."""
    return fingerprint(KIND, job, route, "")


def window_sums(flow: Flow, window_s: float, skipped_s: float = 0.0) -> Float64Array:
    """Sums of windows of this length in the 10 minutes before the one that is judged.

    Args:
        flow: What is judged.
        window_s: Length of each.
        skipped_s: Length of the one that is judged, where it is another.
    """
    steps = int(window_s * 1_000 // STEP_MS)
    last = len(flow.requests) - int((skipped_s or window_s) * 1_000 // STEP_MS)
    first = max(last - RECENT_S * 1_000 // STEP_MS, 0)
    first += (last - first) % steps
    sums: Float64Array = flow.requests[first:last].reshape(-1, steps).sum(axis=1)
    return sums[flow.learned[first:last].reshape(-1, steps).all(axis=1)]


def dispersion(flow: Flow, drop: Shortfall) -> float:
    """How much more than by chance windows of this length varied of late, relative to the mean."""
    sums = window_sums(flow, min(drop.window_s, _DISPERSION_S), drop.window_s)
    mean = float(sums.mean()) if len(sums) else 0.0
    if len(sums) < 2 or mean <= 0:
        return 0.0
    excess = max(float(sums.var(ddof=1)) / mean - 1.0, 0.0)
    return float(np.sqrt(excess / drop.expected))


def spread(expected: Expected) -> float:
    """The forecast's own uncertainty: its strays less those of counting five minutes."""
    counted = 1.0 / max(expected.value * _COUNT_ERROR_S, 1.0)
    return max(float(np.sqrt(max(expected.spread**2 - counted, 0.0))), _LEAST_SPREAD)


def of_minutes(requests: Float64Array, learned: BoolArray, before: float) -> Expected | None:
    """What a service is expected to get that has been known for minutes: what it got until now.

    Args:
        requests: By step; those of the last minute are judged, not learned from.
        learned: Steps that may be learned from: none of before it was known.
        before: What was expected when a finding began that still holds, or NaN.
    """
    if np.isfinite(before):
        return _unsure(before)
    judged = _JUDGED_S * 1_000 // STEP_MS
    known = requests[:-judged][learned[:-judged]]
    if len(known) < _LEAST_KNOWN_S * 1_000 // STEP_MS:
        return None
    return _unsure(float(known.mean()) * 1_000 / STEP_MS)


def _unsure(per_second: float) -> Expected:
    return Expected(per_second, _UNSURE, seasonal=False, steps_seen=_NONE, steps_expected=_NONE)


def falls_below_all(flow: Flow, window_s: float) -> bool:
    """Each step of the window holds less than any step of the 10 minutes before it."""
    steps = int(window_s * 1_000 // STEP_MS)
    before = window_sums(flow, STEP_MS / 1_000, window_s)
    known = len(before) >= _LEAST_KNOWN_S * 1_000 // STEP_MS
    return known and bool(flow.requests[-steps:].max() < before.min())


def last_samples(
    querier: Querier, families: Iterable[HttpFamily], now_ms: int
) -> dict[tuple[str, str], int]:
    """When each service's counters were last sampled, by job and metric."""
    found: dict[tuple[str, str], int] = {}
    for metric in dict.fromkeys(family.metric("_count") for family in families):
        expr = f"max by (job) (timestamp({metric}))"
        for labels, second in querier.instant(expr, now_ms).items():
            found[labels.get("job"), metric] = int(second * 1_000)
    return found
