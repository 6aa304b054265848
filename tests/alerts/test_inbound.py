"""Messages of Slack and PagerDuty: signatures, what they ask for, and what is done about it."""

from __future__ import annotations

import hashlib
import hmac
import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.inbound import signatures
from alerts.inbound.answer import Answer, decide, done_ms
from alerts.inbound.messages import ACK_ACTION, Inbound, Wish, of_pagerduty, of_slack
from alerts.incidents import Incident, IncidentAlert, IncidentState, acknowledged
from store.model import Labels

NOW_MS = 1_795_766_400_000
STAMP = str(NOW_MS // 1000)


def v0(secret: str, stamp: str, body: bytes) -> str:
    signed = b"v0:" + stamp.encode() + b":" + body
    return "v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def v1(secret: str, body: bytes) -> str:
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_the_signature_of_slacks_own_documentation_holds() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id="
        b"G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-"
        b"collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F39770"
        b"0885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10"
        b"d2c447fce8b6703c"
    )
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    secret, stamp = "8f742231b10e8888abcd99yyyzzz85a5", "1531420618"
    assert signatures.slack([secret], stamp, signature, body, 1_531_420_618_000) is None
    late_ms = 1_531_420_618_000 + 301_000
    refusal = signatures.slack([secret], stamp, signature, body, late_ms)
    assert refusal is signatures.Refusal.TOO_OLD


