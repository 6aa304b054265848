"""The double answers as PagerDuty does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warroom.demo.pagerduty_double import (
    DEMO_SECRET,
    Incident,
    create_double,
    problems,
    signature_valid,
)

KEY = "k" * 32
NOW_S = 1_790_000_000.0


def _trigger(**more: Any) -> dict[str, Any]:
    payload = {"summary": "it burns", "source": "shop", "severity": "critical"}
    return {"routing_key": KEY, "event_action": "trigger", "payload": payload, **more}


def _talk(*calls: tuple[str, str, Any]) -> list[httpx.Response]:
    async def talk() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_double(now_s=lambda: NOW_S))
        async with httpx.AsyncClient(transport=transport, base_url="http://double") as client:
            return [await client.request(verb, path, json=body) for verb, path, body in calls]

    return asyncio.run(talk())


def test_one_incident_is_triggered_acknowledged_and_resolved() -> None:
    follow = {"routing_key": KEY, "dedup_key": "d"}
    *answers, log = _talk(
        ("POST", "/v2/enqueue", _trigger(dedup_key="d")),
        ("POST", "/v2/enqueue", _trigger(dedup_key="d")),
        ("POST", "/v2/enqueue", {**follow, "event_action": "acknowledge"}),
        ("POST", "/v2/enqueue", {**follow, "event_action": "resolve"}),
        ("GET", "/log", None),
    )
    assert [answer.status_code for answer in answers] == [202] * 4
    assert answers[0].json()["dedup_key"] == "d"
    incident = log.json()["incidents"]["d"]
    assert (incident["state"], incident["incidents"]) == ("resolved", 1)
    assert (incident["triggers"], incident["acknowledges"], incident["resolves"]) == (2, 1, 1)


def test_a_trigger_without_a_key_gets_one() -> None:
    (answer,) = _talk(("POST", "/v2/enqueue", _trigger()))
    assert len(answer.json()["dedup_key"]) == 32


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ([], "no JSON object"),
        (_trigger(routing_key="short"), "routing_key"),
        (_trigger(event_action="close"), "event_action"),
        (_trigger(payload={}), "payload.summary"),
        (_trigger(payload=None), "'payload' is missing"),
        (_trigger(dedup_key="d" * 256), "at most 255"),
        ({"routing_key": KEY, "event_action": "resolve"}, "dedup_key"),
    ],
)
def test_a_wrong_event_is_answered_400_with_the_reason(event: object, reason: str) -> None:
    (answer,) = _talk(("POST", "/v2/enqueue", event))
    assert answer.status_code == 400
    assert reason in answer.text


@pytest.mark.parametrize(("mode", "status"), [("429", 429), ("500", 500), ("drop", 504)])
def test_the_next_answers_fail_as_asked(mode: str, status: int) -> None:
    event = ("POST", "/v2/enqueue", _trigger(dedup_key="d"))
    asked, first, second, third, log = _talk(
        ("POST", "/faults", {"mode": mode, "count": 2}), event, event, event, ("GET", "/log", None)
    )
    assert asked.status_code == 204
    assert [first.status_code, second.status_code, third.status_code] == [status, status, 202]
    assert log.json()["incidents"]["d"]["triggers"] == (3 if mode == "drop" else 1)


def test_an_unknown_fault_is_refused() -> None:
    for body in ({"mode": "fire"}, {"count": 1}, [1]):
        (answer,) = _talk(("POST", "/faults", body))
        assert answer.status_code == 400


def _signed(secret: str, body: bytes, stamp: str) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, b"m-1." + stamp.encode() + b"." + body, hashlib.sha256)
    return {
        "webhook-id": "m-1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,AAAA v1,{base64.b64encode(digest).decode()}",
    }


def test_a_signed_webhook_is_taken_and_a_changed_one_is_not() -> None:
    headers = _signed(DEMO_SECRET, b"{}", f"{NOW_S:.0f}")

    async def talk() -> list[int]:
        transport = httpx.ASGITransport(create_double(now_s=lambda: NOW_S))
        async with httpx.AsyncClient(transport=transport, base_url="http://double") as client:
            return [
                (await client.post("/webhook", content=body, headers=headers)).status_code
                for body in (b"{}", b"[]")
            ]

    assert asyncio.run(talk()) == [204, 401]


def test_an_old_webhook_is_not_taken() -> None:
    headers = _signed(DEMO_SECRET, b"{}", f"{NOW_S - 301:.0f}")
    assert not signature_valid(DEMO_SECRET, headers, b"{}", NOW_S)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=10,
)


@given(
    _json
    | st.fixed_dictionaries(
        {}, optional={"routing_key": _json, "event_action": _json, "payload": _json}
    )
)
def test_no_event_breaks_the_check(event: object) -> None:
    assert problems(event)


@given(st.lists(st.sampled_from(["trigger", "acknowledge", "resolve"]), max_size=30))
def test_an_incident_is_open_exactly_after_a_trigger_that_was_not_resolved(
    actions: list[str],
) -> None:
    incident = Incident("d")
    for action in actions:
        incident.apply(action, "s", NOW_S)
    last = next((a for a in reversed(actions) if a != "acknowledge"), "")
    assert (incident.state in {"triggered", "acknowledged"}) == (last == "trigger")
    assert incident.triggers + incident.acknowledges + incident.resolves == len(actions)
