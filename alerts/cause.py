"""Why an alert fires: what changed or broke just before, ranked. Pure.

Each candidate gets a score from 0 to 1, the product of

- what it can explain (`_EXPLAINS`): that requests fail explains missing orders best, a promotion
  explains load and no error, advice that nothing depends on explains nothing;
- effect size: a finding of low impact counts half, one of P0 a little more;
- time: it began before, and halves with each quarter of an hour. Faults are seen late, so that one
  which seems to begin up to a minute after the alert may still be its cause; a deploy may not;
- place: the same service, route or host, or a service that is called, counts more than the caller;
  one that has nothing to do with the alert counts little. An alert of no place (a business figure)
  fits any. Its service is its label, or its job where a service or a candidate goes by that name.

Then it is asked how well the candidate stands out: another that fits as well takes up to a half.
Faults of one place are faces of one fault and do not compete; deploys do. The words of the page are
those of the US Intelligence Community Directive 203 (2015); below `LEAST` no cause is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from alerts.symptom import Symptom, symptom_of
from detectors.finding import Finding, Priority
from detectors.topology import LOOPBACK, NO_CALLS, Relation, Topology, host_of
from store.model import Labels
from store.timestamps import rfc3339

WINDOW_MS = 3_600_000
LEAST = 0.45
"""From here on a cause is named."""
NONE_FOUND = "no probable cause found"
_HALF_LIFE_MS = 15 * 60_000
# Counts come in steps, so that a fault and its alert are timed apart though they are one.
_TOGETHER_MS = 60_000
_PUNCTUAL_MS = 15_000
_MAX_CAUSES = 5
_MOST_SURE = 0.95
_WORDS = ((0.80, "very likely"), (0.55, "likely"), (LEAST, "roughly even chance"))


class CauseKind(StrEnum):
    """Candidates that explain the same."""

    FAILURE = "failure"  # a finding that says that requests fail
    FAULT = "fault"
    ADVICE = "advice"  # a finding that nothing depends on
    DEPLOY = "deploy"
    FLAG = "flag"
    PROMOTION = "promotion"
    OTHER = "other"


_E, _L, _O, _S, _X = Symptom.ERRORS, Symptom.LATENCY, Symptom.LOAD, Symptom.SALES, Symptom.OTHER
_EXPLAINS: Mapping[CauseKind, Mapping[Symptom, float]] = {
    CauseKind.FAILURE: {_E: 0.92, _L: 0.4, _O: 0.3, _S: 0.92, _X: 0.8},
    CauseKind.FAULT: {_E: 0.8, _L: 0.9, _O: 0.7, _S: 0.8, _X: 0.8},
    CauseKind.ADVICE: dict.fromkeys(Symptom, 0.0),
    CauseKind.DEPLOY: {_E: 0.7, _L: 0.7, _O: 0.5, _S: 0.7, _X: 0.7},
    CauseKind.FLAG: {_E: 0.65, _L: 0.65, _O: 0.5, _S: 0.65, _X: 0.65},
    CauseKind.PROMOTION: {_E: 0.1, _L: 0.6, _O: 0.8, _S: 0.1, _X: 0.3},
    CauseKind.OTHER: dict.fromkeys(Symptom, 0.3),
}
_PLACE = {
    Relation.SAME: 1.15,
    Relation.CALLED: 1.05,
    Relation.CALLER: 0.7,
    Relation.UNKNOWN: 0.4,
    Relation.APART: 0.2,
}
_SAME_ROUTE, _OTHER_ROUTE, _SAME_HOST = 1.15, 0.85, 1.1
_SIZE = {Priority.P0: 1.05, Priority.P1: 1.0, Priority.P2: 0.5}
_FAILURES = frozenset({"error_regression"})
# Listed only by default, since what they cause pages: their priority says nothing of their size.
_REGRESSIONS = frozenset({"error_regression", "latency_regression", "throughput_drop"})
_ADVICE = frozenset(
    {
        "missing_index", "full_scan", "unused_index", "redundant_index", "replica_underused",
        "consecutive_queries", "consecutive_calls", "web_vital_poor",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened: a deploy, a flag, a promotion, or a fault that was found.

    Attributes:
        kind: `finding`, or a kind of annotation.
        failure: It says that requests fail.
        error: The failure in its own words, such as an exception's message.
        advice: A finding that nothing depends on.
        size: Effect size; 1 is as expected.
        host: The instance that it is about.
        url: Where it is shown; empty where it is not.
    """

    at_ms: int
    kind: str
    title: str
    service: str = ""
    route: str = ""
    ref: str = ""
    failure: bool = False
    error: str = ""
    advice: bool = False
    size: float = 1.0
    host: str = ""
    url: str = ""

    @property
    def explains(self) -> CauseKind:
        if self.kind == "finding":
            found = CauseKind.FAILURE if self.failure else CauseKind.FAULT
            return CauseKind.ADVICE if self.advice else found
        return CauseKind(self.kind) if self.kind in _CHANGES else CauseKind.OTHER


