"""A double of PagerDuty's Events API v2, and a receiver of signed webhooks.

`python -m warroom.demo.pagerduty_double --port 8603`

- `POST /v2/enqueue` as PagerDuty's: 202 with the dedup key, 400 with the reasons.
- `POST /webhook` takes Standard Webhooks and checks the signature.
- `POST /faults {"mode": "429", "count": 3}` makes the next answers fail.
- `GET /log` tells what was received and how each incident stands.

Contract: https://developer.pagerduty.com/docs/events-api-v2-overview
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

DEMO_SECRET = "whsec_ZGVtby1vbmx5LXNlY3JldC1vZi10aGUtc2hvcA=="  # noqa: S105
MAX_LOGGED = 10_000
MAX_BODY_BYTES = 512_000
MODES = ("none", "delay", "drop", "429", "500")
TOLERANCE_S = 300
_ACTIONS = ("trigger", "acknowledge", "resolve")
_SEVERITIES = ("critical", "error", "warning", "info")
_ROUTING_KEY = re.compile(r"[0-9a-zA-Z]{32}")


@dataclass(slots=True)
class Incident:
    """How one dedup key stands. Times are unix seconds."""

    dedup_key: str
    state: str = "none"
    summary: str = ""
    triggers: int = 0
    acknowledges: int = 0
    resolves: int = 0
    incidents: int = 0
    first_trigger_at: float | None = None
    last_resolve_at: float | None = None

    def apply(self, action: str, summary: str, at: float) -> None:
        """PagerDuty's rules: a trigger joins an open incident or opens a new one."""
        if action == "trigger":
            self.triggers += 1
            self.summary = self.summary or summary
            if self.first_trigger_at is None:
                self.first_trigger_at = at
            if self.state not in {"triggered", "acknowledged"}:
                self.state = "triggered"
                self.incidents += 1
        elif action == "acknowledge":
            self.acknowledges += 1
            if self.state == "triggered":
                self.state = "acknowledged"
        else:
            self.resolves += 1
            self.last_resolve_at = at
            if self.state in {"triggered", "acknowledged"}:
                self.state = "resolved"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next `count` events."""

    mode: str = "none"
    count: int = 0
    delay_s: float = 1.0

    def take(self) -> str:
        """The mode for this event."""
        if self.count <= 0:
            return "none"
        self.count -= 1
        return self.mode


@dataclass(slots=True)
class Ledger:
    """Everything received, in order, the last `MAX_LOGGED`."""

    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_LOGGED))
    webhooks: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_LOGGED))
    incidents: dict[str, Incident] = field(default_factory=dict)
    fault: Fault = field(default_factory=Fault)


def problems(event: object) -> list[str]:
    """Why PagerDuty would answer 400; empty for a good event."""
    if not isinstance(event, dict):
        return ["the event is no JSON object"]
    found = []
    if not _ROUTING_KEY.fullmatch(str(event.get("routing_key", ""))):
        found.append("'routing_key' is missing or blank or not 32 characters long")
    action = str(event.get("event_action"))
    if action not in _ACTIONS:
        found.append("'event_action' must be one of trigger, acknowledge, resolve")
    key = event.get("dedup_key")
    if action in {"acknowledge", "resolve"} and not key:
        found.append("'dedup_key' is missing")
    if key is not None and (not isinstance(key, str) or len(key) > 255):
        found.append("'dedup_key' must be a string of at most 255 characters")
    if action == "trigger":
        found.extend(_payload_problems(event.get("payload")))
    return found


def _payload_problems(payload: object) -> list[str]:
    if not isinstance(payload, dict):
        return ["'payload' is missing"]
    found = [
        f"'payload.{name}' is missing or blank"
        for name in ("summary", "source", "severity")
        if not isinstance(payload.get(name), str) or not payload[name]
    ]
    if len(str(payload.get("summary", ""))) > 1024:
        found.append("'payload.summary' is longer than 1024 characters")
    if payload.get("severity") not in _SEVERITIES:
        found.append("'payload.severity' must be one of critical, error, warning, info")
    return found


def signature_valid(secret: str, headers: dict[str, str], body: bytes, now_s: float) -> bool:
    """Whether a message is signed as Standard Webhooks 1.0 asks, and not older than 5 minutes."""
    message_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (message_id and stamp.isascii() and stamp.isdigit()):
        return False
    if abs(now_s - int(stamp)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256)
    for part in headers.get("webhook-signature", "").split():
        version, _, given = part.partition(",")
        try:
            if version == "v1" and hmac.compare_digest(base64.b64decode(given), digest):
                return True
        except binascii.Error:
            continue
    return False


class Double:
    """The endpoints, over one ledger."""

    def __init__(self, *, secret: str, now_s: Callable[[], float]) -> None:
        self.ledger = Ledger()
        self._secret = secret
        self._now_s = now_s

    async def enqueue(self, request: Request) -> Response:
        """PagerDuty's events endpoint."""
        fault = self.ledger.fault
        mode = fault.take()
        if mode == "429":
            return Response(status_code=429, headers={"Retry-After": "1"})
        if mode == "500":
            return Response(status_code=500)
        event, errors = _decoded(await request.body())
        if errors:
            return JSONResponse(
                {"status": "invalid event", "message": "Event object is invalid", "errors": errors},
                status_code=400,
            )
        if mode == "delay":
            await asyncio.sleep(fault.delay_s)
        key = self._received(event)
        if mode == "drop":
            # Taken in, but the answer is lost: the sender cannot know.
            return Response(status_code=504)
        body = {"status": "success", "message": "Event processed", "dedup_key": key}
        return JSONResponse(body, status_code=202)

    def _received(self, event: dict[str, Any]) -> str:
        at = self._now_s()
        key = str(event.get("dedup_key") or uuid.uuid4().hex)
        payload = event.get("payload") or {}
        self.ledger.events.append(
            {
                "received_at": at,
                "event_action": event["event_action"],
                "dedup_key": key,
                "payload": payload,
                "links": event.get("links", []),
            }
        )
        incident = self.ledger.incidents.setdefault(key, Incident(key))
        incident.apply(event["event_action"], str(payload.get("summary", "")), at)
        return key

    async def webhook(self, request: Request) -> Response:
        """A signed webhook; 401 when the signature is wrong."""
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return Response(status_code=413)
        if not signature_valid(self._secret, dict(request.headers), body, self._now_s()):
            return Response(status_code=401)
        self.ledger.webhooks.append(
            {
                "received_at": self._now_s(),
                "id": request.headers["webhook-id"],
                "body": json.loads(body),
            }
        )
        return Response(status_code=204)

    async def faults(self, request: Request) -> Response:
        """Make the next `count` answers fail: `{"mode": …, "count": …, "delay_s": …}`."""
        try:
            asked = json.loads(await request.body())
            fault = Fault(
                str(asked["mode"]), int(asked.get("count", 1)), float(asked.get("delay_s", 1))
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return JSONResponse({"error": "send mode, count and delay_s"}, status_code=400)
        if fault.mode not in MODES:
            return JSONResponse({"error": f"mode is one of {', '.join(MODES)}"}, status_code=400)
        self.ledger.fault = fault
        return Response(status_code=204)

    async def log(self, request: Request) -> Response:
        """What was received. `?since=N` leaves out the first N events."""
        since = request.query_params.get("since", "0")
        first = int(since) if since.isascii() and since.isdigit() else 0
        return JSONResponse(
            {
                "events": list(self.ledger.events)[first:],
                "webhooks": list(self.ledger.webhooks),
                "incidents": {
                    key: incident.as_dict() for key, incident in self.ledger.incidents.items()
                },
            }
        )

    async def healthy(self, _request: Request) -> Response:
        """Whether it answers."""
        return Response("ok")


def _decoded(body: bytes) -> tuple[dict[str, Any], list[str]]:
    if len(body) > MAX_BODY_BYTES:
        return {}, ["the event is larger than 512 KB"]
    try:
        event = json.loads(body)
    except ValueError:
        return {}, ["the body is no JSON"]
    errors = problems(event)
    return ({}, errors) if errors else (event, [])


def create_double(
    *, secret: str = DEMO_SECRET, now_s: Callable[[], float] = time.time
) -> Starlette:
    """The ASGI application; its state is `app.state.ledger`."""
    double = Double(secret=secret, now_s=now_s)
    app = Starlette(
        routes=[
            Route("/v2/enqueue", double.enqueue, methods=["POST"]),
            Route("/webhook", double.webhook, methods=["POST"]),
            Route("/faults", double.faults, methods=["POST"]),
            Route("/log", double.log),
            Route("/healthz", double.healthy),
        ]
    )
    app.state.ledger = double.ledger
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="A double of PagerDuty's Events API v2.")
    parser.add_argument("--port", type=int, default=8603)
    port = parser.parse_args(arguments).port
    uvicorn.run(create_double(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
