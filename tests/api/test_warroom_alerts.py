"""Alerts, why somebody was paged, incidents, annotations and the timeline, over the service."""

from __future__ import annotations

from typing import Any

import pytest

from tests.warroom.world import NOW_MS, World

OWN = "/api/warroom/v1"
ALERT = {
    # Alertmanager's
    "annotations",
    "endsAt",
    "fingerprint",
    "generatorURL",
    "labels",
    "receivers",
    "startsAt",
    "status",
    "updatedAt",
    # ours
    "state",
    "incident_id",
    "acknowledged_by",
}
INCIDENT = {
    "id",
    "title",
    "severity",
    "state",
    "started_at",
    "detected_at",
    "acknowledged_at",
    "resolved_at",
    "alerts",
    "probable_causes",
    "timeline",
    "revenue_at_risk",
}


def queue(world: World, length: float) -> None:
    """One sample of the queue that the shipped test rule watches, and a tick just after it."""
    world.samples(
        ({"__name__": "queue_length", "job": "worker"}, world.clock.now_ms + 4_000, length)
    )
    world.evaluate()


def firing(world: World) -> dict[str, Any]:
    queue(world, 500.0)
    (alert,) = world.get("/alerts")["alerts"]
    return dict(alert)


def test_a_firing_alert_has_every_promised_field(world: World) -> None:
    alert = firing(world)
    assert set(alert) >= ALERT
    assert (alert["name"], alert["severity"], alert["state"]) == ("QueueGrows", "page", "firing")
    assert alert["summary"] == "500 jobs wait"
    assert alert["labels"]["job"] == "worker"
    assert alert["annotations"]["runbook"] == "restart the worker"
    assert alert["status"] == {"state": "active", "silencedBy": [], "inhibitedBy": []}
    assert alert["startsAt"] == alert["updatedAt"] == "2026-09-21T14:13:25.000Z"
    assert alert["endsAt"] is None
    assert alert["incident_id"]
    assert alert["receivers"]
    assert world.get(f"/alerts/{alert['fingerprint']}") == alert


def test_an_alert_resolves_when_its_condition_ends(world: World) -> None:
    firing(world)
    queue(world, 1.0)
    (alert,) = world.get("/alerts")["alerts"]
    assert alert["state"] == "resolved"
    assert alert["endsAt"] == alert["resolved_at"] == "2026-09-21T14:13:30.000Z"


def test_why_names_every_stage(world: World) -> None:
    identity = firing(world)["fingerprint"]
    told = world.get(f"/alerts/{identity}/why")
    assert set(told) == {"paged", "reasons", "next_notification_at"}
    assert told["paged"] is False  # the default routing reaches nobody but the wall
    assert all(set(r) >= {"stage", "decision", "reason", "detail"} for r in told["reasons"])
    assert [r["stage"] for r in told["reasons"]][:3] == ["state", "incident", "route"]


def test_a_silenced_alert_says_who_silenced_it(world: World) -> None:
    identity = firing(world)["fingerprint"]
    silence = {
        "matchers": [{"name": "alertname", "value": "QueueGrows", "isRegex": False}],
        "startsAt": "2026-09-21T14:13:25Z",
        "endsAt": "2026-09-21T15:00:00Z",
        "createdBy": "ann",
        "comment": "known",
    }
    made = world.ask("POST", "/api/v2/silences", json=silence)
    assert made.status_code == 200, made.text
    queue(world, 500.0)
    alert = world.get(f"/alerts/{identity}")
    assert alert["silenced"] is True
    assert alert["status"]["silencedBy"] == [made.json()["silenceID"]]
    assert alert["status"]["state"] == "suppressed"
    reasons = world.get(f"/alerts/{identity}/why")["reasons"]
    assert any(r["stage"] == "silence" and r["decision"] == "held" for r in reasons)


@pytest.mark.parametrize("path", ["/alerts/nothing", "/alerts/nothing/why", "/incidents/nothing"])
def test_what_is_unknown_is_a_404(still_world: World, path: str) -> None:
    assert still_world.refusal("GET", OWN + path, 404)["code"] == "not_found"


