"""Signatures of Slack and PagerDuty over a request's raw body. Several secrets: rotation.

Contracts: https://api.slack.com/authentication/verifying-requests-from-slack and
https://developer.pagerduty.com/docs/verifying-webhook-signatures
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from enum import StrEnum

TOLERANCE_S = 300


class Refusal(StrEnum):
    """Why a message is not believed."""

    NOT_SIGNED = "not_signed"
    TOO_OLD = "timestamp_more_than_5_minutes_off"
    WRONG = "signature_does_not_match"


def slack(
    secrets: Sequence[str], timestamp: str, signature: str, body: bytes, now_ms: int
) -> Refusal | None:
    """Judge `X-Slack-Request-Timestamp` and `X-Slack-Signature`; None when it is Slack's."""
    if not (timestamp.isascii() and timestamp.isdecimal() and signature):
        return Refusal.NOT_SIGNED
    if len(timestamp) > 12 or abs(now_ms / 1000 - int(timestamp)) > TOLERANCE_S:
        return Refusal.TOO_OLD
    signed = b"v0:" + timestamp.encode() + b":" + body
    return None if _any(secrets, signed, "v0=", [signature]) else Refusal.WRONG


def pagerduty(secrets: Sequence[str], signatures: str, body: bytes) -> Refusal | None:
    """Judge `X-PagerDuty-Signature`, which may hold several; None when it is PagerDuty's."""
    given = [part.strip() for part in signatures.split(",") if part.strip().startswith("v1=")]
    if not given:
        return Refusal.NOT_SIGNED
    return None if _any(secrets, body, "v1=", given[:16]) else Refusal.WRONG


def _any(secrets: Sequence[str], signed: bytes, prefix: str, given: Sequence[str]) -> bool:
    """Some secret makes one of the given signatures; every pair is compared in constant time."""
    found = False
    for secret in secrets:
        good = prefix + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        for one in given:
            found |= hmac.compare_digest(good.encode(), one.encode("utf-8", "replace"))
    return found
