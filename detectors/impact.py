"""What a finding costs, and how much that hurts.

Wasted time a request is the time on the critical path less the estimated cost of the better form
(one batch instead of N round trips). Times the rate of the requests that have it, it is hours a
day. The impact of a trace finding is

- critical: the waste is felt (`felt_ms` a request) and costs `urgent_hours_per_day`: a worker that
  does nothing else;
- high: it is felt and costs `page_hours_per_day`; or it is a loop of at least `page_repetitions` on
  a hot route with repeats times wasted share of the request at or above `page_weight`. A loop grows
  with the list, so many cheap repeats weigh like few dear ones: 20 repeats are high from a share of
  5 %, 50 from 2 %;
- medium: it is felt and costs half of `page_hours_per_day`;
- low: everything else. So 10 queries of 17 ms in all are low.

`detectors.priority` makes a priority of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from detectors.finding import Finding, Impact
from detectors.priority import ImpactLevel, effort_of, priority_of
from detectors.settings import PrioritySettings

ROWS_COST = 0.05
"""Cost of one more row in a batch, as a part of one single operation's time."""


def batched_seconds(single_s: float, count: int) -> float:
    """Estimated time of the batched form: one round trip and a little for every further row.

    >>> round(batched_seconds(0.001, 21), 6)
    0.002
    """
    return single_s * (1.0 + ROWS_COST * max(count - 1, 0))


@dataclass(frozen=True, slots=True)
class Weighed:
    """An impact and the reason for it, in words."""

    level: ImpactLevel
    reason: str


# Independent steps one after the other are slow when everything is slow: no reason to wake anyone.
_ADVICE = frozenset({"consecutive_queries", "consecutive_calls"})
_MEDIUM_PART = 0.5


def weigh(finding: Finding, settings: PrioritySettings) -> Weighed:
    """The impact of a finding whose request rate is known."""
    if finding.kind in _ADVICE:
        return Weighed(ImpactLevel.LOW, "advice: nothing is broken, it could be faster")
    hours = finding.impact.wasted_hours_per_day
    felt = finding.impact.wasted_seconds_per_request * 1_000 >= settings.felt_ms
    wasted = _told(finding.impact)
    if felt and hours >= settings.urgent_hours_per_day:
        return Weighed(ImpactLevel.CRITICAL, wasted)
    if felt and hours >= settings.page_hours_per_day:
        return Weighed(ImpactLevel.HIGH, wasted)
    share = float(finding.evidence.detail.get("wasted_share", 0.0))
    repeats = finding.evidence.repetitions
    rate = finding.impact.requests_per_second
    hot = rate >= settings.hot_route_per_s
    if hot and repeats >= settings.page_repetitions and repeats * share >= settings.page_weight:
        told = f"{repeats} repeats take {share:.0%} of a request, {rate:.1f} a second"
        return Weighed(ImpactLevel.HIGH, told)
    if felt and hours >= settings.page_hours_per_day * _MEDIUM_PART:
        return Weighed(ImpactLevel.MEDIUM, wasted)
    return Weighed(ImpactLevel.LOW, wasted)


def time_told(hours: float) -> str:
    """A time in words of its size; empty below a second.

    >>> time_told(26.04), time_told(0.4), time_told(0.004), time_told(0.0001)
    ('26.0 h', '24 min', '14 s', '')
    """
    if hours >= 1:
        return f"{hours:.1f} h"
    seconds = hours * 3_600
    if seconds >= 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 1 else ""


def _told(impact: Impact) -> str:
    wasted_ms = impact.wasted_seconds_per_request * 1_000
    told = f"{wasted_ms:.0f} ms" if wasted_ms >= 1 else "less than 1 ms"
    a_day = time_told(impact.wasted_hours_per_day)
    return f"{told} a request, {a_day} a day wasted" if a_day else f"{told} a request"


def priced(
    finding: Finding,
    requests_per_second: float,
    settings: PrioritySettings,
    hit_share: float = 1.0,
) -> Finding:
    """The finding with its rate, its priority and the reason of it."""
    impact = replace(finding.impact, requests_per_second=requests_per_second, hit_share=hit_share)
    known = replace(finding, impact=impact)
    weighed = weigh(known, settings)
    detail = {
        **known.evidence.detail,
        "impact_level": weighed.level.value,
        "priority_reason": weighed.reason,
    }
    return replace(
        known,
        priority=priority_of(weighed.level, effort_of(finding.kind)),
        evidence=replace(known.evidence, detail=detail),
    )
