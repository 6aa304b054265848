"""Slack: an incoming webhook, or a bot whose first message is kept up to date, with a thread below.

Contracts: https://api.slack.com/messaging/webhooks and
https://api.slack.com/methods/chat.postMessage, chat.update
"""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import structlog

from alerts.http_delivery import Answer, failure, post
from alerts.inbound.messages import ACK_ACTION
from alerts.notice_template import rendered
from alerts.notification import FIRST_NOTIFICATION, DeliveryError, EventAction, Notice, Receipt
from alerts.page import page_of
from alerts.route_tree import Integration

_log = structlog.get_logger()

MAX_TEXT = 3_000
_MAX_TITLE = 250
# What Slack says of itself, not of the message: it may pass.
_TRANSIENT = frozenset(
    {
        *("ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"),
        *("request_timeout", "team_added_to_org", "timeout"),
    }
)
# What Slack says of the first message, not of the new one: that goes out without it.
_ROOT_IS_LOST = frozenset(
    {
        *("message_not_found", "edit_window_closed", "cant_update_message"),
        *("thread_not_found", "cannot_reply_to_message"),
    }
)


class _Refused(DeliveryError):
    """Slack's no, with its own word for the reason."""

    reason: str = ""


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """Post a message; with a bot token, refresh the first one and answer in its thread.

    The receipt's detail is `channel ts` of the first message: the next notice of the group gets it
    as `notice.earlier`.
    """
    body = message(notice, integration)
    token = integration.secrets.get("app_token")
    if token is None:
        address = integration.secrets["api_url"].value
        answer = await post(client, address, orjson.dumps(body), _headers(""), now_ms)
        if answer.status != 200:
            raise failure(answer, "Slack")
        return Receipt(answer.status, answer.text[:200])
    bot = _Bot(integration.options["app_url"], token.value, client, now_ms)
    channel, _, root = notice.earlier.partition(" ")
    if root and notice.reason != FIRST_NOTIFICATION:
        update = bool(integration.options.get("update_message"))
        try:
            await bot.follow(body, channel, root, update=update)
        except _Refused as exc:
            if exc.reason not in _ROOT_IS_LOST:
                raise
            _log.warning("slack_first_message_lost", notice=notice.id, reason=exc.reason)
        else:
            return Receipt(200, notice.earlier)
    told = await bot.ask(bot.url, body)
    return Receipt(200, f"{told.get('channel', '')} {told.get('ts', '')}")


class _Bot:
    def __init__(self, url: str, token: str, client: httpx.AsyncClient, now_ms: int) -> None:
        self.url = url
        self._token = token
        self._client = client
        self._now_ms = now_ms

    async def follow(self, body: dict[str, Any], channel: str, root: str, *, update: bool) -> None:
        """Refresh the first message, and answer in its thread."""
        if update:
            # First: done twice it does no harm, an answer in the thread would stand twice.
            address = self.url.replace("chat.postMessage", "chat.update")
            await self.ask(address, {**body, "channel": channel, "ts": root})
        await self.ask(self.url, {**body, "channel": channel, "thread_ts": root})

    async def ask(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = _headers(self._token)
        answer = await post(self._client, url, orjson.dumps(body), headers, self._now_ms)
        if answer.status != 200:
            raise failure(answer, "Slack")
        told = _parsed(answer)
        if told.get("ok") is not True:
            # Slack says no with 200.
            error = str(told.get("error", "no reason"))[:100]
            refused = _Refused(
                f"Slack refused the message: {error}",
                permanent=error not in _TRANSIENT,
                status=200,
                retry_after_s=answer.retry_after_s,
            )
            refused.reason = error
            raise refused
        return told


def _headers(token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return {**headers, "Authorization": f"Bearer {token}"} if token else headers


def _parsed(answer: Answer) -> dict[str, Any]:
    try:
        told = orjson.loads(answer.text)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        raise DeliveryError("Slack answered something that is no JSON object", permanent=False)
    return told


def message(notice: Notice, integration: Integration) -> dict[str, Any]:
    """The message's JSON: one attachment, so that its colour tells the state."""
    options = rendered(
        integration.options, notice, plain=("app_url", "fields", "acknowledge_button")
    )
    page = page_of(notice)
    resolved = notice.action is EventAction.RESOLVE
    colour = "good" if resolved else "danger" if page.severity != "ticket" else "warning"
    title = (options.get("title") or page.summary or "Warroom alert")[:_MAX_TITLE]
    text = options.get("text") or _own_text(notice)
    attachment: dict[str, Any] = {
        "color": options.get("color") or colour,
        "fallback": escaped(options.get("fallback") or title)[:MAX_TEXT],
        "title": escaped(title),
        "title_link": options.get("title_link") or next((url for _, url in page.links), ""),
        "text": text[:MAX_TEXT],
        "footer": options.get("footer", "Warroom"),
        "mrkdwn_in": ["text", "pretext"],
        "pretext": options.get("pretext", "")[:MAX_TEXT],
    }
    if "fields" in options:
        attachment["fields"] = [
            {**field, **rendered({"title": field["title"], "value": field["value"]}, notice)}
            for field in orjson.loads(options["fields"])
        ]
    body: dict[str, Any] = {
        name: options[name] for name in ("channel", "username", "icon_emoji", "icon_url")
        if options.get(name)
    }  # fmt: skip
    body["text"] = options.get("message_text", "")[:MAX_TEXT]
    body["attachments"] = [{name: value for name, value in attachment.items() if value}]
    if options.get("acknowledge_button") and notice.incident_id and not resolved:
        body["attachments"].append(_button(notice.incident_id, colour))
    if options.get("link_names"):
        body["link_names"] = True
    return {name: value for name, value in body.items() if value}


def _button(incident_id: str, colour: str) -> dict[str, Any]:
    """An attachment of its own: one with blocks takes no other text."""
    button = {
        "type": "button",
        "text": {"type": "plain_text", "text": "Acknowledge"},
        "style": "primary",
        "action_id": ACK_ACTION,
        "value": incident_id,
    }
    return {"color": colour, "blocks": [{"type": "actions", "elements": [button]}]}


def _own_text(notice: Notice) -> str:
    page = page_of(notice)
    parts = (("Cause", page.cause), ("Since", page.since), ("Impact", page.impact))
    lines = [f"*{name}:* {escaped(text)}" for name, text in (*parts, ("Try", page.fix)) if text]
    if page.others:
        lines.append(f"*Also:* {escaped('; '.join(page.others))}"[:1_000])
    lines += [f"<{url}|{escaped(text)}>" for text, url in page.links]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Slack's three control characters, made harmless: nobody is mentioned by an alert's label."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
