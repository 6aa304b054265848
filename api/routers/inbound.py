"""What paging services tell Warroom: a press of Slack's button, a change at PagerDuty.

Both are let in by their signature, not by a token. Without a secret the path does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from alerts import ack_timeout
from alerts.engine import AlertEngine
from alerts.inbound import signatures
from alerts.inbound.answer import Answer, decide, done_ms
from alerts.inbound.messages import MAX_BODY, Inbound, of_pagerduty, of_slack
from alerts.incident_log.repository import IncidentRepository
from alerts.ledger.repository import OutboxRepository
from api.errors import NotFound, error_response

log = structlog.get_logger()
Secrets = Callable[[], Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a wish is looked up and carried out."""

    engine: AlertEngine
    incidents: IncidentRepository
    ledger: OutboxRepository

    def take(self, wish: Inbound, now_ms: int) -> Answer:
        """Do what is asked, if it may be."""
        incident_id, told = wish.incident_id, None
        if not incident_id:
            incident_id, told = self.ledger.about(wish.dedup_key)
        incident = self.incidents.incident(incident_id) if incident_id else None
        lines = self.incidents.events(incident_id) if incident else []
        given_back = (line.at_ms for line in lines if line.kind in {"reopened", ack_timeout.EVENT})
        answer = decide(wish, incident, told, max(given_back, default=0))
        at_ms = done_ms(wish, incident, now_ms) if incident else now_ms
        match answer:
            case Answer.ACKNOWLEDGED:
                self.engine.acknowledge(incident_id, wish.who, now_ms, at_ms)
            case Answer.RESOLVED:
                self.engine.resolve(incident_id, wish.who, now_ms, at_ms)
            case Answer.REOPENED:
                self.engine.reopen(incident_id, wish.who, now_ms, at_ms)
            case Answer.NOTED:
                text = "resolved a part of this incident there; other alerts of it still fire"
                self.engine.note(incident_id, f"{wish.who} {text}", wish.who, now_ms)
            case _:
                pass
        log.info("inbound", wish=str(wish.wish), answer=str(answer), incident=incident_id)
        return answer


def router(desk: Desk, secrets: Secrets, now: Callable[[], int]) -> APIRouter:
    """`/hooks/slack` and `/hooks/pagerduty`; `secrets` has those of each, newest first."""
    routes = APIRouter(prefix="/api/warroom/v1/hooks", tags=["incidents"])

    @routes.post("/slack")
    async def slack(request: Request) -> Response:
        keys = _keys(secrets(), "slack")
        body = await _body(request)
        if body is None:
            return _too_large()
        headers, at_ms = request.headers, now()
        stamp = headers.get("x-slack-request-timestamp", "")
        refusal = signatures.slack(keys, stamp, headers.get("x-slack-signature", ""), body, at_ms)
        return await _answer(desk, refusal, of_slack, body, at_ms)

    @routes.post("/pagerduty")
    async def pagerduty(request: Request) -> Response:
        keys = _keys(secrets(), "pagerduty")
        body = await _body(request)
        if body is None:
            return _too_large()
        signature = request.headers.get("x-pagerduty-signature", "")
        refusal = signatures.pagerduty(keys, signature, body)
        return await _answer(desk, refusal, of_pagerduty, body, now())

    return routes


async def _answer(
    desk: Desk,
    refusal: signatures.Refusal | None,
    read: Callable[[bytes], Inbound | None],
    body: bytes,
    at_ms: int,
) -> Response:
    if refusal is not None:
        return error_response(401, refusal.value, "the message is not signed as it must be")
    try:
        wish = read(body)
    except ValueError:
        return error_response(400, "bad_input", "the message cannot be read")
    if wish is None:
        return JSONResponse({"answer": Answer.NOTHING_NEW.value})
    return JSONResponse({"answer": (await run_in_threadpool(desk.take, wish, at_ms)).value})


def _keys(secrets: Mapping[str, Sequence[str]], name: str) -> Sequence[str]:
    if not secrets.get(name):
        raise NotFound(
            f"messages of {name} are not configured", hint="set its secret under alerting.inbound"
        )
    return secrets[name]


async def _body(request: Request) -> bytes | None:
    """The raw body; None when it is too large to be a message."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY:
            return None
    return bytes(received)


def _too_large() -> Response:
    return error_response(413, "too_large", f"a message has at most {MAX_BODY} bytes")
