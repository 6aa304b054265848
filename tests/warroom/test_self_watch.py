"""Warroom watches itself: its metrics are series, and the shipped rules over them hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.rules import AlertingRule, parse_rule_file
from alerts.shipped import self_text
from tests.alerts.promtool import asked_promtool, asked_warroom
from tests.warroom.world import IN_MEMORY, open_world

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in parse_rule_file(self_text(), "self.yml").groups
    for rule in group.rules
    if isinstance(rule, AlertingRule)
]


def test_the_unit_tests_of_its_own_rules_hold_here_and_with_promtool() -> None:
    here = ROOT / "tests" / "alerts"
    assert asked_warroom(here, ["self_test.yml"])["self_test.yml"].passed
    assert asked_promtool(here, ["self_test.yml"])["self_test.yml"].passed


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.alert)
def test_each_of_them_has_its_section_in_the_runbook(rule: AlertingRule) -> None:
    assert {"summary", "fix", "runbook"} <= set(rule.annotations)
    file, anchor = rule.annotations["runbook"].split("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}


def test_its_own_metrics_are_series_that_rules_can_read(tmp_path: Path) -> None:
    with open_world(tmp_path, IN_MEMORY, {}) as world:
        world.evaluate()
        world.run(world.service.self_watch.run(world.clock.now_ms))
        answer = world.ask(
            "GET",
            "/api/v1/query",
            params={
                "query": 'warroom_tick_duration_seconds_count{job="warroom",step="alert"}',
                "time": str(world.clock.now_ms / 1000),
            },
        ).json()
        assert [row["value"][1] for row in answer["data"]["result"]] == ["1"]
        batch = world.service.self_watch.read(world.clock.now_ms)
    names = {labels.metric for labels in batch.series}
    assert "warroom_evaluation_interval_seconds" in names
    assert not any(name.startswith("warroom_unit_") for name in names)


def test_a_failing_unit_is_counted_and_raises_a_ticket(tmp_path: Path) -> None:
    broken = "groups: [{name: g, rules: [{alert: Broken, expr: 'a * on(x) b'}]}]"
    with open_world(tmp_path, f"{IN_MEMORY}rule_files: [bad.yml]\n", {"bad.yml": broken}) as world:
        found: set[str] = set()
        for _ in range(12):
            world.evaluate(60_000)
            for name in ("a", "b"):
                world.samples(
                    *[({"__name__": name, "x": "1", "i": n}, world.clock.now_ms, 1.0) for n in "12"]
                )
            world.run(world.service.self_watch.run(world.clock.now_ms))
            firing = [a for a in world.get("/alerts")["alerts"] if a["state"] == "firing"]
            found = {alert["labels"]["alertname"] for alert in firing}
            if "WarroomUnitsFail" in found:
                break
    assert "WarroomUnitsFail" in found
