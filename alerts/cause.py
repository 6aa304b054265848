"""Why an SLO burns or orders drop: what changed or broke just before, ranked. Pure.

A candidate counts for more the closer before the alert it began, and when it touches the same
service or route; a fault that was found (with its proof) counts for more than a mere change. What
says that requests fail counts most. An alert without a service (a business figure) fits any.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detectors.finding import Finding
from store.model import Labels
from store.timestamps import rfc3339

WINDOW_MS = 3_600_000
# Detection takes a while: what seems to begin a little after the alert may still be its cause.
_SLACK_MS = 120_000
# Counts come in steps, so that a fault and its alert are timed apart though they are one.
_TOGETHER_MS = 60_000
_HALF_LIFE_MS = 15 * 60_000
_WEIGHT = {"finding": 0.8, "deploy": 0.7, "flag": 0.65, "promotion": 0.4}
_OTHER_WEIGHT = 0.3
# Findings that say what buyers get: nothing else explains a burning SLO or missing orders as well.
_FAILURES = frozenset({"error_regression"})
_FAILURE_WEIGHT = 0.9
_MAX_CAUSES = 5


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened: a deploy, a flag, a promotion, or a fault that was found.

    Attributes:
        failure: It says that requests fail.
        error: The failure in its own words, such as an exception's message.
    """

    at_ms: int
    kind: str
    title: str
    service: str = ""
    route: str = ""
    ref: str = ""
    failure: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class ProbableCause:
    """A candidate with how likely it is (0 to 1), and why; `error` as in `Change`."""

    kind: str
    ref: str
    title: str
    at_ms: int
    confidence: float
    why: str
    error: str = ""


def change_of(finding: Finding) -> Change:
    """A finding as a candidate."""
    return Change(
        kind="finding",
        ref=finding.fingerprint,
        title=finding.title,
        at_ms=finding.first_seen_ms,
        service=finding.service,
        route=finding.route,
        failure=finding.kind in _FAILURES,
        error=str(finding.evidence.detail.get("error", "")),
    )


def rank(
    labels: Labels, started_ms: int, candidates: Iterable[Change]
) -> tuple[ProbableCause, ...]:
    """The likeliest causes of an alert, best first, at most five."""
    judged = [
        cause
        for candidate in candidates
        if (cause := _judged(labels, started_ms, candidate)) is not None
    ]
    judged.sort(key=lambda cause: (-cause.confidence, -cause.at_ms, cause.ref))
    return tuple(judged[:_MAX_CAUSES])


def _judged(labels: Labels, started_ms: int, candidate: Change) -> ProbableCause | None:
    before_ms = started_ms - candidate.at_ms
    if not -_SLACK_MS <= before_ms <= WINDOW_MS:
        return None
    score = _WEIGHT.get(candidate.kind, _OTHER_WEIGHT)
    score = _FAILURE_WEIGHT if candidate.failure else score
    score *= math.pow(0.5, max(before_ms, 0) / _HALF_LIFE_MS)
    if before_ms < (-_TOGETHER_MS if candidate.kind == "finding" else 0):
        # It may only have been seen late, but what began before is the better guess.
        score *= 0.5
    reasons = [_order(before_ms)]
    service, route = labels.get("service"), labels.get("route")
    if service and candidate.service:
        same = service == candidate.service
        score *= 1.15 if same else 0.4
        reasons.append("same service" if same else "another service")
    if route and route == candidate.route:
        score *= 1.15
        reasons.append("same route")
    confidence = round(min(score, 0.95), 2)
    return ProbableCause(
        candidate.kind,
        candidate.ref,
        candidate.title,
        candidate.at_ms,
        confidence,
        ", ".join(reasons),
        candidate.error,
    )


def _order(before_ms: int) -> str:
    if before_ms < 0:
        return "began at about the same time"
    return f"began {round(before_ms / 1000)} s before"


def candidates_of(findings: Iterable[Finding], changes: Iterable[Change]) -> list[Change]:
    """Everything that may explain an alert."""
    return [*(change_of(finding) for finding in findings), *changes]


def stated(labels: Labels, started_ms: int, candidates: Sequence[Change], plain: str) -> str:
    """The `cause` annotation: the likeliest cause, then what is plainly known."""
    causes = rank(labels, started_ms, candidates)
    if not causes:
        return plain
    best = causes[0]
    told = f"probably {best.kind}: {best.title} at {rfc3339(best.at_ms)}"
    if best.kind == "finding":
        told = " — ".join(part for part in (f"probably: {best.title}", best.error) if part)
    text = f"{told} ({best.confidence:.0%} sure: {best.why})"
    return f"{text}. {plain}" if plain else text
