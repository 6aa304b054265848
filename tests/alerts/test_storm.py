"""A storm of alerts becomes a handful of notifications, and ends with as many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from alerts import working_memory
from alerts.model import Alert
from alerts.notification import EventAction, Notice
from alerts.outbox import Outbox
from alerts.registry import NOTIFIERS
from alerts.route_tree import Integration, Receiver, Route, Routing, Secret, StormLimit
from alerts.silences import Silence, equality
from store.model import Labels
from tests.alerts.conftest import open_alerting

Open = Callable[[Routing], Any]
STORM = "alert_storm"


def routing(url: str = "http://127.0.0.1:1", **more: Any) -> Routing:
    """Every alert is a group of its own, looked at each tick."""
    pager = Integration("pagerduty", options={"url": url}, secrets={"routing_key": Secret("k")})
    route = Route(key="{}", receiver="r", group_by=None, group_wait_ms=0, group_interval_ms=5_000)
    return Routing(route, {"r": Receiver("r", (replace(pager, **more),))})


def alerts(count: int, since: int = 0, **texts: str) -> list[Alert]:
    causes = ("the database is away", "the cache is away", "")
    return [
        Alert(
            Labels.of(alertname="Down", instance=f"i{n}", severity="page"),
            {"summary": f"i{n} is down", "cause": causes[min(n % 4, 2)], **texts},
        )
        for n in range(since, since + count)
    ]


def tick(half: Any, now_ms: int, held: Sequence[Alert]) -> list[Notice]:
    return list(half.engine.tick(now_ms, held).notices)


def test_five_thousand_alerts_are_a_handful_of_pages(alerting: Open, now_ms: int) -> None:
    half = alerting(routing())
    notices = tick(half, now_ms, alerts(5_000))
    assert [n.reason for n in notices] == ["first_notification"] * 10 + [STORM]
    summary = notices[-1].alerts[0].annotations
    assert summary["summary"] == "Alert storm: 4,990 alerts in 4,990 groups"
    assert summary["cause"].startswith("2,49")
    assert "1,24" in summary["cause"]
    assert "× Down; " in summary["cause"]
    assert "× the cache is away" in summary["cause"]
    assert tick(half, now_ms + 5_000, alerts(5_000)) == []
    ended = tick(half, now_ms + 10_000, [])
    assert {n.action for n in ended} == {EventAction.RESOLVE}
    assert sorted(n.dedup_key for n in ended) == sorted(n.dedup_key for n in notices)


def test_pages_below_the_limit_and_one_above_it_go_out_alone(alerting: Open, now_ms: int) -> None:
    half = alerting(routing())
    assert STORM not in {n.reason for n in tick(half, now_ms, alerts(11))}
    half = alerting(routing())
    reasons = [n.reason for n in tick(half, now_ms, alerts(12))]
    assert reasons == ["first_notification"] * 10 + [STORM]


def test_a_storm_over_several_ticks_is_one_page_that_grows_once_a_window(
    alerting: Open, now_ms: int
) -> None:
    half = alerting(routing())
    told = [
        (step, n.alerts[0].annotations["summary"])
        for step in range(40)
        for n in tick(half, now_ms + step * 5_000, alerts(20 + 5 * step))
        if n.reason == STORM
    ]
    assert [step for step, _ in told] == [0, 12, 24, 36]
    assert told[0][1] == "Alert storm: 10 alerts in 10 groups"
    assert len(half.engine.snapshot().entries) == 20 + 5 * 39 + 1


def test_after_the_window_a_new_alert_pages_on_its_own_again(alerting: Open, now_ms: int) -> None:
    half = alerting(routing())
    tick(half, now_ms, alerts(50))
    (notice,) = tick(half, now_ms + 65_000, alerts(51))
    assert (notice.reason, notice.alerts[0].labels.get("instance")) == ("first_notification", "i50")


def test_an_alert_of_a_storm_that_comes_back_after_it_is_told_alone(
    alerting: Open, now_ms: int
) -> None:
    half = alerting(routing())
    tick(half, now_ms, alerts(50))
    tick(half, now_ms + 5_000, [])
    (notice,) = tick(half, now_ms + 120_000, alerts(1, since=40))
    assert notice.reason == "first_notification"
    assert not notice.dedup_key.startswith("storm-")


def test_pages_come_before_tickets_when_there_is_room_for_few(alerting: Open, now_ms: int) -> None:
    half = alerting(routing())
    tickets = [
        replace(a, labels=a.labels.replace(severity="ticket")) for a in alerts(100, since=100)
    ]
    notices = tick(half, now_ms, [*tickets, *alerts(5)])
    first = [n.alerts[0].labels.get("severity") for n in notices[:10]]
    assert first == ["page"] * 5 + ["ticket"] * 5


def test_a_restart_amid_a_storm_neither_repeats_nor_loses_it(alerting: Open, now_ms: int) -> None:
    half = alerting(routing())
    (*_, storm) = tick(half, now_ms, alerts(60))
    half = half.reopen()
    assert tick(half, now_ms + 5_000, alerts(60)) == []
    ended = tick(half, now_ms + 10_000, [])
    assert storm.dedup_key in {n.dedup_key for n in ended}
    half.close()


def test_who_takes_the_incident_is_told_once_for_the_whole_storm(
    alerting: Open, now_ms: int
) -> None:
    half = alerting(routing())
    tick(half, now_ms, alerts(60))
    (incident,) = {r.incident_id for r in half.engine.snapshot().records.values()}
    half.engine.acknowledge(incident, "anna", now_ms + 1)
    told = [r for r in half.outbox_rows.rows(limit=500) if r.notice.action == "acknowledge"]
    assert len(told) == 11


def test_the_limit_is_that_of_the_routing(alerting: Open, now_ms: int) -> None:
    half = alerting(replace(routing(), storm=StormLimit(max_pages=2)))
    assert len(tick(half, now_ms, alerts(100))) == 3


def test_pagerduty_sees_as_many_ends_as_beginnings(
    alerting: Open, double: Callable[[], Any], now_ms: int
) -> None:
    async def run() -> Any:
        async with double() as pagerduty, httpx.AsyncClient(trust_env=False) as client:
            half = alerting(routing(pagerduty.url))
            outbox = Outbox(
                half.outbox_rows, lambda: half.engine.routing, client, NOTIFIERS, worker="w"
            )
            for step, count in enumerate([300, 300, 150, 0, 0]):
                at_ms = now_ms + step * 5_000
                tick(half, at_ms, alerts(count))
                await outbox.deliver_due(at_ms)
            return pagerduty

    pagerduty = asyncio.run(run())
    assert len(pagerduty.opened) == 11
    assert sorted(pagerduty.opened) == sorted(pagerduty.closed)
    assert len(pagerduty.events) <= 24


def test_a_tick_of_another_process_is_noticed(alerting: Open, now_ms: int) -> None:
    one = alerting(routing())
    other = open_alerting(one.path, one.engine.routing)
    held = alerts(1)
    told = [tick(one, now_ms, held), tick(other, now_ms + 5_000, held), tick(one, now_ms, held)]
    told += [tick(other, now_ms + 10_000, []), tick(one, now_ms + 15_000, [])]
    assert [[str(n.action) for n in notices] for notices in told] == [
        ["trigger"], [], [], ["resolve"], []
    ]  # fmt: skip
    other.close()


def test_texts_are_written_in_turns_and_states_at_once(
    alerting: Open, now_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_memory, "MAX_TEXTS_A_TICK", 5)
    half = alerting(routing())
    tick(half, now_ms, alerts(40, note="old"))
    tick(half, now_ms + 5_000, alerts(40, note="new"))
    shown = half.engine.snapshot().records.values()
    assert {record.annotations["note"] for record in shown} == {"new"}
    kept = half.reopen()
    notes = [r.annotations["note"] for r in kept.engine.snapshot().records.values()]
    assert 0 < notes.count("new") < 40
    assert {str(r.state) for r in kept.engine.snapshot().records.values()} == {"firing"}
    for step in range(2, 12):
        tick(kept, now_ms + step * 5_000, alerts(40, note="new"))
    again = kept.reopen()
    assert {r.annotations["note"] for r in again.engine.snapshot().records.values()} == {"new"}
    again.close()


def to_two(**more: Any) -> Routing:
    """Every alert goes to two receivers."""
    one = routing(**more)
    first = replace(one.route, key="{}/a", id="{}/a", go_on=True)
    second = replace(first, key="{}/b", id="{}/b", receiver="s", go_on=False)
    both = {**one.receivers, "s": Receiver("s", one.receivers["r"].integrations)}
    return replace(one, route=replace(one.route, routes=(first, second)), receivers=both)


@pytest.mark.parametrize("left", [(), ("s",)], ids=["receiver gone", "integration gone"])
def test_alerting_goes_on_when_a_reload_takes_a_storms_receiver_away(
    alerting: Open, now_ms: int, left: tuple[str, ...]
) -> None:
    half = alerting(to_two())
    tick(half, now_ms, alerts(50))
    only_r = replace(to_two(), receivers={"r": routing().receivers["r"]})
    only_r = replace(only_r, route=replace(only_r.route, routes=only_r.route.routes[:1]))
    empty = {name: Receiver(name, ()) for name in left}
    half.engine.reload(replace(only_r, receivers={**only_r.receivers, **empty}))
    (new,) = tick(half, now_ms + 65_000, alerts(51))
    assert (new.receiver, new.reason) == ("r", "first_notification")
    told = [e for e in half.engine.snapshot().entries.values() if e.receiver == "s" and e.firing]
    assert {e.reason for e in told} == {"first_notification"}
    ended = tick(half, now_ms + 70_000, [])
    assert STORM in {n.reason for n in ended}
    half.engine.reload(to_two())
    back = tick(half, now_ms + 200_000, alerts(1, since=49))
    assert sorted((n.receiver, n.reason) for n in back) == [
        ("r", "first_notification"),
        ("s", "first_notification"),
    ]


def test_a_storm_ends_though_its_groups_went_with_the_routes(alerting: Open, now_ms: int) -> None:
    half = alerting(routing())
    (*_, storm) = tick(half, now_ms, alerts(50))
    moved = replace(routing().route, key="{}x", id="{}x")
    half.engine.reload(replace(routing(), route=moved))
    tick(half, now_ms + 5_000, alerts(50))
    ended = [n for n in tick(half, now_ms + 10_000, []) if n.dedup_key == storm.dedup_key]
    assert [n.action for n in ended] == [EventAction.RESOLVE]
    entries = half.engine.snapshot().entries.values()
    assert not [e for e in entries if e.dedup_key == storm.dedup_key and e.firing]


@pytest.mark.parametrize("send_updates", [True, False])
def test_what_is_left_of_a_storm_is_told_alone_and_every_page_ends(
    alerting: Open, now_ms: int, send_updates: bool
) -> None:
    half = alerting(routing(send_updates=send_updates))
    (*_, storm) = tick(half, now_ms, alerts(50))
    told = [tick(half, now_ms + at_ms, alerts(1, since=49)) for at_ms in (5_000, 60_000, 65_000)]
    assert not [n for n in told[0] if n.action is EventAction.TRIGGER]
    alone, end = sorted(told[1], key=lambda n: n.action is EventAction.RESOLVE)
    assert (alone.reason, alone.alerts[0].labels.get("instance")) == ("first_notification", "i49")
    assert (end.action, end.dedup_key) == (EventAction.RESOLVE, storm.dedup_key)
    assert told[2] == []
    (last,) = tick(half, now_ms + 70_000, [])
    assert (last.action, last.dedup_key) == (EventAction.RESOLVE, alone.dedup_key)


def test_a_silenced_rest_of_a_storm_is_told_when_the_silence_ends(
    alerting: Open, now_ms: int
) -> None:
    half = alerting(routing())
    tick(half, now_ms, alerts(50))
    until_ms = now_ms + 90_000
    about = (equality("instance", "i49"),)
    half.engine.set_silence(
        Silence("", about, now_ms + 1, until_ms, "ann", "known", now_ms), now_ms
    )
    quiet = [n for step in (60, 65) for n in tick(half, now_ms + step * 1_000, alerts(1, since=49))]
    assert EventAction.TRIGGER not in {n.action for n in quiet}
    (alone,) = tick(half, until_ms + 5_000, alerts(1, since=49))
    assert alone.reason == "first_notification"


def test_a_storm_that_stays_is_told_again_after_the_repeat_interval(
    alerting: Open, now_ms: int
) -> None:
    half = alerting(routing())
    (*_, storm) = tick(half, now_ms, alerts(50))
    repeat_ms = routing().route.repeat_interval_ms
    again = [n for n in tick(half, now_ms + repeat_ms + 1, alerts(50)) if n.reason == STORM]
    assert [n.dedup_key for n in again] == [storm.dedup_key]


def test_an_alert_back_before_its_group_is_looked_at_is_told_though_its_storm_ended(
    alerting: Open, now_ms: int
) -> None:
    slow = routing()
    half = alerting(replace(slow, route=replace(slow.route, group_interval_ms=300_000)))
    tick(half, now_ms, alerts(50))
    (end,) = tick(half, now_ms + 5_000, [])
    assert (end.reason, end.action) == (STORM, EventAction.RESOLVE)
    back = [
        n for at_ms in (10_000, 300_000) for n in tick(half, now_ms + at_ms, alerts(1, since=49))
    ]
    assert [n.reason for n in back if n.action is EventAction.TRIGGER] == ["first_notification"]


def test_an_incident_in_the_storms_of_two_receivers_can_be_acknowledged(
    alerting: Open, now_ms: int
) -> None:
    half = alerting(to_two())
    tick(half, now_ms, alerts(50))
    (incident,) = {r.incident_id for r in half.engine.snapshot().records.values()}
    half.engine.acknowledge(incident, "anna", now_ms + 1)
    told = [r.notice for r in half.outbox_rows.rows(limit=500) if r.notice.action == "acknowledge"]
    assert sorted(n.receiver for n in told) == ["r"] * 11 + ["s"] * 11
