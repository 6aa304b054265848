"""A rule over its group's limit: states as in Prometheus, messages as of Alertmanager."""

from __future__ import annotations

import numpy as np
import pytest

from alerts.engine import AlertEngine
from alerts.repository import AlertRepository
from alerts.routing import parse_alertmanager
from alerts.rule_evaluation import RuleEvaluator, unknown_units
from alerts.rules import parse_rule_file
from store.model import InstantVector, Labels
from store.sql import open_engine, open_sessions, upgrade

NOW_MS = 1_795_766_400_000
TICK_MS = 30_000
ROUTES = """
route: {receiver: a, group_wait: 0s, group_interval: 5s}
receivers: [{name: a, webhook_configs: [{url: "http://127.0.0.1:1/"}]}]
"""
RULES = """
groups:
- name: g
  limit: 2
  rules: [{alert: Down, expr: up == 0, for: HOLD, labels: {severity: page}}]
"""


class World:
    """One rule over as many series as the test says, ticking."""

    def __init__(self, hold: str = "0s") -> None:
        state = open_engine("sqlite://")
        upgrade(state)
        self.engine = AlertEngine(
            AlertRepository(open_sessions(state)), parse_alertmanager(ROUTES, "am.yml")
        )
        rules = parse_rule_file(RULES.replace("HOLD", hold), "r.yml")
        self.rules = RuleEvaluator(self, None, [rules])  # type: ignore[arg-type]
        self.now_ms, self.count = NOW_MS, 0

    def instant(self, _expr: str, _ts_ms: int) -> InstantVector:
        series = tuple(Labels.of(instance=f"db{k}") for k in range(self.count))
        return InstantVector(series, np.ones(self.count))

    def tick(self, count: int) -> tuple[int, list[str]]:
        """How many fire after a tick with so many series, and what is sent."""
        self.count = count
        self.now_ms += TICK_MS
        alerts, health = self.rules.alerts(self.now_ms)
        result = self.engine.tick(self.now_ms, alerts, unknown_sources=unknown_units(health))
        return result.firing, [str(notice.action) for notice in result.notices]


@pytest.fixture
def world() -> World:
    return World()


def test_one_tick_over_the_limit_ends_the_alerts_and_sends_nothing(world: World) -> None:
    told = [world.tick(count) for count in (2, 2, 3, 2, 2)]
    assert [firing for firing, _sent in told] == [2, 2, 0, 2, 2]
    assert [sent for _firing, sent in told] == [["trigger"], [], [], [], []]
    (record, _other) = world.engine.snapshot().records.values()
    assert record.active_ms == NOW_MS + 4 * TICK_MS
    assert len({one.incident_id for one in world.engine.snapshot().records.values()}) == 1


def test_over_the_limit_for_four_minutes_the_end_is_told_once(world: World) -> None:
    world.tick(2)
    sent = [world.tick(3)[1] for _ in range(12)]
    assert sent[:8] == [[]] * 8
    assert [one for some in sent for one in some] == ["resolve"]
    assert world.tick(2)[1] == ["trigger"]


def test_an_end_that_is_seen_is_told_at_once(world: World) -> None:
    world.tick(2)
    world.tick(3)
    assert world.tick(0) == (0, ["resolve"])


def test_while_the_hold_runs_anew_nothing_is_told() -> None:
    world = World("1m")
    told = [world.tick(count) for count in (2, 2, 2, 3, 2, 2, 2, 2)]
    assert [firing for firing, _sent in told] == [0, 0, 2, 0, 0, 0, 2, 2]
    assert [one for _firing, sent in told for one in sent] == ["trigger"]


def test_an_end_while_the_hold_runs_anew_is_told() -> None:
    world = World("1m")
    for count in (2, 2, 2, 3, 2):
        world.tick(count)
    assert world.tick(0) == (0, ["resolve"])
