"""Microsoft Teams: an Adaptive Card to a Workflows webhook.

Contract: https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
"""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from alerts.http_delivery import failure, post
from alerts.notice_template import rendered
from alerts.notification import DeliveryError, EventAction, Notice, Receipt
from alerts.page import page_of
from alerts.route_tree import Integration

MAX_CARD_BYTES = 28_000
_MAX_TEXT = 4_000
_MAX_FACT = 1_500


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """Post one card. A 200 that speaks of a failure behind the webhook is one, too."""
    body = encode(card(notice, integration))
    headers = {"Content-Type": "application/json"}
    if "authorization" in integration.secrets:
        headers["Authorization"] = integration.secrets["authorization"].value
    address = integration.secrets["webhook_url"].value
    answer = await post(client, address, body, headers, now_ms)
    if not 200 <= answer.status < 300:
        raise failure(answer, "Teams")
    if "failed with error" in answer.text:
        raise DeliveryError(
            f"Teams did not take the card: {' '.join(answer.text.split())[:200]}", permanent=False
        )
    return Receipt(answer.status, answer.text[:200])


def card(notice: Notice, integration: Integration) -> dict[str, Any]:
    """The message with its card, version 1.4."""
    options = rendered(integration.options, notice)
    page = page_of(notice)
    resolved = notice.action is EventAction.RESOLVE
    colour = "good" if resolved else "warning" if page.severity == "ticket" else "attention"
    title = (options.get("title") or page.summary or "Warroom alert")[:_MAX_TEXT]
    body: list[dict[str, Any]] = [_block(title, size="large", weight="bolder", color=colour)]
    if options.get("text"):
        body.append(_block(options["text"][:_MAX_TEXT]))
    else:
        parts = (("Cause", page.cause), ("Since", page.since), ("Impact", page.impact))
        facts = [
            {"title": name, "value": text[:_MAX_FACT]}
            for name, text in (*parts, ("Try", page.fix), ("Also", "; ".join(page.others)))
            if text
        ]
        body.append({"type": "FactSet", "facts": facts})
    links = [{"type": "Action.OpenUrl", "title": text, "url": url} for text, url in page.links]
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": links,
        "msteams": {"width": "Full"},
    }
    kind = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": kind, "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def _block(text: str, **style: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text, "wrap": True, **style}


def encode(message: dict[str, Any]) -> bytes:
    """The card as bytes, within Teams's bound: when it is too large only the title stays."""
    body = orjson.dumps(message)
    if len(body) > MAX_CARD_BYTES:
        content = message["attachments"][0]["content"]
        first = {**content["body"][0], "text": content["body"][0]["text"][:1_000]}
        note = _block("The details were too large for Teams; see the links.")
        attachment = {**message["attachments"][0], "content": {**content, "body": [first, note]}}
        body = orjson.dumps({**message, "attachments": [attachment]})
    return body
