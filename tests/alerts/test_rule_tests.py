"""`warroom test rules` and promtool give the same verdict, case by case."""

# ruff: noqa: E501 - rules and templates read best on one line
from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.rule_tests.notation import parse_series, parse_values
from alerts.rule_tests.spec import parse_rule_tests
from store.errors import ConfigError
from tests.alerts.promtool import asked_promtool, asked_warroom
from warroom.cli import main

RULES = """
groups:
  - name: shop
    rules:
      - record: job:errors:rate1m
        expr: sum by (job) (rate(errors_total[70s]))
      - alert: ErrorsHigh
        expr: job:errors:rate1m > 0.5
        for: 30s
        labels: {severity: page, up: '{{ $labels.job | toUpper }}'}
        annotations: {summary: '{{ $labels.job }} {{ $value | printf "%.1f" }} {{ $externalLabels.site }} {{ $externalURL }}'}
      - alert: Meta
        expr: ALERTS{alertname="ErrorsHigh",alertstate="firing"}
        annotations: {all: '{{ $labels }}', missing: '[{{ $labels.nope }}]'}
      - record: after
        expr: count(ALERTS)
"""
# Cases that hold, and cases that do not: promtool must name the same ones.
TESTS = r"""
rule_files: [rul*.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    name: first
    external_labels: {site: eu}
    external_url: http://x.test/p
    input_series:
      - {series: 'errors_total{job="web"}', values: '0+15x20 300x20'}
      - {series: 'errors_total{job="api"}', values: '0 _x3 stale 0x3 1-1x2 Inf -3'}
    alert_rule_test:
      - eval_time: 75s
        alertname: ErrorsHigh
        exp_alerts:
          - exp_labels: {job: web, severity: page, up: WEB}
            exp_annotations: {summary: 'web 1.0 eu http://x.test/p'}
      - eval_time: 90s
        alertname: ErrorsHigh
        exp_alerts:
          - exp_labels: {job: web, severity: page, up: WEB}
            exp_annotations: {summary: 'web 1.2 eu http://x.test/p'}
      - eval_time: 105s
        alertname: ErrorsHigh
      - eval_time: 120s
        alertname: Unknown
      - eval_time: 80s
        alertname: Meta
        exp_alerts:
          - exp_labels: {job: web, severity: page, up: WEB, alertstate: firing}
            exp_annotations:
              all: 'map[__name__:ALERTS alertname:ErrorsHigh alertstate:firing job:web severity:page up:WEB]'
              missing: '[]'
      - eval_time: 20s
        alertname: Meta
    promql_expr_test:
      - {expr: after, eval_time: 1m, exp_samples: [{labels: after, value: 1}]}
      - {expr: after, eval_time: 2m, exp_samples: [{labels: '{__name__="after"}', value: 7}]}
      - expr: errors_total
        eval_time: 31s
        exp_samples:
          - {labels: 'errors_total{job="web"}', value: 3e1}
          - {labels: 'errors_total{job="api"}', value: 0}
      - {expr: 'errors_total{job="api"}', eval_time: 1m, exp_samples: []}
      - {expr: 'errors_total{job="api"}', eval_time: 165s, exp_samples: [{labels: 'errors_total{job="api"}', value: .inf}]}
      - {expr: 1 + 1, eval_time: 10s, exp_samples: [{value: 2}]}
      - {expr: 'count_over_time(errors_total{job="web"}[59s:])', eval_time: 1m, exp_samples: [{labels: '{job="web"}', value: 4}]}
      - {expr: 'count_over_time(errors_total{job="web"}[59s:])', eval_time: 2m, exp_samples: [{labels: '{job="web"}', value: 40}]}
      - {expr: '0 / 0', eval_time: 10s, exp_samples: [{value: .nan}]}
      - {expr: 'count by (', eval_time: 10s}
      - {expr: 'errors_total[1m]', eval_time: 10s}
  - interval: 1m
    input_series: [{series: '{__name__="up", job="x"}', values: '0.1+0.1x30 0x10'}]
    promql_expr_test:
      - {expr: up, eval_time: 2m, exp_samples: [{labels: 'up{job="x"}', value: 0.30000000000000004}]}
      - {expr: up, eval_time: 7m, exp_samples: [{labels: 'up{job="x"}', value: 0.8}]}
"""