_CHANGES = frozenset({"deploy", "flag", "promotion"})


@dataclass(frozen=True, slots=True)
class ProbableCause:
    """A candidate with how likely it is (0 to 1), and why; `error` and `url` as in `Change`."""

    kind: str
    ref: str
    title: str
    at_ms: int
    confidence: float
    why: str
    error: str = ""
    url: str = ""

    @property
    def word(self) -> str:
        """How sure that is in words; empty where no cause should be named."""
        return next((word for least, word in _WORDS if self.confidence >= least), "")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an alert is; empty parts are not known."""

    service: str
    route: str
    host: str


@dataclass(frozen=True, slots=True)
class _Judged:
    change: Change
    score: float
    reasons: tuple[str, ...]


def change_of(finding: Finding) -> Change:
    """A finding as a candidate."""
    pages = finding.priority is not Priority.P2
    size = 1.0 if finding.kind in _REGRESSIONS else _SIZE[finding.priority]
    return Change(
        kind="finding",
        ref=finding.fingerprint,
        title=finding.title,
        at_ms=finding.first_seen_ms,
        service=finding.service,
        route=finding.route,
        failure=finding.kind in _FAILURES,
        error=str(finding.evidence.detail.get("error", "")),
        advice=finding.kind in _ADVICE and not pages,
        size=size,
        host=finding.labels.get("instance", ""),
        url=f"/findings/{finding.fingerprint}",
    )


def candidates_of(findings: Iterable[Finding], changes: Iterable[Change]) -> list[Change]:
    """Everything that may explain an alert."""
    return [*(change_of(finding) for finding in findings), *changes]


def rank(
    labels: Labels,
    started_ms: int,
    candidates: Iterable[Change],
    topology: Topology = NO_CALLS,
) -> tuple[ProbableCause, ...]:
    """The likeliest causes of an alert, best first, at most five."""
    symptom = symptom_of(labels)
    known = list(candidates)
    place = _place_of(labels, known, topology)
    judged = [
        one
        for change in known
        if (one := _judged(place, started_ms, change, symptom, topology)) is not None
    ]
    rivals = _Rivals(judged)
    sure = [(round(one.score * (1 - rivals.doubt(one) / 2), 2), one) for one in judged]
    sure = [(confidence, one) for confidence, one in sure if confidence > 0]
    sure.sort(key=lambda pair: (-pair[0], -pair[1].change.at_ms, pair[1].change.ref))
    return tuple(_cause(one, confidence, judged) for confidence, one in sure[:_MAX_CAUSES])


def cause_annotations(
    labels: Labels,
    started_ms: int,
    candidates: Sequence[Change],
    plain: str,
    topology: Topology = NO_CALLS,
) -> dict[str, str]:
    """`cause`; of one that is named `cause_confidence`, `cause_kind`, `cause_ref`, `cause_url`."""
    causes = rank(labels, started_ms, candidates, topology)
    if not causes or not causes[0].word:
        return {"cause": f"{NONE_FOUND}. {plain}" if plain else NONE_FOUND}
    best = causes[0]
    text = f"{best.word}: {named(best)} ({best.confidence:.0%} sure: {best.why})"
    told = {
        "cause": f"{text}. {plain}" if plain else text,
        "cause_confidence": f"{best.confidence:.2f}",
        "cause_kind": best.kind,
        "cause_ref": f"/findings/{best.ref}" if best.kind == "finding" else best.ref,
    }
    return {**told, "cause_url": best.url} if best.url else told


def named(cause: ProbableCause) -> str:
    """A cause in a few words."""
    if cause.kind == "finding":
        return " — ".join(part for part in (cause.title, cause.error) if part)
    return f"{cause.kind} {cause.title} at {rfc3339(cause.at_ms)}"


def _judged(
    place: _Place, started_ms: int, change: Change, symptom: Symptom, topology: Topology
) -> _Judged | None:
    before_ms = started_ms - change.at_ms
    score = _EXPLAINS[change.explains][symptom] * change.size * _timely(change, before_ms)
    if score <= 0:
        return None
    fits, reasons = _fits(place, change, topology)
    return _Judged(change, min(score * fits, _MOST_SURE), (_order(before_ms), *reasons))


def _timely(change: Change, before_ms: int) -> float:
    """What is left of a candidate that began so long before the alert; 0 where it cannot be it."""
    if before_ms > WINDOW_MS:
        return 0.0
    if before_ms >= 0:
        return math.pow(0.5, before_ms / _HALF_LIFE_MS)
    if change.kind != "finding" or before_ms < -_TOGETHER_MS:
        return 0.0
    return 1.0 if change.failure or before_ms >= -_PUNCTUAL_MS else 0.5


def _place_of(labels: Labels, candidates: Iterable[Change], topology: Topology) -> _Place:
    """Where an alert is. A job is a service only where somebody knows it as one."""
    service = labels.get("service") or labels.get("service_name")
    job = labels.get("job").rpartition("/")[2]
    if not service and job:
        known = topology.around(job) or any(one.service == job for one in candidates)
        service = job if known else ""
    route = labels.get("route") or labels.get("http_route")
    return _Place(service, route, labels.get("instance"))


def _fits(place: _Place, change: Change, topology: Topology) -> tuple[float, list[str]]:
    factor, reasons = 1.0, []
    if _same_host(place.host, change.host):
        factor *= _SAME_HOST
        reasons.append("same host")
    elif (relation := _relation(place, change, topology)) is not None:
        factor *= _PLACE[relation]
        reasons.append(relation.value)
    if place.route and change.route:
        same = place.route == change.route
        factor *= _SAME_ROUTE if same else _OTHER_ROUTE
        reasons.append("same route" if same else "another route")
    return factor, reasons


def _same_host(one: str, other: str) -> bool:
    """Two ports of one machine are one host; two that are both `localhost` need not be."""
    name = host_of(one)
    return bool(one) and (one == other or (name == host_of(other) and name not in LOOPBACK))


def _relation(place: _Place, change: Change, topology: Topology) -> Relation | None:
    """The closest that is known; None where the alert or the candidate is of no place."""
    mine = [name for name in (place.service, place.host) if name]
    its = [name for name in (change.service, change.host) if name]
    found = {topology.relation(one, other) for one in mine for other in its}
    known = found - {Relation.UNKNOWN}
    if known:
        return max(known, key=lambda relation: _PLACE[relation])
    return Relation.UNKNOWN if place.service and its else None


class _Rivals:
    """Candidates that would be another cause, not another face of the same one."""

    def __init__(self, judged: Iterable[_Judged]) -> None:
        odds: dict[tuple[str, str], list[float]] = {}
        for one in judged:
            odds.setdefault(_face(one), []).append(_odds(one.score))
        self._odds = {face: math.fsum(some) for face, some in odds.items()}
        self._findings = math.fsum(o for (kind, _), o in self._odds.items() if kind == "finding")
        self._changes = math.fsum(o for (kind, _), o in self._odds.items() if kind != "finding")

    def doubt(self, one: _Judged) -> float:
        """The part of the odds that speaks for another, 0 to 1."""
        mine = _odds(one.score)
        found = one.change.kind == "finding"
        others = self._findings - self._odds[_face(one)] if found else self._changes - mine
        others = max(others, 0.0)
        return others / (others + mine)


def _face(one: _Judged) -> tuple[str, str]:
    """Findings of one service are faces of one fault; each change is by itself."""
    found = one.change.kind == "finding"
    return ("finding", one.change.service) if found else ("change", "")


def _after(one: _Judged, judged: Sequence[_Judged]) -> str:
    """The change that seems to have brought a finding."""
    if one.change.kind != "finding":
        return ""
    earlier = [
        other.change
        for other in judged
        if other.change.explains in {CauseKind.DEPLOY, CauseKind.FLAG}
        and 0 <= one.change.at_ms - other.change.at_ms <= _HALF_LIFE_MS
        and other.change.service in {"", one.change.service}
    ]
    last = max(earlier, key=lambda change: change.at_ms, default=None)
    if last is None:
        return ""
    return f"it began {_span(one.change.at_ms - last.at_ms)} after {last.kind} {last.title}"


def _cause(one: _Judged, confidence: float, judged: Sequence[_Judged]) -> ProbableCause:
    change = one.change
    after = _after(one, judged)
    reasons = (*one.reasons, after) if after else one.reasons
    return ProbableCause(
        change.kind,
        change.ref,
        change.title,
        change.at_ms,
        confidence,
        ", ".join(reasons),
        change.error,
        change.url,
    )


def _odds(score: float) -> float:
    return score / (1 - min(score, _MOST_SURE))


def _order(before_ms: int) -> str:
    if before_ms < 0:
        return "began at about the same time"
    return f"began {_span(before_ms)} before"


def _span(length_ms: int) -> str:
    seconds = round(length_ms / 1_000)
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"
