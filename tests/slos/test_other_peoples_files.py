"""SLO files as the users of OpenSLO and Sloth write them: lists, references, plugins, months."""

from __future__ import annotations

import pytest

from slos.definition import EventSli
from slos.spec import parse_slo_files, parse_slos
from store.errors import ConfigError

LISTED = """\
- apiVersion: openslo/v1
  kind: Service
  metadata: {name: web}
  spec: {description: the web}
- apiVersion: openslo/v1
  kind: SLO
  metadata: {name: availability}
  spec:
    service: web
    indicator:
      metadata: {name: answered}
      spec:
        ratioMetric:
          counter: true
          good: {metricSource: {type: Prometheus, spec: {query: 'sum(http_requests{code=~"2.."})'}}}
          total: {metricSource: {type: Prometheus, spec: {query: sum(http_requests)}}}
    timeWindow:
      - duration: 1M
        isRolling: true
    budgetingMethod: Occurrences
    objectives:
      - {displayName: Good, target: 0.995}
"""

REFERRED = """\
apiVersion: openslo/v1
kind: DataSource
metadata: {name: metrics}
spec: {type: Prometheus, connectionDetails: {url: http://127.0.0.1:9090}}
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: fast-burn}
spec:
  severity: page
  condition: {kind: burnrate, op: gte, threshold: 2, lookbackWindow: 1h, alertAfter: 5m}
---
apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: {name: pager}
spec: {target: pagerduty}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: high}
spec:
  alertWhenBreaching: true
  conditions:
    - conditionRef: fast-burn
  notificationTargets:
    - targetRef: pager
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: search}
spec:
  service: search
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        bad: {metricSource: {metricSourceRef: metrics, spec: {query: 'sum(rate(errors[5m]))'}}}
        good: {metricSource: {metricSourceRef: metrics, spec: {query: 'sum(rate(fine[5m]))'}}}
        total: {metricSource: {metricSourceRef: metrics, spec: {query: 'sum(rate(requests[5m]))'}}}
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
  alertPolicies:
    - high
"""

SLOTH = """\
version: prometheus/v1
service: shop
slo_plugins:
  chain:
    - id: sloth.dev/core/debug/v1
      priority: 9
      config: {msg: hello}
slos:
  - name: availability
    objective: 99.9
    plugins:
      chain:
        - id: sloth.dev/contrib/info_labels/v1
          config: {labels: {owner: ada}}
    sli:
      events:
        error_query: sum(rate(requests_total{code=~"5.."}[{{.window}}])) OR on() vector(0)
        total_query: sum(rate(requests_total[{{.window}}]))
    alerting: {name: ShopBurns, page_alert: {disable: true}, ticket_alert: {disable: true}}
"""


def test_a_list_of_objects_is_read_and_a_rolling_month_has_thirty_days() -> None:
    (slo,) = parse_slos(LISTED, "f")
    assert (slo.id, slo.objective, slo.window_s) == ("web-availability", 0.995, 30 * 86_400)
    assert len(slo.tiers) == 4


@pytest.mark.parametrize(("text", "days"), [("1Q", 90), ("1Y", 365), ("4w", 28)])
def test_longer_rolling_windows_have_their_usual_length(text: str, days: int) -> None:
    (slo,) = parse_slos(LISTED.replace("1M", text), "f")
    assert slo.window_s == days * 86_400


def test_a_mistake_within_a_list_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"f:22: .*target") as caught:
        parse_slos(LISTED.replace("target: 0.995", "target: 99.5"), "f")
    assert caught.value.hint


def test_policies_and_data_sources_are_looked_up_and_bad_counts_where_good_stands_too() -> None:
    (slo,) = parse_slos(REFERRED, "f")
    assert isinstance(slo.sli, EventSli)
    assert (slo.sli.query, slo.sli.counts_good) == ("sum(rate(errors[{{.window}}]))", False)


def test_what_is_no_counter_is_summed_and_not_read_as_one() -> None:
    (slo,) = parse_slos(LISTED.replace("counter: true", "counter: false"), "f")
    assert isinstance(slo.sli, EventSli)
    assert slo.sli.total_query == "sum(sum_over_time(http_requests[{{.window}}]))"
    assert slo.sli.per_unit(slo.sli.total_query, 3_600) == 1.0
    with pytest.raises(ConfigError, match=r"f:14: .*counter"):
        parse_slos(LISTED.replace("counter: true", "counter: perhaps"), "f")
    unclear = LISTED.replace("counter: true", "counter: false").replace("sum(http", "count(http")
    with pytest.raises(ConfigError, match=r"f:1[4-7]: .*no range"):
        parse_slos(unclear, "f")


def test_a_metric_source_s_own_type_does_not_hide_that_of_its_data_source() -> None:
    text = REFERRED.replace(
        "metricSourceRef: metrics", "metricSourceRef: metrics, type: Prometheus"
    )
    assert len(parse_slos(text, "f")) == 1
    with pytest.raises(ConfigError, match=r"'metrics' is of type 'Datadog'"):
        parse_slos(text.replace("{type: Prometheus, conn", "{type: Datadog, conn"), "f")


def test_policies_that_are_kept_elsewhere_are_no_mistake() -> None:
    assert len(parse_slos(REFERRED.rsplit("---\n", maxsplit=1)[-1], "f")) == 1


@pytest.mark.parametrize(
    ("right", "wrong", "line", "says"),
    [
        ("    - high", "    - hgih", 43, "no AlertPolicy 'hgih'"),
        ("    - high", "    - alertPolicyRef: hgih", 43, "no AlertPolicy 'hgih'"),
        ("conditionRef: fast-burn", "conditionRef: slow-burn", 23, "there are: fast-burn"),
        ("targetRef: pager", "targetRef: phone", 25, "no AlertNotificationTarget 'phone'"),
        ("kind: burnrate", "kind: latency", 10, "write burnrate"),
        ("op: gte", "op: above", 10, "one of lte"),
        ("alertWhenBreaching", "alertWhenBreeching", 21, "did you mean 'alertWhenBreaching'"),
        ("type: Prometheus", "type: Datadog", 38, "type 'Datadog', which is not read here"),
    ],
)
def test_what_openslo_s_other_kinds_say_wrong_is_told_with_its_line(
    right: str, wrong: str, line: int, says: str
) -> None:
    assert right in REFERRED
    with pytest.raises(ConfigError) as caught:
        parse_slos(REFERRED.replace(right, wrong, 1), "f")
    assert says in str(caught.value)
    assert caught.value.hint
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= 1


def test_sloth_s_own_slo_plugins_have_no_effect_and_its_info_labels_are_kept() -> None:
    (slo,) = parse_slo_files({"f": SLOTH}).slos
    assert slo.info_labels == {"owner": "ada"}
    assert slo.tiers == ()
    # They are recorded all the same, as by Sloth.
    assert [s // 60 for s in slo.recorded_s] == [5, 30, 60, 120, 360, 1_440, 4_320]


def test_an_slo_plugin_that_would_change_what_is_told_is_refused_with_its_line() -> None:
    text = SLOTH.replace("core/debug/v1", "contrib/error_budget_exhausted_alert/v1")
    with pytest.raises(ConfigError, match=r"f:5: .*is not run here.*rule_files"):
        parse_slos(text, "f")
