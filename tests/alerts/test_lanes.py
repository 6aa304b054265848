"""Two receivers in one lane of the outbox: what one is told is not what the other is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.escalation.lanes import lane_to
from alerts.ledger.repository import OutboxRepository, enqueue
from alerts.notification import EventAction, Notice
from alerts.routing import parse_alertmanager
from store.model import Labels
from store.testing import open_state

ROUTING = """
route: {receiver: policy}
receivers:
  - name: policy
    webhook_configs: [{url: "http://127.0.0.1:1/"}]
  - name: ada
    opsgenie_configs:
      - api_key: one
        api_url: https://api.opsgenie.example/
        responders: [{username: ada, type: user}]
  - name: ben
    opsgenie_configs:
      - api_key: one
        api_url: https://api.opsgenie.example/
        responders: [{username: ben, type: user}]
  - name: elsewhere
    opsgenie_configs:
      - api_key: one
        api_url: https://jsm.example/
        responders: [{username: ada, type: user}]
"""
NOTICE = Notice(
    id="n",
    lane="g/0/policy",
    action=EventAction.TRIGGER,
    receiver="policy",
    integration=0,
    group_key="g",
    dedup_key="d",
    group_labels=Labels.of({}),
    alerts=(),
    reason="first",
    created_ms=1,
)


def told(notice_id: str, receiver: str, action: EventAction = EventAction.TRIGGER) -> Notice:
    lane = lane_to(NOTICE, receiver, 0, parse_alertmanager(ROUTING, "alertmanager.yml"))
    return replace(NOTICE, id=notice_id, receiver=receiver, lane=lane, action=action)


def test_one_address_is_one_lane_and_another_is_another() -> None:
    assert told("1", "ada").lane == told("2", "ben").lane != told("3", "elsewhere").lane


@pytest.mark.parametrize(
    ("second", "states"),
    [
        (told("2", "ada"), ["superseded", "pending"]),
        (told("2", "ben"), ["pending", "pending"]),
        (told("2", "ada", EventAction.RESOLVE), ["pending", "pending"]),
    ],
    ids=["told anew", "told to another", "another action"],
)
def test_only_what_says_the_same_to_the_same_is_superseded(
    second: Notice, states: list[str]
) -> None:
    sessions = open_state()
    with sessions.begin() as session:
        enqueue(session, [told("1", "ada"), second])
    assert [row.state for row in OutboxRepository(sessions).rows()][::-1] == states
    sessions.kw["bind"].dispose()
