"""Sloth and OpenSLO files: what is understood, and how a mistake is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slos.definition import EventSli, RatioSli
from slos.spec import parse_slo_files, parse_slos
from store.errors import ConfigError

SLOTH = """\
version: prometheus/v1
service: shop
labels:
  team: checkout
slos:
  - name: checkout-availability
    objective: 99.9
    description: Checkouts answer.
    labels:
      windows: rehearsal-24h
    sli:
      events:
        error_query: sum(rate(http_requests_total{code=~"5.."}[{{.window}}]))
        total_query: sum(rate(http_requests_total[{{ .window }}]))
    alerting:
      name: CheckoutBurns
      annotations:
        runbook: https://example.test/checkout
      page_alert:
        labels:
          channel: war-room
      ticket_alert:
        disable: true
"""

OPENSLO = """\
apiVersion: openslo/v1
kind: SLI
metadata:
  name: good-requests
spec:
  ratioMetric:
    counter: true
    good:
      metricSource:
        type: Prometheus
        spec:
          query: sum(http_requests_total{code!~"5.."})
    total:
      metricSource:
        type: Prometheus
        spec:
          query: sum(rate(http_requests_total[5m]))
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: requests
  labels:
    team: web
spec:
  service: shop
  indicatorRef: good-requests
  timeWindow:
    - duration: 28d
      isRolling: true
  budgetingMethod: Occurrences
  objectives:
    - displayName: Good
      target: 0.995
"""

LATENCY = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: latency
  annotations:
    warroom.dev/windows: rehearsal-24h
spec:
  service: shop
  indicator:
    metadata:
      name: p95
    spec:
      thresholdMetric:
        metricSource:
          type: Prometheus
          spec:
            query: histogram_quantile(0.95, sum by (le) (rate(latency_bucket[5m])))
  timeWindow:
    - duration: 24h
      isRolling: true
  objectives:
    - displayName: fast
      op: lte
      value: 0.3
      target: 0.95
    - displayName: bearable
      op: lte
      value: 2
      targetPercent: 99
"""


def test_a_sloth_file_is_understood() -> None:
    (slo,) = parse_slos(SLOTH, "shop.yml")
    assert (slo.id, slo.window_s) == ("shop-checkout-availability", 86_400)
    assert slo.objective == pytest.approx(0.999)
    assert slo.labels == {"team": "checkout"}
    assert slo.alert_name == "CheckoutBurns"
    assert slo.annotations == {"runbook": "https://example.test/checkout"}
    assert slo.severity_labels["page"] == {
        "channel": "war-room",
        "sloth_id": "shop-checkout-availability",
        "sloth_service": "shop",
        "sloth_slo": "checkout-availability",
        "sloth_severity": "page",
    }
    assert [(t.severity, t.long_s, t.short_s) for t in slo.tiers] == [
        ("page", 120, 10),
        ("page", 720, 60),
    ]
    assert [t.factor for t in slo.tiers] == pytest.approx([14.4, 6])
    assert isinstance(slo.sli, EventSli)
    assert (slo.file, slo.line) == ("shop.yml", 6)


def test_the_tiers_of_a_month_are_those_of_the_workbook() -> None:
    (slo,) = parse_slos(SLOTH.replace("rehearsal-24h", "google-30d"), "f")
    assert [t.factor for t in slo.tiers] == pytest.approx([14.4, 6])
    (both,) = parse_slos(SLOTH.replace("rehearsal-24h", "google-30d").replace("true", "false"), "f")
    assert [t.factor for t in both.tiers] == pytest.approx([14.4, 6, 3, 1])


def test_a_raw_ratio_is_understood() -> None:
    text = SLOTH[: SLOTH.index("      events")] + (
        "      raw: {error_ratio_query: 'sum(rate(a[{{.window}}])) / sum(rate(b[{{.window}}]))'}\n"
    )
    (slo,) = parse_slos(text, "f")
    assert isinstance(slo.sli, RatioSli)


