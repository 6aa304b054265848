"""PagerDuty, Events API v2: trigger, acknowledge and resolve under one dedup key.

Contract: https://developer.pagerduty.com/docs/events-api-v2-overview
"""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from alerts.http_delivery import failure, post
from alerts.notice_template import rendered
from alerts.notification import EventAction, Notice, Receipt
from alerts.page import MAX_SUMMARY, Page, page_of
from alerts.route_tree import Integration
from store.timestamps import rfc3339

MAX_EVENT_BYTES = 512_000
_SEVERITIES = {
    "page": "critical",
    "critical": "critical",
    "error": "error",
    "ticket": "warning",
    "warning": "warning",
    "info": "info",
}
_MAX_LISTED = 20


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """Send one event. Only 202 is success; 400 is never sent again.

    What a proxy finds too large goes once more without details: they are no reason to page nobody.
    """
    data = event(notice, integration)
    headers = {"Content-Type": "application/json"}
    answer = await post(client, integration.options["url"], encode(data), headers, now_ms)
    if answer.status == 413 and "payload" in data:
        body = orjson.dumps(_without_details(data))
        answer = await post(client, integration.options["url"], body, headers, now_ms)
    if answer.status != 202:
        raise failure(answer, "PagerDuty")
    return Receipt(answer.status, answer.text[:200])


def event(notice: Notice, integration: Integration) -> dict[str, Any]:
    """The event's JSON."""
    options = rendered(integration.options, notice, plain=("details", "url"))
    result: dict[str, Any] = {
        "routing_key": integration.secrets["routing_key"].value,
        "event_action": str(notice.action),
        "dedup_key": notice.dedup_key[:255],
    }
    if notice.action is EventAction.ACKNOWLEDGE:
        return result
    page = page_of(notice)
    result["payload"] = _payload(notice, page, options)
    links = [{"href": url, "text": text} for text, url in page.links]
    if links and notice.action is EventAction.TRIGGER:
        result["links"] = links
    result["client"] = options.get("client", "Warroom")
    client_url = options.get("client_url") or notice.external_url
    if client_url:
        result["client_url"] = client_url
    return result


def _payload(notice: Notice, page: Page, options: dict[str, str]) -> dict[str, Any]:
    labels = page.labels
    component = options.get("component") or labels.get("route") or labels.get("slo", "")
    optional = {
        "component": component,
        "group": options.get("group") or labels.get("service", ""),
        "class": options.get("class") or labels.get("kind") or labels.get("alertname", ""),
    }
    return {
        "summary": (options.get("description") or page.summary or "Warroom alert")[:MAX_SUMMARY],
        "source": options.get("source") or labels.get("service") or "warroom",
        "severity": options.get("severity") or _SEVERITIES.get(page.severity, "error"),
        "timestamp": rfc3339(page.started_ms),
        **{name: text for name, text in optional.items() if text},
        "custom_details": _details(notice, page, options),
    }


def _details(notice: Notice, page: Page, options: dict[str, str]) -> dict[str, Any]:
    details: dict[str, Any] = {
        "cause": page.cause,
        "since": page.since,
        "impact": page.impact,
        "fix": page.fix,
        "evidence_url": page.evidence_url,
        "incident_id": notice.incident_id,
        "reason": notice.reason,
        "num_firing": len(notice.firing),
        "num_resolved": len(notice.alerts) - len(notice.firing),
        "labels": dict(page.labels),
        "also_firing": list(page.others[:_MAX_LISTED]),
    }
    details.update(orjson.loads(options.get("details", "{}")))
    return {name: value for name, value in details.items() if value not in ("", [], {})}


def encode(data: dict[str, Any]) -> bytes:
    """The event as bytes, within PagerDuty's bound: details go first, as in Alertmanager."""
    body = orjson.dumps(data)
    return orjson.dumps(_without_details(data)) if len(body) > MAX_EVENT_BYTES else body


def _without_details(data: dict[str, Any]) -> dict[str, Any]:
    note = {"error": "the details were too large for PagerDuty; see the evidence link"}
    return {**data, "payload": {**data["payload"], "custom_details": note}}
