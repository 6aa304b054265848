"""What SLO files can say beside plain ratios: slices, composites, tables of windows, policies."""

from __future__ import annotations

import pytest

from slos.definition import CompositeSli, EventSli, Slo
from slos.spec import parse_slo_files, parse_slos
from store.errors import ConfigError

RESOURCE = """\
apiVersion: sloth.slok.dev/v1
kind: PrometheusServiceLevel
metadata: {name: shop, namespace: monitoring}
spec:
  service: shop
  labels: {team: checkout}
  slos:
    - name: availability
      objective: 99.9
      description: Requests are answered.
      sli:
        events:
          errorQuery: sum(rate(requests_total{code=~"5.."}[{{.window}}]))
          totalQuery: sum(rate(requests_total[{{.window}}]))
      alerting:
        name: ShopBurns
        labels: {channel: war-room}
        annotations: {runbook: https://example.test/shop}
        pageAlert: {labels: {severity: critical}, annotations: {who: on-call}}
        ticketAlert: {disable: true}
"""

WINDOWS = """\
apiVersion: sloth.slok.dev/v1
kind: AlertWindows
spec:
  sloPeriod: 7d
  page:
    quick: {errorBudgetPercent: 8, shortWindow: 5m, longWindow: 1h}
    slow: {errorBudgetPercent: 12.5, shortWindow: 30m, longWindow: 6h}
  ticket:
    quick: {errorBudgetPercent: 20, shortWindow: 2h, longWindow: 1d}
    slow: {errorBudgetPercent: 42, shortWindow: 6h, longWindow: 3d}
"""

SLICES = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: main-page, labels: {area: [web, shop]}}
spec:
  service: shop
  budgetingMethod: Timeslices
  timeWindow: [{duration: 2w, isRolling: true}]
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: Prometheus, spec: {query: 'sum(answers_total{code!~"5.."})'}}}
        total: {metricSource: {type: Prometheus, spec: {query: sum(answers_total)}}}
  objectives:
    - {displayName: Good, op: gt, timeSliceTarget: 0.95, timeSliceWindow: 5, target: 0.99}
"""

JOURNEY = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: journey}
spec:
  service: shop
  timeWindow: [{duration: 30d, isRolling: true}]
  objectives:
    - displayName: cart
      target: 0.99
      compositeWeight: 3
      indicator: {spec: {ratioMetric: {bad: {metricSource: {spec: {query: sum(a)}}}, total: {metricSource: {spec: {query: sum(b)}}}}}}
    - displayName: payment
      target: 0.999
      indicator: {spec: {ratioMetric: {bad: {metricSource: {spec: {query: sum(c)}}}, total: {metricSource: {spec: {query: sum(d)}}}}}}
"""  # noqa: E501

COMPOSITE = """\
apiVersion: warroom.dev/v1
kind: CompositeSLO
metadata: {name: journey}
spec:
  service: shop
  description: From the cart to the receipt.
  method: product
  target: 0.99
  timeWindow: [{duration: 30d, isRolling: true}]
  members:
    - {slo: shop-availability, weight: 2}
    - {slo: main-page}
"""

POLICY = """\
apiVersion: warroom.dev/v1
kind: ErrorBudgetPolicy
metadata: {name: peak}
spec:
  description: Agreed with the product managers.
  slos: [{slo: availability}]
  steps:
    - {remainingBelow: 0.25, action: caution, message: Only small changes.}
    - {remainingBelow: 0, action: freeze, message: Only fixes.}
"""
ALL = {"a.yml": RESOURCE, "b.yml": SLICES, "c.yml": COMPOSITE, "d.yml": POLICY}


def factors(slo: Slo) -> list[float]:
    return [tier.factor for tier in slo.tiers]


def test_sloth_s_kubernetes_resource_says_the_same_as_its_file() -> None:
    (resource,) = parse_slos(RESOURCE, "f")
    assert (resource.id, resource.objective, resource.labels) == (
        "shop-availability",
        0.999,
        {"team": "checkout"},
    )
    assert factors(resource) == pytest.approx([14.4, 6])
    assert resource.alert_name == "ShopBurns"
    assert resource.severity_labels["page"]["severity"] == "critical"
    assert resource.severity_labels["page"]["channel"] == "war-room"
    assert resource.severity_labels["page"]["sloth_severity"] == "page"
    assert resource.severity_annotations["page"] == {"who": "on-call"}


