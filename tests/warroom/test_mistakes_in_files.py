"""What a stranger gets wrong in a file is told with the file, the line and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from warroom.check import check
from warroom.config import Options

RULE = "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up == 0\n"
ROUTES = "route:\n  receiver: a\nreceivers:\n  - name: a\n"
INLINE = "alerting:\n  route: {receiver: a}\n  receivers:\n    - name: a\n"
CASES = {
    "a label's name": (
        "rules.yml",
        RULE + "        labels:\n          a: b\n          bad-name: x\n",
        8,
        "a label has letters",
    ),
    "an annotation's function": (
        "rules.yml",
        RULE + "        annotations:\n          a: b\n          c: '{{ $value | humanze }}'\n",
        8,
        "did you mean humanize?",
    ),
    "a receiver's function": (
        "am.yml",
        ROUTES
        + "    slack_configs:\n      - api_url: https://hooks.slack.com/x\n"
        + "        title: '{{ .Status | uper }}'\n",
        7,
        "function 'uper' not defined",
    ),
    "a pattern": (
        "am.yml",
        "route:\n  receiver: a\n  routes:\n    - matchers: ['a=~\"(\"']\nreceivers: [{name: a}]\n",
        4,
        "missing ): (",
    ),
    "an interval that is not there": (
        "am.yml",
        "route:\n  receiver: a\n  routes:\n    - mute_time_intervals: [night]\n"
        "receivers: [{name: a}]\n",
        4,
        "defined: none",
    ),
    "a receiver twice": ("am.yml", ROUTES + "  - name: a\n", 5, "rename one of them"),
    "a key within alerting": (
        "warroom.yaml",
        "# a comment\n\n" + INLINE + "      pagerduty_configs:\n        - routin_key: x\n",
        8,
        "write routing_key",
    ),
    "a receiver within alerting": (
        "warroom.yaml",
        "alerting:\n  # a comment\n  route:\n    receiver: b\n  receivers: [{name: a}]\n",
        4,
        "defined: a",
    ),
    "a policy that is not there": (
        "warroom.yaml",
        INLINE + "      escalation_policy: p\n",
        5,
        "on_call.escalation_policies: none",
    ),
    "a policy that a routing file names": (
        "am.yml",
        ROUTES + "    escalation_policy: p\n",
        5,
        "on_call.escalation_policies: none",
    ),
    "an external label": (
        "warroom.yaml",
        "external_labels:\n  site: a\n  bad-name: b\n",
        3,
        "no label name",
    ),
}
NAMED_BY = {"rules.yml": "rule_files: [rules.yml]\n", "am.yml": "alertmanager_file: am.yml\n"}


def told(directory: Path, name: str, text: str) -> list[str]:
    config = directory / "warroom.yaml"
    config.write_text(NAMED_BY.get(name, ""), encoding="utf-8")
    (directory / name).write_text(text, encoding="utf-8")
    found: list[str] = []
    check(Options(config=str(config)), found.append, now=lambda: 1_795_766_400_000)
    return [line for line in found if not line.startswith("ok")]


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_with_file_line_and_remedy(case: str, tmp_path: Path) -> None:
    name, text, line, remedy = CASES[case]
    (found,) = told(tmp_path, name, text)
    assert found.startswith("FAIL")
    assert f"{name}:{line}: " in found
    assert remedy in found


def test_an_empty_file_is_warned_of(tmp_path: Path) -> None:
    (found,) = told(tmp_path, "rules.yml", "\n")
    assert found.startswith("WARN")
    assert found.endswith("rules.yml:1: the file is empty")


def test_a_time_at_which_nobody_will_be_on_call_is_warned_of(tmp_path: Path) -> None:
    plan = """
alerting:
  route: {receiver: a}
  receivers: [{name: a, escalation_policy: p}, {name: phone, webhook_configs: [{url: "http://h/"}]}]
on_call:
  users: [{name: u, receivers: [phone]}]
  schedules:
    - name: nights
      time_zone: Europe/Berlin
      rotations:
        - users: [u]
          every: week
          starts: 2026-01-01
          restrictions: [{times: [{start_time: "18:00", end_time: "24:00"}]}]
    - {name: unused, time_zone: UTC, rotations: [{users: [u], every: week, starts: 2030-01-01}]}
  escalation_policies: [{name: p, steps: [{schedules: [nights]}]}]
"""
    (found,) = told(tmp_path, "warroom.yaml", plan)
    assert found.startswith("WARN  on_call: nobody of the schedule nights is on call from 2026-")
    assert "more gaps in the next 28 days" in found
