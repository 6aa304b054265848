"""The sources of a board's panels as they stood at an earlier instant.

Graphs and figures come from the stored series; alerts from the series Prometheus keeps of them and
from the incident log; findings from their history. What nobody recorded says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from alerts.silences import Silence
from api.panels.view import NotRecorded, PanelSources
from api.replay.alerts_then import IncidentLog, alerts_at
from api.replay.figures import kpis_at, slos_at
from api.shapes import finding_json
from business_metrics.memory import Breach
from detectors.decision import HistoryEntry
from detectors.finding import Finding, FindingStatus

Json = dict[str, Any]
_STATUSES = {
    "suppressed": FindingStatus.SUPPRESSED,
    "reopened": FindingStatus.OPEN,
    "expired": FindingStatus.OPEN,
    "fixed": FindingStatus.FIXED,
    "regressed": FindingStatus.REGRESSED,
}
_SUPPRESSED = FindingStatus.SUPPRESSED
_BEGINS = frozenset({"opened", "returned", "regressed"})
_ENDED_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Histories:
    """Where what was known then is kept."""

    breaches: Callable[[str, int], Sequence[Breach]]
    incidents: IncidentLog
    silences: Callable[[], Sequence[Silence]]
    findings: Callable[[], Sequence[Finding]]
    finding_history: Callable[[], Sequence[HistoryEntry]]


def sources_at(now: PanelSources, histories: Histories, at_ms: int) -> PanelSources:
    """What panels may look at when they are computed for an earlier instant."""

    def findings() -> list[Json]:
        return findings_at(histories.findings(), histories.finding_history(), at_ms)

    return replace(
        now,
        kpis=lambda: kpis_at(now.querier, histories.breaches, at_ms),
        slos=lambda: slos_at(now.querier, now.slos(), at_ms),
        alerts=lambda: alerts_at(now.querier, histories.incidents, histories.silences(), at_ms),
        findings=findings,
        sources=_freshness,
        # Events may have been brought in since: only what was recorded was known for sure.
        kpi_then=lambda _kpi, _then_ms: None,
    )


def _freshness(_now_ms: int) -> NoReturn:
    raise NotRecorded("not recorded: how fresh each source was is known for now only")


def findings_at(
    findings: Sequence[Finding], history: Iterable[HistoryEntry], at_ms: int
) -> list[Json]:
    """Findings that were known then, active ones first.

    Only changes of state have a history. The evidence is what was last seen of each, and
    `evidence_known_later` says that this was after the instant.
    """
    later = {f.fingerprint for f in findings if f.last_seen_ms > at_ms}
    states: dict[str, tuple[bool, FindingStatus, int]] = {}
    for entry in history:
        if entry.at_ms > at_ms:
            continue
        active, status, since_ms = states.get(
            entry.finding_id, (False, FindingStatus.OPEN, entry.at_ms)
        )
        if entry.event in _BEGINS and not active:
            active, since_ms = True, entry.at_ms
        elif entry.event in {"ended", "fixed"}:
            active = False
        states[entry.finding_id] = (active, _STATUSES.get(entry.event, status), since_ms)
    known = []
    for finding in findings:
        if finding.fingerprint in states:
            active, status, since_ms = states[finding.fingerprint]
            seen_ms = at_ms if active else min(finding.last_seen_ms, at_ms)
            known.append(
                replace(
                    finding,
                    active=active,
                    status=status,
                    first_seen_ms=since_ms,
                    last_seen_ms=seen_ms,
                    suppression=finding.suppression if status is _SUPPRESSED else None,
                    fixed_ms=finding.fixed_ms if status is FindingStatus.FIXED else 0,
                )
            )
    active_then = sorted((f for f in known if f.active), key=lambda f: f.priority.value)
    ended = sorted((f for f in known if not f.active), key=lambda f: -f.last_seen_ms)
    return [
        {**finding_json(finding), "evidence_known_later": finding.fingerprint in later}
        for finding in (*active_then, *ended[:_ENDED_SHOWN])
    ]
