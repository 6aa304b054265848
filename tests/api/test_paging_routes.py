"""Hooks, on call, deliveries, recurring silences and reports, over the service."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from store.timestamps import rfc3339
from tests.warroom.world import IN_MEMORY, World, open_world

OWN = "/api/warroom/v1"
FILE = f"""{IN_MEMORY}
alerting:
  silence_reminder: 10m
  inbound: {{slack_secret: S1GN1NG, pagerduty_secret: new old}}
  route: {{receiver: on-call, group_wait: 0s, group_interval: 5s, group_by: [alertname]}}
  receivers:
    - name: on-call
      escalation_policy: shop
      pagerduty_configs: [{{routing_key: KEY, url: "http://127.0.0.1:9/"}}]
      webhook_configs: [{{url: "http://127.0.0.1:9/"}}]
    - {{name: ada, webhook_configs: [{{url: "http://127.0.0.1:9/"}}]}}
    - {{name: ben, webhook_configs: [{{url: "http://127.0.0.1:9/"}}]}}
on_call:
  users: [{{name: ada, receivers: [ada]}}, {{name: ben, receivers: [ben]}}]
  schedules:
    - {{name: shop, rotations: [{{users: [ada], every: day, starts: 2026-01-01}}]}}
  escalation_policies: [{{name: shop, steps: [{{schedules: [shop]}}]}}]
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, FILE, {}) as opened:
        yield opened


def fire(world: World, *names: str) -> dict[str, Any]:
    """Post alerts, tick, and answer with the one incident."""
    posted = [{"labels": {"alertname": n, "service": "shop", "severity": "page"}} for n in names]
    assert world.ask("POST", "/api/v2/alerts", json=posted).status_code == 200
    world.evaluate()
    (incident,) = world.get("/incidents")["incidents"]
    return dict(incident)


def end(world: World, *names: str) -> None:
    ended = rfc3339(world.clock.now_ms)
    posted = [
        {"labels": {"alertname": n, "service": "shop", "severity": "page"}, "endsAt": ended}
        for n in names
    ]
    assert world.ask("POST", "/api/v2/alerts", json=posted).status_code == 200
    world.evaluate()


def key_of(world: World, name: str) -> str:
    rows = world.service.paging.ledger.rows()
    return str(next(r.notice.dedup_key for r in rows if name in r.notice.group_key))


def pagerduty(
    world: World, event: str, key: str, *, secret: str = "old", agent: str = "user_reference"
) -> Any:
    data = {"incident_key": key}
    who = {"type": agent, "summary": "Ada"}
    at = rfc3339(world.clock.now_ms)
    body = {"event": {"event_type": event, "occurred_at": at, "agent": who, "data": data}}
    raw = json.dumps(body).encode()
    signature = "v1=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"X-PagerDuty-Signature": f"v1={'0' * 64},{signature}"}
    return world.ask("POST", f"{OWN}/hooks/pagerduty", content=raw, headers=headers)


def state(world: World) -> tuple[str, str]:
    (incident,) = world.get("/incidents")["incidents"]
    return str(incident["state"]), str(incident["id"])


def test_pagerduty_takes_gives_back_and_ends_an_incident(world: World) -> None:
    fire(world, "Broken")
    key = key_of(world, "Broken")
    for event, answer, becomes in [
        ("incident.acknowledged", "acknowledged", "acknowledged"),
        ("incident.acknowledged", "nothing_new", "acknowledged"),
        ("incident.unacknowledged", "reopened", "open"),
        ("incident.resolved", "resolved", "resolved"),
        ("incident.reopened", "reopened", "open"),
    ]:
        told = pagerduty(world, event, key)
        assert (told.status_code, told.json()["answer"]) == (200, answer)
        assert state(world)[0] == becomes
        world.evaluate()
        assert state(world)[0] == becomes
    timeline = world.get(f"/incidents/{state(world)[1]}")["timeline"]
    titles = [event["title"] for event in timeline]
    assert "acknowledged by Ada (PagerDuty)" in titles
    assert "reopened by Ada (PagerDuty)" in titles


def test_the_end_of_one_group_does_not_end_an_incident_of_two(world: World) -> None:
    fire(world, "Broken", "Slow")
    told = pagerduty(world, "incident.resolved", key_of(world, "Slow"))
    assert told.json()["answer"] == "noted_only_a_part_of_the_incident"
    assert state(world)[0] == "open"
    echo = pagerduty(world, "incident.resolved", key_of(world, "Slow"), agent="service_reference")
    assert echo.json()["answer"] == "echo_of_our_own_message"
    assert pagerduty(world, "incident.resolved", "no-such-key").json()["answer"] == (
        "no_such_incident"
    )