def test_promtool_names_the_same_cases(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "test.yml").write_text(TESTS)
    judged = asked_promtool(tmp_path, ["test.yml"])
    assert asked_warroom(tmp_path, ["test.yml"]) == judged
    assert len(judged["test.yml"].failed) == 9


def random_world(seed: int) -> tuple[str, str]:
    """Rules and a test: guesses about two series that come and go."""
    chance = random.Random(seed)
    rules = [
        {
            "alert": f"A{number}",
            "expr": f"v > {chance.choice([0, 2, 5])}",
            "for": chance.choice(["0s", "15s", "30s", "1m", "100s"]),
            "keep_firing_for": chance.choice(["0s", "15s", "1m", "100s"]),
            "annotations": {"value": "{{ $value }}"} if number % 3 == 0 else {},
        }
        for number in range(8)
    ]
    items = ["0", "1x2", "3", "6x3", "9-1x4", "0+2x4", "_", "_x4", "_x25", "stale", "NaN", "7x6"]
    series = [
        {"series": f'v{{job="{job}"}}', "values": " ".join(chance.choices(items, k=20))}
        for job in "ab"
    ]
    cases = []
    for number in range(8):
        for step in range(60):
            jobs = [job for job in "ab" if chance.random() < 0.5]
            value = {"value": str(chance.choice([1, 3, 6, 7]))} if number % 3 == 0 else {}
            expected = [{"exp_labels": {"job": j}, "exp_annotations": value} for j in jobs]
            at = f"{step * 15 + chance.choice([0, 7])}s"
            cases.append({"eval_time": at, "alertname": f"A{number}", "exp_alerts": expected})
    group = {"name": "g", "interval": "5m", "rules": rules}
    # A sample just 5 minutes old counts for promtool 2.42, and for Prometheus 3 and us no more:
    # with this interval there is none.
    test = {"interval": "14999ms", "input_series": series, "alert_rule_test": cases}
    file = {"rule_files": [f"rules{seed}.yml"], "evaluation_interval": "15s", "tests": [test]}
    return json.dumps({"groups": [group]}), json.dumps(file)


def test_promtool_agrees_on_every_hold_and_keep_firing_of_random_series(tmp_path: Path) -> None:
    names = []
    for seed in range(4):
        rules, test = random_world(seed)
        (tmp_path / f"rules{seed}.yml").write_text(rules)
        (tmp_path / f"test{seed}.yml").write_text(test)
        names.append(f"test{seed}.yml")
    judged = asked_promtool(tmp_path, names)
    assert asked_warroom(tmp_path, names) == judged
    wrong = sum(len(verdict.failed) for verdict in judged.values())
    assert 400 < wrong < 1900  # some guesses were right, and some were not


ONE = (
    "groups: [{name: a, rules: [{record: x, expr: %s}]}, {name: b, rules: [{record: y, expr: x}]}]"
)
ASKED = """
rule_files: [%s]
group_eval_order: [%s]
tests:
  - interval: 1m
    input_series: [{series: up, values: '1+1x9'}]
    promql_expr_test: [{expr: y, eval_time: 3m, exp_samples: [{labels: y, value: %d}]}]
"""
FILES = {
    "good.yml": ASKED % ("one.yml", "a, b", 4),
    "order.yml": ASKED % ("one.yml", "b, a", 3),
    "order_wrong.yml": ASKED % ("one.yml", "b, a", 4),
    "order_twice.yml": ASKED % ("one.yml", "a, a", 4),
    "no_rules.yml": ASKED % ("nothing*.yml", "", 4),
    "broken_rules.yml": ASKED % ("broken.yml", "", 4),
    "failing_rule.yml": ASKED % ("failing.yml", "a, b", 4),
    "limit.yml": ASKED % ("limit.yml", "a, b", 4),
    "unknown_field.yml": ASKED % ("one.yml", "a, b", 4) + "what: is this\n",
    "bad_series.yml": (ASKED % ("one.yml", "a, b", 4)).replace("series: up", "series: 'up{'"),
    "bad_values.yml": (ASKED % ("one.yml", "a, b", 4)).replace("1+1x9", "1+1"),
    "bad_labels.yml": (ASKED % ("one.yml", "a, b", 4)).replace("labels: y", "labels: '{y'"),
    "no_alertname.yml": "tests: [{interval: 1m, alert_rule_test: [{eval_time: 1m}]}]",
    "no_tests.yml": "rule_files: []\n",
    "not_yaml.yml": "tests: [",
    "list.yml": "- tests",
    "missing.yml": None,
}


