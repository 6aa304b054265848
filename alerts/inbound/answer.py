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


def decide(wish: Inbound, incident: Incident | None, told: Collection[str] | None) -> Answer:
    """Judge a wish.

    Args:
        wish: What was asked.
        incident: The incident that it is about, if there is one.
        told: Alerts that the service was told of under the dedup key; None when it named the
            incident itself.
    """
    if incident is None:
        return Answer.UNKNOWN
    if wish.at_ms is not None and wish.at_ms < incident.detected_ms - 60_000:
        return Answer.OLD
    match wish.wish:
        case Wish.ACKNOWLEDGE:
            is_open = incident.state is IncidentState.OPEN
            return Answer.ACKNOWLEDGED if is_open else Answer.NOTHING_NEW
        case Wish.RESOLVE:
            return _resolve(wish, incident, told)
        case Wish.REOPEN:
            is_open = incident.state is IncidentState.OPEN
            return Answer.NOTHING_NEW if is_open else Answer.REOPENED


def _resolve(wish: Inbound, incident: Incident, told: Collection[str] | None) -> Answer:
    if incident.state is IncidentState.RESOLVED:
        return Answer.NOTHING_NEW
    if not wish.by_person:
        return Answer.ECHO
    left = {part.fingerprint for part in incident.alerts if part.resolved_ms is None}
    return Answer.RESOLVED if told is None or left <= set(told) else Answer.NOTED