def test_what_is_not_signed_changes_nothing(world: World) -> None:
    fire(world, "Broken")
    refused = pagerduty(world, "incident.acknowledged", key_of(world, "Broken"), secret="guessed")
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "signature_does_not_match"
    assert state(world)[0] == "open"
    error = world.refusal("POST", f"{OWN}/hooks/slack", 401, content=b"payload={}")
    assert error["code"] == "not_signed"
    world.refusal("POST", f"{OWN}/hooks/slack", 413, content=b"x" * 300_000)


def test_slacks_button_takes_the_incident_and_stops_the_escalation(world: World) -> None:
    incident = fire(world, "Broken")
    (running,) = world.get("/on-call")["escalations"]
    assert (running["policy"], running["told"]) == ("shop", ["ada"])
    action = {"action_id": "warroom_acknowledge", "value": incident["id"]}
    payload = {"type": "block_actions", "user": {"name": "ada"}, "actions": [action]}
    raw = f"payload={quote_plus(json.dumps(payload))}".encode()
    stamp = str(world.clock.now_ms // 1000)
    digest = hmac.new(b"S1GN1NG", b"v0:" + stamp.encode() + b":" + raw, hashlib.sha256)
    headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest.hexdigest()}"}
    told = world.ask("POST", f"{OWN}/hooks/slack", content=raw, headers=headers)
    assert (told.status_code, told.json()) == (200, {"answer": "acknowledged"})
    assert state(world) == ("acknowledged", incident["id"])
    world.evaluate()
    (stopped,) = world.get("/on-call")["escalations"]
    assert stopped["next_at"] is None


def test_without_a_secret_there_is_no_hook(tmp_path: Path) -> None:
    with open_world(tmp_path, IN_MEMORY, {}) as world:
        error = world.refusal("POST", f"{OWN}/hooks/pagerduty", 404, content=b"{}")
    assert "alerting.inbound" in error["hint"]


def test_who_is_on_call_is_told_and_exported(world: World) -> None:
    (schedule,) = world.get("/on-call")["schedules"]
    assert (schedule["name"], schedule["now"]["user"]) == ("shop", "ada")
    assert schedule["next"][0]["from"] == schedule["now"]["until"]
    answer = world.ask("GET", f"{OWN}/on-call/shop.ics")
    assert answer.headers["content-type"].startswith("text/calendar")
    assert answer.text.startswith("BEGIN:VCALENDAR\r\n")
    world.refusal("GET", f"{OWN}/on-call/nothing.ics", 404)


def test_somebody_stands_in_by_the_api_until_it_is_taken_back(world: World) -> None:
    path = f"{OWN}/on-call/shop/overrides/swap-1"
    begin_ms = world.clock.now_ms
    body = {"user": "ben", "until": rfc3339(begin_ms + 3_600_000), "by": "ada"}
    assert world.ask("PUT", path, json=body).json()["from"] == rfc3339(begin_ms)
    (schedule,) = world.get("/on-call")["schedules"]
    assert (schedule["now"]["user"], schedule["now"]["reason"]) == ("ben", "override")
    assert world.get("/on-call/shop/overrides")["overrides"][0]["created_by"] == "ada"
    assert "SUMMARY:ben on call" in world.ask("GET", f"{OWN}/on-call/shop.ics").text
    fire(world, "Broken")
    assert "ben" in {row.notice.receiver for row in world.service.paging.ledger.rows()}
    # Again under the same name: it is changed, not doubled.
    assert world.ask("PUT", path, json={**body, "by": "ben"}).status_code == 200
    assert len(world.get("/on-call/shop/overrides")["overrides"]) == 1
    assert world.ask("DELETE", path).status_code == 204
    assert world.get("/on-call")["schedules"][0]["now"]["user"] == "ada"
    world.refusal("DELETE", path, 404)


def test_an_override_that_makes_no_sense_is_refused(world: World) -> None:
    path = f"{OWN}/on-call/shop/overrides/x"
    for body in (
        {"user": "eve", "until": "2030-01-01T00:00:00Z"},
        {"user": "ben", "until": "2020-01-01T00:00:00Z"},
        {"user": "ben", "from": "2029-01-02", "until": "2029-01-01"},
        {"user": "ben", "until": "2999-01-01T00:00:00Z"},
        {"user": "ben", "until": "9999-12-31T23:59:59-12:00"},
        {"user": "ben", "from": "0001-01-01T00:00:00+14:00", "until": "2999-01-01T00:00:00Z"},
        {"user": "ben", "from": "9999-12-31T00:00:00-12:00", "until": "9999-12-31T23:00:00-12:00"},
        {"user": "ben"},
    ):
        world.refusal("PUT", path, 400, json=body)
    body = {"user": "ben", "until": "2030-01-01T00:00:00Z"}
    world.refusal("PUT", f"{OWN}/on-call/none/overrides/x", 404, json=body)
    assert world.get("/on-call/shop/overrides")["overrides"] == []
    # Times without an offset are by the schedule's clock.
    body = {"user": "ben", "from": "2027-07-01T00:00:00", "until": "2027-07-01T12:00:00+02:00"}
    told = world.ask("PUT", path, json=body).json()
    assert told["from"] == "2027-07-01T00:00:00.000Z"
    assert told["until"] == "2027-07-01T10:00:00.000Z"