def test_an_openslo_file_with_a_referenced_sli_is_understood() -> None:
    (slo,) = parse_slos(OPENSLO, "f")
    assert (slo.name, slo.service, slo.window_s) == ("requests", "shop", 28 * 86_400)
    assert slo.sli == EventSli(
        'sum(rate(http_requests_total{code!~"5.."}[{{.window}}]))',
        "sum(rate(http_requests_total[{{.window}}]))",
        counts_good=True,
    )
    assert [t.factor for t in slo.tiers] == pytest.approx([13.44, 5.6, 2.8, 0.9333333])


@pytest.mark.parametrize(
    ("query", "windowed"),
    [
        ('sum(rate(x{code=~"[45].."}[5m]))', 'sum(rate(x{code=~"[45].."}[{{.window}}]))'),
        ('sum(x{code=~"[12].."})', 'sum(rate(x{code=~"[12].."}[{{.window}}]))'),
        ('x{path="[5m]"}', 'sum(rate(x{path="[5m]"}[{{.window}}]))'),
        ('sum(rate(x{p="[5m]"}[ 1m30s ]))', 'sum(rate(x{p="[5m]"}[{{.window}}]))'),
        (
            "sum(increase(x[5m])) - sum(increase(y[1h] offset 1m))",
            "sum(increase(x[{{.window}}])) - sum(increase(y[{{.window}}] offset 1m))",
        ),
        ("sum(rate(x[5m:30s]))", "sum(rate(x[{{.window}}:30s]))"),
        (
            "sum_over_time((rate(x[5m]) > bool 1)[1h:1m])",
            "sum_over_time((rate(x[5m]) > bool 1)[{{.window}}:1m])",
        ),
        ("sum(rate(x # of [5m]\n[5m]))", "sum(rate(x # of [5m]\n[{{.window}}]))"),
    ],
)
def test_the_ranges_of_an_openslo_query_are_replaced_and_no_text_is(
    query: str, windowed: str
) -> None:
    text = OPENSLO.replace("sum(rate(http_requests_total[5m]))", json.dumps(query))
    (slo,) = parse_slos(text, "f")
    assert isinstance(slo.sli, EventSli)
    assert slo.sli.total_query == windowed


def test_an_sli_may_stand_in_another_file() -> None:
    sli, slo = OPENSLO.split("---\n")
    assert len(parse_slo_files({"a.yml": slo, "b.yml": sli}).slos) == 1


def test_each_objective_of_a_threshold_is_an_slo_that_counts_measurements() -> None:
    fast, bearable = parse_slos(LATENCY, "f")
    assert [fast.name, bearable.name] == ["latency-fast", "latency-bearable"]
    assert [fast.objective, bearable.objective] == [0.95, 0.99]
    assert isinstance(fast.sli, EventSli)
    assert fast.sli.query.startswith("sum_over_time(")
    assert fast.sli.query.endswith("> bool 0.3)[{{.window}}:15s])")
    assert fast.sli.noun == "measurements"
    # 1/(1-0.95) = 20 is above 14.4: every tier can fire.
    assert (len(fast.tiers), fast.refused_tiers) == (4, ())


def test_a_tier_that_can_never_fire_is_refused_with_the_sum() -> None:
    (slo,) = parse_slos(SLOTH.replace("99.9", "90"), "f")
    assert [t.factor for t in slo.tiers] == pytest.approx([6])
    (reason,) = slo.refused_tiers
    assert "14.4" in reason
    assert "1/(1-0.9) = 10" in reason


def test_a_short_period_shrinks_the_windows_and_keeps_the_factors() -> None:
    (slo,) = parse_slos(OPENSLO.replace("28d", "1d"), "f")
    assert (slo.tiers[0].long_s, slo.tiers[0].short_s) == (120, 10)
    assert slo.tiers[0].factor == pytest.approx(14.4)


