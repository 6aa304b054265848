"""Escalation: one after the other is told, until somebody takes it; over restarts, once each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from alerts.model import Alert
from alerts.notification import EventAction, Notice
from alerts.on_call.model import OnCall, Policy, Rotation, Schedule, Step, User
from alerts.route_tree import ESCALATION, Integration, Receiver, Routing, Secret
from alerts.routing import default_routing

MINUTE_MS = 60_000
STEPS = (
    Step(0, schedules=("shop",)),
    Step(2 * MINUTE_MS, users=("ben",)),
    Step(4 * MINUTE_MS, users=("boss",)),
)


def clock(text: str) -> datetime:
    """A time by some wall clock: naive on purpose."""
    return datetime.fromisoformat(text)


def _phone(kind: str = "pagerduty") -> tuple[Integration, ...]:
    secrets = {"routing_key": Secret("R0UT1NGKEY"), "url": Secret("http://127.0.0.1:9/")}
    return (Integration(kind, options={"url": "http://127.0.0.1:9/"}, secrets=secrets),)


def routing_with(policy: Policy, **changes: Any) -> Routing:
    routing = default_routing()
    rotation = Rotation(("ada",), clock("2026-01-01"), 7)
    receivers = {
        "on-call": Receiver("on-call", (Integration(ESCALATION, send_updates=False),), "shop"),
        "wall-only": Receiver("wall-only"),
        **{f"{name}-phone": Receiver(f"{name}-phone", _phone()) for name in ("ada", "ben")},
        "boss-mail": Receiver("boss-mail", _phone("webhook")),
    }
    users = {
        "ada": User("ada", ("ada-phone",)),
        "ben": User("ben", ("ben-phone",)),
        "boss": User("boss", ("boss-mail",)),
    }
    plan = OnCall(users, {"shop": Schedule("shop", "UTC", (rotation,))}, {"shop": policy})
    return replace(routing, receivers=receivers, on_call=plan, **changes)


class Story:
    """Ticks every minute, on an engine that is opened anew before each of them."""

    def __init__(self, half: Any, alert: Alert, now_ms: int) -> None:
        self.half, self.alert, self.now_ms = half, alert, now_ms
        self.minute = 0

    def pass_minutes(self, count: int, *, firing: bool = True) -> list[tuple[int, str, str]]:
        """Who was told what at which minute, as the outbox has it."""
        before = {row.notice.id for row in self.half.outbox_rows.rows()}
        for _ in range(count):
            at_ms = self.now_ms + self.minute * MINUTE_MS
            self.half = self.half.reopen()
            self.half.engine.tick(at_ms, [self.alert] if firing else [])
            self.minute += 1
        return [
            self._told(row.notice)
            for row in reversed(self.half.outbox_rows.rows())
            if row.notice.id not in before
        ]

    def _told(self, notice: Notice) -> tuple[int, str, str]:
        minute = (notice.created_ms - self.now_ms) // MINUTE_MS
        return minute, notice.receiver, str(notice.action)

    @property
    def incident_id(self) -> str:
        (record,) = self.half.engine.snapshot().records.values()
        return str(record.incident_id)

    @property
    def at_ms(self) -> int:
        return self.now_ms + self.minute * MINUTE_MS


@pytest.fixture
def story(
    alerting: Callable[..., Any], make_alert: Callable[..., Alert], now_ms: int
) -> Callable[..., Story]:
    def begin(policy: Policy, **changes: Any) -> Story:
        return Story(alerting(routing_with(policy, **changes)), make_alert(), now_ms)

    return begin


def test_each_step_tells_its_people_once_and_the_end_reaches_all_of_them(
    story: Callable[..., Story],
) -> None:
    told = story(Policy("shop", STEPS))
    assert told.pass_minutes(9) == [
        (0, "ada-phone", "trigger"),
        (2, "ben-phone", "trigger"),
        (6, "boss-mail", "trigger"),
    ]
    ends = told.pass_minutes(2, firing=False)
    assert sorted(ends) == [(9, f, "resolve") for f in ("ada-phone", "ben-phone", "boss-mail")]
    assert told.half.engine.escalations() == []
    rows = told.half.outbox_rows.rows()
    assert len({row.notice.dedup_key for row in rows}) == 1
    assert len({row.notice.id for row in rows}) == len(rows) == 6


def test_a_policy_that_repeats_begins_again(story: Callable[..., Story]) -> None:
    told = story(Policy("shop", STEPS[:2], repeat=1))
    assert told.pass_minutes(12) == [
        (0, "ada-phone", "trigger"),
        (2, "ben-phone", "trigger"),
        (4, "ada-phone", "trigger"),
        (6, "ben-phone", "trigger"),
    ]


def test_who_acknowledges_stops_it_and_those_who_were_told_learn_of_it(
    story: Callable[..., Story],
) -> None:
    told = story(Policy("shop", STEPS))
    told.pass_minutes(3)
    told.half.engine.acknowledge(told.incident_id, "ada", told.at_ms)
    assert told.pass_minutes(6) == []
    acks = [
        row.notice.receiver
        for row in told.half.outbox_rows.rows()
        if row.notice.action is EventAction.ACKNOWLEDGE
    ]
    assert sorted(acks) == ["ada-phone", "ben-phone"]
    ends = told.pass_minutes(1, firing=False)
    assert sorted(name for _, name, _ in ends) == ["ada-phone", "ben-phone"]


def test_an_acknowledgement_that_runs_out_escalates_from_the_beginning(
    story: Callable[..., Story],
) -> None:
    told = story(Policy("shop", STEPS), ack_timeout_ms=5 * MINUTE_MS)
    told.pass_minutes(2)
    told.half.engine.acknowledge(told.incident_id, "ada", told.at_ms)
    again = told.pass_minutes(9)
    assert again[0] == (7, "ada-phone", "trigger")
    assert (9, "ben-phone", "trigger") in again
    told.half.engine.acknowledge(told.incident_id, "ben", told.at_ms)
    assert [t for t in told.pass_minutes(4) if t[2] == "trigger"] == []


def test_a_step_that_finds_nobody_on_call_leads_to_the_next_at_once(
    story: Callable[..., Story],
) -> None:
    told = story(Policy("shop", STEPS))
    plan = told.half.engine.routing.on_call
    late = Rotation(("ada",), clock("2030-01-01"), 7)
    empty = {"shop": Schedule("shop", "UTC", (late,))}
    routing = replace(told.half.engine.routing, on_call=replace(plan, schedules=empty))
    told.half.engine.reload(routing)
    assert told.pass_minutes(3) == [(0, "ben-phone", "trigger")]


def test_an_incident_ended_by_hand_ends_its_escalation(story: Callable[..., Story]) -> None:
    told = story(Policy("shop", STEPS))
    told.pass_minutes(2)
    told.half.engine.resolve(told.incident_id, "ada", told.at_ms)
    assert told.half.engine.escalations() == []
    assert told.pass_minutes(4) == []
    last = told.half.outbox_rows.rows()[0].notice
    assert (last.receiver, last.action) == ("ada-phone", EventAction.RESOLVE)


def test_a_policy_that_a_reload_took_away_stops_with_a_reason(
    story: Callable[..., Story],
) -> None:
    told = story(Policy("shop", STEPS))
    told.pass_minutes(2)
    routing = told.half.engine.routing
    told.half.engine.reload(replace(routing, on_call=replace(routing.on_call, policies={})))
    assert told.pass_minutes(4) == []
    assert [one.state.value for one in told.half.engine.escalations()] == ["policy_is_gone"]


def test_a_drill_reaches_whom_the_first_step_would_tell(story: Callable[..., Story]) -> None:
    told = story(Policy("shop", STEPS))
    drill = told.half.engine.drill({"severity": "page"}, told.at_ms)
    assert [notice.receiver for notice in drill.notices] == ["ada-phone", "ada-phone"]
    assert [notice.action.value for notice in drill.notices] == ["trigger", "resolve"]


def test_an_acknowledged_incident_is_paged_again_when_it_is_not_resolved_in_time(
    alerting: Callable[..., Any],
    make_alert: Callable[..., Alert],
    pagerduty: Callable[[str], Integration],
    now_ms: int,
) -> None:
    routing = default_routing((pagerduty("http://127.0.0.1:9/"),))
    half = alerting(replace(routing, ack_timeout_ms=10 * MINUTE_MS))
    half.engine.tick(now_ms, [make_alert()])
    (record,) = half.engine.snapshot().records.values()
    for turn in range(2):
        begin_ms = now_ms + (1 + 20 * turn) * MINUTE_MS
        half.engine.acknowledge(record.incident_id, "ada", begin_ms)
        half.engine.tick(begin_ms + 9 * MINUTE_MS, [make_alert()])
        half.engine.tick(begin_ms + 10 * MINUTE_MS, [make_alert()])
        half.engine.tick(begin_ms + 11 * MINUTE_MS, [make_alert()])
    rows = [row.notice for row in reversed(half.outbox_rows.rows())]
    assert [(n.action.value, n.reason) for n in rows] == [
        ("trigger", "first_notification"),
        ("acknowledge", "acknowledged"),
        ("trigger", "ack_timeout"),
        ("acknowledge", "acknowledged"),
        ("trigger", "ack_timeout"),
    ]
