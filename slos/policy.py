"""Error-budget policies: what is agreed for when a budget runs low, and since when it holds.

Pure. A policy changes nothing by itself: it says what holds, and which deploys broke it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from slos.model import SloStatus

FREEZE = "freeze"
ACTIONS = ("caution", FREEZE)


@dataclass(frozen=True, slots=True)
class Step:
    """At or below this share of the budget, `action` holds."""

    below: float
    action: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """Steps for some SLOs, the lowest first."""

    name: str
    steps: tuple[Step, ...]
    slo_ids: tuple[str, ...]
    description: str = ""

    def step_at(self, left: float) -> Step | None:
        """What holds with so much of the budget left; None when nothing does."""
        return next((step for step in self.steps if left <= step.below), None)


@dataclass(frozen=True, slots=True)
class PolicySpan:
    """A time for which an action holds, or held.

    Attributes:
        remaining: Of the budget, when it began.
        until_ms: None while it holds.
    """

    policy: str
    slo_id: str
    service: str
    action: str
    message: str
    since_ms: int
    remaining: float
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyChanges:
    """What a tick changes: spans that end, with their end, and spans that begin."""

    ended: tuple[PolicySpan, ...] = ()
    begun: tuple[PolicySpan, ...] = ()


def follow(
    policies: Sequence[Policy],
    statuses: Iterable[SloStatus],
    open_spans: Iterable[PolicySpan],
    now_ms: int,
) -> PolicyChanges:
    """Which actions begin and end at this tick.

    A budget that is not known at the moment lifts nothing. An action ends when the budget recovers,
    when another step takes its place, and when its policy or SLO is gone.
    """
    by_id = {f"{status.service}-{status.name}": status for status in statuses}
    holding = {(span.policy, span.slo_id): span for span in open_spans}
    wanted = {
        (policy.name, slo_id): policy
        for policy in policies
        for slo_id in policy.slo_ids
        if slo_id in by_id
    }
    ended = [replace(s, until_ms=now_ms) for key, s in holding.items() if key not in wanted]
    begun: list[PolicySpan] = []
    for key, policy in wanted.items():
        status = by_id[key[1]]
        left = status.error_budget_remaining
        if left is None:
            continue
        span, step = holding.get(key), policy.step_at(left)
        if span is not None and (step is None or step.action != span.action):
            ended.append(replace(span, until_ms=now_ms))
        if step is not None and (span is None or span.action != step.action):
            begun.append(
                PolicySpan(
                    policy=policy.name,
                    slo_id=key[1],
                    service=status.service,
                    action=step.action,
                    message=step.message,
                    since_ms=now_ms,
                    remaining=left,
                )
            )
    return PolicyChanges(tuple(ended), tuple(begun))


def broke(span: PolicySpan, at_ms: int, kind: str, service: str) -> bool:
    """Whether a change is a deploy that a freeze forbids; one without a service is of every one."""
    return (
        span.action == FREEZE
        and kind == "deploy"
        and service in {"", span.service}
        and span.since_ms <= at_ms
        and (span.until_ms is None or at_ms < span.until_ms)
    )