MISTAKES = [
    (SLOTH, "objective: 99.9", "objectiv: 99.9", 7, "did you mean 'objective'"),
    (SLOTH, "objective: 99.9", "objective: 0.999", 7, "looks like a ratio"),
    (SLOTH, "objective: 99.9", "objective: 100", 7, "leaves no budget"),
    (SLOTH, "objective: 99.9", "objective: high", 7, "must be a number"),
    (SLOTH, "objective: 99.9", "objective: 60", 7, "no tier can fire"),
    (SLOTH, "[{{ .window }}]", "[5m]", 14, "[{{.window}}]"),
    (SLOTH, "sum(rate(http_requests_total[{{", "sum(rate((http_requests_total[{{", 14, "no PromQL"),
    (SLOTH, "windows: rehearsal-24h", "windows: fortnight", 9, "google-30d, rehearsal-24h"),
    (SLOTH, "disable: true", "disable: maybe", 22, "true or false"),
    (SLOTH, "version: prometheus/v1", "version: prometheus/v9", 1, "prometheus/v1"),
    (SLOTH, "service: shop", "service: ''", 2, "missing"),
    (SLOTH, "      events:", "      plugin:", 12, "an SLI plugin is a Go program"),
    (OPENSLO, "kind: SLI", "kind: SLIs", 2, "an SLO or an SLI"),
    (OPENSLO, "indicatorRef: good-requests", "indicatorRef: x", 26, "good-requests"),
    (OPENSLO, "Occurrences", "Timeslice", 30, "RatioTimeslices"),
    (OPENSLO, "Occurrences", "Timeslices", 32, "like 0.99"),
    (OPENSLO, "Occurrences", "RatioTimeslices", 32, "bare number is minutes"),
    (OPENSLO, "duration: 28d", "duration: 28x", 28, "in s, m, h, d, w, M, Q or Y"),
    (OPENSLO, "isRolling: true", "isRolling: false", 30, "isRolling: true"),
    (OPENSLO, "target: 0.995", "target: 99.5", 33, "0.999"),
    (OPENSLO, "target: 0.995", "targt: 0.995", 33, "did you mean 'target'"),
    (OPENSLO, "sum(http_requests_total{", "max(http_requests_total{", 12, "rate"),
    (OPENSLO, "type: Prometheus", "type: Datadog", 10, "write Prometheus"),
    (LATENCY, "op: lte", "op: below", 23, "lte"),
    (LATENCY, "warroom.dev/windows: rehearsal-24h", "warroom.dev/windows: x", 5, "google-30d"),
]


@pytest.mark.parametrize(("text", "right", "wrong", "line", "says"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_a_remedy(
    text: str, right: str, wrong: str, line: int, says: str
) -> None:
    assert right in text
    with pytest.raises(ConfigError) as caught:
        parse_slos(text.replace(right, wrong, 1), "shop.yml")
    assert caught.value.file == "shop.yml"
    assert caught.value.hint
    assert says in str(caught.value)
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= 1


def test_the_same_slo_twice_is_refused_with_both_places() -> None:
    with pytest.raises(ConfigError, match=r"b.yml:6: .*twice.*a.yml:6"):
        parse_slo_files({"a.yml": SLOTH, "b.yml": SLOTH})


def test_an_empty_file_has_no_slos() -> None:
    assert parse_slos("", "f") == []


def test_other_openslo_kinds_have_no_effect() -> None:
    text = "apiVersion: openslo/v1\nkind: Service\nmetadata: {name: shop}\nspec: {}\n"
    assert parse_slos(text, "f") == []


def parsed_or_refused(text: str) -> bool:
    try:
        slos = parse_slos(text, "f")
    except ConfigError as exc:
        return exc.file == "f"
    return all(0 < slo.objective < 1 and slo.name and slo.service for slo in slos)


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_keys = st.sampled_from(
    ["version", "apiVersion", "kind", "service", "slos", "sli", "name", "objective", "spec"]
)
_data = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=5),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(_data, st.sampled_from(["version: prometheus/v1\n", "apiVersion: openslo/v1\n", ""]))
def test_whatever_stands_in_a_file_is_parsed_or_refused_as_a_mistake(
    data: object, head: str
) -> None:
    import yaml

    body = yaml.safe_dump(data, allow_unicode=True)
    assert parsed_or_refused(head + body)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_file_is_parsed_or_refused_as_a_mistake(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([SLOTH, OPENSLO, LATENCY]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 60, len(text))))
    damage = data.draw(st.text(max_size=12))
    assert parsed_or_refused(text[:start] + damage + text[end:])