def test_each_attempt_to_deliver_is_in_the_ledger(world: World) -> None:
    incident = fire(world, "Broken")
    world.run(world.service.paging.outbox.deliver_due(world.clock.now_ms))
    told = world.get("/deliveries", incident_id=incident["id"])
    kinds = {one["kind"] for one in told["deliveries"]}
    assert kinds == {"pagerduty", "webhook"}
    assert told["messages"] == {"pending": 3}
    assert not any(one["ok"] for one in told["deliveries"])
    assert world.get("/deliveries", ok="true")["deliveries"] == []
    first = world.get("/deliveries", limit=2)
    rest = world.get("/deliveries", limit=2, after=first["next"])
    assert len({one["notice_id"] for one in (*first["deliveries"], *rest["deliveries"])}) == 3


def test_a_recurring_silence_is_a_plain_one_while_its_window_is_open(world: World) -> None:
    body = {
        "matchers": ['service="shop"'],
        "time_intervals": [{"times": [{"start_time": "00:00", "end_time": "24:00"}]}],
        "comment": "nightly backup",
        "created_by": "ada",
    }
    made = world.post("/silences/recurring", body, 201)
    assert made["active"]
    world.evaluate()
    (silence,) = world.ask("GET", "/api/v2/silences").json()
    assert silence["status"]["state"] == "active"
    assert silence["comment"].startswith("nightly backup (recurring")
    world.evaluate()
    assert len(world.ask("GET", "/api/v2/silences").json()) == 1
    fire(world, "Broken")
    assert world.service.paging.ledger.rows() == []
    # Ended early by amtool, it does not come back within its window.
    world.ask("DELETE", f"/api/v2/silence/{silence['id']}")
    world.evaluate()
    world.evaluate()
    assert [s["status"]["state"] for s in world.ask("GET", "/api/v2/silences").json()] == [
        "expired"
    ]
    assert world.ask("DELETE", f"{OWN}/silences/recurring/{made['id']}").status_code == 204
    assert world.get("/silences/recurring")["silences"] == []
    world.refusal("DELETE", f"{OWN}/silences/recurring/{made['id']}", 404)
    wrong = {**body, "time_intervals": [{"weekdays": ["someday"]}]}
    world.refusal("POST", f"{OWN}/silences/recurring", 400, json=wrong)


def test_before_a_silence_ends_that_still_mutes_something_its_receivers_are_told_once(
    world: World,
) -> None:
    minute_ms = 60_000
    silence = {
        "matchers": [{"name": "service", "value": "shop", "isRegex": False}],
        "startsAt": rfc3339(world.clock.now_ms),
        "endsAt": rfc3339(world.clock.now_ms + 30 * minute_ms),
        "createdBy": "ada",
        "comment": "we mend it",
    }
    assert world.ask("POST", "/api/v2/silences", json=silence).status_code == 200
    labels = {"alertname": "Broken", "service": "shop", "severity": "page"}
    later = rfc3339(world.clock.now_ms + 99 * minute_ms)
    world.ask("POST", "/api/v2/alerts", json=[{"labels": labels, "endsAt": later}])
    world.evaluate()
    world.evaluate(15 * minute_ms)
    assert world.service.paging.ledger.rows() == []
    world.evaluate(10 * minute_ms)
    world.evaluate()
    (row,) = world.service.paging.ledger.rows()
    assert (row.notice.reason, row.notice.receiver) == ("silence_ends_soon", "on-call")
    lead = row.notice.alerts[0].annotations["summary"]
    assert lead.startswith("A silence of ada ends in 5 min")


def test_the_report_and_the_handover_tell_what_happened(world: World) -> None:
    incident = fire(world, "Broken")
    world.post(f"/incidents/{incident['id']}/notes", {"text": "rolled *back*", "by": "ada"}, 201)
    text = world.ask("GET", f"{OWN}/incidents/handover").text
    assert f"({incident['id']}, page, open)" in text
    assert "ada: rolled \\*back\\*" in text
    assert "shop: ada until" in text
    end(world, "Broken")
    told = world.get("/alerts/quality", **{"from": "now-1h"})
    assert (told["incidents"], told["actionable"], told["noise"]) == (1, 1.0, 0.0)
    assert told["noisiest"] == [{"alert": "Broken", "times": 1}]
    world.refusal("GET", f"{OWN}/alerts/quality?from=now&to=now-1h", 400)
    world.refusal("GET", f"{OWN}/incidents/handover?since=tomorrow", 400)
