"""Burning SLOs, as alerts: one an SLO and severity."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from alerts.cause import Change, candidates_of, cause_annotations
from alerts.model import Alert
from alerts.template_functions import TemplateContext
from alerts.templates import render_or_explain
from detectors.finding import Finding
from detectors.topology import NO_CALLS, Topology
from slos.model import SloState, SloStatus, TierReading
from store.model import Labels, UnitHealth
from store.timestamps import rfc3339


def alerts_of(
    statuses: Iterable[SloStatus],
    external_url: str = "",
    findings: Iterable[Finding] = (),
    changes: Iterable[Change] = (),
    topology: Topology = NO_CALLS,
) -> list[Alert]:
    """`ErrorBudgetBurn` for each SLO and severity of which any tier fires.

    Args:
        statuses: The SLOs at this tick.
        external_url: Goes before the evidence's path.
        findings: Active faults, and
        changes: what changed in the last hour: the likeliest of both becomes the cause.
        topology: Who calls whom.
    """
    suspects = candidates_of(findings, changes), topology
    alerts = []
    for status in statuses:
        fastest: dict[str, TierReading] = {}
        for tier in status.tiers:
            known = fastest.get(tier.severity)
            told = tier.firing and not tier.inhibited
            if told and (known is None or tier.factor > known.factor):
                fastest[tier.severity] = tier
        alerts += [_alert(status, tier, external_url, suspects) for tier in fastest.values()]
    return alerts


def unknown_units(statuses: Iterable[SloStatus], health: Iterable[UnitHealth]) -> frozenset[str]:
    """Units (`Alert.unit`) of the SLOs without data or whose evaluation failed."""
    silent = {f"{s.service}-{s.name}" for s in statuses if s.state is SloState.NO_DATA or s.error}
    failed = {unit.unit.removeprefix("slo:") for unit in health if not unit.ok}
    return frozenset(f"slo:{name}" for name in silent | failed)


def _alert(
    status: SloStatus,
    tier: TierReading,
    external_url: str,
    suspects: tuple[list[Change], Topology],
) -> Alert:
    burn = tier.long_burn or 0.0
    name = status.alert_name or "ErrorBudgetBurn"
    labels = {
        **status.labels,
        **status.severity_labels.get(tier.severity, {}),
        "alertname": name,
        "service": status.service,
        "slo": status.name,
    }
    labels.setdefault("severity", tier.severity)
    context = TemplateContext(now_ms=status.at_ms, external_url=external_url)
    written = {**status.annotations, **status.severity_annotations.get(tier.severity, {})}
    told = {
        key: render_or_explain(name, text, labels, burn, context) for key, text in written.items()
    }
    identity = Labels.of(labels)
    since_ms = status.at_ms if tier.since_ms is None else tier.since_ms
    return Alert(
        labels=identity,
        annotations={
            "summary": f"{status.name}: error budget burning {burn:.3g}× too fast",
            **cause_annotations(identity, since_ms, suspects[0], _cause(status, tier), suspects[1]),
            "since": rfc3339(since_ms),
            "impact": _impact(status),
            "fix": "look at what changed just before, and at the slowest and failing routes",
            "evidence_url": f"{external_url.rstrip('/')}/slos?slo={quote(status.name)}",
            # What the author wrote comes before what is worked out.
            **told,
        },
        value=burn,
        since_ms=since_ms,
        source="burn_rate",
        unit=f"slo:{status.service}-{status.name}",
    )


def _cause(status: SloStatus, tier: TierReading) -> str:
    if tier.statement or status.statement:
        return tier.statement or status.statement
    return (
        f"burn rate {tier.long_burn or 0:.3g} over {tier.long_s} s and {tier.short_burn or 0:.3g} "
        f"over {tier.short_s} s, both above {tier.factor:g}; objective {status.objective:.4%}"
    )


def _impact(status: SloStatus) -> str:
    parts = []
    if status.bad_events is not None and status.total_events is not None:
        parts.append(f"{status.bad_events:.0f} of {status.total_events:.0f} events were bad")
    if status.error_budget_remaining is not None:
        parts.append(_budget(status.error_budget_remaining))
    if status.exhausts_at_ms is not None:
        parts.append(f"it runs out at {rfc3339(status.exhausts_at_ms)}")
    return ", ".join(parts)


def _budget(left: float) -> str:
    if left >= 0:
        return f"{left:.1%} of the error budget is left"
    return f"the error budget is spent {1 - left:.3g} times over"
