"""Values of the rooms as the JSON that our own API promises: names here are a contract."""

from __future__ import annotations

import math
import re
from typing import Any

from business_metrics.model import KpiReading
from detectors.finding import CodeLocation, Finding, Suppression
from detectors.priority import effort_of, level_of
from slos.model import Outlook, SloStatus, TierReading
from store.annotations.repository import Annotation
from store.timestamps import rfc3339

Json = dict[str, Any]

# Browsers leave tabs and line ends out, and read `//` and `/\\` as the begin of another host.
_LINK = re.compile(r"(?:https?://|/(?![/\\]))[^\x00-\x1f]*")


def is_link(text: str) -> bool:
    """Whether it is a web address, or a path on this host, and so may become a link on a page."""
    return _LINK.fullmatch(text) is not None


def number(value: float | None) -> float | None:
    """A JSON number: NaN and infinities, which JSON lacks, become null."""
    return None if value is None or not math.isfinite(value) else value


def finding_json(finding: Finding) -> Json:
    """One finding, as in `GET /findings`."""
    evidence, impact = finding.evidence, finding.impact
    return {
        "id": finding.fingerprint,
        "fingerprint": finding.fingerprint,
        "kind": finding.kind,
        "priority": finding.priority.value,
        "status": finding.status.value,
        "active": finding.active,
        "title": finding.title,
        "service": finding.service,
        "route": finding.route,
        "occurrences": finding.occurrences,
        "first_seen": rfc3339(finding.first_seen_ms),
        "last_seen": rfc3339(finding.last_seen_ms),
        "evidence": {
            "trace_id": evidence.trace_id,
            "parent_span_id": evidence.parent_span_id,
            "span_ids": list(evidence.span_ids),
            "statement": evidence.statement,
            "statements": list(evidence.statements),
            "repetitions": evidence.repetitions,
            "code": _code_json(evidence.code),
            "series": evidence.series,
            "window": {
                "from": rfc3339(evidence.window_start_ms),
                "to": rfc3339(evidence.window_end_ms),
            }
            if evidence.window_end_ms
            else None,
            "detail": evidence.detail,
        },
        "impact": {
            "level": level_of(finding).value,
            "wasted_seconds_per_request": number(impact.wasted_seconds_per_request),
            "requests_per_second": number(impact.requests_per_second),
            "wasted_hours_per_day": number(impact.wasted_hours_per_day),
            "requests_hit_per_hour": number(impact.requests_hit_per_hour),
            "users_hit": impact.users_hit or None,
            "worst_request": {
                "repetitions": impact.worst_repetitions,
                "wasted_seconds": number(impact.worst_wasted_seconds),
                "wasted_hours_per_day": number(impact.wasted_hours_per_day_at_peak),
            }
            if impact.worst_repetitions
            else None,
            "money_per_hour": impact.money_per_hour,
            "currency": impact.currency,
        },
        "effort": effort_of(finding.kind).value,
        "confidence": finding.confidence,
        "complete": finding.complete,
        "fix": finding.fix,
        "labels": finding.labels,
        "suppression": _suppression_json(finding.suppression),
        "fixed_at": rfc3339(finding.fixed_ms) if finding.fixed_ms else None,
    }


def _suppression_json(suppression: Suppression | None) -> Json | None:
    if suppression is None:
        return None
    return {
        "reason": suppression.reason,
        "until": rfc3339(suppression.until_ms),
        "max_repetitions": suppression.max_repetitions,
    }


def _code_json(code: CodeLocation | None) -> Json | None:
    if code is None:
        return None
    return {
        "file": code.file,
        "line": code.line,
        "function": code.function,
        "inferred": code.inferred,
    }


def slo_json(slo: SloStatus) -> Json:
    """One SLO, as in `GET /slos`."""
    return {
        "name": slo.name,
        "service": slo.service,
        "description": slo.description,
        "objective": slo.objective,
        "window": f"{slo.window_s}s",
        "sli": number(slo.sli),
        "error_budget_remaining": number(slo.error_budget_remaining),
        "burn_rates": {window: number(rate) for window, rate in slo.burn_rates.items()},
        "tiers": [_tier_json(tier) for tier in slo.tiers],
        "state": slo.state.value,
        "exhausts_at": rfc3339(slo.exhausts_at_ms) if slo.exhausts_at_ms else None,
        "statement": slo.statement,
        "bad_events": number(slo.bad_events),
        "total_events": number(slo.total_events),
        "as_of": rfc3339(slo.at_ms),
        "labels": slo.labels,
        "error": slo.error,
        "refused_tiers": list(slo.refused_tiers),
        "period_start": rfc3339(slo.period_start_ms) if slo.period_start_ms is not None else None,
        "resets_at": rfc3339(slo.resets_at_ms) if slo.resets_at_ms is not None else None,
        "outlook": _outlook_json(slo.outlook) if slo.outlook else None,
    }


def _outlook_json(outlook: Outlook) -> Json:
    return {
        "event": outlook.event,
        "from": rfc3339(outlook.starts_ms),
        "to": rfc3339(outlook.ends_ms),
        "expected_events": number(outlook.expected_events),
        "basis": outlook.basis,
        "pace_error_ratio": number(outlook.pace_error_ratio),
        "error_budget_remaining": number(outlook.remaining),
        "allowed_error_ratio": number(outlook.allowed_error_ratio),
        "statement": outlook.statement,
    }


def _tier_json(tier: TierReading) -> Json:
    return {
        "severity": tier.severity,
        "factor": tier.factor,
        "long": f"{tier.long_s}s",
        "short": f"{tier.short_s}s",
        "long_burn": number(tier.long_burn),
        "short_burn": number(tier.short_burn),
        "firing": tier.firing,
        "inhibited": tier.inhibited,
        "reason": tier.reason,
        "budget": tier.budget,
    }


def kpi_json(reading: KpiReading) -> Json:
    """One business figure with what was expected of it."""
    return {
        "kpi": reading.kpi,
        "at": rfc3339(reading.at_ms),
        "value": number(reading.value),
        "unit": reading.unit,
        "expected": number(reading.expected),
        "low": number(reading.low),
        "high": number(reading.high),
        "breached": reading.breached,
        "severity": reading.severity,
        "since": rfc3339(reading.since_ms) if reading.since_ms else None,
        "reason": reading.reason,
        "provisional": reading.provisional,
        "window_seconds": reading.window_s,
        "revenue_at_risk": str(reading.revenue_at_risk)
        if reading.revenue_at_risk is not None
        else None,
        "currency": reading.currency,
        "labels": reading.labels,
        "detail": reading.detail,
    }


def annotation_json(annotation: Annotation) -> Json:
    """One annotation as an event of the timeline."""
    known = not annotation.version or annotation.version in annotation.title
    version = "" if known else f" {annotation.version}"
    return {
        "at": rfc3339(annotation.at_ms),
        "kind": annotation.kind,
        "title": f"{annotation.title}{version}",
        "service": annotation.service,
        "id": annotation.id,
        "ref": annotation.url or annotation.id,
    }
