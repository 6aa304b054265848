"""The steps of escalations: who is told now, who next, and when it stops. Pure.

A receiver with an `escalation_policy` has an integration of the kind `escalation`. What dispatch
decides to tell it is not sent: it begins, or ends, an escalation, whose steps tell people. What an
escalation does at a tick follows from its group as it is then and from the policy in force then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from alerts.escalation.group_now import GroupNow
from alerts.escalation.lanes import KEYED, lane_to
from alerts.notification import EventAction, Notice
from alerts.on_call.model import OnCall, Policy, Step
from alerts.on_call.who import who_is_on_call
from alerts.route_tree import ESCALATION, Routing
from alerts.stages.dedup import DedupReason

# Kinds of integrations that can be told who took an incident.
ACKNOWLEDGING = KEYED | {ESCALATION}


class EscalationState(StrEnum):
    """Why the next person is told, or is not."""

    RUNNING = "running"
    WAITS = "incident_is_not_open"
    EXHAUSTED = "all_steps_taken"
    NO_POLICY = "policy_is_gone"
    NOBODY = "nobody_is_on_call"


@dataclass(frozen=True, slots=True)
class Escalation:
    """One group at one policy.

    Attributes:
        lane: Of the group at the integration `escalation`.
        policy: Of the receiver when it was looked at last.
        first: What dispatch said at the beginning, with the incident that is waited for now.
        step: The next step, from 0; those that found nobody are not counted as taken.
        turn: How often all steps were taken since it began, or began again.
        next_ms: When the next step is due; it counts while the escalation is under way.
        told: Receivers that were told, in order.
        incidents: Open incidents of the group that it runs for.
    """

    lane: str
    policy: str
    first: Notice
    step: int
    turn: int
    next_ms: int
    state: EscalationState = EscalationState.RUNNING
    told: tuple[str, ...] = ()
    incidents: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Steps are still to be taken; also while nobody is on call who could be told."""
        return self.state in {EscalationState.RUNNING, EscalationState.NOBODY}


@dataclass(slots=True)
class EscalationChanges:
    """Messages to send, escalations to keep as they are now, and lanes of those that ended."""

    notices: list[Notice] = field(default_factory=list)
    kept: dict[str, Escalation] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


