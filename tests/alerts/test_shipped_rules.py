"""The shipped thresholds: tested as rules, told apart from pages, and explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.rules import AlertingRule, parse_rule_file
from alerts.shipped import thresholds_text
from tests.alerts.promtool import asked_promtool, asked_warroom

ROOT = Path(__file__).parents[2]
TESTS = "thresholds_test.yml"
RULES = [
    rule
    for group in parse_rule_file(thresholds_text(), "thresholds.yml").groups
    for rule in group.rules
    if isinstance(rule, AlertingRule)
]


def test_the_unit_tests_of_the_thresholds_hold_here_and_with_promtool() -> None:
    here = Path(__file__).parent
    assert asked_warroom(here, [TESTS])[TESTS].passed
    assert asked_promtool(here, [TESTS])[TESTS].passed


def test_there_is_a_rule_for_every_threshold_of_the_case_study() -> None:
    assert {rule.labels["threshold"] for rule in RULES} == {
        "response_time",
        "error_ratio",
        "cpu",
        "memory",
        "disk",
        "slow_query",
        "replication_lag",
        "order_rate",
        "abandonment",
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.alert)
def test_no_threshold_pages_and_each_has_its_section_in_the_runbook(rule: AlertingRule) -> None:
    assert rule.labels["severity"] in {"ticket", "info"}
    assert {"summary", "fix", "runbook"} <= set(rule.annotations)
    file, anchor = rule.annotations["runbook"].split("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}
    assert rule.alert in headings
