"""What every notifier must do, and what each one alone does, against servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from alerts import http_delivery
from alerts.model import Alert
from alerts.notice_template import rendered
from alerts.notification import DeliveryError, EventAction, Notice, NoticeAlert, Receipt
from alerts.notifiers import email, msteamsv2, newrelic, opsgenie, slack
from alerts.outbox import Outbox
from alerts.registry import NOTIFIERS
from alerts.route_tree import Integration, Routing
from alerts.routing import default_routing, parse_alertmanager
from store.errors import ConfigError
from store.model import Labels
from tests.alerts.http_double import HttpDouble, Says, http_double
from tests.alerts.smtp_double import SmtpDouble, smtp_double

NOW_MS = 1_795_766_400_000
KEY = "s3cr3t-k3y"
TOOK = {
    "pagerduty": Says(202, "{}"),
    "opsgenie": Says(202, "{}"),
    "slack": Says(200, "ok"),
    "msteamsv2": Says(202, ""),
    "webhook": Says(204, ""),
    "newrelic": Says(200, '{"success":true}'),
}
CONFIG: dict[str, dict[str, Any]] = {
    "pagerduty": {"routing_key": KEY, "url": "URL/v2/enqueue"},
    "opsgenie": {"api_key": KEY, "api_url": "URL/"},
    "slack": {"api_url": f"URL/services/{KEY}", "send_resolved": True},
    "msteamsv2": {"webhook_url": f"URL/workflows/{KEY}"},
    "webhook": {"url": f"URL/hook/{KEY}"},
    "newrelic": {"license_key": KEY, "account": 7, "url": "URL"},
    "email": {"to": "on-call@shop.example", "from": "w@shop.example", "require_tls": False},
}
HTTP_KINDS = sorted(TOOK)
BOT = {
    "api_url": "",
    "app_token": KEY,
    "channel": "#ops",
    "app_url": "URL/chat.postMessage",
    "update_message": True,
}


def integration(kind: str, url: str, **more: Any) -> Integration:
    """An integration as a configuration file gives it."""
    given = {key: _with(value, url) for key, value in {**CONFIG[kind], **more}.items()}
    receiver = {"name": "r", f"{kind}_configs": [{k: v for k, v in given.items() if v != ""}]}
    text = yaml.safe_dump({"route": {"receiver": "r"}, "receivers": [receiver]})
    return parse_alertmanager(text, "am.yml").receivers["r"].integrations[0]


def _with(value: Any, url: str) -> Any:
    return value.replace("URL", url) if isinstance(value, str) else value


def alert(firing: bool = True, name: str = "OrderRateDrop", **texts: str) -> NoticeAlert:
    notes = {
        "summary": "Orders fell by 60 %",
        "cause": "payments <fail> & retry",
        "impact": "1,200 EUR/min",
        "fix": "switch the payment provider",
        "evidence_url": "/business",
        **texts,
    }
    labels = Labels.of(alertname=name, service="shop", severity="page")
    return NoticeAlert("f" + name, firing, labels, notes, NOW_MS, None if firing else NOW_MS + 9)


def notice(action: EventAction = EventAction.TRIGGER, *alerts: NoticeAlert) -> Notice:
    return Notice(
        id="msg_1",
        lane="l",
        action=action,
        receiver="r",
        integration=0,
        group_key="{}:{}",
        dedup_key="abc123",
        group_labels=Labels.of(service="shop"),
        alerts=alerts or (alert(action is not EventAction.RESOLVE),),
        reason="first_notification",
        created_ms=NOW_MS,
        external_url="http://w.test",
        incident_id="inc-1",
        who="anna" if action is EventAction.ACKNOWLEDGE else "",
    )


async def sent(one: Notice, to: Integration) -> Receipt:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await NOTIFIERS[to.kind](one, to, client, NOW_MS)


def test_every_notifier_is_in_the_suite() -> None:
    # Apprise has a protocol of its own for each address: tests/contract holds it.
    assert set(NOTIFIERS) - {"apprise"} == set(CONFIG) == {*TOOK, "email"}


@pytest.mark.parametrize("kind", HTTP_KINDS)
@pytest.mark.parametrize(
    "action", [EventAction.TRIGGER, EventAction.ACKNOWLEDGE, EventAction.RESOLVE]
)
def test_a_notice_is_taken(kind: str, action: EventAction) -> None:
    async def run() -> None:
        async with http_double(TOOK[kind]) as double:
            receipt = await sent(notice(action), integration(kind, double.url))
            assert receipt.status == TOOK[kind].status
            assert len(double.asked) == 1
            assert double.asked[0].headers["content-type"].startswith("application/json")

    asyncio.run(run())


@pytest.mark.parametrize("kind", HTTP_KINDS)
@pytest.mark.parametrize(
    ("says", "permanent", "retry_after_s"),
    [
        (Says(429, "slow down", {"Retry-After": "7"}), False, 7.0),
        (Says(500, "oops"), False, None),
        (Says(503, "", {"Retry-After": "Fri, 27 Nov 2026 08:00:30 GMT"}), False, 30.0),
        (Says(400, "wrong"), True, None),
        (Says(403, "no"), True, None),
        (Says(404, "gone"), True, None),
        (Says(302, "", {"Location": "http://127.0.0.1:1/"}), False, None),
        (Says(0), False, None),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Says) else "",
)
def test_a_failure_says_whether_to_try_again(
    kind: str, says: Says, permanent: bool, retry_after_s: float | None
) -> None:
    async def run() -> DeliveryError:
        async with http_double(says) as double:
            with pytest.raises(DeliveryError) as caught:
                await sent(notice(), integration(kind, double.url))
            assert len(double.asked) == 1
            return caught.value

    error = asyncio.run(run())
    assert (error.permanent, error.retry_after_s) == (permanent, retry_after_s)
    assert KEY not in str(error)


@pytest.mark.parametrize("kind", HTTP_KINDS)
def test_a_receiver_that_never_answers_is_given_up(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_delivery, "TIMEOUT_S", 0.2)

    async def run() -> None:
        async with http_double(Says(-1)) as double:
            with pytest.raises(DeliveryError, match="no answer") as caught:
                await sent(notice(), integration(kind, double.url))
            assert not caught.value.permanent

    asyncio.run(run())


LIMITS = {
    "pagerduty": 512_000,
    "msteamsv2": 28_000,
    "slack": 40_000,
    "opsgenie": 60_000,
    "newrelic": 1_000_000,
}


@pytest.mark.parametrize("kind", sorted(LIMITS))
def test_a_huge_storm_fits_into_what_the_receiver_takes(kind: str) -> None:
    many = [alert(name=f"A{n}", summary="s" * 2_000, cause="c" * 60_000) for n in range(300)]

    async def run() -> int:
        async with http_double(TOOK[kind]) as double:
            await sent(notice(EventAction.TRIGGER, *many), integration(kind, double.url))
            return len(double.asked[0].body)

    assert asyncio.run(run()) <= LIMITS[kind]


@pytest.mark.parametrize("kind", HTTP_KINDS)
def test_a_template_that_fails_still_sends_warrooms_own_text(kind: str) -> None:
    field = {
        "pagerduty": "description",
        "slack": "title",
        "msteamsv2": "title",
        "opsgenie": "message",
        "webhook": "",
        "newrelic": "",
    }[kind]
    more = {field: '{{ template "slack.default.title" . }}{{ .Alerts.Nope }}'} if field else {}

    async def run() -> bytes:
        async with http_double(TOOK[kind]) as double:
            await sent(notice(), integration(kind, double.url, **more))
            return double.asked[0].body

    assert b"Orders fell by 60 %" in asyncio.run(run())


def test_templates_see_alertmanagers_data() -> None:
    text = (
        "[{{ .Status | toUpper }}:{{ .Alerts.Firing | len }}/{{ len .Alerts }}] {{ .Receiver }} "
        '{{ .GroupLabels.SortedPairs.Values | join " " }} {{ .CommonLabels.service }} '
        "{{ range .Alerts.Firing }}{{ .Labels.alertname }}:{{ .Annotations.impact }};{{ end }}"
        "{{ if gt (len .CommonLabels) (len .GroupLabels) }}{{ with .CommonLabels.SortedPairs }}"
        "{{ range . }}{{ .Name }}={{ .Value }},{{ end }}{{ end }}{{ end }} {{ .ExternalURL }}"
    )
    both = notice(EventAction.TRIGGER, alert(name="A"), alert(False, name="B"))
    assert rendered({"t": text}, both) == {
        "t": "[FIRING:1/2] r shop shop A:1,200 EUR/min;service=shop,severity=page, http://w.test"
    }


def test_slack_threads_follow_the_first_message(
    alerting: Callable[[Routing], Any], make_alert: Callable[..., Alert]
) -> None:
    took = Says(200, '{"ok":true,"channel":"C1","ts":"17.5"}')

    async def run() -> HttpDouble:
        async with http_double(took) as double:
            bot = {
                "api_url": "",
                "app_token": KEY,
                "channel": "#ops",
                "app_url": "URL/chat.postMessage",
            }
            to = integration("slack", double.url, **bot)
            half = alerting(default_routing((replace(to, send_resolved=True),)))
            async with httpx.AsyncClient(trust_env=False) as client:
                outbox = Outbox(
                    half.outbox_rows, lambda: half.engine.routing, client, NOTIFIERS, worker="w"
                )
                # Two episodes: the second begins a thread of its own.
                for step, holds in enumerate([True, False, False, True]):
                    now_ms = NOW_MS + step * 20_000
                    half.engine.tick(now_ms, [make_alert()] if holds else [])
                    await outbox.deliver_due(now_ms)
            return double

    double = asyncio.run(run())
    assert [asked.path for asked in double.asked] == [
        "/chat.postMessage",
        "/chat.update",
        "/chat.postMessage",
        "/chat.postMessage",
    ]
    opened, update, reply, again = (asked.json for asked in double.asked)
    assert double.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert (opened["channel"], opened["attachments"][0]["color"]) == ("#ops", "danger")
    assert (update["channel"], update["ts"]) == ("C1", "17.5")
    assert update["attachments"][0]["color"] == "good"
    assert reply["thread_ts"] == "17.5"
    assert "thread_ts" not in again


def test_a_new_episode_is_a_new_slack_message_though_the_end_of_the_last_was_not_sent() -> None:
    async def run() -> HttpDouble:
        async with http_double(Says(200, '{"ok":true,"channel":"C1","ts":"18.0"}')) as double:
            to = integration("slack", double.url, **BOT)
            receipt = await sent(replace(notice(), earlier="C1 17.5"), to)
            assert receipt.detail == "C1 18.0"
            return double

    (asked,) = asyncio.run(run()).asked
    assert (asked.path, "thread_ts" in asked.json) == ("/chat.postMessage", False)


@pytest.mark.parametrize("lost_at", [0, 1], ids=["update", "thread"])
@pytest.mark.parametrize(
    "error", ["message_not_found", "edit_window_closed", "cant_update_message", "thread_not_found"]
)
def test_a_first_slack_message_that_is_lost_is_posted_anew(error: str, lost_at: int) -> None:
    took = Says(200, '{"ok":true,"channel":"C1","ts":"18.0"}')

    async def run() -> HttpDouble:
        async with http_double(took) as double:
            double.answers = [*[took] * lost_at, Says(200, f'{{"ok":false,"error":"{error}"}}')]
            to = integration("slack", double.url, **BOT)
            update = replace(notice(), earlier="C1 17.5", reason="new_alerts_in_group")
            with capture_logs() as logs:
                receipt = await sent(update, to)
            assert receipt.detail == "C1 18.0"
            assert [line["reason"] for line in logs] == [error]
            return double

    *_, last = asyncio.run(run()).asked
    assert (last.path, "thread_ts" in last.json) == ("/chat.postMessage", False)


@pytest.mark.parametrize(
    ("error", "permanent"),
    [("channel_not_found", True), ("invalid_auth", True), ("internal_error", False)],
)
def test_slack_says_no_with_200(error: str, permanent: bool) -> None:
    async def run() -> DeliveryError:
        async with http_double(Says(200, f'{{"ok":false,"error":"{error}"}}')) as double:
            more = {"api_url": "", "app_token": KEY, "channel": "c", "app_url": "URL/x"}
            with pytest.raises(DeliveryError, match=error) as caught:
                await sent(notice(), integration("slack", double.url, **more))
            return caught.value

    assert asyncio.run(run()).permanent is permanent


def test_slack_mentions_nobody_whom_a_label_names() -> None:
    loud = notice(EventAction.TRIGGER, alert(summary="<!channel> & <@U1>", cause="<!here>"))
    body = slack.message(loud, integration("slack", "http://x"))
    assert "<!" not in str(body)
    assert "<@" not in str(body)


def test_slack_has_a_button_that_takes_the_incident_until_it_has_ended() -> None:
    to = integration("slack", "http://x", acknowledge_button=True)
    (_, last) = slack.message(notice(), to)["attachments"]
    (button,) = last["blocks"][0]["elements"]
    assert (button["action_id"], button["value"]) == ("warroom_acknowledge", "inc-1")
    assert len(slack.message(notice(EventAction.RESOLVE), to)["attachments"]) == 1
    assert len(slack.message(notice(), integration("slack", "http://x"))["attachments"]) == 1


def test_slack_fields_are_rendered_one_by_one() -> None:
    more = {"fields": [{"title": "Service", "value": '{{ printf "%q" .GroupLabels.service }}'}]}
    body = slack.message(notice(), integration("slack", "http://x", **more))
    assert body["attachments"][0]["fields"] == [
        {"title": "Service", "value": '"shop"', "short": False}
    ]


def test_a_teams_card_has_the_page_and_its_links() -> None:
    body = msteamsv2.card(notice(), integration("msteamsv2", "http://x"))
    content = body["attachments"][0]["content"]
    assert content["type"] == "AdaptiveCard"
    assert content["body"][0]["color"] == "attention"
    facts = {fact["title"]: fact["value"] for fact in content["body"][1]["facts"]}
    assert facts["Impact"] == "1,200 EUR/min"
    assert [link["url"] for link in content["actions"]] == [
        "http://w.test/business",
        "http://w.test/incidents/inc-1",
    ]


def test_a_failure_behind_the_teams_webhook_is_one() -> None:
    says = Says(200, "Webhook message delivery failed with error: HTTP error 429")

    async def run() -> None:
        async with http_double(says) as double:
            with pytest.raises(DeliveryError) as caught:
                await sent(notice(), integration("msteamsv2", double.url))
            assert not caught.value.permanent

    asyncio.run(run())


def test_opsgenie_opens_acknowledges_and_closes_one_alias() -> None:
    async def run() -> HttpDouble:
        async with http_double(TOOK["opsgenie"]) as double:
            to = integration("opsgenie", double.url, tags="a, b", details={"team": "pay"})
            for action in EventAction:
                await sent(notice(action), to)
            return double

    double = asyncio.run(run())
    assert [asked.path for asked in double.asked] == [
        "/v2/alerts",
        "/v2/alerts/abc123/acknowledge?identifierType=alias",
        "/v2/alerts/abc123/close?identifierType=alias",
    ]
    opened = double.asked[0].json
    assert double.asked[0].headers["authorization"] == f"GenieKey {KEY}"
    assert (opened["alias"], opened["priority"], opened["tags"]) == ("abc123", "P1", ["a", "b"])
    assert opened["details"]["team"] == "pay"
    assert double.asked[1].json["user"] == "anna"


@given(st.text(max_size=500), st.text(max_size=500))
def test_opsgenie_bounds_hold_for_any_text(summary: str, cause: str) -> None:
    one = notice(EventAction.TRIGGER, alert(summary=summary * 40, cause=cause * 40))
    _, body = opsgenie.request(one, integration("opsgenie", "http://x"))
    assert len(body["message"]) <= 130
    assert len(body["description"]) <= 15_000
    assert sum(len(k) + len(v) for k, v in body["details"].items()) <= 8_000


def test_a_webhook_is_signed_with_every_key_while_they_change() -> None:
    old, new = base64.b64encode(b"o" * 32).decode(), base64.b64encode(b"n" * 32).decode()

    async def run() -> HttpDouble:
        async with http_double(TOOK["webhook"]) as double:
            more = {
                "secret": f"whsec_{old} whsec_{new}",
                "http_config": {"authorization": {"credentials": KEY}},
            }
            await sent(notice(), integration("webhook", double.url, **more))
            return double

    (asked,) = asyncio.run(run()).asked
    signed = f"{asked.headers['webhook-id']}.{asked.headers['webhook-timestamp']}.".encode()
    expected = [
        "v1,"
        + base64.b64encode(hmac.digest(key * 32, signed + asked.body, hashlib.sha256)).decode()
        for key in (b"o", b"n")
    ]
    assert asked.headers["webhook-signature"].split(" ") == expected
    assert asked.headers["authorization"] == f"Bearer {KEY}"


def test_new_relic_gets_an_event_for_each_alert_that_a_repeat_does_not_change() -> None:
    async def run() -> None:
        async with http_double(TOOK["newrelic"]) as double:
            to = integration("newrelic", double.url, event_type="Finding")
            one = notice(EventAction.TRIGGER, alert(), alert(firing=False, name="Other"))
            await sent(one, to)
            await sent(one, to)
            await sent(replace(one, action=EventAction.ACKNOWLEDGE, who="ada"), to)
            first, again, known = double.asked
            assert first.path == "/v1/accounts/7/events"
            assert first.headers["api-key"] == KEY
            assert first.body == again.body
            firing, ended = orjson.loads(first.body)
            assert (firing["eventType"], firing["status"]) == ("Finding", "firing")
            assert firing["label.service"] == "shop"
            assert firing["cause"] == "payments <fail> & retry"
            assert (firing["messageId"], firing["timestamp"]) == (one.id, one.created_ms)
            assert (ended["status"], ended["endsAt"]) == ("resolved", NOW_MS + 9)
            (event,) = orjson.loads(known.body)
            assert (event["status"], event["who"]) == ("acknowledge", "ada")
            # Only numbers and texts, and none too long: what else there is, New Relic drops.
            for each in (firing, ended, event):
                assert all(isinstance(value, (str, int)) for value in each.values())

    asyncio.run(run())


@given(
    st.text(max_size=50), st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text())
)
def test_events_for_new_relic_hold_for_any_text(cause: str, labels: dict[str, str]) -> None:
    one = replace(alert(cause=cause * 200), labels=Labels.of(labels))
    (event,) = orjson.loads(newrelic.payload(notice(EventAction.TRIGGER, one), "E"))
    assert max(len(value) for value in event.values() if isinstance(value, str)) <= 4_096
    assert event["eventType"] == "E"


async def _mail(one: Notice, says: dict[str, str], **more: Any) -> tuple[SmtpDouble, Receipt]:
    async with smtp_double() as double:
        double.says = says
        to = integration("email", "", smarthost=f"127.0.0.1:{double.port}", **more)
        return double, await sent(one, to)


def test_a_mail_has_text_and_html_and_stays_in_its_thread() -> None:
    more = {"to": "A <a@x.example>, b@x.example", "auth_username": "w", "auth_password": KEY}
    double, receipt = asyncio.run(_mail(notice(), {}, **more))
    (mail,) = double.mails
    assert receipt.status == 250
    assert double.recipients == ["a@x.example", "b@x.example"]
    assert double.logins == [f"\0w\0{KEY}"]
    assert mail["Subject"].startswith("Orders fell by 60 %")
    assert mail["Message-ID"] == "<msg_1@shop.example>"
    assert mail["References"] == "<group-abc123@shop.example>"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "Cause: payments <fail> & retry" in text.get_content()
    assert "payments &lt;fail&gt; &amp; retry" in html.get_content()
    assert "http://w.test/business" in html.get_content()


def test_headers_of_a_mail_may_hold_templates_and_no_line_breaks() -> None:
    evil = notice(EventAction.TRIGGER, alert(summary="a\r\nBcc: all@x.example"))
    more = {"headers": {"Subject": "{{ .CommonAnnotations.summary }}", "X-Team": "pay"}}
    double, _ = asyncio.run(_mail(evil, {}, **more))
    (mail,) = double.mails
    assert mail["Subject"] == "a Bcc: all@x.example"
    assert mail["Bcc"] is None
    assert mail["X-Team"] == "pay"


@pytest.mark.parametrize(
    ("says", "permanent"),
    [
        ({"MAIL": "451 later"}, False),
        ({"RCPT": "550 no such user"}, True),
        ({"RCPT": "450 busy"}, False),
        ({"DATA": "552 too large"}, True),
        ({".": "554 spam"}, True),
        ({"AUTH": "535 wrong password"}, True),
    ],
)
def test_smtp_answers_say_whether_to_try_again(says: dict[str, str], permanent: bool) -> None:
    more = {"auth_username": "w", "auth_password": KEY}
    with pytest.raises(DeliveryError) as caught:
        asyncio.run(_mail(notice(), says, **more))
    assert caught.value.permanent is permanent
    assert KEY not in str(caught.value)


def test_mail_is_not_sent_in_the_clear_unless_that_is_allowed() -> None:
    with pytest.raises(DeliveryError, match="STARTTLS") as caught:
        asyncio.run(_mail(notice(), {}, require_tls=True))
    assert caught.value.permanent


def test_a_smart_host_that_is_away_may_come_back() -> None:
    to = integration("email", "", smarthost="127.0.0.1:1")
    with pytest.raises(DeliveryError, match="no SMTP session") as caught:
        asyncio.run(sent(notice(), to))
    assert not caught.value.permanent


def test_smart_hosts_that_hang_take_no_thread_from_ticks() -> None:
    async def run() -> list[Any]:
        connected, released = asyncio.Event(), asyncio.Event()

        async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            await released.wait()
            writer.close()

        async with smart_host(hang) as port:
            to = integration("email", "", smarthost=f"127.0.0.1:{port}")
            # More than the loop has threads.
            going = [asyncio.create_task(sent(notice(), to)) for _ in range(40)]
            await connected.wait()
            await asyncio.to_thread(lambda: None)
            assert not any(task.done() for task in going)
            released.set()
            return await asyncio.gather(*going, return_exceptions=True)

    errors = asyncio.run(run())
    assert {type(error) for error in errors} == {DeliveryError}
    assert not any(error.permanent for error in errors)


def test_a_smart_host_that_never_comes_to_an_end_is_given_up_and_its_thread_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(email, "SESSION_S", 0.3)

    async def run() -> None:
        async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while True:
                    writer.write(b"220-")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            writer.close()
            hung_up.set()

        hung_up = asyncio.Event()
        async with smart_host(drip) as port:
            to = integration("email", "", smarthost=f"127.0.0.1:{port}")
            with pytest.raises(DeliveryError, match="TimeoutError") as caught:
                await sent(notice(), to)
            assert not caught.value.permanent
            # The session is closed, long before the socket's own timeout.
            await asyncio.wait_for(hung_up.wait(), email.TIMEOUT_S - 1)

    asyncio.run(run())


@asynccontextmanager
async def smart_host(serve: Callable[..., Any]) -> AsyncIterator[int]:
    """The port of an SMTP server that only `serve` speaks for."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@given(st.text(max_size=300))