@pytest.mark.parametrize(
    ("stamp", "signature", "refusal"),
    [
        (STAMP, v0("old", STAMP, b"x"), None),
        (STAMP, v0("new", STAMP, b"x"), None),
        (STAMP, v0("other", STAMP, b"x"), signatures.Refusal.WRONG),
        (STAMP, v0("new", STAMP, b"y"), signatures.Refusal.WRONG),
        (STAMP, "", signatures.Refusal.NOT_SIGNED),
        ("", v0("new", "", b"x"), signatures.Refusal.NOT_SIGNED),
        ("-1", v0("new", "-1", b"x"), signatures.Refusal.NOT_SIGNED),
        ("9" * 40, v0("new", "9" * 40, b"x"), signatures.Refusal.TOO_OLD),
        (str(NOW_MS // 1000 + 301), "v0=0", signatures.Refusal.TOO_OLD),
    ],
)
def test_slack_is_known_by_any_of_the_secrets_within_five_minutes(
    stamp: str, signature: str, refusal: signatures.Refusal | None
) -> None:
    assert signatures.slack(["new", "old"], stamp, signature, b"x", NOW_MS) is refusal


def test_pagerduty_is_known_when_any_signature_fits_any_secret() -> None:
    both = f"{v1('gone', b'x')},{v1('old', b'x')}"
    assert signatures.pagerduty(["new", "old"], both, b"x") is None
    assert signatures.pagerduty(["new"], both, b"x") is signatures.Refusal.WRONG
    assert signatures.pagerduty(["new"], "", b"x") is signatures.Refusal.NOT_SIGNED
    assert signatures.pagerduty(["new"], "v2=1", b"x") is signatures.Refusal.NOT_SIGNED
    assert signatures.pagerduty(["new"], "v1=ü☎", b"x") is signatures.Refusal.WRONG
    assert signatures.pagerduty([], v1("", b"x"), b"x") is signatures.Refusal.WRONG


def slack_body(payload: object) -> bytes:
    return f"payload={quote_plus(json.dumps(payload))}".encode()


def pagerduty_body(event: str, agent: str = "user_reference") -> bytes:
    data = {"id": "PGR0VU2", "type": "incident", "incident_key": "k1"}
    who = {"id": "P1", "type": agent, "summary": "Ada"}
    told = {"event_type": event, "occurred_at": "2026-11-27T08:00:00.000Z", "agent": who}
    return json.dumps({"event": {**told, "data": data}}).encode()


def test_a_press_of_the_button_names_the_incident_and_the_person() -> None:
    action = {"action_id": ACK_ACTION, "value": "inc-1"}
    payload = {"type": "block_actions", "user": {"id": "U1", "name": "ada"}, "actions": [action]}
    wish = of_slack(slack_body(payload))
    assert wish == Inbound(Wish.ACKNOWLEDGE, "ada (Slack)", incident_id="inc-1")
    assert of_slack(slack_body({**payload, "type": "view_submission"})) is None
    assert of_slack(slack_body({**payload, "actions": [{"action_id": "other"}]})) is None


@pytest.mark.parametrize(
    ("event", "wish"),
    [
        ("incident.acknowledged", Wish.ACKNOWLEDGE),
        ("incident.resolved", Wish.RESOLVE),
        ("incident.reopened", Wish.REOPEN),
        ("incident.unacknowledged", Wish.REOPEN),
    ],
)
def test_an_event_of_pagerduty_names_the_dedup_key_and_the_person(event: str, wish: Wish) -> None:
    told = of_pagerduty(pagerduty_body(event))
    assert told is not None
    assert (told.wish, told.dedup_key, told.who) == (wish, "k1", "Ada (PagerDuty)")
    assert told.by_person
    assert of_pagerduty(pagerduty_body("incident.annotated")) is None
    echo = of_pagerduty(pagerduty_body(event, "inbound_integration_reference"))
    assert echo is not None
    assert not echo.by_person


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["event", "event_type", "data", "incident_key", "agent", "type", "user", "actions"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.binary(max_size=64))
def test_whatever_comes_is_read_or_refused(value: object, noise: bytes) -> None:
    for read, body in (
        (of_slack, slack_body(value)),
        (of_slack, noise),
        (of_pagerduty, json.dumps(value).encode()),
        (of_pagerduty, noise),
    ):
        try:
            told = read(body)
        except ValueError:
            continue
        assert told is None or told.incident_id or told.dedup_key


def incident(state: IncidentState) -> Incident:
    parts = tuple(IncidentAlert(name, Labels.of(alertname=name), {}, NOW_MS) for name in "ab")
    return Incident("inc-1", "Broken", "page", state, NOW_MS, NOW_MS, alerts=parts)


OPEN, TAKEN, OVER = IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED


@pytest.mark.parametrize(
    ("wish", "state", "told", "by_person", "answer"),
    [
        (Wish.ACKNOWLEDGE, OPEN, "ab", True, Answer.ACKNOWLEDGED),
        (Wish.ACKNOWLEDGE, TAKEN, "ab", True, Answer.NOTHING_NEW),
        (Wish.ACKNOWLEDGE, OVER, "ab", True, Answer.NOTHING_NEW),
        (Wish.ACKNOWLEDGE, OPEN, "ab", False, Answer.ECHO),
        (Wish.RESOLVE, OPEN, "abc", True, Answer.RESOLVED),
        (Wish.RESOLVE, TAKEN, "ab", True, Answer.RESOLVED),
        (Wish.RESOLVE, OPEN, "a", True, Answer.NOTED),
        (Wish.RESOLVE, OPEN, "ab", False, Answer.ECHO),
        (Wish.RESOLVE, OVER, "ab", True, Answer.NOTHING_NEW),
        (Wish.REOPEN, OVER, "ab", True, Answer.REOPENED),
        (Wish.REOPEN, TAKEN, "ab", True, Answer.REOPENED),
        (Wish.REOPEN, OPEN, "ab", True, Answer.NOTHING_NEW),
    ],
)
def test_each_wish_is_judged_with_a_reason(
    wish: Wish, state: IncidentState, told: str, by_person: bool, answer: Answer
) -> None:
    asked = Inbound(wish, "ada", by_person=by_person, dedup_key="k1")
    assert decide(asked, incident(state), set(told)) is answer


def test_what_is_unknown_or_older_than_the_incident_is_left_alone() -> None:
    asked = Inbound(Wish.RESOLVE, "ada", dedup_key="k1", at_ms=NOW_MS - 3_600_000)
    assert decide(asked, None, set()) is Answer.UNKNOWN
    assert decide(asked, incident(OPEN), {"a", "b"}) is Answer.OLD


def test_what_was_sent_before_the_incident_was_given_back_does_not_take_it_again() -> None:
    def answer(wish: Wish, at_ms: int) -> Answer:
        asked = Inbound(wish, "ada", dedup_key="k1", at_ms=at_ms)
        return decide(asked, incident(OPEN), {"a", "b"}, NOW_MS + 60_000)

    assert answer(Wish.ACKNOWLEDGE, NOW_MS + 59_000) is Answer.OLD
    assert answer(Wish.RESOLVE, NOW_MS + 59_000) is Answer.OLD
    assert answer(Wish.ACKNOWLEDGE, NOW_MS + 61_000) is Answer.ACKNOWLEDGED
    assert answer(Wish.REOPEN, NOW_MS + 59_000) is Answer.NOTHING_NEW


@pytest.mark.parametrize(
    ("state", "done_ms", "sent_ms", "answer"),
    [
        (IncidentState.ACKNOWLEDGED, NOW_MS, NOW_MS - 1_000, Answer.OLD),
        (IncidentState.ACKNOWLEDGED, NOW_MS, NOW_MS + 1_000, Answer.REOPENED),
        (IncidentState.RESOLVED, NOW_MS, NOW_MS - 1_000, Answer.OLD),
        (IncidentState.RESOLVED, NOW_MS, NOW_MS + 1_000, Answer.REOPENED),
    ],
)
def test_a_message_that_is_older_than_what_it_would_take_back_is_not_believed(
    state: IncidentState, done_ms: int, sent_ms: int, answer: Answer
) -> None:
    taken = state is IncidentState.ACKNOWLEDGED
    incident = Incident(
        "inc-1",
        "t",
        "page",
        state,
        NOW_MS - 60_000,
        NOW_MS - 60_000,
        acknowledged_ms=done_ms if taken else None,
        resolved_ms=None if taken else done_ms,
    )
    wish = Inbound(Wish.REOPEN, "ada (PagerDuty)", dedup_key="k", at_ms=sent_ms)
    assert decide(wish, incident, ["f"]) is answer


def test_who_gives_an_incident_back_is_believed_though_both_messages_come_late() -> None:
    open_one = Incident("inc-1", "t", "page", OPEN, NOW_MS, NOW_MS)
    late_ms = NOW_MS + 300_000
    taken = Inbound(Wish.ACKNOWLEDGE, "ada", dedup_key="k", at_ms=NOW_MS + 60_000)
    back = Inbound(Wish.REOPEN, "ada", dedup_key="k", at_ms=NOW_MS + 120_000)
    assert decide(taken, open_one, ["f"]) is Answer.ACKNOWLEDGED
    kept = acknowledged(open_one, "ada", done_ms(taken, open_one, late_ms))
    assert decide(back, kept, ["f"]) is Answer.REOPENED
    older = Inbound(Wish.REOPEN, "ada", dedup_key="k", at_ms=NOW_MS + 59_000)
    assert decide(older, kept, ["f"]) is Answer.OLD


@pytest.mark.parametrize(
    ("wish", "at_ms", "done"),
    [
        (Wish.ACKNOWLEDGE, None, 300_000),
        (Wish.ACKNOWLEDGE, -30_000, 0),
        (Wish.ACKNOWLEDGE, 999_000, 300_000),
        (Wish.RESOLVE, 60_000, 90_000),
        (Wish.RESOLVE, 120_000, 120_000),
    ],
)
def test_what_was_done_is_dated_within_the_incident_s_own_time(
    wish: Wish, at_ms: int | None, done: int
) -> None:
    part = IncidentAlert("f", Labels(), {}, NOW_MS + 90_000)
    found = Incident("inc-1", "t", "page", OPEN, NOW_MS, NOW_MS, alerts=(part,))
    asked = Inbound(wish, "ada", at_ms=None if at_ms is None else NOW_MS + at_ms)
    assert done_ms(asked, found, NOW_MS + 300_000) == NOW_MS + done


def test_a_press_of_slack_s_button_knows_when_it_was_pressed() -> None:
    action = {"action_id": ACK_ACTION, "value": "inc-1", "action_ts": "1548426417.840180"}
    payload = {"type": "block_actions", "user": {"name": "ada"}, "actions": [action]}
    wish = of_slack(b"payload=" + quote_plus(json.dumps(payload)).encode())
    assert wish is not None
    assert wish.at_ms == 1_548_426_417_840