def test_an_incident_has_every_promised_field(world: World) -> None:
    alert = firing(world)
    (listed,) = world.get("/incidents")["incidents"]
    assert set(listed) >= INCIDENT
    shown = world.get(f"/incidents/{alert['incident_id']}")
    assert set(shown) >= INCIDENT
    assert shown["id"] == alert["incident_id"]
    assert (shown["state"], shown["severity"]) == ("open", "page")
    assert [part["fingerprint"] for part in shown["alerts"]] == [alert["fingerprint"]]
    assert shown["acknowledged_at"] is None
    assert shown["resolved_at"] is None
    assert all(set(event) >= {"at", "kind", "title", "ref"} for event in shown["timeline"])
    assert shown["timeline"]


def test_money_and_confidence_are_numbers_where_they_are_known(world: World) -> None:
    annotations = {
        "cause": "deploy of 1.3",
        "cause_confidence": "0.8",
        "revenue_at_risk": "120.50",
        "currency": "EUR",
    }
    posted = [
        {"labels": {"alertname": "Orders", "severity": "page"}, "annotations": annotations},
        {"labels": {"alertname": "Slow", "severity": "page"}, "annotations": {"cause": "unknown"}},
    ]
    assert world.ask("POST", "/api/v2/alerts", json=posted).status_code == 200
    world.evaluate()
    (incident,) = world.get("/incidents")["incidents"]
    confidences = {cause["why"]: cause["confidence"] for cause in incident["probable_causes"]}
    assert confidences == {"deploy of 1.3": 0.8, "unknown": None}
    assert all(set(c) == {"kind", "ref", "confidence", "why"} for c in incident["probable_causes"])
    assert incident["revenue_at_risk"] == {"amount": "120.50", "currency": "EUR"}


def test_an_incident_is_acknowledged_once_and_by_name(world: World) -> None:
    identity = firing(world)["incident_id"]
    taken = world.post(f"/incidents/{identity}/ack", {"by": "ann"})
    assert (taken["state"], taken["acknowledged_by"]) == ("acknowledged", "ann")
    assert taken["acknowledged_at"] == "2026-09-21T14:13:25.000Z"
    world.clock.now_ms += 60_000
    again = world.post(f"/incidents/{identity}/ack", {"by": "bob"})
    assert again["acknowledged_by"] == "ann"
    assert again["timeline"] == taken["timeline"]
    (alert,) = world.get("/alerts")["alerts"]
    assert alert["acknowledged_by"] == "ann"


def test_a_note_stands_in_the_incident_and_in_the_timeline(world: World) -> None:
    identity = firing(world)["incident_id"]
    shown = world.post(f"/incidents/{identity}/notes", {"text": "rolled back", "by": "ann"}, 201)
    (note,) = [event for event in shown["timeline"] if event["kind"] == "note"]
    assert "rolled back" in note["title"]
    kinds = {event["kind"] for event in world.get("/timeline")["events"]}
    assert kinds >= {"alert", "note"}


def test_an_incident_ends_with_its_last_alert(world: World) -> None:
    identity = firing(world)["incident_id"]
    queue(world, 1.0)
    shown = world.get(f"/incidents/{identity}")
    assert shown["state"] == "resolved"
    assert shown["resolved_at"] == "2026-09-21T14:13:30.000Z"
    assert world.get("/incidents", state="resolved")["incidents"][0]["id"] == identity
    assert world.get("/incidents", state="open")["incidents"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("ack", {"by": "x" * 300}),
        ("ack", {"from": "ann"}),
        ("notes", {}),
        ("notes", {"text": ""}),
        ("notes", {"text": "x" * 4_001}),
        ("notes", {"text": "hello", "author": "ann"}),
        ("notes", "hello"),
    ],
    ids=str,
)
def test_a_bad_word_on_an_incident_is_refused(world: World, path: str, body: Any) -> None:
    identity = firing(world)["incident_id"]
    world.refusal("POST", f"{OWN}/incidents/{identity}/{path}", 400, json=body)