def test_any_summary_makes_a_mail(summary: str) -> None:
    one = notice(EventAction.TRIGGER, alert(summary=summary))
    to = integration("email", "", smarthost="mail.example:25")
    assert email.mail(one, to, NOW_MS).as_bytes()


GLOBAL = """
global:
  slack_api_url: https://hooks.slack.example/x
  opsgenie_api_key: k
  smtp_smarthost: mail.example:587
  smtp_from: w@shop.example
  smtp_require_tls: false
route: {receiver: r}
receivers:
  - name: r
    slack_configs: [{channel: '#a'}]
    opsgenie_configs: [{}]
    email_configs: [{to: a@x.example}]
"""


def test_what_is_global_holds_where_nothing_else_is_said() -> None:
    made = parse_alertmanager(GLOBAL, "am.yml").receivers["r"].integrations
    assert [(one.kind, one.send_resolved) for one in made] == [
        ("slack", False),
        ("opsgenie", True),
        ("email", False),
    ]
    assert made[2].options["require_tls"] == ""


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("slack", {"api_url": ""}, "either an api_url"),
        ("slack", {"api_url": "ftp://x"}, "http or https"),
        ("slack", {"api_url": "", "app_token": "x"}, "needs a channel"),
        ("slack", {"title": "{{ end }}"}, "template of 'title'"),
        ("slack", {"titel": "x"}, "no field 'titel'"),
        ("msteamsv2", {"webhook_url": ""}, "needs a webhook_url"),
        ("opsgenie", {"api_key": ""}, "needs an api_key"),
        ("opsgenie", {"responders": [{"name": "x"}]}, "needs a type"),
        ("newrelic", {"license_key": ""}, "needs a license_key"),
        ("newrelic", {"account": 0}, "the number of its account"),
        ("newrelic", {"region": "mars"}, "no region"),
        ("newrelic", {"event_type": "a b"}, "no type of events"),
        ("email", {}, "needs a smarthost"),
        ("email", {"smarthost": "mail:25", "from": ""}, "needs from"),
        ("email", {"smarthost": "mail:25", "headers": {"A: b": "c"}}, "no header name"),
        ("webhook", {"http_config": {"basic_auth": {"password": "x"}}}, "'username'"),
    ],
)
def test_a_mistake_in_a_receiver_is_told(kind: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        integration(kind, "http://x", **more)
    assert caught.value.line


def test_what_a_proxy_finds_too_large_for_pagerduty_pages_without_details() -> None:
    async def run() -> None:
        async with http_double(Says(202, "{}")) as double:
            double.answers = [Says(413, "too large")]
            await sent(notice(), integration("pagerduty", double.url))
            whole, bare = (asked.json for asked in double.asked)
            assert "error" in bare["payload"].pop("custom_details")
            assert whole["payload"].pop("custom_details")["labels"]
            assert bare == whole

    asyncio.run(run())


async def _speaks_no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 X\r\n\r\n")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://no-such-host.invalid", "cannot be resolved"),
        ("http://127.0.0.1:1", "refused"),
        ("https://127.0.0.1:1", "refused"),
        ("DOUBLE", "closed before"),
        ("TLS", "TLS failed"),
    ],
)
def test_a_delivery_without_an_answer_says_what_a_person_can_act_on(
    address: str, reason: str
) -> None:
    async def run() -> DeliveryError:
        plain = await asyncio.start_server(_speaks_no_tls, "127.0.0.1", 0)
        tls = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}"
        async with http_double(Says(0)) as double:
            places = {"DOUBLE": double.url, "TLS": tls}
            with pytest.raises(DeliveryError) as caught:
                await sent(notice(), integration("pagerduty", places.get(address, address)))
        plain.close()
        await plain.wait_closed()
        return caught.value

    error = asyncio.run(run())
    assert reason in error.message
    assert not error.permanent
