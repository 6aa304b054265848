"""Groups, silences, inhibition, mute times and incidents, through the whole engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from alerts.incident_log.repository import IncidentRepository
from alerts.model import Alert
from alerts.notification import EventAction, NotificationEntry
from alerts.routing import default_routing, parse_alertmanager
from alerts.silences import Silence, equality
from alerts.stages.dedup import DedupReason, decide
from alerts.why import why_paged
from store.errors import BadInput, LimitExceeded
from store.model import Labels

CONFIG = """
route:
  receiver: pager
  group_by: [service]
  group_wait: 10s
  group_interval: 20s
  repeat_interval: 1m
  routes:
    - matchers: [team="night"]
      group_wait: 0s
      mute_time_intervals: [always]
receivers:
  - name: pager
    pagerduty_configs: [{routing_key: k}]
inhibit_rules:
  - source_matchers: [severity="page"]
    target_matchers: [severity="ticket"]
    equal: [service]
time_intervals:
  - name: always
    time_intervals: [{weekdays: ['sunday:saturday']}]
"""
Make = Callable[..., Alert]


@pytest.fixture
def half(alerting: Callable[..., Any]) -> Any:
    return alerting(parse_alertmanager(CONFIG, "am.yml"))


def reasons(half: Any, start_ms: int, script: list[list[Alert]]) -> list[tuple[int, str, int]]:
    """(seconds, reason, alerts in the notice) of every notice; one entry of the script is 5 s."""
    return [
        (index * 5, notice.reason, len(notice.alerts))
        for index, alerts in enumerate(script)
        for notice in half.engine.tick(start_ms + index * 5_000, alerts).notices
    ]


def test_a_group_waits_then_tells_news_repeats_and_ends(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    one, two = make_alert("A"), make_alert("B")
    script = [[one]] * 4 + [[one, two]] * 16 + [[two]] * 4 + [[]] * 8
    assert reasons(half, now_ms, script) == [
        (10, "first_notification", 1),
        (30, "new_alerts_in_group", 2),
        (110, "new_resolved_alerts", 2),
        (130, "all_alerts_resolved", 1),
    ]


def test_an_unchanged_group_is_told_again_after_the_repeat_interval(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    told = reasons(half, now_ms, [[make_alert()]] * 20)
    assert told == [(10, "first_notification", 1), (90, "repeat_interval_elapsed", 1)]


def test_an_alert_that_ends_within_the_wait_is_never_told(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    assert reasons(half, now_ms, [[make_alert()], [], [], [], []]) == []


def test_a_restart_continues_the_wait_of_a_group(half: Any, make_alert: Make, now_ms: int) -> None:
    assert reasons(half, now_ms, [[make_alert()]]) == []
    again = half.reopen()
    assert reasons(again, now_ms + 5_000, [[make_alert()]] * 2) == [(5, "first_notification", 1)]
    again.close()


def test_a_ticket_is_inhibited_by_a_page_of_the_same_service(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    page, ticket = make_alert("A"), make_alert("B", severity="ticket")
    elsewhere = make_alert("B", severity="ticket", service="cart")
    result = [half.engine.tick(now_ms + s * 5_000, [page, ticket, elsewhere]) for s in range(3)][2]
    told = {
        n.group_labels.get("service"): [a.labels.get("alertname") for a in n.alerts]
        for n in result.notices
    }
    assert told == {"shop": ["A"], "cart": ["B"]}
    inhibited = next(
        r for r in result.records if r.severity == "ticket" and r.labels.get("service") == "shop"
    )
    answer = why_paged(half.engine, half.outbox_rows, inhibited.fingerprint, now_ms + 10_000)
    assert answer is not None
    assert not answer.paged
    assert ("inhibit", "held", "inhibited") in [
        (r.stage, r.decision, r.reason) for r in answer.reasons
    ]


def silence_of(now_ms: int, name: str) -> Silence:
    return Silence(
        "", (equality("alertname", name),), now_ms, now_ms + 60_000, "ann", "known", now_ms
    )


def test_a_silence_holds_back_and_says_so_and_its_end_lets_through(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    identity = half.engine.set_silence(silence_of(now_ms, "A"), now_ms)
    assert reasons(half, now_ms, [[make_alert("A")]] * 5) == []
    record = next(iter(half.engine.snapshot().records))
    answer = why_paged(half.engine, half.outbox_rows, record, now_ms + 20_000)
    assert answer is not None
    assert [r.detail for r in answer.reasons if r.reason == "silenced"] == [identity]
    assert half.engine.expire_silence(identity, now_ms + 25_000)
    assert reasons(half, now_ms + 25_000, [[make_alert("A")]] * 6) == [(5, "first_notification", 1)]


def test_the_end_of_a_paged_alert_passes_a_silence_so_that_no_page_stays_open(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    assert len(reasons(half, now_ms, [[make_alert("A")]] * 3)) == 1
    half.engine.set_silence(silence_of(now_ms + 11_000, "A"), now_ms + 11_000)
    told = reasons(half, now_ms + 15_000, [[]] * 6)
    assert [reason for _, reason, _ in told] == ["all_alerts_resolved"]


def test_a_muted_route_says_nothing(half: Any, make_alert: Make, now_ms: int) -> None:
    assert reasons(half, now_ms, [[make_alert(team="night")]] * 10) == []


def test_an_unknown_source_keeps_the_page_open(half: Any, make_alert: Make, now_ms: int) -> None:
    assert len(reasons(half, now_ms, [[make_alert()]] * 3)) == 1
    for index in range(8):
        result = half.engine.tick(
            now_ms + 15_000 + index * 5_000, [], unknown_sources={"finding:n_plus_one_query"}
        )
        assert (result.firing, result.notices) == (1, ())


def test_alerts_of_one_service_become_one_incident_that_ends_with_the_last(
    alerting: Callable[..., Any], make_alert: Make, now_ms: int
) -> None:
    half = alerting(default_routing())
    half.engine.tick(now_ms, [make_alert("A"), make_alert("Info", severity="info")])
    half.engine.tick(now_ms + 3_600_000, [make_alert("A"), make_alert("B")])
    book = IncidentRepository(half.sessions)
    (incident,) = book.incidents()
    assert {part.labels.get("alertname") for part in incident.alerts} == {"A", "B"}
    half.engine.note(incident.id, "rolled back", "ann", now_ms + 3_601_000)
    half.engine.tick(now_ms + 3_605_000, [make_alert("B")])
    assert book.incidents(state="open") == book.incidents()
    half.engine.tick(now_ms + 3_610_000, [])
    assert book.incidents()[0].resolved_ms == now_ms + 3_610_000
    kinds = [event.kind for event in book.events(incident.id)]
    assert kinds == ["opened", "alert", "alert", "note", "resolved", "resolved", "closed"]


def test_posted_alerts_end_after_the_resolve_timeout(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    alert = replace(make_alert("Posted"), source="api")
    half.engine.post([(alert, None, None)], now_ms)
    assert half.engine.tick(now_ms + 1, []).firing == 1
    assert half.engine.tick(now_ms + 299_000, []).firing == 1
    assert half.engine.tick(now_ms + 300_000, []).firing == 0


def test_a_flood_of_alerts_is_refused_whole(half: Any, now_ms: int) -> None:
    flood = [Alert(Labels.of(alertname="x", n=str(n))) for n in range(50_001)]
    with pytest.raises(LimitExceeded):
        half.engine.tick(now_ms, flood)
    assert half.engine.snapshot().records == {}


@pytest.mark.parametrize("bad", [{"matchers": ()}, {"comment": ""}, {"ends_ms": 0}])
def test_a_silence_that_makes_no_sense_is_refused(half: Any, now_ms: int, bad: Any) -> None:
    with pytest.raises(BadInput):
        half.engine.set_silence(replace(silence_of(now_ms, "A"), **bad), now_ms)


def entry(firing: set[str], resolved: set[str], at_ms: int) -> NotificationEntry:
    return NotificationEntry("l", "g", "r", 0, frozenset(firing), frozenset(resolved), at_ms, "")


@pytest.mark.parametrize(
    ("known", "firing", "resolved", "expected"),
    [
        (None, set(), set(), DedupReason.NOTHING_TO_TELL),
        (None, {"a"}, set(), DedupReason.FIRST_NOTIFICATION),
        (entry({"a"}, set(), 50), {"a", "b"}, set(), DedupReason.NEW_ALERTS_IN_GROUP),
        (entry({"a"}, set(), 50), set(), {"a"}, DedupReason.ALL_ALERTS_RESOLVED),
        (entry(set(), {"a"}, 50), set(), {"a"}, DedupReason.NOTHING_TO_TELL),
        (entry({"a", "b"}, set(), 50), {"a"}, {"b"}, DedupReason.NEW_RESOLVED_ALERTS),
        (entry({"a"}, set(), 50), {"a"}, set(), DedupReason.ALREADY_NOTIFIED),
        (entry({"a"}, set(), -1), {"a"}, set(), DedupReason.REPEAT_INTERVAL_ELAPSED),
    ],
)
def test_dedup_decides_as_alertmanager_does(
    known: NotificationEntry | None, firing: set[str], resolved: set[str], expected: DedupReason
) -> None:
    told = decide(
        known,
        frozenset(firing),
        frozenset(resolved),
        100,
        repeat_interval_ms=100,
        send_resolved=True,
    )
    assert told is expected


def test_a_notice_survives_its_way_through_the_outbox(
    half: Any, make_alert: Make, now_ms: int
) -> None:
    notices = [
        n for s in range(3) for n in half.engine.tick(now_ms + s * 5000, [make_alert()]).notices
    ]
    assert [row.notice for row in half.outbox_rows.rows()] == notices
    assert notices[0].action is EventAction.TRIGGER
