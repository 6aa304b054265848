"""Findings of many traces to one finding a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from detectors.extent import merged_users, worst_request
from detectors.finding import Finding

# Steps that could run together: nothing new where most of them are found for themselves.
_ADVICE = frozenset({"consecutive_calls", "consecutive_queries"})


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """One finding a fingerprint, whatever the order they come in.

    The evidence is that of the worst trace (complete before incomplete, then most repeats);
    repeats of one trace that lie under several parents add up; waste is the mean over the traces.
    """
    return [merged for merged, _ in merge_of_traces(findings)]


def merge_of_traces(findings: Iterable[Finding]) -> list[tuple[Finding, list[Finding]]]:
    """Likewise, each with what it is merged from, one finding a trace."""
    by_trace: dict[tuple[str, str], list[Finding]] = {}
    for finding in _one_a_cause(list(findings)):
        key = (finding.fingerprint, finding.evidence.trace_id)
        by_trace.setdefault(key, []).append(finding)
    by_fingerprint: dict[str, list[Finding]] = {}
    for (fingerprint, _), parts in sorted(by_trace.items()):
        by_fingerprint.setdefault(fingerprint, []).append(_of_one_trace(parts))
    return [(_of_many_traces(parts), parts) for parts in by_fingerprint.values()]


def _one_a_cause(findings: list[Finding]) -> list[Finding]:
    """Without advice to run operations together of which most have a finding of their own."""
    told: dict[str, set[str]] = {}
    for finding in findings:
        if finding.kind not in _ADVICE:
            told.setdefault(finding.evidence.trace_id, set()).update(finding.evidence.span_ids)
    return [
        finding
        for finding in findings
        if finding.kind not in _ADVICE
        or 2 * len(told.get(finding.evidence.trace_id, set()) & set(finding.evidence.span_ids))
        < len(finding.evidence.span_ids)
    ]


def _of_one_trace(parts: list[Finding]) -> Finding:
    worst = max(parts, key=_weight)
    if len(parts) == 1:
        return worst
    repeats = sum(part.evidence.repetitions for part in parts)
    wasted = sum(part.impact.wasted_seconds_per_request for part in parts)
    share = min(1.0, sum(_share(part) for part in parts))
    return replace(
        worst,
        first_seen_ms=min(part.first_seen_ms for part in parts),
        last_seen_ms=max(part.last_seen_ms for part in parts),
        evidence=replace(
            worst.evidence,
            repetitions=repeats,
            detail={**worst.evidence.detail, "wasted_share": share},
        ),
        impact=replace(
            worst.impact,
            wasted_seconds_per_request=wasted,
            worst_wasted_seconds=wasted,
            worst_repetitions=repeats,
        ),
    )


def _of_many_traces(parts: list[Finding]) -> Finding:
    worst = max(parts, key=_weight)
    mean = sum(part.impact.wasted_seconds_per_request for part in parts) / len(parts)
    share = sum(_share(part) for part in parts) / len(parts)
    users = merged_users(part.evidence.users for part in parts)
    wasted, repeats = worst_request(parts)
    detail = dict(worst.evidence.detail)
    if "wasted_share" in detail:
        detail["wasted_share"] = round(share, 4)
    return replace(
        worst,
        first_seen_ms=min(part.first_seen_ms for part in parts),
        last_seen_ms=max(part.last_seen_ms for part in parts),
        occurrences=len(parts),
        evidence=replace(worst.evidence, detail=detail, users=users),
        impact=replace(
            worst.impact,
            wasted_seconds_per_request=mean,
            worst_wasted_seconds=wasted,
            worst_repetitions=repeats,
        ),
    )


def _share(finding: Finding) -> float:
    return float(finding.evidence.detail.get("wasted_share", 0.0))


def _weight(finding: Finding) -> tuple[bool, int, float, int, str, str]:
    return (
        finding.complete,
        finding.evidence.repetitions,
        finding.impact.wasted_seconds_per_request,
        -finding.first_seen_ms,
        finding.evidence.trace_id,
        finding.evidence.parent_span_id,
    )
