"""A service or a route that gets far fewer requests than it should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from detectors.detector import SignalContext
from detectors.episodes import began, outside, steps_since
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.http_requests import HttpFamily, Route, RouteCounts, read_counts
from detectors.request_flow import (
    KIND,
    RECENT_S,
    STEP_MS,
    Flow,
    dispersion,
    falls_below_all,
    key_of,
    last_samples,
    of_minutes,
    spread,
    window_sums,
)
from detectors.scarcity import few_bound
from detectors.seasonal import Shortfall, shortfall
from detectors.seasonal_history import Expected, Interval, SeasonalHistory, Unlearned
from detectors.settings import require
from store.model import Labels
from store.ports import Querier

_LONGEST_S = 300
_SILENT_MS = 60_000
# Requests beside those of the fallen routes that can say whether the whole service fell.
_LEAST_REST = 10.0
_FOR_NOW = 1 << 62
# What falls below all that was seen of late need not fall so deep, in so short a window.
_SHORT_S = 10
_CLEAR = 0.4


@dataclass(frozen=True, slots=True)
class ThroughputDropSettings:
    """When requests are missing.

    Attributes:
        min_drop: Least part of the expected requests that is missing, from 0 to 1.
        max_chance: Greatest chance that so few come though nothing is wrong.
        min_expected: Fewest requests that the window would have to hold.
        recover_s: Window that must be back for the drop to end.
        accept_after_s: After so long the new level is what is normal.
        forget_s: A service whose counters have been away for so long has ended.
        page: It may page by itself, where earlier days are known.
    """

    min_drop: float = 0.2
    max_chance: float = 1e-7
    min_expected: float = 20.0
    recover_s: float = 60.0
    accept_after_s: float = 86_400.0
    forget_s: float = 900.0
    page: bool = False

    def __post_init__(self) -> None:
        require(0 < self.min_drop < 1, "min_drop", "between 0 and 1", self.min_drop)
        require(0 < self.max_chance <= 0.01, "max_chance", "from 0 to 0.01", self.max_chance)
        require(self.min_expected >= 5, "min_expected", "5 or more", self.min_expected)
        require(5 <= self.recover_s <= _LONGEST_S, "recover_s", "from 5 to 300", self.recover_s)
        least = self.recover_s
        for name in ("accept_after_s", "forget_s"):
            require(getattr(self, name) >= least, name, "recover_s or more", getattr(self, name))


@dataclass(frozen=True)
class ThroughputDrop:
    """Requests are missing, against the same hours of earlier weeks.

    Maths: expected requests a second are the median of the last four weeks' same minutes (of the
    last days', where there are fewer weeks; else of the own last hour, or of the minutes since it
    is known), each brought to today's
    level: see `detectors.seasonal`. In windows of 10 s, 30 s, 1 min and 5 min the requests that
    came are compared with `n` expected ones. A drop is proven when 90, 75, 60 or 50 % of them are
    missing and so few come with a chance of at most `max_chance`: a negative binomial count whose
    dispersion is that of the last 10 minutes, so that traffic in bursts proves nothing, and whose
    mean is as uncertain as the forecast. In the windows of up to a minute there must also be fewer
    than ever in the 10 minutes before; where both steps of 10 s are below each step of these, 40 %
    are enough. Where earlier days are known, whole steps of 5, 15, 30 and
    60 min prove drops of 40, 30, 25 and 20 %, never less than `min_drop`.

    One fault is told once: the service when its other routes fall too, else the routes. Where
    counters are not fresh there is no data, which is neither a drop nor a recovery. It ends when
    `recover_s` are back, or after `accept_after_s`, when the new level is what is normal.

    Parameters: `ThroughputDropSettings`.

    Example: Tuesday 20:00, 40 requests a second in the last weeks, 52 this evening until now. From
    20:03 on 18 come: after 10 s nothing is proven, after a minute 1,080 of 3,120 are.

    Reference: see `detectors.seasonal` and `detectors.scarcity`.
    """

    settings: ThroughputDropSettings = field(default_factory=ThroughputDropSettings)
    history: SeasonalHistory = field(default_factory=SeasonalHistory, compare=False, repr=False)

    kinds: ClassVar[tuple[str, ...]] = (KIND,)
    # Window in seconds, and the least drop that it may prove.
    windows: ClassVar[tuple[tuple[int, float], ...]] = (
        (10, 0.9),
        (30, 0.75),
        (60, 0.6),
        (_LONGEST_S, 0.5),
    )

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        found: list[Finding] = []
        judged: set[str] = set()
        for flows in self._services(querier, context):
            drops = {flow.key: drop for flow in flows if (drop := self._drop(flow, context))}
            told = _told(flows, drops)
            found.extend(self._finding(flow, drops[flow.key], context) for flow in told)
            judged.update(flow.key for flow in flows)
        return (*found, *context.without_data(judged, self.settings.forget_s))

    def _services(self, querier: Querier, context: SignalContext) -> Iterator[list[Flow]]:
        """For each service with fresh counters: itself, then its routes."""
        start_ms = context.now_ms - (RECENT_S + _LONGEST_S) * 1_000
        services: dict[tuple[str, HttpFamily], list[RouteCounts]] = {}
        for counts in read_counts(querier, start_ms, context.now_ms, STEP_MS):
            services.setdefault((counts.route.job, counts.route.family), []).append(counts)
        if not services:
            return
        families = [family for _, family in services]
        last_ms = last_samples(querier, families, context.now_ms)
        unlearned = _unlearned(services, context)
        expected = self._expected(querier, services, unlearned, context)
        for (job, family), routes in services.items():
            sampled_ms = last_ms.get((job, family.metric("_count")), 0)
            if context.now_ms - sampled_ms < _SILENT_MS:
                seen = int(np.searchsorted(routes[0].steps_ms, sampled_ms, side="right"))
                yield list(_flows(routes, expected, unlearned, max(seen, 1), context))

    def _expected(
        self, querier: Querier, services: _Services, unlearned: Unlearned, context: SignalContext
    ) -> Mapping[Labels, Expected]:
        """What is expected of services, `{job}`, and of routes, `{job, <route>}`."""
        found: dict[Labels, Expected] = {}
        for family in dict.fromkeys(family for _, family in services):
            for by in ("job", f"job, {family.route}"):
                expr = f"sum by ({by}) (rate({family.metric('_count')}[5m]))"
                outlook = self.history.outlook(
                    querier, expr, context.now_ms, context.calendar, unlearned
                )
                for labels in outlook.places:
                    key = key_of(labels.get("job"), labels.get(family.route))
                    expected = outlook.of(labels, _expected_before(context.active.get(key)))
                    if expected is not None:
                        found[labels] = expected
        return found

    def _drop(self, flow: Flow, context: SignalContext) -> Shortfall | None:
        active = context.active.get(flow.key)
        return self._begun(flow) if active is None else self._held(flow, active, context.now_ms)

    def _begun(self, flow: Flow) -> Shortfall | None:
        for window_s, usual in self.windows:
            least = usual
            steps = window_s * 1_000 // STEP_MS
            if len(flow.requests) < 2 * steps:
                break
            seen = float(flow.requests[-steps:].sum())
            drop = Shortfall(window_s, seen, flow.expected.value * window_s)
            if window_s <= _SHORT_S and falls_below_all(flow, window_s):
                least = _CLEAR
            if self._proven(flow, drop, max(least, self.settings.min_drop)):
                return drop
        if not flow.expected.seasonal:
            return None
        return shortfall(
            flow.expected.steps_seen,
            flow.expected.steps_expected,
            spread(flow.expected),
            max_chance=self.settings.max_chance,
            min_drop=self.settings.min_drop,
        )

    def _proven(self, flow: Flow, drop: Shortfall, least: float) -> bool:
        if drop.expected < self.settings.min_expected or drop.missing < least:
            return False
        if flow.requests[: -int(drop.window_s * 1_000 // STEP_MS)].sum() <= 0:
            return False
        sums = window_sums(flow, drop.window_s)
        if drop.window_s <= 60 and drop.seen >= sums.min(initial=np.inf):
            return False
        cv = float(np.hypot(spread(flow.expected), dispersion(flow, drop)))
        return few_bound(drop.seen, drop.expected, cv) <= self.settings.max_chance

    def _held(self, flow: Flow, active: Finding, now_ms: int) -> Shortfall | None:
        """What is missing now, while that is more than half of what was proven."""
        if now_ms - active.first_seen_ms > self.settings.accept_after_s * 1_000:
            return None
        detail = active.evidence.detail
        proven_s = float(detail.get("proven_window_seconds", 0.0))
        window_s = min(max(proven_s, self.settings.recover_s), _LONGEST_S)
        steps = steps_since(active.first_seen_ms, now_ms, STEP_MS, window_s)
        window_s = steps * STEP_MS / 1_000
        seen = float(flow.requests[-steps:].sum())
        drop = Shortfall(window_s, seen, flow.expected.value * window_s)
        proven = float(detail.get("proven_missing_ratio", self.settings.min_drop))
        return drop if drop.missing >= proven / 2 else None

    def _finding(self, flow: Flow, drop: Shortfall, context: SignalContext) -> Finding:
        active = context.active.get(flow.key)
        since_ms = _since_ms(flow, drop) if active is None else active.first_seen_ms
        pages = self.settings.page and flow.expected.seasonal
        rate, usual = drop.seen / drop.window_s, drop.expected / drop.window_s
        proof = drop if active is None else _proof(active)
        return Finding(
            fingerprint=flow.key,
            kind=self.kinds[0],
            priority=Priority.P1 if pages else Priority.P2,
            title=f"{flow.name} gets {_rate(rate)} requests a second, {_rate(usual)} are usual",
            service=flow.service,
            route=flow.route,
            first_seen_ms=since_ms,
            last_seen_ms=context.now_ms,
            evidence=Evidence(
                series=flow.series,
                window_start_ms=context.now_ms - int(drop.window_s * 1_000),
                window_end_ms=context.now_ms,
                detail={
                    "requests": round(drop.seen, 1),
                    "expected_requests": round(drop.expected, 1),
                    "missing_ratio": round(drop.missing, 4),
                    "expected_per_second": round(usual, 4),
                    "spread": round(flow.expected.spread, 4),
                    "baseline": "earlier days" if flow.expected.seasonal else "last hour",
                    "window_seconds": drop.window_s,
                    "proven_missing_ratio": round(proof.missing, 4),
                    "proven_window_seconds": proof.window_s,
                },
            ),
            impact=Impact(requests_per_second=round(max(usual - rate, 0.0), 3)),
            fix=_FIX,
            confidence=0.9 if flow.expected.seasonal else 0.6,
            labels={"job": flow.job},
        )


_FIX = (
    "Requests do not arrive: look upstream first (DNS, certificate, CDN, load balancer, a firewall "
    "rule), then at the page that calls this route (a script error, a button that does nothing "
    "since the last deploy), then at the campaign or the partner that sends the traffic."
)


def _proof(active: Finding) -> Shortfall:
    """The window in which a drop was proven, as far as its end asks for it."""
    detail = active.evidence.detail
    missing = float(detail.get("proven_missing_ratio", 0.0))
    return Shortfall(float(detail.get("proven_window_seconds", 0.0)), 1 - missing, 1.0)


_Services = Mapping[tuple[str, HttpFamily], list[RouteCounts]]


def _expected_before(active: Finding | None) -> float:
    detail = {} if active is None else active.evidence.detail
    return float(detail.get("expected_per_second", np.nan))


def _labels(family: HttpFamily, job: str, route: str) -> Labels:
    return Labels.of({"job": job, family.route: route})


def _unlearned(services: _Services, context: SignalContext) -> dict[Labels, tuple[Interval, ...]]:
    """When a flow, or its whole service, was known to be low."""
    if not context.active and not context.episodes:
        return {}
    found: dict[Labels, tuple[Interval, ...]] = {}
    for (job, family), routes in services.items():
        whole = _spans(key_of(job, ""), context)
        for route in ("", *(counts.route.route for counts in routes)):
            spans = (*whole, *_spans(key_of(job, route), context)) if route else whole
            if spans:
                found[_labels(family, job, route)] = spans
    return found


def _spans(key: str, context: SignalContext) -> tuple[Interval, ...]:
    active = context.active.get(key)
    running = () if active is None else ((active.first_seen_ms, _FOR_NOW),)
    return (*context.episodes.get(key, ()), *running)


def _flows(
    routes: list[RouteCounts],
    expected: Mapping[Labels, Expected],
    unlearned: Unlearned,
    seen: int,
    context: SignalContext,
) -> Iterator[Flow]:
    """The service and its routes, up to the last step that was sampled."""
    family, job = routes[0].route.family, routes[0].route.job
    whole = np.sum([counts.requests for counts in routes], axis=0)
    service = Route(family, job, "")
    flows = [(service, whole), *((counts.route, counts.requests) for counts in routes)]
    for place, (route, requests) in enumerate(flows):
        labels = _labels(family, job, route.route)
        if place and not route.route:
            continue
        steps_ms = routes[0].steps_ms[:seen]
        learned = outside(steps_ms, STEP_MS, unlearned.get(labels, ()))
        known = expected.get(labels)
        if known is None:
            before = _expected_before(context.active.get(key_of(job, route.route)))
            learned &= np.cumsum(requests[:seen]) > 0
            known = of_minutes(requests[:seen], learned, before)
        if known is not None:
            yield Flow(job, route.route, _series(route), steps_ms, requests[:seen], known, learned)


def _series(route: Route) -> str:
    if route.route:
        return route.selector("_count")
    return f'{route.family.metric("_count")}{{job="{route.job}"}}'.replace("\n", "")


def _told(flows: list[Flow], drops: Mapping[str, Shortfall]) -> list[Flow]:
    """The service when what remains without its fallen routes fell too, else these routes."""
    fallen = [flow for flow in flows if flow.key in drops]
    routes = [flow for flow in fallen if flow.route]
    service = next((flow for flow in fallen if not flow.route), None)
    if service is None or not routes:
        return fallen
    window_s = min(drops[service.key].window_s, _LONGEST_S)
    seen = _within(service, window_s) - sum(_within(flow, window_s) for flow in routes)
    usual = service.expected.value - sum(flow.expected.value for flow in routes)
    if usual * window_s < _LEAST_REST:
        return routes if len(routes) == 1 else [service]
    missing = 1 - seen / (usual * window_s)
    return routes if missing < drops[service.key].missing / 2 else [service]


def _within(flow: Flow, window_s: float) -> float:
    return float(flow.requests[-int(window_s * 1_000 // STEP_MS) :].sum())


def _since_ms(flow: Flow, drop: Shortfall) -> int:
    if drop.window_s > _LONGEST_S:
        return int(flow.steps_ms[-1] - drop.window_s * 1_000)
    step = flow.expected.value * STEP_MS / 1_000
    # Before it was known nothing was missing.
    missing = np.maximum(step - flow.requests, 0.0) * flow.learned
    first = began(missing, np.full(len(missing), step), drop.missing / 2)
    return int(flow.steps_ms[first]) - STEP_MS


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.2g}"
