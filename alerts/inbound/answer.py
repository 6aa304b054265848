"""What Warroom does about a wish of a paging service, with a named reason. Pure."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from alerts.inbound.messages import Inbound, Wish
from alerts.incidents import Incident, IncidentState


class Answer(StrEnum):
    """What becomes of a wish."""

    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    REOPENED = "reopened"
    NOTED = "noted_only_a_part_of_the_incident"
    UNKNOWN = "no_such_incident"
    ECHO = "echo_of_our_own_message"
    NOTHING_NEW = "nothing_new"
    OLD = "older_than_the_incident"


def decide(
    wish: Inbound,
    incident: Incident | None,
    told: Collection[str] | None,
    reopened_ms: int = 0,
) -> Answer:
    """Judge a wish.

    Args:
        wish: What was asked.
        incident: The incident that it is about, if there is one.
        told: Alerts that the service was told of under the dedup key; None when it named the
            incident itself.
        reopened_ms: When the incident was given back last. A service sends again what was not
            taken, so that an acknowledgement may come after it; in doubt people are paged.
    """
    if incident is None:
        return Answer.UNKNOWN
    if wish.at_ms is not None and wish.at_ms < incident.detected_ms - 60_000:
        return Answer.OLD
    if wish.at_ms is not None and wish.at_ms < _changed_ms(wish, incident, reopened_ms):
        return Answer.OLD
    match wish.wish:
        case Wish.ACKNOWLEDGE:
            return _acknowledge(wish, incident)
        case Wish.RESOLVE:
            return _resolve(wish, incident, told)
        case Wish.REOPEN:
            is_open = incident.state is IncidentState.OPEN
            return Answer.NOTHING_NEW if is_open else Answer.REOPENED


def done_ms(wish: Inbound, incident: Incident, now_ms: int) -> int:
    """When it was done, by the service's clock: messages may reach us late, and out of order.

    Kept so that what is done later there is known to be later. Never before the incident's last
    alert, nor after now.
    """
    if wish.at_ms is None:
        return now_ms
    last_ms = max((part.fired_ms for part in incident.alerts), default=incident.detected_ms)
    earliest_ms = last_ms if wish.wish is Wish.RESOLVE else incident.detected_ms
    return min(max(wish.at_ms, earliest_ms), now_ms)


def _changed_ms(wish: Inbound, incident: Incident, reopened_ms: int) -> int:
    """When what the wish would undo was done: a message from before, or sent again, is no news."""
    if wish.wish is not Wish.REOPEN:
        return reopened_ms
    return max(incident.acknowledged_ms or 0, incident.resolved_ms or 0)


def _acknowledge(wish: Inbound, incident: Incident) -> Answer:
    if incident.state is not IncidentState.OPEN:
        return Answer.NOTHING_NEW
    return Answer.ACKNOWLEDGED if wish.by_person else Answer.ECHO


def _resolve(wish: Inbound, incident: Incident, told: Collection[str] | None) -> Answer:
    if incident.state is IncidentState.RESOLVED:
        return Answer.NOTHING_NEW
    if not wish.by_person:
        return Answer.ECHO
    left = {part.fingerprint for part in incident.alerts if part.resolved_ms is None}
    return Answer.RESOLVED if told is None or left <= set(told) else Answer.NOTED
