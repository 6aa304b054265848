"""The steps of escalations: who is told now, who next, and when it stops. Pure.

A receiver with an `escalation_policy` has an integration of the kind `escalation`. What dispatch
decides to tell it is not sent: it begins, or ends, an escalation, whose steps tell people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from alerts.notification import EventAction, Notice
from alerts.on_call.model import OnCall, Policy, Step
from alerts.on_call.who import who_is_on_call
from alerts.route_tree import ESCALATION, Routing

# Kinds of integrations that can be told who took an incident.
ACKNOWLEDGING = frozenset({"pagerduty", "opsgenie", ESCALATION})


class EscalationState(StrEnum):
    """Why the next person is told, or is not."""

    RUNNING = "running"
    WAITS = "incident_is_not_open"
    EXHAUSTED = "all_steps_taken"
    NO_POLICY = "policy_is_gone"


@dataclass(frozen=True, slots=True)
class Escalation:
    """One group at one policy.

    Attributes:
        lane: Of the group at the integration `escalation`.
        first: What dispatch said at the beginning; each step's message is made of it.
        step: The next step, from 0.
        turn: How often all steps were taken before.
        next_ms: When the next step is due; it counts while the state is `running`.
        told: Receivers that were told, in order.
    """

    lane: str
    policy: str
    first: Notice
    step: int
    turn: int
    next_ms: int
    state: EscalationState = EscalationState.RUNNING
    told: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        return self.state is EscalationState.RUNNING


@dataclass(slots=True)
class EscalationChanges:
    """Messages to send, escalations to keep as they are now, and lanes of those that ended."""

    notices: list[Notice] = field(default_factory=list)
    kept: dict[str, Escalation] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


def follow(
    before: Mapping[str, Escalation],
    notices: Iterable[Notice],
    open_incidents: Collection[str],
    routing: Routing,
    now_ms: int,
) -> EscalationChanges:
    """Bring escalations up to this tick.

    Args:
        before: Those that have not ended, by lane.
        notices: What dispatch decided; those for other integrations pass through.
        open_incidents: Incidents that nobody has taken yet.
        routing: The configuration in force.
        now_ms: The tick.
    """
    changes = EscalationChanges()
    running = dict(before)
    for notice in notices:
        if not is_escalation(notice, routing):
            changes.notices.append(notice)
        elif notice.action is EventAction.TRIGGER:
            if notice.lane not in running:
                running[notice.lane] = _begun(notice, routing, now_ms)
        elif notice.lane in running:
            ended = running.pop(notice.lane)
            changes.notices += spread(notice, ended.told, routing)
            changes.ended.add(notice.lane)
    for lane, escalation in running.items():
        now = _advanced(escalation, open_incidents, routing, now_ms, changes.notices)
        if now != before.get(lane):
            changes.kept[lane] = now
    return changes


def is_escalation(notice: Notice, routing: Routing) -> bool:
    """The notice is meant for a policy, not for the network."""
    receiver = routing.receivers.get(notice.receiver)
    if receiver is None or notice.integration >= len(receiver.integrations):
        return False
    return receiver.integrations[notice.integration].kind == ESCALATION


def spread(notice: Notice, told: Sequence[str], routing: Routing) -> list[Notice]:
    """A notice for a policy, as messages to the receivers that its steps told."""
    return [
        message
        for name in told
        for message in _to_receiver(notice, name, routing, notice.id, notice.reason)
    ]


def people(step: Step, on_call: OnCall, now_ms: int) -> tuple[str, ...]:
    """Receivers of those whom a step tells now; none when nobody is on call."""
    names = [who_is_on_call(on_call.schedules[s], now_ms).user for s in step.schedules]
    users = [on_call.users[name] for name in (*names, *step.users) if name]
    return tuple(dict.fromkeys(receiver for user in users for receiver in user.receivers))


def by_hand(
    running: Mapping[str, Escalation], notices: Iterable[Notice], routing: Routing
) -> EscalationChanges:
    """What a person does to an incident is told to those whom its escalations told.

    An end by hand ends them; after an acknowledgement the next tick finds that they wait.
    """
    changes = EscalationChanges()
    for notice in notices:
        if not is_escalation(notice, routing):
            changes.notices.append(notice)
        elif notice.lane in running:
            changes.notices += spread(notice, running[notice.lane].told, routing)
            if notice.action is EventAction.RESOLVE:
                changes.ended.add(notice.lane)
    return changes


def drilled(notices: Iterable[Notice], routing: Routing, now_ms: int) -> tuple[Notice, ...]:
    """A drill's notices; those for a policy go to whom its first step would tell now."""
    found: list[Notice] = []
    for notice in notices:
        if not is_escalation(notice, routing):
            found.append(notice)
            continue
        policy = _policy(notice, routing)
        told = people(policy.steps[0], routing.on_call, now_ms) if policy else ()
        found += spread(notice, told, routing)
    return tuple(found)


