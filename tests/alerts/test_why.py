"""Why somebody was paged or not: the inhibitor, the silence, the escalation, the next time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx

from alerts.ledger.repository import OutboxRepository
from alerts.model import Alert
from alerts.notification import NotificationEntry
from alerts.outbox import Outbox
from alerts.registry import NOTIFIERS
from alerts.route_tree import InhibitRule, Integration
from alerts.routing import default_routing
from alerts.silences import Silence, equality
from alerts.state import fingerprint
from alerts.why import Why, why_paged
from store.timestamps import rfc3339

MINUTE_MS = 60_000


def asked(half: Any, alert: Alert, now_ms: int) -> Why:
    rows: OutboxRepository = half.outbox_rows
    told = why_paged(half.engine, rows, fingerprint(alert.labels), now_ms)
    assert told is not None
    return told


def test_it_names_the_rule_that_inhibits_and_the_alert_that_does_it(
    alerting: Callable[..., Any],
    make_alert: Callable[..., Alert],
    pagerduty: Callable[[str], Integration],
    now_ms: int,
) -> None:
    routing = default_routing((pagerduty("http://127.0.0.1:9/"),))
    rule = InhibitRule(
        (equality("alertname", "Cause"),), (equality("alertname", "Effect"),), (), "r"
    )
    half = alerting(replace(routing, inhibit_rules=(rule,)))
    cause, effect = make_alert("Cause"), make_alert("Effect")
    half.engine.tick(now_ms, [cause, effect])
    told = asked(half, effect, now_ms)
    (held,) = [reason for reason in told.reasons if reason.decision == "held"]
    assert (held.stage, held.detail) == ("inhibit", fingerprint(cause.labels))
    assert held.explanation == "Cause by the rule r"
    assert not told.paged
    assert told.next_notification_at is None


def test_it_names_who_silenced_it_and_the_first_look_after_the_silence(
    alerting: Callable[..., Any],
    make_alert: Callable[..., Alert],
    pagerduty: Callable[[str], Integration],
    now_ms: int,
) -> None:
    half = alerting(default_routing((pagerduty("http://127.0.0.1:9/"),)))
    matchers = (equality("service", "shop"),)
    ends_ms = now_ms + 2 * MINUTE_MS
    silence = Silence("", matchers, now_ms, ends_ms, "ada", "we mend it", now_ms)
    half.engine.set_silence(silence, now_ms)
    half.engine.tick(now_ms, [make_alert()])
    told = asked(half, make_alert(), now_ms)
    (held,) = [reason for reason in told.reasons if reason.stage == "silence"]
    assert held.explanation == f"by ada until {rfc3339(ends_ms)}: we mend it"
    assert told.next_notification_at == rfc3339(ends_ms)
    half.engine.tick(ends_ms, [make_alert()])
    assert asked(half, make_alert(), ends_ms).paged


def test_what_was_told_and_has_not_changed_is_told_again_after_the_repeat_interval(
    alerting: Callable[..., Any],
    make_alert: Callable[..., Alert],
    pagerduty: Callable[[str], Integration],
    now_ms: int,
) -> None:
    routing = default_routing((pagerduty("http://127.0.0.1:9/"),))
    root = replace(routing.route, repeat_interval_ms=4 * MINUTE_MS)
    half = alerting(replace(routing, route=root))
    half.engine.tick(now_ms, [make_alert()])
    told = asked(half, make_alert(), now_ms)
    assert told.paged
    assert told.next_notification_at is not None
    group_ms = root.group_interval_ms
    next_ms = now_ms
    while True:
        next_ms += group_ms
        if half.engine.tick(next_ms, [make_alert()]).notices:
            break
    assert told.next_notification_at == rfc3339(next_ms)
    entries: list[NotificationEntry] = list(half.engine.snapshot().entries.values())
    assert [entry.reason for entry in entries] == ["repeat_interval_elapsed"]


def test_what_paged_and_is_over_is_still_told_as_what_paged(
    alerting: Callable[..., Any],
    make_alert: Callable[..., Alert],
    pagerduty: Callable[[str], Integration],
    now_ms: int,
) -> None:
    routing = default_routing((pagerduty("http://127.0.0.1:9/"),))
    half = alerting(routing)
    half.engine.tick(now_ms, [make_alert()])
    for minute in range(1, 15):
        half.engine.tick(now_ms + minute * MINUTE_MS, [])
    told = asked(half, make_alert(), now_ms + 15 * MINUTE_MS)
    assert "resolved_and_told" in [reason.reason for reason in told.reasons]
    assert told.paged
    assert "delivery" in [reason.stage for reason in told.reasons]


def test_what_was_silenced_until_it_was_over_did_not_page(
    alerting: Callable[..., Any],
    make_alert: Callable[..., Alert],
    pagerduty: Callable[[str], Integration],
    now_ms: int,
) -> None:
    half = alerting(default_routing((pagerduty("http://127.0.0.1:9/"),)))
    matchers = (equality("service", "shop"),)
    silence = Silence("", matchers, now_ms, now_ms + 60 * MINUTE_MS, "ada", "known", now_ms)
    half.engine.set_silence(silence, now_ms)
    half.engine.tick(now_ms, [make_alert()])
    for minute in range(1, 15):
        half.engine.tick(now_ms + minute * MINUTE_MS, [])
    told = asked(half, make_alert(), now_ms + 15 * MINUTE_MS)
    assert not told.paged


def test_a_page_that_was_refused_for_good_is_no_page(
    alerting: Callable[..., Any],
    make_alert: Callable[..., Alert],
    pagerduty: Callable[[str], Integration],
    double: Callable[[], Any],
    now_ms: int,
) -> None:
    async def refused() -> Why:
        async with double() as server, httpx.AsyncClient() as client:
            server.faults = [400]
            half = alerting(default_routing((pagerduty(server.url),)))
            half.engine.tick(now_ms, [make_alert()])
            routing = half.engine.routing
            outbox = Outbox(half.outbox_rows, lambda: routing, client, NOTIFIERS, worker="one")
            await outbox.deliver_due(now_ms)
            return asked(half, make_alert(), now_ms)

    told = asyncio.run(refused())
    assert not told.paged
    (delivery,) = [reason for reason in told.reasons if reason.stage == "delivery"]
    assert delivery.decision == "failed"
    assert "refused for good" in delivery.explanation


def test_it_says_who_took_the_incident_and_by_what_the_alert_belongs_to_it(
    alerting: Callable[..., Any], make_alert: Callable[..., Alert], now_ms: int
) -> None:
    half = alerting(default_routing())
    half.engine.tick(now_ms, [make_alert()])
    record = half.engine.snapshot().records[fingerprint(make_alert().labels)]
    half.engine.acknowledge(record.incident_id, "ada", now_ms + 1_000)
    told = asked(half, make_alert(), now_ms + 2_000)
    (incident,) = [reason for reason in told.reasons if reason.stage == "incident"]
    assert (incident.decision, incident.reason) == ("acknowledged", "first_alert")
    assert "ada took it at" in incident.explanation
    assert all(reason.explanation for reason in told.reasons)