def follow(
    before: Mapping[str, Escalation],
    notices: Iterable[Notice],
    groups: Mapping[str, GroupNow],
    routing: Routing,
    now_ms: int,
) -> EscalationChanges:
    """Bring escalations up to this tick.

    Args:
        before: Those that have not ended, by lane.
        notices: What dispatch decided; those for other integrations pass through.
        groups: By lane, of `before` and of the notices.
        routing: The configuration in force.
        now_ms: The tick.
    """
    changes = EscalationChanges()
    running, repeated = dict(before), set()
    for notice in notices:
        if not is_escalation(notice, routing):
            changes.notices.append(notice)
        elif notice.action is EventAction.TRIGGER:
            running.setdefault(notice.lane, _begun(notice, routing, now_ms))
            if notice.reason == DedupReason.REPEAT_INTERVAL_ELAPSED:
                repeated.add(notice.lane)
        elif notice.lane in running:
            ended = running.pop(notice.lane)
            changes.notices += spread(notice, ended.told, routing)
            changes.ended.add(notice.lane)
    for lane, escalation in running.items():
        look = _Look(groups.get(lane, GroupNow()), routing, now_ms, changes.notices)
        if not is_escalation(escalation.first, routing):
            look.hand_over(escalation)
            changes.ended.add(lane)
            continue
        now = look.advanced(escalation, repeated=lane in repeated)
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

    An end by hand ends them, an incident that is open again begins one. What is acknowledged is no
    incident that they run for any more, so that one which is given back at once counts as new.
    """
    changes = EscalationChanges()
    for notice in notices:
        if not is_escalation(notice, routing):
            changes.notices.append(notice)
        elif notice.lane not in running:
            if notice.action is EventAction.TRIGGER:
                changes.kept[notice.lane] = _begun(notice, routing, notice.created_ms)
        elif notice.action is not EventAction.TRIGGER:
            now = running[notice.lane]
            changes.notices += spread(notice, now.told, routing)
            if notice.action is EventAction.RESOLVE:
                changes.ended.add(notice.lane)
            else:
                left = tuple(one for one in now.incidents if one != notice.incident_id)
                changes.kept[notice.lane] = replace(now, incidents=left)
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
    incidents = (notice.incident_id,)
    return Escalation(notice.lane, name, notice, 0, 0, now_ms + delay_ms, incidents=incidents)


@dataclass(frozen=True, slots=True)
class _Look:
    """One escalation's group at a tick; what must be said is added to `notices`."""

    group: GroupNow
    routing: Routing
    now_ms: int
    notices: list[Notice]

    def advanced(self, escalation: Escalation, *, repeated: bool) -> Escalation:
        """The escalation after this tick; `repeated`: `repeat_interval` is over."""
        policy = _policy(escalation.first, self.routing)
        if policy is None:
            ended = escalation.state is EscalationState.EXHAUSTED
            return escalation if ended else replace(escalation, state=EscalationState.NO_POLICY)
        escalation = replace(escalation, policy=policy.name)
        if not self.group.open_incidents:
            waits = replace(escalation, state=EscalationState.WAITS, incidents=())
            ended_by_hand = bool(self.group.alerts) and not self.group.taken
            return self._reminded(waits, policy) if repeated and ended_by_hand else waits
        escalation = self._joined(escalation, policy)
        while escalation.running and escalation.next_ms <= self.now_ms:
            escalation = self._taken(escalation, policy)
            if escalation.state is EscalationState.NOBODY:
                break
        return escalation

    def hand_over(self, escalation: Escalation) -> None:
        """The receiver has no policy any more: end it, and tell what stands in its place."""
        first, name = escalation.first, escalation.first.receiver
        identity = f"{escalation.lane}\n{self.now_ms}\nhand_over"
        end = replace(first, action=EventAction.RESOLVE, created_ms=self.now_ms)
        for other in escalation.told:
            reason = "receiver_has_no_policy"
            self.notices.extend(_to_receiver(end, other, self.routing, identity, reason))
        receiver = self.routing.receivers.get(name)
        if receiver and first.integration < len(receiver.integrations) and self.group.alerts:
            digest = hashlib.sha256(identity.encode()).hexdigest()
            now = self._notice(escalation)
            self.notices.append(
                replace(now, id=f"msg_{digest[:32]}", reason="receiver_has_no_policy")
            )

    def _joined(self, escalation: Escalation, policy: Policy) -> Escalation:
        """The escalation with the incidents that are open now.

        It goes on while one that it runs for is open; those who were told hear of the others at
        once. Otherwise, or when all steps were taken before the others opened, it begins again.
        """
        known = self.group.open_incidents & set(escalation.incidents)
        new = self.group.open_incidents - known
        if self.group.lead != escalation.first.incident_id:
            first = replace(escalation.first, incident_id=self.group.lead)
            escalation = replace(escalation, first=first)
        exhausted = escalation.state is EscalationState.EXHAUSTED
        escalation = replace(escalation, incidents=tuple(sorted(self.group.open_incidents)))
        if not known or (exhausted and new):
            return replace(
                escalation,
                state=EscalationState.RUNNING,
                step=0,
                turn=0,
                next_ms=self.now_ms + policy.steps[0].delay_ms,
            )
        if new:
            self._tell(escalation, escalation.told, "new_incident_in_group")
        if escalation.state is EscalationState.NO_POLICY:
            return replace(escalation, state=EscalationState.RUNNING)
        return escalation

    def _taken(self, escalation: Escalation, policy: Policy) -> Escalation:
        """The escalation after its next step; a step that finds nobody leads to the next at once.

        A policy that finds nobody at all stays due: somebody may come on duty.
        """
        number, found = self._reached(policy, escalation.step)
        if not found and escalation.step == 0:
            return replace(escalation, state=EscalationState.NOBODY)
        self._tell(escalation, found, f"escalation_step_{number + 1}")
        told = tuple(dict.fromkeys((*escalation.told, *found)))
        after = replace(escalation, state=EscalationState.RUNNING, told=told)
        return _next(after, policy, number, self.now_ms)

    def _reminded(self, escalation: Escalation, policy: Policy) -> Escalation:
        """What was ended by hand and still fires is told to whom the first step finds, once."""
        _, found = self._reached(policy, 0)
        self._tell(escalation, found, str(DedupReason.REPEAT_INTERVAL_ELAPSED))
        return replace(escalation, told=tuple(dict.fromkeys((*escalation.told, *found))))

    def _reached(self, policy: Policy, step: int) -> tuple[int, tuple[str, ...]]:
        """The first step from this one on that finds somebody, with whom."""
        for number, one in enumerate(policy.steps[step:], step):
            if found := people(one, self.routing.on_call, self.now_ms):
                return number, found
        return len(policy.steps), ()

    def _tell(self, escalation: Escalation, names: Iterable[str], reason: str) -> None:
        identity = f"{escalation.lane}\n{self.now_ms}\n{escalation.turn}\n{reason}"
        for name in names:
            notice = self._notice(escalation)
            self.notices.extend(_to_receiver(notice, name, self.routing, identity, reason))

    def _notice(self, escalation: Escalation) -> Notice:
        """What a step says: of the group as it is now."""
        first = escalation.first
        # A storm's own alert, which speaks for the others, is no record.
        lead = tuple(alert for alert in first.alerts if alert.fingerprint == first.dedup_key)
        return replace(
            first,
            action=EventAction.TRIGGER,
            alerts=(*lead, *self.group.alerts),
            dedup_key=self.group.dedup_key or first.dedup_key,
            incident_id=self.group.lead or first.incident_id,
            created_ms=self.now_ms,
        )


def _next(escalation: Escalation, policy: Policy, number: int, now_ms: int) -> Escalation:
    if number + 1 < len(policy.steps):
        delay_ms = policy.steps[number + 1].delay_ms
        return replace(escalation, step=number + 1, next_ms=now_ms + delay_ms)
    if escalation.turn < policy.repeat:
        longest_ms = max(step.delay_ms for step in policy.steps)
        delay_ms = policy.steps[0].delay_ms or longest_ms
        return replace(escalation, step=0, turn=escalation.turn + 1, next_ms=now_ms + delay_ms)
    return replace(escalation, step=len(policy.steps) - 1, state=EscalationState.EXHAUSTED)


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
                lane=lane_to(notice, name, index, routing),
                receiver=name,
                integration=index,
                reason=reason,
            )
        )
    return found
