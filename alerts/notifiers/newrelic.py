"""New Relic: alerts and findings as custom events, to be queried beside the application's own data.

Contract: https://docs.newrelic.com/docs/data-apis/ingest-apis/event-api/introduction-event-api/ and
its limits: 1 MB a request, 4,096 characters a value. It is no pager: it forgets nobody and wakes
nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson

from alerts.http_delivery import failure, post
from alerts.notification import EventAction, Notice, NoticeAlert, Receipt
from alerts.page import page_of
from alerts.route_tree import Integration

_MAX_BODY = 900_000
_MAX_VALUE = 4_000
_MAX_LABELS = 100
_MAX_NAME = 200
_TEXTS = ("summary", "cause", "impact", "fix", "since", "evidence_url")


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """One request with one event for each alert; 200 is success.

    The Event API knows no identity of an event: what is sent twice has the same `messageId`.
    """
    headers = {
        "Content-Type": "application/json",
        "Api-Key": integration.secrets["license_key"].value,
    }
    body = payload(notice, integration.options["event_type"])
    answer = await post(client, integration.options["url"], body, headers, now_ms)
    if answer.status != 200:
        raise failure(answer, "New Relic")
    return Receipt(answer.status, answer.text[:200])


def payload(notice: Notice, event_type: str) -> bytes:
    """The JSON array of as many events as fit; each says how many did not."""
    events: list[bytes] = []
    room = _MAX_BODY
    for event in _events(notice):
        encoded = orjson.dumps({"eventType": event_type, **event})
        room -= len(encoded) + 1
        if room < 0:
            break
        events.append(encoded)
    return b"[" + b",".join(events) + b"]"


def _events(notice: Notice) -> Iterator[dict[str, Any]]:
    shared = {
        # The instant of the message, also when it is sent again.
        "timestamp": notice.created_ms,
        "messageId": notice.id,
        "dedupKey": notice.dedup_key,
        "incidentId": notice.incident_id,
        "receiver": notice.receiver,
        "reason": notice.reason,
        "alerts": len(notice.alerts),
    }
    if notice.action is EventAction.ACKNOWLEDGE or not notice.alerts:
        page = page_of(notice)
        told = {"status": str(notice.action), "who": notice.who, "summary": page.summary}
        yield {**shared, **_texts(told)}
        return
    for alert in notice.alerts:
        yield {**shared, **_alert(alert)}


def _alert(alert: NoticeAlert) -> dict[str, Any]:
    ended = {} if alert.ends_ms is None else {"endsAt": alert.ends_ms}
    labels = list(alert.labels.to_dict().items())[:_MAX_LABELS]
    told = {
        "status": "firing" if alert.firing else "resolved",
        "fingerprint": alert.fingerprint,
        **{name: alert.annotations.get(name, "") for name in _TEXTS},
        # Prefixed, so that no label takes the place of a word that New Relic keeps for itself.
        **{f"label.{name[:_MAX_NAME]}": value for name, value in labels},
    }
    return {"startsAt": alert.starts_ms, **ended, **_texts(told)}


def _texts(told: dict[str, str]) -> dict[str, str]:
    return {name: text[:_MAX_VALUE] for name, text in told.items() if text}
