"""What every notifier must do, and the wire contracts of each."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json

import httpx
import pytest

from alerts.notification import DeliveryError, EventAction, Notice, NoticeAlert
from alerts.notifiers.pagerduty import MAX_EVENT_BYTES, event
from alerts.page import MAX_SUMMARY, page_of
from alerts.registry import NOTIFIERS
from alerts.route_tree import Integration, Secret
from store.model import Labels

NOW_MS = 1_795_766_400_000
KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
INTEGRATIONS = {
    "pagerduty": Integration(
        "pagerduty",
        options={"url": "http://receiver.test/s3cr3t"},
        secrets={"routing_key": Secret("R0UT1NG")},
    ),
    "webhook": Integration(
        "webhook",
        secrets={"url": Secret("http://receiver.test/s3cr3t"), "signing": Secret(f"whsec_{KEY}")},
    ),
}


def notice(
    action: EventAction = EventAction.TRIGGER, summary: str = "Orders are missing"
) -> Notice:
    notes = {
        "summary": summary,
        "cause": "deploy v42",
        "impact": "1500 EUR",
        "fix": "roll back",
        "since": "2026-11-27T08:00:00.000Z",
        "evidence_url": "/business",
    }
    labels = Labels.of(alertname="OrderRateDrop", severity="page", service="shop")
    firing = action is not EventAction.RESOLVE
    alert = NoticeAlert("f1", firing, labels, notes, NOW_MS, None if firing else NOW_MS + 1)
    return Notice(
        "msg_1",
        "lane",
        action,
        "on-call",
        0,
        "{}:{}",
        "key1",
        labels,
        () if action is EventAction.ACKNOWLEDGE else (alert,),
        "first_notification",
        NOW_MS,
        "http://w.test",
        "inc-1",
    )


def send(
    kind: str, message: Notice, status: int, headers: dict[str, str] | None = None
) -> list[httpx.Request]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, headers=headers, text="said")

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            await NOTIFIERS[kind](message, INTEGRATIONS[kind], client, NOW_MS)

    asyncio.run(run())
    return seen


def test_every_notifier_of_the_table_is_under_contract() -> None:
    assert set(INTEGRATIONS) == set(NOTIFIERS)


@pytest.mark.parametrize("kind", sorted(INTEGRATIONS))
@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (302, False),
        (400, True),
        (401, True),
        (404, True),
        (408, False),
        (410, True),
        (429, False),
        (500, False),
        (502, False),
        (503, False),
    ],
)
def test_a_refusal_says_whether_to_try_again_and_shows_no_secret(
    kind: str, status: int, permanent: bool
) -> None:
    with pytest.raises(DeliveryError) as caught:
        send(kind, notice(), status, {"Retry-After": "7", "Location": "http://elsewhere.test"})
    assert (caught.value.permanent, caught.value.status) == (permanent, status)
    assert caught.value.retry_after_s == (None if permanent else 7.0)
    assert "s3cr3t" not in str(caught.value)
    assert "R0UT1NG" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(INTEGRATIONS))
@pytest.mark.parametrize(
    "fault", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError]
)
def test_a_network_fault_may_pass(kind: str, fault: type[httpx.TransportError]) -> None:
    async def run() -> None:
        def break_down(request: httpx.Request) -> httpx.Response:
            raise fault("http://receiver.test/s3cr3t is away", request=request)

        async with httpx.AsyncClient(transport=httpx.MockTransport(break_down)) as client:
            await NOTIFIERS[kind](notice(), INTEGRATIONS[kind], client, NOW_MS)

    with pytest.raises(DeliveryError) as caught:
        asyncio.run(run())
    assert not caught.value.permanent
    assert "s3cr3t" not in str(caught.value)


def test_pagerduty_gets_the_whole_page() -> None:
    (request,) = send("pagerduty", notice(), 202)
    sent = json.loads(request.content)
    assert sent["event_action"] == "trigger"
    assert (sent["routing_key"], sent["dedup_key"]) == ("R0UT1NG", "key1")
    payload = sent["payload"]
    assert payload["summary"] == "Orders are missing since 08:00:00 UTC"
    assert payload["severity"] == "critical"
    details = payload["custom_details"]
    assert {
        "cause": "deploy v42",
        "impact": "1500 EUR",
        "fix": "roll back",
    }.items() <= details.items()
    assert {link["href"] for link in sent["links"]} == {
        "http://w.test/business",
        "http://w.test/incidents/inc-1",
    }


def test_pagerduty_takes_nothing_but_202_for_success() -> None:
    with pytest.raises(DeliveryError) as caught:
        send("pagerduty", notice(), 200)
    assert not caught.value.permanent


def test_an_acknowledgement_is_only_a_key() -> None:
    (request,) = send("pagerduty", notice(EventAction.ACKNOWLEDGE), 202)
    assert json.loads(request.content) == {
        "routing_key": "R0UT1NG",
        "event_action": "acknowledge",
        "dedup_key": "key1",
    }


def test_an_event_over_the_bound_loses_its_details_not_its_page() -> None:
    message = notice()
    big = NoticeAlert(
        "f2", True, Labels((f"l{n}", "x" * 2000) for n in range(400)), {}, NOW_MS, None
    )
    message = Notice(
        **{**{f: getattr(message, f) for f in message.__dataclass_fields__}, "alerts": (big,)}
    )
    (request,) = send("pagerduty", message, 202)
    assert len(request.content) <= MAX_EVENT_BYTES
    assert json.loads(request.content)["event_action"] == "trigger"


def test_a_summary_is_one_bounded_line() -> None:
    page = page_of(notice(summary="word\n" * 2_000))
    assert len(page.summary) <= MAX_SUMMARY
    assert "\n" not in page.summary


def test_a_webhook_has_alertmanagers_body_and_a_signature_that_verifies() -> None:
    (request,) = send("webhook", notice(EventAction.RESOLVE), 204)
    body = json.loads(request.content)
    assert (body["version"], body["status"], body["receiver"]) == ("4", "resolved", "on-call")
    assert body["alerts"][0]["endsAt"] != "0001-01-01T00:00:00Z"
    assert body["page"]["summary"].startswith("Resolved: ")
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.content
    expected = hmac.new(base64.b64decode(KEY), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


def test_alertmanagers_templates_fill_pagerdutys_fields_and_a_bad_one_is_left_out() -> None:
    options = {
        "description": "{{ .CommonLabels.alertname }} is {{ .Status }}",
        "severity": '{{ template "unknown" . }}',
    }
    known = INTEGRATIONS["pagerduty"]
    made = event(notice(), Integration("pagerduty", options=options, secrets=known.secrets))
    assert made["payload"]["summary"] == "OrderRateDrop is firing"
    assert made["payload"]["severity"] == "critical"
