"""Findings of the detectors, as alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alerts.cause import Change, named, rank
from alerts.model import Alert
from detectors.finding import Finding, FindingStatus, Priority
from detectors.impact import time_told
from detectors.topology import NO_CALLS, Topology
from store.model import Labels, UnitHealth
from store.timestamps import rfc3339

# Names people search for; any other kind is its own name in CamelCase.
_NAMES = {
    "n_plus_one_query": "NPlusOneQuery",
    "n_plus_one_call": "NPlusOneCall",
    "n_plus_one_cache": "NPlusOneCache",
    "hit_rate_drop": "CacheHitRateDrop",
    "replica_lag": "ReplicaLagHigh",
    "connection_saturation": "ConnectionsSaturated",
    "connection_wait": "ConnectionWaitHigh",
}
_SEVERITY = {Priority.P0: "page", Priority.P1: "page", Priority.P2: "info"}
_LOOPS = frozenset({"n_plus_one_query", "n_plus_one_call", "n_plus_one_cache", "paginated_loop"})
# Different statements one after another: their text says less than the title.
_IN_A_ROW = frozenset({"consecutive_queries", "consecutive_calls"})
_PATH_PARTS = 3
_MAX_STATEMENT = 500


def alert_of(
    finding: Finding,
    external_url: str = "",
    changes: Sequence[Change] = (),
    topology: Topology = NO_CALLS,
) -> Alert:
    """The alert of an active finding; the likeliest of the changes is said to have brought it."""
    labels = {
        **finding.labels,
        "alertname": _NAMES.get(finding.kind) or _camel(finding.kind),
        "service": finding.service,
        "route": finding.route,
        "kind": finding.kind,
        "fingerprint": finding.fingerprint,
        "severity": _SEVERITY[finding.priority],
    }
    return Alert(
        labels=Labels.of(labels),
        annotations={
            "summary": finding.title,
            **_cause(finding, changes, topology),
            "since": rfc3339(finding.first_seen_ms),
            "impact": impact_of(finding),
            "fix": finding.fix,
            "evidence_url": external_url.rstrip("/") + evidence_url(finding),
        },
        value=float(finding.evidence.repetitions or finding.occurrences),
        since_ms=finding.first_seen_ms,
        source="finding",
        unit=f"finding:{finding.kind}",
    )


def alerts_of(
    findings: Iterable[Finding],
    external_url: str = "",
    changes: Sequence[Change] = (),
    topology: Topology = NO_CALLS,
) -> list[Alert]:
    """Alerts of the findings that are active and neither suppressed nor marked as fixed."""
    quiet = {FindingStatus.SUPPRESSED, FindingStatus.FIXED}
    told = [finding for finding in findings if finding.active and finding.status not in quiet]
    return [alert_of(finding, external_url, changes, topology) for finding in told]


def _cause(finding: Finding, changes: Sequence[Change], topology: Topology) -> dict[str, str]:
    """What does it, and the change that seems to have brought it, with its address."""
    cause = cause_of(finding)
    names = {"service": finding.service, "kind": finding.kind}
    labels = Labels.of({**names, "instance": finding.labels.get("instance", "")})
    likeliest = next(iter(rank(labels, finding.first_seen_ms, changes, topology)), None)
    if likeliest is None or not likeliest.word:
        return {"cause": cause}
    sure = f"{likeliest.confidence:.0%} sure: {likeliest.why}"
    told = {"cause": f"{cause}; {likeliest.word} since {named(likeliest)} ({sure})"}
    return {**told, "cause_url": likeliest.url} if likeliest.url else told


def unknown_units(health: Iterable[UnitHealth]) -> frozenset[str]:
    """Units (`Alert.unit`) of the detectors that could not look."""
    return frozenset(f"finding:{unit.unit}" for unit in health if not unit.ok)


def cause_of(finding: Finding) -> str:
    """What does it, where, in one line."""
    evidence, code = finding.evidence, finding.evidence.code
    place = ""
    if code is not None:
        place = f"{_path_end(code.file)}:{code.line} {code.function}".strip()
        place += " (nearest application span)" if code.inferred else ""
    repeated = "" if finding.kind in _IN_A_ROW else evidence.statement
    statement = " ".join(repeated.split())[:_MAX_STATEMENT]
    if statement and (finding.kind in _LOOPS or evidence.repetitions > 1):
        at_least = "" if finding.complete else "at least "
        who = place or finding.route or finding.service
        return f"{who} repeats `{statement}` {at_least}{evidence.repetitions} times"
    what = f"`{statement}`" if statement else finding.title
    return f"{place}: {what}" if place else what


def impact_of(finding: Finding) -> str:
    """What it costs, as far as known."""
    impact = finding.impact
    parts = []
    if impact.wasted_seconds_per_request > 0:
        parts.append(f"{impact.wasted_seconds_per_request * 1000:.0f} ms wasted a request")
    if impact.requests_per_second > 0:
        parts.append(f"{impact.requests_per_second:.3g} requests/s")
    if a_day := time_told(impact.wasted_hours_per_day):
        parts.append(f"{a_day} of waiting a day")
    if impact.users_hit > 0:
        parts.append(f"{impact.users_hit} users hit")
    if impact.money_per_hour:
        parts.append(f"{impact.money_per_hour} {impact.currency}".strip() + " an hour")
    return ", ".join(parts)


def evidence_url(finding: Finding) -> str:
    """Where the proof is shown: the trace if there is one, else the finding."""
    if finding.evidence.trace_id:
        return f"/traces/{finding.evidence.trace_id}"
    return f"/findings/{finding.fingerprint}"


def _camel(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


def _path_end(path: str) -> str:
    """The part of a path that a person looks for; the finding has the whole."""
    parts = [part for part in path.split("/") if part]
    return f"…/{'/'.join(parts[-_PATH_PARTS:])}" if len(parts) > _PATH_PARTS else path
