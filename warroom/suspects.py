"""What may have caused an alert: findings and changes of the last hour, and who calls whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from alerts.cause import WINDOW_MS, Change, ProbableCause, candidates_of, rank
from alerts.cause_of_rules import RuleCauses
from alerts.model import Alert
from alerts.state import AlertRecord
from api.shapes import annotation_json
from detectors.finding import Finding
from detectors.repository import FindingRepository
from detectors.topology import Topology
from store.annotations.repository import AnnotationRepository
from store.model import Labels

_LATE_MS = 120_000
# A note is written because of an alert, not the other way round.
_NO_CAUSE = frozenset({"note", "incident"})


class Suspects:
    """Gathers candidates, once a tick for the alerts and at any time for an incident."""

    def __init__(
        self,
        findings: FindingRepository,
        annotations: AnnotationRepository,
        topology: Callable[[int], Topology],
    ) -> None:
        self._findings = findings
        self._annotations = annotations
        self._topology = topology
        self._rules = RuleCauses()
        self.findings: tuple[Finding, ...] = ()
        self.changes: tuple[Change, ...] = ()
        self.topology = topology(0)

    def gather(self, now_ms: int, active: Sequence[Finding]) -> None:
        """The candidates of this tick; those that have ended explain what still fires."""
        lately = self._findings.episodes(now_ms - WINDOW_MS, now_ms)
        known = {finding.fingerprint: finding for finding in (*lately, *active)}
        self.findings = tuple(known.values())
        self.changes = self._changes(now_ms - WINDOW_MS, now_ms)
        self.topology = self._topology(now_ms)
        self._rules.begin(candidates_of(self.findings, self.changes), self.topology)

    def explained(
        self, alerts: Sequence[Alert], records: Callable[[Labels], AlertRecord | None], now_ms: int
    ) -> Sequence[Alert]:
        """The alerts, those of rules with their likeliest cause unless they name one."""
        return [self._explained(alert, records, now_ms) for alert in alerts]

    def ranked(self, labels: Labels, started_ms: int, now_ms: int) -> tuple[ProbableCause, ...]:
        """The likeliest causes of something that began then, as far as is known by now."""
        findings = self._findings.episodes(started_ms - WINDOW_MS, started_ms + _LATE_MS)
        changes = self._changes(started_ms - WINDOW_MS, started_ms)
        candidates = candidates_of(findings, changes)
        return rank(labels, started_ms, candidates, self._topology(now_ms))

    def _changes(self, start_ms: int, end_ms: int) -> tuple[Change, ...]:
        return tuple(
            Change(a.at_ms, a.kind, annotation_json(a)["title"], a.service, ref=a.id, url=a.url)
            for a in self._annotations.between(start_ms, end_ms)
            if a.kind not in _NO_CAUSE
        )

    def _explained(
        self, alert: Alert, records: Callable[[Labels], AlertRecord | None], now_ms: int
    ) -> Alert:
        if alert.source != "rule" or "cause" in alert.annotations:
            return alert
        if alert.labels.get("severity") in {"info", "none"}:
            return alert
        record = records(alert.labels)
        # An alert that ended is kept for a while; this one begins anew.
        lasting = record if record is not None and record.resolved_ms is None else None
        started_ms = lasting.active_ms if lasting is not None else now_ms
        told = self._rules.told(alert.labels, started_ms)
        if not told:
            return alert
        return replace(alert, annotations={**alert.annotations, **told})
