"""What a message of Slack or PagerDuty asks for. Pure; the bytes come from outside.

Contracts: https://api.slack.com/reference/interaction-payloads/block-actions and
https://developer.pagerduty.com/docs/webhooks-overview (v3)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs

import orjson

ACK_ACTION = "warroom_acknowledge"
MAX_BODY = 262_144
_MAX_NAME = 200


class Wish(StrEnum):
    """What is to become of an incident."""

    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"
    REOPEN = "reopen"


@dataclass(frozen=True, slots=True)
class Inbound:
    """A wish about the incident of that id, or behind that dedup key.

    `by_person`: not the echo of what Warroom itself told the service.
    """

    wish: Wish
    who: str
    by_person: bool = True
    incident_id: str = ""
    dedup_key: str = ""
    at_ms: int | None = None


_EVENTS = {
    "incident.acknowledged": Wish.ACKNOWLEDGE,
    "incident.resolved": Wish.RESOLVE,
    "incident.reopened": Wish.REOPEN,
    "incident.unacknowledged": Wish.REOPEN,
}


def of_slack(body: bytes) -> Inbound | None:
    """A press of the button; None for any other interaction.

    Raises:
        ValueError: It is no interaction.
    """
    fields = parse_qs(body.decode("utf-8"), max_num_fields=16)
    payload = _mapping(orjson.loads(fields.get("payload", [""])[0]))
    if payload.get("type") != "block_actions":
        return None
    user = _mapping(payload.get("user"))
    name = _text(user, "name") or _text(user, "username") or _text(user, "id") or "someone"
    actions = payload.get("actions")
    for action in actions if isinstance(actions, list) else ():
        one = _mapping(action)
        if one.get("action_id") == ACK_ACTION and _text(one, "value"):
            return Inbound(
                Wish.ACKNOWLEDGE,
                f"{name} (Slack)",
                incident_id=_text(one, "value"),
                at_ms=_seconds(_text(one, "action_ts")),
            )
    return None


def of_pagerduty(body: bytes) -> Inbound | None:
    """An incident's change; None for events that ask for nothing.

    Raises:
        ValueError: It is no event.
    """
    event = _mapping(_mapping(orjson.loads(body)).get("event"))
    if not _text(event, "event_type"):
        raise ValueError("the message has no event with an event_type")
    wish = _EVENTS.get(_text(event, "event_type"))
    key = _text(_mapping(event.get("data")), "incident_key")
    if wish is None or not key:
        return None
    agent = _mapping(event.get("agent"))
    name = _text(agent, "summary") or "someone"
    return Inbound(
        wish,
        f"{name} (PagerDuty)",
        by_person=_text(agent, "type").startswith("user"),
        dedup_key=key,
        at_ms=_instant(_text(event, "occurred_at")),
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value[:_MAX_NAME] if isinstance(value, str) else ""


def _seconds(text: str) -> int | None:
    """Unix seconds such as `1548426417.840180`."""
    try:
        return int(float(text) * 1000)
    except (ValueError, OverflowError):
        return None


def _instant(text: str) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