@pytest.mark.parametrize(("act", "body"), [("ack", {"by": "a"}), ("notes", {"text": "a"})])
def test_an_unknown_incident_takes_nothing(still_world: World, act: str, body: Any) -> None:
    error = still_world.refusal("POST", f"{OWN}/incidents/nothing/{act}", 404, json=body)
    assert error["code"] == "not_found"


def test_an_annotation_is_an_event_of_the_timeline(world: World) -> None:
    made = world.post(
        "/annotations",
        {
            "kind": "deploy",
            "title": "shop",
            "service": "shop",
            "version": "1.3",
            "url": "https://ci.example/1",
        },
        201,
    )
    assert made["id"]
    (event,) = world.get("/timeline")["events"]
    assert set(event) >= {"at", "kind", "title", "ref"}
    assert event["at"] == made["at"] == "2026-09-21T14:13:20.000Z"
    assert (event["kind"], event["title"]) == ("deploy", "shop 1.3")
    assert event["ref"] == "https://ci.example/1"


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (None, "2026-09-21T14:13:20.000Z"),
        ("now-5m", "2026-09-21T14:08:20.000Z"),
        ("2026-09-21T16:00:00+02:00", "2026-09-21T14:00:00.000Z"),
        (1_789_999_200, "2026-09-21T14:00:00.000Z"),
        (1_789_999_200.25, "2026-09-21T14:00:00.250Z"),
        ("1789999200.5", "2026-09-21T14:00:00.500Z"),
    ],
)
def test_an_annotation_may_say_when(world: World, at: Any, shown: str) -> None:
    body = {"kind": "note", "title": "hello", **({} if at is None else {"at": at})}
    assert world.post("/annotations", body, 201)["at"] == shown
    assert [event["at"] for event in world.get("/timeline")["events"]] == [shown]


def test_an_annotation_sent_twice_is_kept_once(world: World) -> None:
    body = {"kind": "deploy", "title": "shop", "version": "1.3", "at": "2026-09-21T14:00:00Z"}
    first = world.post("/annotations", body, 201)
    assert world.post("/annotations", body, 201) == first
    assert len(world.get("/timeline")["events"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "deploy"},
        {"title": "x"},
        {"kind": "party", "title": "x"},
        {"kind": "deploy", "title": ""},
        {"kind": "deploy", "title": "x" * 513},
        {"kind": "deploy", "title": "x", "at": "tomorrow"},
        {"kind": "deploy", "title": "x", "at": -5},
        {"kind": "deploy", "title": "x", "at": 1e300},
        {"kind": "deploy", "title": "x", "url": "javascript:alert(1)"},
        {"kind": "deploy", "title": "x", "colour": "red"},
        [],
    ],
    ids=str,
)
def test_a_bad_annotation_is_refused(still_world: World, body: Any) -> None:
    still_world.refusal("POST", f"{OWN}/annotations", 400, json=body)
    assert still_world.get("/timeline")["events"] == []


def test_a_body_that_is_no_json_is_refused(still_world: World) -> None:
    headers = {"Content-Type": "application/json"}
    still_world.refusal("POST", f"{OWN}/annotations", 400, content=b'{"kind": ', headers=headers)


def test_the_timeline_is_newest_first_and_within_its_range(world: World) -> None:
    for minute in (50, 70, 10):
        body = {"kind": "note", "title": f"{minute} min ago", "at": f"now-{minute}m"}
        world.post("/annotations", body, 201)
    titles = [event["title"] for event in world.get("/timeline")["events"]]
    assert titles == ["10 min ago", "50 min ago"]
    asked = world.get("/timeline", **{"from": "now-2h", "to": "now-30m"})
    assert [event["title"] for event in asked["events"]] == ["50 min ago", "70 min ago"]
    assert world.refusal("GET", f"{OWN}/timeline", 400, params={"from": "whenever"})
    assert world.clock.now_ms == NOW_MS