def _policy(notice: Notice, routing: Routing) -> Policy | None:
    return routing.on_call.policies.get(routing.receivers[notice.receiver].escalation_policy)


def _begun(notice: Notice, routing: Routing, now_ms: int) -> Escalation:
    name = routing.receivers[notice.receiver].escalation_policy
    policy = routing.on_call.policies.get(name)
    delay_ms = policy.steps[0].delay_ms if policy else 0
    return Escalation(notice.lane, name, notice, 0, 0, now_ms + delay_ms)


def _advanced(
    escalation: Escalation,
    open_incidents: Collection[str],
    routing: Routing,
    now_ms: int,
    notices: list[Notice],
) -> Escalation:
    policy = routing.on_call.policies.get(escalation.policy)
    if policy is None:
        return replace(escalation, state=EscalationState.NO_POLICY)
    incident_id = escalation.first.incident_id
    if incident_id and incident_id not in open_incidents:
        return replace(escalation, state=EscalationState.WAITS)
    if escalation.state is EscalationState.WAITS:
        # Whoever took it gave it back, or did nothing for too long: from the beginning.
        escalation = replace(
            escalation,
            state=EscalationState.RUNNING,
            step=0,
            turn=escalation.turn + 1,
            next_ms=now_ms,
        )
    while escalation.running and escalation.next_ms <= now_ms:
        escalation = _taken(escalation, policy, routing, now_ms, notices)
    return escalation


def _taken(
    escalation: Escalation,
    policy: Policy,
    routing: Routing,
    now_ms: int,
    notices: list[Notice],
) -> Escalation:
    """The escalation after its next step; a step that finds nobody leads to the next at once."""
    number = min(escalation.step, len(policy.steps) - 1)
    told = people(policy.steps[number], routing.on_call, now_ms)
    reason = f"escalation_step_{number + 1}"
    for name in told:
        identity = f"{escalation.lane}\n{escalation.first.id}\n{escalation.turn}\n{number}"
        first = replace(escalation.first, created_ms=now_ms)
        notices += _to_receiver(first, name, routing, identity, reason)
    after = replace(escalation, told=tuple(dict.fromkeys((*escalation.told, *told))))
    return _next(after, policy, number, now_ms, found=bool(told))


def _next(
    escalation: Escalation, policy: Policy, number: int, now_ms: int, *, found: bool
) -> Escalation:
    if number + 1 < len(policy.steps):
        delay_ms = policy.steps[number + 1].delay_ms if found else 0
        return replace(escalation, step=number + 1, next_ms=now_ms + delay_ms)
    if escalation.turn < policy.repeat:
        longest_ms = max(step.delay_ms for step in policy.steps)
        delay_ms = policy.steps[0].delay_ms or longest_ms
        return replace(escalation, step=0, turn=escalation.turn + 1, next_ms=now_ms + delay_ms)
    return replace(escalation, state=EscalationState.EXHAUSTED)


def _to_receiver(
    notice: Notice, name: str, routing: Routing, identity: str, reason: str
) -> list[Notice]:
    receiver = routing.receivers.get(name)
    found = []
    for index, integration in enumerate(receiver.integrations if receiver else ()):
        unwanted = (
            integration.kind not in ACKNOWLEDGING
            if notice.action is EventAction.ACKNOWLEDGE
            else notice.action is EventAction.RESOLVE and not integration.send_resolved
        )
        if unwanted or integration.kind == ESCALATION:
            continue
        digest = hashlib.sha256(f"{identity}\n{name}\n{index}\n{notice.action}".encode())
        found.append(
            replace(
                notice,
                id=f"msg_{digest.hexdigest()[:32]}",
                lane=f"{notice.lane}/to/{index}/{name}",
                receiver=name,
                integration=index,
                reason=reason,
            )
        )
    return found
