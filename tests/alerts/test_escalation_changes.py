"""Escalation while things change: other incidents, other policies, nobody on call, ends by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from alerts.model import Alert
from alerts.notification import Notice
from alerts.on_call.model import OnCall, Policy, Rotation, Schedule, Step, User
from alerts.route_tree import ESCALATION, Integration, Receiver, Routing, Secret
from alerts.routing import default_routing
from alerts.time_intervals import TimeInterval

MINUTE_MS = 60_000
STEPS = (
    Step(0, schedules=("shop",)),
    Step(2 * MINUTE_MS, users=("ben",)),
    Step(4 * MINUTE_MS, users=("boss",)),
)


def _phone() -> tuple[Integration, ...]:
    secrets = {"routing_key": Secret("R0UT1NGKEY")}
    return (Integration("pagerduty", options={"url": "http://127.0.0.1:9/"}, secrets=secrets),)


def _rotation(starts: str, *restrictions: TimeInterval) -> Rotation:
    return Rotation(("ada",), datetime.fromisoformat(starts), 7, restrictions)


def routing_with(*steps: Step, repeat: int = 0, rotation: Rotation | None = None) -> Routing:
    routing = default_routing()
    people = ("ada", "ben", "boss")
    plan = OnCall(
        {name: User(name, (name,)) for name in people},
        {"shop": Schedule("shop", "UTC", (rotation or _rotation("2026-01-01"),))},
        {"shop": Policy("shop", steps or STEPS, repeat)},
    )
    receivers = {
        "on-call": Receiver("on-call", (Integration(ESCALATION, send_updates=False),), "shop"),
        "wall-only": Receiver("wall-only"),
        **{name: Receiver(name, _phone()) for name in people},
    }
    route = replace(routing.route, group_by=("alertname",))
    return replace(routing, route=route, receivers=receivers, on_call=plan)


class Night:
    """Minutes of one engine, and what was put into the outbox in each."""

    def __init__(self, half: Any, now_ms: int) -> None:
        self.half, self.now_ms = half, now_ms
        self.engine = half.engine
        self.minute = 0

    def pass_minutes(self, count: int, *alerts: Alert) -> list[tuple[int, str, str]]:
        return [
            ((n.created_ms - self.now_ms) // MINUTE_MS, n.receiver, str(n.action))
            for n in self.notices(count, *alerts)
        ]

    def notices(self, count: int, *alerts: Alert) -> list[Notice]:
        before = {row.notice.id for row in self.half.outbox_rows.rows()}
        for _ in range(count):
            self.engine.tick(self.at_ms, alerts)
            self.minute += 1
        rows = reversed(self.half.outbox_rows.rows())
        return [row.notice for row in rows if row.notice.id not in before]

    def incident_of(self, service: str) -> str:
        records = self.engine.snapshot().records.values()
        return str(next(r.incident_id for r in records if r.labels.get("service") == service))

    @property
    def at_ms(self) -> int:
        return self.now_ms + self.minute * MINUTE_MS

    @property
    def states(self) -> list[str]:
        return [one.state.value for one in self.engine.escalations()]


@pytest.fixture
def night(alerting: Callable[..., Any], now_ms: int) -> Callable[..., Night]:
    def begin(routing: Routing) -> Night:
        return Night(alerting(routing), now_ms)

    return begin


@pytest.fixture
def shop(make_alert: Callable[..., Alert]) -> Alert:
    return make_alert()


@pytest.fixture
def payments(make_alert: Callable[..., Alert]) -> Alert:
    return make_alert(service="payments")


def test_a_new_incident_in_an_acknowledged_group_escalates_from_the_beginning(
    night: Callable[..., Night], shop: Alert, payments: Alert
) -> None:
    told = night(routing_with())
    told.pass_minutes(3, shop)
    told.engine.acknowledge(told.incident_of("shop"), "ada", told.at_ms)
    assert [t for t in told.pass_minutes(10, shop) if t[2] == "trigger"] == []
    begun = told.minute
    pages = told.pass_minutes(20, shop, payments)
    first = pages[0][0]
    assert begun <= first <= begun + 6  # group_interval
    assert pages == [
        (first, "ada", "trigger"),
        (first + 2, "ben", "trigger"),
        (first + 6, "boss", "trigger"),
    ]


def test_a_new_incident_beside_an_open_one_is_told_at_once_and_restarts_nothing(
    night: Callable[..., Night], shop: Alert, payments: Alert
) -> None:
    long = 30 * MINUTE_MS
    told = night(routing_with(STEPS[0], Step(long, users=("ben",)), Step(long, users=("boss",))))
    told.pass_minutes(10, shop)
    pages = told.notices(25, shop, payments)
    assert [(n.receiver, n.reason) for n in pages] == [
        ("ada", "new_incident_in_group"),
        ("ben", "escalation_step_2"),
    ]
    assert {a.labels.get("service") for a in pages[0].alerts} == {"shop", "payments"}
    told.engine.acknowledge(told.incident_of("shop"), "ada", told.at_ms)
    (boss,) = (n for n in told.notices(30, shop, payments) if n.receiver == "boss")
    assert boss.incident_id == told.incident_of("payments")
    assert boss.alerts[0].labels.get("service") == "payments"


def test_an_incident_that_opens_after_the_last_step_begins_the_policy_again(
    night: Callable[..., Night], shop: Alert, payments: Alert
) -> None:
    told = night(routing_with())
    told.pass_minutes(10, shop)
    assert told.states == ["all_steps_taken"]
    assert [name for _, name, _ in told.pass_minutes(20, shop, payments)] == ["ada", "ben", "boss"]


def test_a_step_speaks_of_what_fires_when_it_is_taken(
    night: Callable[..., Night], shop: Alert, payments: Alert
) -> None:
    told = night(routing_with())
    told.pass_minutes(1, shop, payments)
    pages = told.notices(8, payments)
    assert [notice.receiver for notice in pages] == ["ben", "boss"]
    named = [[a.labels.get("service") for a in notice.alerts] for notice in pages]
    assert named == [["payments"], ["payments"]]


def test_a_policy_that_is_renamed_goes_on_and_one_that_comes_back_goes_on_then(
    night: Callable[..., Night], shop: Alert
) -> None:
    told = night(routing_with())
    plain = told.engine.routing
    told.pass_minutes(1, shop)
    told.engine.reload(replace(plain, on_call=replace(plain.on_call, policies={})))
    assert told.pass_minutes(4, shop) == []
    assert told.states == ["policy_is_gone"]
    policy = replace(plain.on_call.policies["shop"], name="store")
    on_call = replace(plain.receivers["on-call"], escalation_policy="store")
    renamed = replace(
        plain,
        on_call=replace(plain.on_call, policies={"store": policy}),
        receivers={**plain.receivers, "on-call": on_call},
    )
    told.engine.reload(renamed)
    assert told.pass_minutes(1, shop) == [(5, "ben", "trigger")]
    (one,) = told.engine.escalations()
    assert (one.policy, one.state.value) == ("store", "running")
    told.engine.reload(plain)
    assert told.pass_minutes(6, shop) == [(9, "boss", "trigger")]


def test_what_ended_by_hand_and_still_fires_is_told_again_after_the_repeat_interval(
    night: Callable[..., Night], shop: Alert
) -> None:
    told = night(routing_with())
    route = replace(told.engine.routing.route, repeat_interval_ms=20 * MINUTE_MS)
    told.engine.reload(replace(told.engine.routing, route=route))
    told.pass_minutes(3, shop)
    told.engine.resolve(told.incident_of("shop"), "ada", told.at_ms)
    pages = told.notices(30, shop)
    assert [(n.receiver, n.reason) for n in pages] == [("ada", "repeat_interval_elapsed")]
    assert [t[1:] for t in told.pass_minutes(10)] == [("ada", "resolve")]
    assert told.states == []


def test_an_acknowledged_incident_is_not_repeated_to_the_policy(
    night: Callable[..., Night], shop: Alert
) -> None:
    told = night(routing_with())
    route = replace(told.engine.routing.route, repeat_interval_ms=20 * MINUTE_MS)
    told.engine.reload(replace(told.engine.routing, route=route))
    told.pass_minutes(3, shop)
    told.engine.acknowledge(told.incident_of("shop"), "ada", told.at_ms)
    assert told.notices(40, shop) == []


@pytest.mark.parametrize("by_hand", ["resolve", "acknowledge"])
def test_an_incident_that_is_given_back_escalates_again(
    night: Callable[..., Night], shop: Alert, by_hand: str
) -> None:
    told = night(routing_with())
    told.pass_minutes(10, shop)
    incident = told.incident_of("shop")
    getattr(told.engine, by_hand)(incident, "ada", told.at_ms)
    told.engine.reopen(incident, "ada", told.at_ms)
    pages = told.pass_minutes(10, shop)
    assert pages == [(10, "ada", "trigger"), (12, "ben", "trigger"), (16, "boss", "trigger")]


def test_an_incident_that_is_given_back_is_told_to_direct_receivers(
    night: Callable[..., Night], shop: Alert
) -> None:
    told = night(default_routing(_phone()))
    told.pass_minutes(1, shop)
    told.engine.resolve(told.incident_of("shop"), "ada", told.at_ms)
    told.engine.reopen(told.incident_of("shop"), "ada", told.at_ms + 1)
    last = told.half.outbox_rows.rows()[0].notice
    assert (last.action.value, last.reason) == ("trigger", "reopened")


def test_whoever_comes_on_duty_is_told_of_what_nobody_was_told_of(
    night: Callable[..., Night], shop: Alert, now_ms: int
) -> None:
    minute = now_ms // MINUTE_MS % 1440
    day = TimeInterval(times=((minute + 30, minute + 90),))
    rotation = _rotation("2026-01-01", day)
    told = night(routing_with(Step(0, schedules=("shop",)), rotation=rotation))
    assert told.pass_minutes(30, shop) == []
    assert told.states == ["nobody_is_on_call"]
    assert told.pass_minutes(10, shop) == [(30, "ada", "trigger")]
    assert told.states == ["all_steps_taken"]


def test_a_receiver_that_a_reload_makes_direct_ends_its_escalation_and_is_told(
    night: Callable[..., Night], shop: Alert
) -> None:
    told = night(routing_with(repeat=5))
    told.pass_minutes(1, shop)
    routing = told.engine.routing
    direct = {**routing.receivers, "on-call": Receiver("on-call", _phone())}
    told.engine.reload(replace(routing, receivers=direct))
    assert told.pass_minutes(10, shop) == [(1, "ada", "resolve"), (1, "on-call", "trigger")]
    assert told.states == []
    assert [t[1:] for t in told.pass_minutes(10)] == [("on-call", "resolve")]


def test_a_receiver_that_a_reload_takes_away_ends_its_escalation(
    night: Callable[..., Night], shop: Alert
) -> None:
    told = night(routing_with(repeat=5))
    told.pass_minutes(1, shop)
    routing = told.engine.routing
    left = {k: v for k, v in routing.receivers.items() if k != "on-call"}
    route = replace(routing.route, receiver="wall-only", routes=())
    told.engine.reload(replace(routing, receivers=left, route=route))
    assert told.pass_minutes(10, shop) == [(1, "ada", "resolve")]
    assert told.states == []


def test_an_acknowledgement_that_runs_out_does_not_use_up_repeats(
    night: Callable[..., Night], shop: Alert
) -> None:
    told = night(replace(routing_with(*STEPS[:2], repeat=1), ack_timeout_ms=5 * MINUTE_MS))
    told.pass_minutes(1, shop)
    told.engine.acknowledge(told.incident_of("shop"), "ada", told.at_ms)
    pages = [name for _, name, action in told.pass_minutes(30, shop) if action == "trigger"]
    assert pages == ["ada", "ben", "ada", "ben"]
