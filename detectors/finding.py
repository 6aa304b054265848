"""What a detector says: a finding with its proof, its price and its fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Priority(StrEnum):
    """P0 and P1 may page; P2 is listed only."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"


class FindingStatus(StrEnum):
    """Where a finding stands."""

    OPEN = "open"
    SUPPRESSED = "suppressed"
    FIXED = "fixed"
    REGRESSED = "regressed"


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """The line that did it; `inferred` when it is only the nearest application span."""

    file: str
    line: int
    function: str
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What proves a finding. Unused parts stay empty.

    Attributes:
        users: Hashes of the users or sessions that were hit, a sketch (`detectors.extent`).
    """

    trace_id: str = ""
    parent_span_id: str = ""
    span_ids: tuple[str, ...] = ()
    statement: str = ""
    statements: tuple[str, ...] = ()
    repetitions: int = 0
    code: CodeLocation | None = None
    series: str = ""
    window_start_ms: int = 0
    window_end_ms: int = 0
    users: tuple[str, ...] = ()
    detail: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Impact:
    """What it costs.

    Attributes:
        wasted_seconds_per_request: Of a request that has the fault.
        requests_per_second: Of its route, with the fault or without.
        hit_share: Which part of those has it, 0 to 1; loops rather too high, durations too low.
        money_per_hour: At risk, at most; empty where it is not known.
        users_hit: Users or sessions that were hit since it began; 0 where spans name none.
        worst_wasted_seconds: Of the worst request since it began; a loop grows with the list.
        worst_repetitions: Repeats in that request.
    """

    wasted_seconds_per_request: float = 0.0
    requests_per_second: float = 0.0
    money_per_hour: str = ""
    currency: str = ""
    hit_share: float = 1.0
    users_hit: int = 0
    worst_wasted_seconds: float = 0.0
    worst_repetitions: int = 0

    @property
    def requests_hit_per_hour(self) -> float:
        return self.requests_per_second * self.hit_share * 3_600

    @property
    def wasted_hours_per_day(self) -> float:
        return self.wasted_seconds_per_request * self.requests_hit_per_hour * 24 / 3_600

    @property
    def wasted_hours_per_day_at_peak(self) -> float:
        """If every request that has the fault were like the worst one."""
        return self.worst_wasted_seconds * self.requests_hit_per_hour * 24 / 3_600


@dataclass(frozen=True, slots=True)
class Suppression:
    """Why a finding is accepted, until when, and up to how many repeats (None: any)."""

    reason: str
    until_ms: int
    max_repetitions: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, with a fingerprint that stays the same while the fault does.

    Attributes:
        fingerprint: Of service, route, shape and function; never of ids.
        kind: One of the kinds of the API, such as `n_plus_one_query`.
        first_seen_ms: When the fault was first observed (the time of the data, not of detection).
        active: The fault was still there at the last tick (drives the alert).
        suppression: Set while the status is `suppressed`.
        fixed_ms: When it was marked, or proven, as fixed; 0 while it is not.
    """

    fingerprint: str
    kind: str
    priority: Priority
    title: str
    service: str
    route: str
    first_seen_ms: int
    last_seen_ms: int
    evidence: Evidence
    impact: Impact
    fix: str
    confidence: float = 1.0
    complete: bool = True
    occurrences: int = 1
    status: FindingStatus = FindingStatus.OPEN
    active: bool = True
    labels: dict[str, str] = field(default_factory=dict)
    suppression: Suppression | None = None
    fixed_ms: int = 0
