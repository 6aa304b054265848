"""Routes that are slower than at the same hours of earlier weeks, though no minute jumped.

A leak, a table that grew, a cache that wears off: each ten minutes look like those before them. The
mean duration of a route is compared with the seasonal baseline (`detectors.seasonal`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from detectors.detector import SignalContext
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.http_requests import HttpFamily, Route
from detectors.seasonal import RISE_STEPS, STEP_MS, Rise, rise
from detectors.seasonal_history import Expected, SeasonalHistory, Unlearned
from store.model import Labels
from store.ports import Querier

KIND = "latency_regression"
_EARLIER_DAYS = "earlier days"
_MIN_Z = 6.0
_FOR_NOW = 1 << 62
_FIX = (
    "It came slowly: look for what grows (a table, a session, a list without pages, memory), for a "
    "cache that lost its hits, and at the deploys of the last days."
)


@dataclass(frozen=True, slots=True)
class CreepQuery:
    """What is asked for.

    Attributes:
        keys: Fingerprints of the routes that have data and are not told already.
        families: How they are named.
        min_factor: Least mean, as a multiple of the expected one.
        min_more_s: And least seconds above it.
    """

    keys: Set[str]
    families: tuple[HttpFamily, ...]
    min_factor: float
    min_more_s: float


@dataclass(frozen=True, slots=True)
class Creep:
    """A route whose mean duration rose, and the window that says so."""

    route: Route
    proof: Rise


def key_of(route: Route) -> str:
    """The fingerprint of a slow route, whatever showed it."""
    return fingerprint(KIND, route.job, route.route, "")


def by_earlier_days(finding: Finding) -> bool:
    """It was proven against earlier weeks, and ends against them."""
    return finding.evidence.detail.get("baseline") == _EARLIER_DAYS


def read_creeps(
    querier: Querier, history: SeasonalHistory, context: SignalContext, asked: CreepQuery
) -> Iterator[Creep]:
    """Routes that are slower than their earlier days, where those are known.

    Raises:
        QueryError: The series cannot be read.
    """
    held = {key: item for key, item in context.active.items() if by_earlier_days(item)}
    told: set[str] = set()
    for family in asked.families:
        unlearned = _unlearned(family, context.active)
        outlook = history.outlook(
            querier, _mean(family), context.now_ms, context.calendar, unlearned
        )
        for labels in outlook.places:
            route = Route(family, labels.get("job"), labels.get(family.route))
            key = key_of(route)
            expected = outlook.of(labels, _expected_before(held.get(key)))
            if key in told or key not in asked.keys or expected is None:
                continue
            told.add(key)
            found = _rise(expected, asked, active=key in held)
            others = context.active.keys() - held.keys()
            if found is not None and key not in others:
                yield Creep(route, found)


def _expected_before(active: Finding | None) -> float:
    detail = {} if active is None else active.evidence.detail
    return float(detail.get("expected_mean_seconds", math.nan))


def _rise(expected: Expected, asked: CreepQuery, *, active: bool) -> Rise | None:
    """What is proven; what was proven before holds until half of the rise is gone."""
    if not expected.seasonal:
        return None
    found = rise(
        expected.steps_seen,
        expected.steps_expected,
        expected.spread,
        min_factor=1 + (asked.min_factor - 1) / 2 if active else asked.min_factor,
        min_z=0.0 if active else _MIN_Z,
    )
    if found is None or active or found.seen - found.expected >= asked.min_more_s:
        return found
    return None


def creep_finding(creep: Creep, context: SignalContext, *, page: bool) -> Finding:
    """The finding of one route."""
    route, proof, key = creep.route, creep.proof, key_of(creep.route)
    active = context.active.get(key)
    start_ms = context.now_ms - int(proof.window_s * 1_000)
    usual = _seconds(proof.expected)
    return Finding(
        fingerprint=key,
        kind=KIND,
        priority=Priority.P1 if page else Priority.P2,
        title=f"{route.name} is slower than in earlier weeks: {_seconds(proof.seen)} on average, "
        f"{usual} is usual",
        service=route.service,
        route=route.route,
        first_seen_ms=start_ms if active is None else active.first_seen_ms,
        last_seen_ms=context.now_ms,
        evidence=Evidence(
            series=route.selector("_sum"),
            window_start_ms=start_ms,
            window_end_ms=context.now_ms,
            detail={
                "mean_seconds": round(proof.seen, 4),
                "expected_mean_seconds": round(proof.expected, 4),
                "window_seconds": proof.window_s,
                "baseline": _EARLIER_DAYS,
            },
        ),
        impact=Impact(),
        fix=_FIX,
        confidence=0.8,
        labels={"job": route.job},
    )


def _mean(family: HttpFamily) -> str:
    """Mean seconds of a request in five minutes, by route."""
    by = f"sum by (job, {family.route})"
    return (
        f"{by} (rate({family.metric('_sum')}[5m])) * {family.unit_s}"
        f" / ({by} (rate({family.name}_count[5m])) > 0)"
    )


def _unlearned(family: HttpFamily, active: Mapping[str, Finding]) -> Unlearned:
    before_ms = RISE_STEPS[0] * STEP_MS
    return {
        Labels.of({"job": item.labels.get("job", ""), family.route: item.route}): (
            (item.first_seen_ms - before_ms, _FOR_NOW),
        )
        for item in active.values()
    }


def _seconds(value_s: float) -> str:
    return f"{value_s * 1_000:.0f} ms" if value_s < 1 else f"{value_s:.1f} s"
