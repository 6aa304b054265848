"""Opsgenie, and Jira Service Management, which answers the same API: create, acknowledge, close.

Contract: https://docs.opsgenie.com/docs/alert-api. Opsgenie ends in April 2027; for Jira Service
Management the address is https://api.atlassian.com/jsm/ops/integration/.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import orjson

from alerts.http_delivery import failure, post
from alerts.notice_template import rendered
from alerts.notification import EventAction, Notice, Receipt
from alerts.page import page_of
from alerts.route_tree import Integration

_PRIORITIES = {"page": "P1", "critical": "P1", "error": "P2", "ticket": "P3", "warning": "P3"}
_MAX = {"message": 130, "description": 15_000, "note": 25_000, "source": 100, "entity": 512}
_MAX_ALIAS = 512
_MAX_TAGS = 20
_MAX_TAG = 50
_MAX_DETAILS = 8_000


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """One request; 202 is success. The alias is the same from create to close."""
    path, body = request(notice, integration)
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"GenieKey {integration.secrets['api_key'].value}",
    }
    url = integration.options["api_url"].rstrip("/") + path
    answer = await post(client, url, orjson.dumps(body), headers, now_ms)
    if answer.status != 202:
        raise failure(answer, "Opsgenie")
    return Receipt(answer.status, answer.text[:200])


def request(notice: Notice, integration: Integration) -> tuple[str, dict[str, Any]]:
    """The path below the API's address, and the JSON to post there."""
    options = rendered(integration.options, notice, plain=("api_url", "details", "responders"))
    alias = notice.dedup_key[:_MAX_ALIAS]
    source = options.get("source") or notice.external_url or "warroom"
    about = f"/v2/alerts/{quote(alias, safe='')}"
    if notice.action is EventAction.RESOLVE:
        body = {"source": source, "note": options.get("note", "")}
        return f"{about}/close?identifierType=alias", _bounded(body)
    if notice.action is EventAction.ACKNOWLEDGE:
        body = {"source": source, "user": notice.who, "note": f"acknowledged by {notice.who}"}
        return f"{about}/acknowledge?identifierType=alias", _bounded(body)
    page = page_of(notice)
    details = {**dict(page.labels), "incident_id": notice.incident_id, "reason": notice.reason}
    details |= orjson.loads(options.get("details", "{}"))
    created = {
        "message": options.get("message") or page.summary or "Warroom alert",
        "alias": alias,
        "description": options.get("description") or page.text(),
        "details": _within(details),
        "source": source,
        "tags": _tags(options.get("tags", "")),
        "priority": options.get("priority") or _PRIORITIES.get(page.severity, "P3"),
        "entity": options.get("entity") or page.labels.get("service", ""),
        "note": options.get("note", ""),
        "responders": orjson.loads(options.get("responders", "[]")),
    }
    return "/v2/alerts", _bounded(created)


def _tags(text: str) -> list[str]:
    return [tag.strip()[:_MAX_TAG] for tag in text.split(",") if tag.strip()][:_MAX_TAGS]


def _within(details: dict[str, str]) -> dict[str, str]:
    """As many details as fit into Opsgenie's 8,000 characters."""
    room = _MAX_DETAILS
    kept = {}
    for name, text in details.items():
        room -= len(name) + len(text)
        if text and room >= 0:
            kept[name] = text
    return kept


def _bounded(body: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[: _MAX[name]] if isinstance(value, str) and name in _MAX else value
        for name, value in body.items()
        if value
    }
