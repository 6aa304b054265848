"""What every notifier must do, and the wire contracts of each."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from alerts.notification import DeliveryError, EventAction, Notice, NoticeAlert, Receipt
from alerts.notifiers import apprise, email
from alerts.notifiers.pagerduty import MAX_EVENT_BYTES, event
from alerts.page import MAX_SUMMARY, page_of
from alerts.registry import NOTIFIERS
from alerts.route_tree import Integration, Secret
from store.model import Labels
from tests.alerts.http_double import Says, http_double
from tests.alerts.smtp_double import smtp_double

# Apprise loads every one of its plug-ins, one of which reads an old module.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
NOW_MS = 1_795_766_400_000
KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def integrations(host: str, port: int) -> dict[str, Integration]:
    """One of each kind, at a server; secrets are `s3cr3t` and `R0UT1NG`."""
    url = f"http://{host}:{port}/s3cr3t"
    mail = {"to": "on-call@shop.test", "from": "w@shop.test", "hello": "localhost"}
    mail |= {"smarthost": f"{host}:{port}", "require_tls": "", "auth_username": "w"}
    return {
        "pagerduty": Integration(
            "pagerduty", options={"url": url}, secrets={"routing_key": Secret("R0UT1NG")}
        ),
        "webhook": Integration(
            "webhook", secrets={"url": Secret(url), "signing": Secret(f"whsec_{KEY}")}
        ),
        "slack": Integration(
            "slack",
            options={"app_url": url, "channel": "#ops"},
            secrets={"app_token": Secret("R0UT1NG")},
        ),
        "msteamsv2": Integration("msteamsv2", secrets={"webhook_url": Secret(url)}),
        "opsgenie": Integration(
            "opsgenie", options={"api_url": url}, secrets={"api_key": Secret("R0UT1NG")}
        ),
        "newrelic": Integration(
            "newrelic",
            options={"url": url, "event_type": "WarroomAlert"},
            secrets={"license_key": Secret("R0UT1NG")},
        ),
        "apprise": Integration("apprise", secrets={"url": Secret(url.replace("http:", "json:"))}),
        "email": Integration("email", options=mail, secrets={"auth_password": Secret("R0UT1NG")}),
    }


INTEGRATIONS = integrations("receiver.test", 80)
KINDS = sorted(INTEGRATIONS)
# What each service answers when it takes a message; e-mail has a protocol of its own, and apprise
# says no more than yes or no.
TAKES = {
    "pagerduty": Says(202, '{"status":"success"}'),
    "webhook": Says(204, ""),
    "slack": Says(200, '{"ok":true,"channel":"C1","ts":"1.1"}'),
    "msteamsv2": Says(202, ""),
    "opsgenie": Says(202, '{"result":"Request will be processed"}'),
    "newrelic": Says(200, '{"success":true,"uuid":"1"}'),
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


async def deliver(kind: str, message: Notice, url: str, timeout_s: float = 10.0) -> Receipt:
    """Send to a server on loopback."""
    address = urlsplit(url)
    to = integrations(str(address.hostname), address.port or 0)[kind]
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client:
        return await NOTIFIERS[kind](message, to, client, NOW_MS)


async def refused_with(kind: str, message: Notice, url: str, timeout_s: float = 10.0) -> Any:
    """The error of a delivery that must fail; it may show no secret."""
    with pytest.raises(DeliveryError) as caught:
        await deliver(kind, message, url, timeout_s)
    assert "s3cr3t" not in str(caught.value)
    assert "R0UT1NG" not in str(caught.value)
    return caught.value


@asynccontextmanager
async def server(serve: Callable[..., Any]) -> AsyncIterator[str]:
    """The address of a server on loopback that only `serve` speaks for."""
    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        await listening.wait_closed()


def test_every_notifier_of_the_table_is_under_contract() -> None:
    assert set(INTEGRATIONS) == set(NOTIFIERS) == {*TAKES, "email", "apprise"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", list(EventAction))
def test_a_notice_that_is_taken_has_a_receipt_and_is_sent_once(
    kind: str, action: EventAction
) -> None:
    async def run() -> tuple[Receipt, int]:
        if kind == "email":
            async with smtp_double() as mailbox:
                url = f"http://127.0.0.1:{mailbox.port}"
                return await deliver(kind, notice(action), url), len(mailbox.mails)
        async with http_double(TAKES.get(kind)) as double:
            return await deliver(kind, notice(action), double.url), len(double.asked)

    receipt, count = asyncio.run(run())
    assert 200 <= receipt.status < 300
    assert count == 1


@pytest.mark.parametrize("kind", sorted(TAKES))
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
    async def run() -> Any:
        headers = {"Retry-After": "7", "Location": "http://127.0.0.1:1/"}
        async with http_double(Says(status, "said", headers)) as double:
            error = await refused_with(kind, notice(), double.url)
            assert len(double.asked) == 1
            return error

    error = asyncio.run(run())
    assert (error.permanent, error.status) == (permanent, status)
    assert error.retry_after_s == (None if permanent else 7.0)


@pytest.mark.parametrize("command", ["AUTH", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize(("status", "permanent"), [(450, False), (550, True)])
def test_a_refused_mail_says_whether_to_try_again_and_shows_no_secret(
    command: str, status: int, permanent: bool
) -> None:
    async def run() -> Any:
        async with smtp_double() as mailbox:
            mailbox.says = {command: f"{status} said"}
            return await refused_with("email", notice(), f"http://127.0.0.1:{mailbox.port}")

    error = asyncio.run(run())
    assert (error.permanent, error.status) == (permanent, status)


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_that_is_away_may_come_back(kind: str) -> None:
    assert not asyncio.run(refused_with(kind, notice(), "http://127.0.0.1:1")).permanent


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_that_hangs_up_may_come_back(kind: str) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def run() -> Any:
        async with server(hang_up) as url:
            return await refused_with(kind, notice(), url)

    assert not asyncio.run(run()).permanent


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_that_is_silent_is_given_up_and_may_come_back(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(email, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(apprise, "TIMEOUT_S", 0.2)

    async def run() -> Any:
        done = asyncio.Event()

        async def keep_silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await done.wait()
            writer.close()

        async with server(keep_silent) as url:
            error = await refused_with(kind, notice(), url, timeout_s=0.2)
            done.set()
            return error

    assert not asyncio.run(run()).permanent


def test_apprise_may_always_be_tried_again_but_for_an_address_that_it_does_not_know() -> None:
    async def run() -> None:
        async with http_double(Says(400)) as double:
            assert not (await refused_with("apprise", notice(), double.url)).permanent
            assert b"deploy v42" in double.asked[0].body
        to = Integration("apprise", secrets={"url": Secret("nothing://s3cr3t")})
        with pytest.raises(DeliveryError) as caught:
            await apprise.deliver(notice(), to, httpx.AsyncClient(trust_env=False), NOW_MS)
        assert caught.value.permanent
        assert "s3cr3t" not in str(caught.value)

    asyncio.run(run())


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


def test_apprise_runs_on_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def tell(*_what: str) -> bool:
        threads.append(threading.current_thread().name)
        return True

    monkeypatch.setattr(apprise, "installed", lambda: True)
    monkeypatch.setattr(apprise, "_tell", tell)
    to = Integration("apprise", secrets={"url": Secret("json://localhost")})

    async def run() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await apprise.deliver(notice(), to, client, NOW_MS)

    asyncio.run(run())
    assert [name.rpartition("_")[0] for name in threads] == ["apprise"]
