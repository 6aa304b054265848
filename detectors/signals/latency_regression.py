"""A route that became slow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from detectors.detector import SignalContext
from detectors.episodes import began, outside, steps_since
from detectors.example_trace import ExampleTrace, RequestSearch, slow
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.http_requests import HttpFamily, RouteDurations, read_durations
from detectors.latency_creep import (
    KIND,
    CreepQuery,
    by_earlier_days,
    creep_finding,
    key_of,
    read_creeps,
)
from detectors.seasonal_history import SeasonalHistory
from detectors.settings import require
from detectors.wilson import wilson
from store.model import Float64Array
from store.ports import Querier

_STEP_MS = 10_000
_LONGEST_S = 300
_SLACK_MS = 15_000
_QUANTILE = 0.95
_TAIL = 1 - _QUANTILE


@dataclass(frozen=True, slots=True)
class LatencyRegressionSettings:
    """When a route has become slow.

    Attributes:
        z: Standard deviations of the Wilson bounds.
        min_factor: Least p95, as a multiple of the baseline's.
        min_more_s: Least rise of the p95, in seconds.
        slow_s: A p95 above this is slow, whatever the factor, if it was below before.
        min_requests: Fewest requests in the window.
        baseline_s: Length of the baseline.
        min_baseline_requests: Fewest requests in the baseline.
        min_factor_of_days: Least mean, as a multiple of that of the same hours of earlier weeks.
        recover_s: Window that must be fast again for the regression to end.
        forget_s: A route without requests for so long has ended.
        page: It may page by itself.
    """

    z: float = 4.0
    min_factor: float = 2.0
    min_more_s: float = 0.1
    slow_s: float = 2.0
    min_requests: int = 20
    baseline_s: float = 600.0
    min_baseline_requests: int = 100
    min_factor_of_days: float = 1.5
    recover_s: float = 60.0
    forget_s: float = 900.0
    page: bool = False

    def __post_init__(self) -> None:
        require(self.z >= 1, "z", "1 or more", self.z)
        require(self.min_factor > 1, "min_factor", "above 1", self.min_factor)
        days = self.min_factor_of_days
        require(days > 1, "min_factor_of_days", "above 1", days)
        require(self.min_more_s >= 0, "min_more_s", "0 or more", self.min_more_s)
        require(self.slow_s > 0, "slow_s", "above 0", self.slow_s)
        require(self.min_requests >= 5, "min_requests", "5 or more", self.min_requests)
        least = self.min_baseline_requests
        require(least >= 20, "min_baseline_requests", "20 or more", least)
        require(60 <= self.baseline_s <= 3_600, "baseline_s", "from 60 to 3600", self.baseline_s)
        require(10 <= self.recover_s <= _LONGEST_S, "recover_s", "from 10 to 300", self.recover_s)
        require(self.forget_s >= self.recover_s, "forget_s", "recover_s or more", self.forget_s)


@dataclass(frozen=True, slots=True)
class _Slowdown:
    """Requests above a bound, in a window and in the baseline. `place` is the bound's."""

    window_s: float
    place: int
    bound_s: float
    above: float
    requests: float
    base_above: float
    base_requests: float
    p95_s: float
    base_p95_s: float