def test_alert_windows_hold_for_their_period_and_can_be_named() -> None:
    week = SLICES.replace("2w", "7d")
    (slo,) = parse_slo_files({"a": WINDOWS, "b": week}).slos
    assert factors(slo) == pytest.approx([13.44, 3.5, 1.4, 0.98])
    (other,) = parse_slo_files({"a": WINDOWS, "b": SLICES}).slos
    assert factors(other) == pytest.approx([6.72, 2.8, 1.4, 0.46667], rel=1e-4)
    named = RESOURCE.replace("labels: {team: checkout}", 'labels: {windows: "7d"}')
    (resource,) = parse_slo_files({"a": WINDOWS, "b": named}).slos
    assert resource.window_s == 7 * 86_400
    assert factors(resource) == pytest.approx([13.44, 3.5])


def test_alert_windows_of_a_month_replace_the_default() -> None:
    month = WINDOWS.replace("7d", "30d").replace("errorBudgetPercent: 8,", "errorBudgetPercent: 1,")
    (slo,) = parse_slo_files({"a": month, "b": RESOURCE}).slos
    assert factors(slo)[0] == pytest.approx(7.2)


def test_two_tiers_with_the_same_figures_are_one() -> None:
    same = WINDOWS.replace(
        "42, shortWindow: 6h, longWindow: 3d", "20, shortWindow: 2h, longWindow: 1d"
    )
    (slo,) = parse_slo_files({"a": same, "b": SLICES.replace("2w", "7d")}).slos
    assert len(slo.tiers) == 3


def test_time_slices_are_counted_on_the_clock() -> None:
    (slo,) = parse_slos(SLICES, "f")
    assert isinstance(slo.sli, EventSli)
    assert (slo.sli.noun, slo.sli.step_s, slo.sli.counted) == ("slices of 5m", 300, True)
    assert slo.sli.query.endswith("<= bool 0.95)[{{.window}}:5m])")
    assert slo.labels == {"area": "web,shop"}


def test_objectives_with_indicators_of_their_own_are_a_composite() -> None:
    cart, payment, journey = parse_slos(JOURNEY, "f")
    assert [cart.name, payment.name, journey.name] == ["journey-cart", "journey-payment", "journey"]
    assert journey.objective == pytest.approx((3 * 0.99 + 0.999) / 4)
    assert isinstance(journey.sli, CompositeSli)
    assert [m.weight for m in journey.sli.members] == [3, 1]
    # Nobody is told of the parts: the whole pages.
    assert (cart.tiers, payment.tiers) == ((), ())
    assert len(journey.tiers) == 4


def test_a_composite_of_slos_in_other_files_is_understood() -> None:
    *_, journey = parse_slo_files(ALL).slos
    assert isinstance(journey.sli, CompositeSli)
    assert journey.sli.method == "product"
    assert [(m.slo_id, m.weight) for m in journey.sli.members] == [
        ("shop-availability", 2),
        ("shop-main-page", 1),
    ]


def test_a_policy_s_lowest_step_that_is_reached_holds() -> None:
    (policy,) = parse_slo_files(ALL).policies
    assert policy.slo_ids == ("shop-availability",)
    assert policy.step_at(0.26) is None
    assert [getattr(policy.step_at(left), "action", "") for left in (0.25, 0.1, 0.0, -3.0)] == [
        "caution",
        "caution",
        "freeze",
        "freeze",
    ]


