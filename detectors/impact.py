"""What a finding costs, and whether that may wake somebody.

Wasted time a request is the time on the critical path less the estimated cost of the better form
(one batch instead of N round trips). Times the request rate it is hours a day.

A trace finding pages (P1) when one of these holds:

- a loop of at least `page_repetitions` on a hot route with repeats times wasted share of the
  request at or above `page_weight`. A loop grows with the list, so many cheap repeats weigh like
  few dear ones: 20 repeats page from a share of 5 %, 50 from 2 %;
- the waste is felt (`felt_ms` a request) and costs `page_hours_per_day` or more.

It is P0 when it is felt and costs `urgent_hours_per_day`: a worker that does nothing else.
Everything else is P2: listed, paging nobody. So 10 queries of 17 ms in all stay P2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from detectors.finding import Finding, Impact, Priority
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
    """A priority and the reason for it, in words."""

    priority: Priority
    reason: str


# Independent steps one after the other are slow when everything is slow: no reason to wake anyone.
_ADVICE = frozenset({"consecutive_queries", "consecutive_calls"})


def weigh(finding: Finding, settings: PrioritySettings) -> Weighed:
    """The priority of a finding whose request rate is known."""
    if finding.kind in _ADVICE:
        return Weighed(Priority.P2, "advice: nothing is broken, it could be faster")
    wasted_ms = finding.impact.wasted_seconds_per_request * 1_000
    hours = finding.impact.wasted_hours_per_day
    felt = wasted_ms >= settings.felt_ms
    if felt and hours >= settings.urgent_hours_per_day:
        return Weighed(Priority.P0, f"{hours:.1f} h a day wasted")
    if felt and hours >= settings.page_hours_per_day:
        return Weighed(Priority.P1, f"{hours:.1f} h a day wasted")
    share = float(finding.evidence.detail.get("wasted_share", 0.0))
    repeats = finding.evidence.repetitions
    rate = finding.impact.requests_per_second
    hot = rate >= settings.hot_route_per_s
    many = repeats >= settings.page_repetitions
    if hot and many and repeats * share >= settings.page_weight:
        return Weighed(
            Priority.P1, f"{repeats} repeats take {share:.0%} of a request, {rate:.1f} a second"
        )
    return Weighed(Priority.P2, "low impact")


def priced(finding: Finding, requests_per_second: float, settings: PrioritySettings) -> Finding:
    """The finding with its rate, its priority and the reason of it."""
    impact = Impact(
        finding.impact.wasted_seconds_per_request,
        requests_per_second,
        finding.impact.money_per_hour,
    )
    known = replace(finding, impact=impact)
    weighed = weigh(known, settings)
    detail = {**known.evidence.detail, "priority_reason": weighed.reason}
    return replace(
        known, priority=weighed.priority, evidence=replace(known.evidence, detail=detail)
    )