@dataclass(frozen=True)
class LatencyRegression:
    """The p95 of a route is proven to be far above what it was.

    Maths: a quantile of buckets is a guess between two bounds, a count above a bound is not. So one
    bound is chosen: the one nearest to `max(min_factor * p95, p95 + min_more_s)` of the baseline,
    and above its p95; or the one nearest to `slow_s`, when the p95 was below. With `k` of `n`
    requests of the window above it and `K` of `N` of the baseline, the p95 is proven to have passed
    it when `wilson(k, n).low > max(0.05, wilson(K, N).high)`. Windows: 10 s, 30 s, 1 min, 5 min.
    Half of the steps with requests must hold slow ones: one stall of a few seconds is no
    regression. In 10 s 80 % of the requests of both steps must be slow.

    The baseline ends where the window begins and leaves out earlier regressions. It ends when the
    last `recover_s` (5 minutes for a quiet route) hold less than 5 % above the bound more than the
    baseline did, or when the route had no request for `forget_s`. It does not page by itself.

    What no minute shows: where earlier days are known, the mean of 15, 30 or 60 minutes is
    `min_factor_of_days` times that of the same hours of earlier weeks, and at least `min_more_s`
    and six deviations above it (see `detectors.seasonal`). That ends at half of the rise.

    Parameters: `LatencyRegressionSettings`.

    Example: the p95 of `products/` was 60 ms; the bound is 0.25 s. After a deploy 30 of 60 requests
    of a minute take longer: the lower bound is 0.27.

    Reference: E. B. Wilson (1927), see `detectors.wilson`.
    """

    settings: LatencyRegressionSettings = field(default_factory=LatencyRegressionSettings)
    history: SeasonalHistory = field(default_factory=SeasonalHistory, compare=False, repr=False)

    kinds: ClassVar[tuple[str, ...]] = (KIND,)
    # Seconds, and the least part of each step's requests that is slow; 0: any, of half the steps.
    windows: ClassVar[tuple[tuple[int, float], ...]] = (
        (10, 0.8),
        (30, 0.0),
        (60, 0.0),
        (_LONGEST_S, 0.0),
    )

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        chosen = self.settings
        length_s = chosen.baseline_s + _LONGEST_S
        start_ms = context.now_ms - (int(length_s * 1_000 // _STEP_MS) + 1) * _STEP_MS
        judged: set[str] = set()
        found: list[Finding | None] = []
        families: dict[HttpFamily, None] = {}
        for durations in read_durations(querier, start_ms, context.now_ms, _STEP_MS):
            route = durations.route
            key = key_of(route)
            judged.add(key)
            families[route.family] = None
            active = context.active.get(key)
            if active is None:
                found.append(self._begun(key, durations, context))
            elif not by_earlier_days(active):
                found.append(self._held(durations, active, context))
        told = {item.fingerprint for item in found if item is not None}
        asked = CreepQuery(
            judged - told, tuple(families), chosen.min_factor_of_days, chosen.min_more_s
        )
        found.extend(
            creep_finding(creep, context, page=chosen.page)
            for creep in read_creeps(querier, self.history, context, asked)
        )
        holding = (item for item in found if item is not None)
        return (*holding, *context.without_data(judged, self.settings.forget_s))

    def _begun(self, key: str, durations: RouteDurations, context: SignalContext) -> Finding | None:
        # An earlier regression is left out of windows too: what it left behind is no new one.
        learned = outside(durations.steps_ms, _STEP_MS, context.episodes.get(key, ()))
        durations = replace(durations, counts=durations.counts * learned)
        for window_s, share in self.windows:
            steps = window_s * 1_000 // _STEP_MS
            base = self._baseline(durations, steps)
            now = durations.counts[:, -steps:].sum(axis=1)
            enough = self.settings.min_baseline_requests
            if base[-1] < enough or now[-1] < self.settings.min_requests:
                continue
            for place in self._bounds(durations.bounds_s, base):
                slowdown = _slowdown(durations, window_s, place, now, base)
                if self._proven(slowdown) and _lasting(durations, steps, place, share):
                    since_ms = _since_ms(durations, slowdown)
                    return self._finding(key, durations, slowdown, since_ms, context)
        return None

    def _baseline(self, durations: RouteDurations, steps: int) -> Float64Array:
        length = int(self.settings.baseline_s * 1_000 // _STEP_MS)
        known = len(durations.steps_ms) - steps
        counts: Float64Array = durations.counts[:, max(0, known - length) : known].sum(axis=1)
        return counts

    def _bounds(self, bounds_s: Float64Array, base: Float64Array) -> list[int]:
        """Places of the bounds that the p95 must have passed, either of them."""
        before_s = quantile(bounds_s, base, _QUANTILE)
        wanted_s = max(self.settings.min_factor * before_s, before_s + self.settings.min_more_s)
        finite = bounds_s[:-1]
        places = [int(np.argmin(np.abs(finite - wanted_s)))]
        if before_s < self.settings.slow_s:
            places.append(int(np.argmin(np.abs(finite - self.settings.slow_s))))
        least_s = before_s + self.settings.min_more_s
        return [place for place in dict.fromkeys(places) if finite[place] >= least_s]

    def _proven(self, slowdown: _Slowdown) -> bool:
        now = wilson(slowdown.above, slowdown.requests, self.settings.z)
        base = wilson(slowdown.base_above, slowdown.base_requests, self.settings.z)
        return now.low > max(_TAIL, base.high)

    def _held(
        self, durations: RouteDurations, active: Finding, context: SignalContext
    ) -> Finding | None:
        detail = active.evidence.detail
        slowdown = self._since_proven(durations, active, self.settings.recover_s)
        if slowdown.requests < self.settings.min_requests:
            slowdown = self._since_proven(durations, active, _LONGEST_S)
        if slowdown.requests < 1:
            return active if context.remembers(active, self.settings.forget_s) else None
        base_share = float(detail.get("baseline_slow_ratio", 0.0))
        if slowdown.above / slowdown.requests < base_share + _TAIL:
            return None
        since_ms = active.first_seen_ms
        key = active.fingerprint
        return self._finding(key, durations, slowdown, since_ms, context, active)

    def _since_proven(
        self, durations: RouteDurations, active: Finding, window_s: float
    ) -> _Slowdown:
        detail = active.evidence.detail
        now_ms = int(durations.steps_ms[-1])
        steps = steps_since(active.first_seen_ms, now_ms, _STEP_MS, window_s)
        now = durations.counts[:, -steps:].sum(axis=1)
        bound_s = float(detail.get("bound_seconds", self.settings.slow_s))
        # The bounds may have changed with a deploy: the nearest one stands in.
        place = int(np.argmin(np.abs(durations.bounds_s[:-1] - bound_s)))
        base_requests = float(detail.get("baseline_requests", 0.0))
        return _Slowdown(
            steps * _STEP_MS / 1_000,
            place,
            bound_s,
            float(now[-1] - now[place]),
            float(now[-1]),
            float(detail.get("baseline_slow_ratio", 0.0)) * base_requests,
            base_requests,
            quantile(durations.bounds_s, now, _QUANTILE),
            float(detail.get("baseline_p95_seconds", 0.0)),
        )

    def _finding(
        self,
        key: str,
        durations: RouteDurations,
        slowdown: _Slowdown,
        since_ms: int,
        context: SignalContext,
        active: Finding | None = None,
    ) -> Finding:
        route = durations.route
        base_share = slowdown.base_above / max(slowdown.base_requests, 1.0)
        finding = Finding(
            fingerprint=key,
            kind=self.kinds[0],
            priority=Priority.P1 if self.settings.page else Priority.P2,
            title=f"{route.name} became slow: p95 {_seconds(slowdown.p95_s)}, "
            f"was {_seconds(slowdown.base_p95_s)}",
            service=route.service,
            route=route.route,
            first_seen_ms=since_ms,
            last_seen_ms=context.now_ms,
            evidence=Evidence(
                series=route.selector("_bucket"),
                window_start_ms=context.now_ms - int(slowdown.window_s * 1_000),
                window_end_ms=context.now_ms,
                detail={
                    "p95_seconds": round(slowdown.p95_s, 4),
                    "baseline_p95_seconds": round(slowdown.base_p95_s, 4),
                    **_quantiles(durations, slowdown.window_s),
                    "bound_seconds": slowdown.bound_s,
                    "slow_requests": round(slowdown.above, 1),
                    "requests": round(slowdown.requests, 1),
                    "baseline_slow_ratio": round(base_share, 5),
                    "baseline_requests": round(slowdown.base_requests, 1),
                    "window_seconds": slowdown.window_s,
                },
            ),
            impact=Impact(requests_per_second=round(slowdown.above / slowdown.window_s, 3)),
            fix=_FIX,
            confidence=0.9,
            labels={"job": route.job},
        )
        if active is not None and active.evidence.trace_id:
            before = active.evidence
            kept = replace(
                finding.evidence,
                trace_id=before.trace_id,
                span_ids=before.span_ids,
                code=before.code,
            )
            return replace(finding, evidence=kept, fix=active.fix)
        search = RequestSearch(
            route.service,
            route.route,
            since_ms - _SLACK_MS,
            context.now_ms + _SLACK_MS,
            min_duration_s=slowdown.bound_s,
        )
        return _shown(finding, slow(context.spans, search))


_FIX = (
    "Open a slow request of this route and look for its longest part; compare with the other "
    "findings of this route and with the last deploy, and roll that back when it fits."
)


def quantile(bounds_s: Float64Array, counts: Float64Array, share: float) -> float:
    """A quantile of cumulative bucket counts, linear within its bucket as in PromQL.

    >>> import numpy as np
    >>> quantile(np.array([1.0, 2.0, np.inf]), np.array([50.0, 100.0, 100.0]), 0.75)
    1.5
    """
    rank = share * float(counts[-1])
    place = int(np.searchsorted(counts, rank))
    if place >= len(bounds_s) - 1:
        return float(bounds_s[-2])
    low_s = float(bounds_s[place - 1]) if place else 0.0
    below = float(counts[place - 1]) if place else 0.0
    within = float(counts[place]) - below
    part = (rank - below) / within if within > 0 else 1.0
    return low_s + (float(bounds_s[place]) - low_s) * part


def _quantiles(durations: RouteDurations, window_s: float) -> dict[str, float]:
    """The other quantiles that people ask for: is it everybody, or the slowest alone?"""
    now = durations.counts[:, -int(window_s * 1_000 // _STEP_MS) :].sum(axis=1)
    return {
        name: round(quantile(durations.bounds_s, now, share), 4)
        for name, share in (("p50_seconds", 0.5), ("p99_seconds", 0.99))
    }


def _slowdown(
    durations: RouteDurations, window_s: float, place: int, now: Float64Array, base: Float64Array
) -> _Slowdown:
    return _Slowdown(
        window_s,
        place,
        float(durations.bounds_s[place]),
        float(now[-1] - now[place]),
        float(now[-1]),
        float(base[-1] - base[place]),
        float(base[-1]),
        quantile(durations.bounds_s, now, _QUANTILE),
        quantile(durations.bounds_s, base, _QUANTILE),
    )


def _lasting(durations: RouteDurations, steps: int, place: int, share: float) -> bool:
    requests = durations.counts[-1, -steps:]
    above = requests - durations.counts[place, -steps:]
    if share > 0:
        return bool(((requests > 0) & (above >= share * requests)).all())
    return bool(2 * np.count_nonzero(above > 0) >= np.count_nonzero(requests > 0))


def _since_ms(durations: RouteDurations, slowdown: _Slowdown) -> int:
    requests = durations.counts[-1]
    above = requests - durations.counts[slowdown.place]
    share = slowdown.above / slowdown.requests
    base_share = slowdown.base_above / slowdown.base_requests
    first = began(above, requests, (share + base_share) / 2)
    return int(durations.steps_ms[first]) - _STEP_MS


def _seconds(value_s: float) -> str:
    return f"{value_s * 1_000:.0f} ms" if value_s < 1 else f"{value_s:.1f} s"


def _shown(finding: Finding, example: ExampleTrace) -> Finding:
    evidence = replace(
        finding.evidence,
        trace_id=example.trace_id,
        span_ids=example.span_ids,
        code=example.code,
    )
    if not example.trace_id:
        return finding
    part = f"In the linked request {example.span_name} took {_seconds(example.span_s)}. "
    return replace(finding, evidence=evidence, fix=part + _FIX)