def test_exit_codes_are_promtools_for_files_good_and_bad(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(ONE % "up")
    (tmp_path / "broken.yml").write_text(ONE % "'sum('")
    (tmp_path / "failing.yml").write_text(
        ONE % "label_replace(up, \\'a\\', \\'b\\', \\'c\\', \\'(\\')".replace("\\'", '"')
    )
    (tmp_path / "limit.yml").write_text(
        'groups: [{name: b, limit: 1, rules: [{record: y, expr: \'up or label_replace(up, "a", "b", "", "")\'}]}]'
    )
    for name, text in FILES.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    judged = {name: v.passed for name, v in asked_promtool(tmp_path, list(FILES)).items()}
    ours = {name: v.passed for name, v in asked_warroom(tmp_path, list(FILES)).items()}
    assert ours == judged
    assert sorted(name for name, passed in judged.items() if passed) == [
        "good.yml",
        "no_tests.yml",
        "order.yml",
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1 2 3", [1, 2, 3]),
        ("1+1x2", [1, 2, 3]),
        ("1-2x2", [1, -1, -3]),
        ("-1+0.5x1", [-1, -0.5]),
        ("5x2", [5, 5, 5]),
        ("_ _x2 0x0", [None, None, None, 0]),
        ("0x10", [0] * 11),
        ("+Inf -inf 1e3", [float("inf"), float("-inf"), 1000]),
        ("", []),
    ],
)
def test_the_notation_of_values(text: str, values: list[float | None]) -> None:
    assert parse_values(text) == values


@pytest.mark.parametrize("text", ["1+1", "x5", "1x", "1+", "_1", "1,2", "{{sum:1}}", "0x9999999"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_values(text)


@given(st.text(max_size=60))
def test_no_text_breaks_the_notation(text: str) -> None:
    for parse in (parse_values, parse_series):
        with contextlib.suppress(ValueError):
            parse(text)


def test_a_mistake_in_a_test_file_has_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rule_tests("tests:\n- input_series:\n  - series: up\n    values: 1+1\n", "t.yml")
    assert (caught.value.file, caught.value.line) == ("t.yml", 4)
    with pytest.raises(ConfigError, match="100000 evaluations"):
        parse_rule_tests("tests:\n- promql_expr_test: [{expr: up, eval_time: 10y}]\n", "t.yml")


def test_fuzzy_comparison_and_a_start_are_those_of_newer_versions(tmp_path: Path) -> None:
    text = """
rule_files: []
fuzzy_compare: %s
tests:
  - interval: 1m
    start_timestamp: %s
    input_series: [{series: up, values: '0.1+0.1x9'}]
    promql_expr_test:
      - {expr: up, eval_time: 2m, exp_samples: [{labels: up, value: 0.3}]}
      - {expr: time(), eval_time: 2m, exp_samples: [{value: 1795766520}]}
"""
    for name, fuzzy, start in (
        ("exact.yml", "false", "1795766400"),
        ("fuzzy.yml", "true", "1795766400"),
        ("dated.yml", "true", "'2026-11-27T08:00:00Z'"),
    ):
        (tmp_path / name).write_text(text % (fuzzy, start))
    told = asked_warroom(tmp_path, ["exact.yml", "fuzzy.yml", "dated.yml"])
    assert [verdict.passed for verdict in told.values()] == [False, True, True]


def test_a_failure_shows_where_and_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yml").write_text(
        "groups: [{name: g, rules: [{alert: Down, expr: up == 0, annotations: {s: bad}}]}]"
    )
    (tmp_path / "t.yml").write_text(
        "rule_files: [r.yml]\n"
        "tests:\n"
        "- input_series: [{series: 'up{job=\"a\"}', values: '0'}]\n"
        "  alert_rule_test:\n"
        "  - alertname: Down\n"
        "    exp_alerts: [{exp_labels: {job: a}, exp_annotations: {s: good}}]\n"
    )
    assert main(["test", "rules", str(tmp_path / "t.yml")]) == 1
    shown = capsys.readouterr().out
    assert "t.yml:5: alertname: Down, time: 0s" in shown
    assert 'exp: "good"\n' in shown
    assert 'got: "bad"\n' in shown