MISTAKES = [
    ("a.yml", "errorQuery", "error_query", 12, "did you mean 'errorQuery'"),
    ("a.yml", "pageAlert", "page_alert", 19, "did you mean 'pageAlert'"),
    ("a.yml", "kind: PrometheusServiceLevel", "kind: ServiceLevel", 2, "PrometheusServiceLevel"),
    ("b.yml", "timeSliceWindow: 5", "timeSliceWindow: 10s", 17, "25s or more"),
    ("b.yml", "timeSliceWindow: 5", "timeSliceWindow: 2d", 17, "not 10 to 50000"),
    ("b.yml", "timeSliceTarget: 0.95", "timeSliceTarget: 95", 17, "at most 1"),
    ("b.yml", "op: gt", "op: lt", 17, "gte, gt"),
    ("b.yml", "Timeslices", "Occurrences", 17, "write budgetingMethod: Timeslices"),
    ("b.yml", "isRolling: true", "isRolling: true, calendar: {}", 7, "either rolling"),
    (
        "b.yml",
        "isRolling: true",
        "isRolling: false, calendar: {startTime: 2026-01-01, timeZone: Mars}",
        7,
        "IANA",
    ),
    ("c.yml", "method: product", "method: best", 7, "weighted, product, min"),
    ("c.yml", "slo: main-page", "slo: page", 11, "shop-main-page"),
    ("c.yml", "slo: main-page", "slo: availability", 11, "twice"),
    ("c.yml", "weight: 2", "weight: 0", 11, "above 0"),
    ("c.yml", "target: 0.99", "target: 99", 8, "like 0.999"),
    ("d.yml", "action: freeze", "action: stop", 9, "caution, freeze"),
    ("d.yml", "remainingBelow: 0,", "remainingBelow: 0.25,", 7, "same figure"),
    ("d.yml", "slo: availability", "slo: other", 6, "no SLO is called"),
    ("d.yml", "kind: ErrorBudgetPolicy", "kind: ErrorBudgetPolice", 2, "did you mean"),
]


@pytest.mark.parametrize(("file", "right", "wrong", "line", "says"), MISTAKES)
def test_a_mistake_is_told_with_its_file_line_and_a_remedy(
    file: str, right: str, wrong: str, line: int, says: str
) -> None:
    assert right in ALL[file]
    with pytest.raises(ConfigError) as caught:
        parse_slo_files({**ALL, file: ALL[file].replace(right, wrong, 1)})
    assert caught.value.file == file
    assert says in str(caught.value)
    assert caught.value.hint
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= 1


def test_a_composite_of_parts_of_which_one_lacks_its_indicator_is_refused() -> None:
    text = JOURNEY.rsplit("      indicator:", 1)[0]
    with pytest.raises(ConfigError, match="each of at least two objectives has an indicator"):
        parse_slos(text, "f")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("", "", ["journey-0.99-1", "journey-0.99-2"]),
        ("metadata: {name: Cart works}, ", "", ["journey-cart-works", "journey-0.99"]),
        ("metadata: {name: a}, ", "metadata: {name: b}, ", ["journey-a", "journey-b"]),
        ("metadata: {name: a}, ", "metadata: {name: a}, ", ["journey-a-1", "journey-a-2"]),
    ],
)
def test_parts_of_a_composite_need_no_display_name(
    first: str, second: str, names: list[str]
) -> None:
    text = JOURNEY.replace("displayName: cart\n      target: 0.99", "target: 0.99")
    text = text.replace("displayName: payment\n      target: 0.999", "target: 0.99")
    cart, payment = text.split("indicator: {")[1:]
    head = text.split("indicator: {", maxsplit=1)[0]
    text = f"{head}indicator: {{{first}{cart}indicator: {{{second}{payment}"
    slos = parse_slos(text, "f")
    assert [slo.name for slo in slos] == [*names, "journey"]
    assert isinstance(slos[-1].sli, CompositeSli)
    assert [member.slo_id for member in slos[-1].sli.members] == [slo.id for slo in slos[:-1]]


def test_parts_are_called_after_the_indicators_that_they_refer_to() -> None:
    sli = "apiVersion: openslo/v1\nkind: SLI\nmetadata: {name: NAME}\nspec: {BODY}\n---\n"
    text = ""
    head = JOURNEY
    for name, title in (("cart-works", "cart"), ("paid", "payment")):
        body = head.split("indicator: {spec: {", 1)[1].split("}\n", 1)[0]
        head = head.replace(f"indicator: {{spec: {{{body}}}", f"indicatorRef: {name}", 1)
        head = head.replace(f"displayName: {title}\n      ", "").replace("0.999", "0.99")
        text += sli.replace("NAME", name).replace("BODY", body.removesuffix("}"))
    slos = parse_slos(text + head, "f")
    assert [slo.name for slo in slos] == ["journey-cart-works", "journey-paid", "journey"]


def test_windows_for_one_period_stand_once() -> None:
    with pytest.raises(ConfigError, match="same sloPeriod"):
        parse_slo_files({"a": WINDOWS, "b": WINDOWS})
