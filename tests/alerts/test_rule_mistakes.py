"""Wrong rule files: each mistake is told with its file, its line and a remedy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from alerts.rules import RuleEvaluator, parse_rule_file
from alerts.template_check import check_rule_template
from alerts.template_text import TemplateError
from store.errors import ConfigError
from store.model import InstantVector, Labels
from tests.alerts.promtool import promtool

GOOD = """\
groups:
  - name: shop
    interval: 15s
    labels: {team: checkout}
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: Down
        expr: job:up:sum == 0
        for: 5m
        labels: {severity: page}
        annotations: {summary: "{{ $labels.job }} is at {{ $value | humanize }}"}
"""

MISTAKES = [
    ("alert: Down", "alrt: Down", 8, "did you mean 'alert'"),
    ("for: 5m", "fro: 5m", 10, "did you mean 'for'"),
    ("name: shop", "nam: shop", 2, "did you mean 'name'"),
    ("groups:", "group:", 1, "did you mean 'groups'"),
    ("for: 5m", "for: 5 minutes", 10, "write it like 30s"),
    ("for: 5m", "for: five", 10, "write it like 30s"),
    ("interval: 15s", "interval: often", 3, "write it like 30s"),
    ("interval: 15s", "limit: many", 3, "write it like 10"),
    ("job:up:sum == 0", "job:up:sum ==", 9, "unexpected end of input"),
    ("job:up:sum == 0", "summ(up)", 9, "unknown function"),
    ("job:up:sum == 0", "rate(up)", 9, "expected type range vector"),
    ("job:up:sum == 0", "up[5m]", 9, "wrap a range in a function"),
    ("job:up:sum == 0", "'\"text\"'", 9, "neither an instant vector nor a scalar"),
    ("job:up:sum == 0", "up{job=~'('}", 9, "error parsing regexp"),
    ("        expr: job:up:sum == 0\n", "", 8, "write expr"),
    ("severity: page", "severity: [page]", 11, "write it in quotes"),
    ("severity: page", "0severity: page", 11, "does not begin with a digit"),
    ("record: job:up:sum", "record: job-up", 6, "write it like"),
    ("record: job:up:sum", "record: a\n        for: 5m", 7, "write alert instead"),
    ("$labels.job", "$lables.job", 12, "did you mean $labels?"),
    ("| humanize", "| humanise", 12, "did you mean humanize?"),
    ("{{ $labels.job }}", "{{ $labels.job", 12, "unexpected '{'"),
    ("{{ $labels.job }}", "{{ if $value }}", 12, "without end"),
    ("{{ $labels.job }}", "{{ template `x` }}", 12, "not defined"),
    ("  - name: shop", "  - name: shop\n    rules: []\n  - name: shop", 4, "rename one"),
    ("    rules:\n", "   rules:\n", 5, "not valid YAML"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "says"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_a_remedy(
    right: str, wrong: str, line: int, says: str
) -> None:
    assert right in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_rule_file(GOOD.replace(right, wrong, 1), "shop.yml")
    assert caught.value.file == "shop.yml"
    assert says in str(caught.value)
    assert caught.value.hint or "not valid YAML" in str(caught.value)
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= 1


GO_TEMPLATES = [
    "{{ $labels.job }} {{ $value | humanizePercentage }}",
    "{{ $x := $value }}{{ $x }}",
    "{{ range $i, $s := query `up` }}{{ $i }}{{ $s.Labels }}{{ end }}",
    "{{ with query `up` | first }}{{ . | value }}{{ end }}",
    "{{ define `a` }}{{ . }}{{ end }}{{ template `a` $value }}",
    "{{ if and (gt $value 1.0) (lt $value 9.0) }}a{{ else if eq $value 1.0 }}b{{ end }}",
    "{{ printf `%.2f` $value }} {{ $externalLabels.cluster }} {{ $externalURL }}",
    "{{ $labels.job | toUpper | title }} {{ len $labels }} {{ .Labels.job }} {{ $.Value }}",
    "{{ humanise $value }}",
    "{{ $label.job }}",
    "{{ $x }}",
    "{{ range query `up` }}{{ $s }}{{ end }}",
    "{{ define `a` }}{{ $labels.job }}{{ end }}",
    "{{ 1 | nothing }}",
    '{{ ($value | toTime).Format "2006" }} {{ (toTime 1.5).AddDate 0 0 1 }}',
    "{{ js $labels.job }}",
    '{{ ($value | nothing).Format "2006" }}',
    "{{ ($value | toTime).Format $layout }}",
    # It is a console's.
    '{{ define "t" }}{{ end }}{{ tmpl "t" . }}',
]


@pytest.mark.parametrize("text", GO_TEMPLATES)
def test_a_template_is_refused_when_promtool_refuses_it(text: str, tmp_path: Path) -> None:
    rule = {"alert": "A", "expr": "up", "annotations": {"a": text}}
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    told = subprocess.run([promtool(), "check", "rules", file], check=False, capture_output=True)
    refused = False
    try:
        check_rule_template(text)
    except TemplateError:
        refused = True
    assert refused is (told.returncode != 0), told.stderr


class Up:
    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        return InstantVector((Labels.of(job="shop"),), np.zeros(1))

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> None:
        raise NotImplementedError


def test_a_template_that_fails_while_it_is_rendered_still_alerts_and_tells_why() -> None:
    text = GOOD.replace("$value | humanize", "query `up` | value")
    evaluator = RuleEvaluator(Up(), None, [parse_rule_file(text, "shop.yml")])  # type: ignore[arg-type]
    (alert,), (health,) = evaluator.alerts(1_000)
    assert health.ok
    assert alert.labels.get("severity") == "page"
    assert "error expanding template" in alert.annotations["summary"]
    assert "error calling value" in alert.annotations["summary"]
