"""Webhook: Alertmanager's body, version 4, signed as Standard Webhooks 1.0 when a secret is given.

Contracts: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

import httpx
import orjson

from alerts.http_delivery import failure, post
from alerts.notice_template import shared
from alerts.notification import Notice, NoticeAlert, Receipt
from alerts.page import page_of
from alerts.route_tree import Integration
from store.timestamps import rfc3339

_NEVER = "0001-01-01T00:00:00Z"


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """Send one message. Any 2xx is success."""
    body = orjson.dumps(message(notice, max_alerts=int(integration.options.get("max_alerts", "0"))))
    headers = {"Content-Type": "application/json", "User-Agent": "Warroom"}
    headers |= {"webhook-id": notice.id, "webhook-timestamp": str(now_ms // 1000)}
    if "authorization" in integration.secrets:
        headers["Authorization"] = integration.secrets["authorization"].value
    signing = integration.secrets.get("signing")
    if signing is not None:
        headers["webhook-signature"] = signature(signing.value, notice.id, now_ms // 1000, body)
    answer = await post(client, integration.secrets["url"].value, body, headers, now_ms)
    if not 200 <= answer.status < 300:
        raise failure(answer, "the webhook")
    return Receipt(answer.status, answer.text[:200])


def signature(secrets: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The signature header. Several secrets, separated by spaces, each sign: that is rotation."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
        for secret in secrets.split()
    )


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return secret.encode()


def message(notice: Notice, *, max_alerts: int = 0) -> dict[str, Any]:
    """Alertmanager's JSON, and beside it `page`: the same text as every other channel."""
    alerts = notice.alerts[:max_alerts] if max_alerts else notice.alerts
    page = page_of(notice)
    return {
        "version": "4",
        "groupKey": notice.group_key,
        "truncatedAlerts": len(notice.alerts) - len(alerts),
        "status": "firing" if notice.firing else "resolved",
        "receiver": notice.receiver,
        "groupLabels": notice.group_labels.to_dict(),
        "commonLabels": shared([dict(alert.labels) for alert in notice.alerts]),
        "commonAnnotations": shared([alert.annotations for alert in notice.alerts]),
        "externalURL": notice.external_url,
        "notification_reason": notice.reason,
        "alerts": [_alert(alert) for alert in alerts],
        "page": {
            "summary": page.summary,
            "cause": page.cause,
            "since": page.since,
            "impact": page.impact,
            "fix": page.fix,
            "evidence_url": page.evidence_url,
            "incident_id": notice.incident_id,
        },
    }


def _alert(alert: NoticeAlert) -> dict[str, Any]:
    return {
        "status": "firing" if alert.firing else "resolved",
        "labels": alert.labels.to_dict(),
        "annotations": alert.annotations,
        "startsAt": rfc3339(alert.starts_ms),
        "endsAt": _NEVER if alert.ends_ms is None else rfc3339(alert.ends_ms),
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    }
