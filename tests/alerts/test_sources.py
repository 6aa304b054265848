"""Findings, burn rates and business figures, as alerts with their cause."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from alerts.cause import Change, cause_annotations, change_of, rank
from alerts.sources import burn_rate, finding, kpi
from business_metrics.model import KpiReading
from detectors.finding import CodeLocation, Evidence, Finding, Impact, Priority
from slos.model import SloState, SloStatus, TierReading
from store.model import Labels, UnitHealth

NOW_MS = 1_795_766_400_000


def n_plus_one(priority: Priority = Priority.P1) -> Finding:
    return Finding(
        fingerprint="f1",
        kind="n_plus_one_query",
        priority=priority,
        title="N+1 in product list",
        service="shop",
        route="/products",
        first_seen_ms=NOW_MS - 60_000,
        last_seen_ms=NOW_MS,
        evidence=Evidence(
            trace_id="ab12",
            statement="SELECT * FROM category WHERE id = ?",
            repetitions=40,
            code=CodeLocation("views.py", 12, "product_list"),
        ),
        impact=Impact(0.12, 10.0),
        fix="select_related('category')",
    )


def slo(*firing: str, state: SloState = SloState.BURNING) -> SloStatus:
    tiers = tuple(
        TierReading(s, 14.4, 3600, 300, 20.0, 30.0, s in firing) for s in ("page", "ticket")
    )
    return SloStatus(
        "checkout",
        "shop",
        "",
        0.99,
        2_592_000,
        0.9,
        0.2,
        {},
        tiers,
        state,
        NOW_MS,
        statement="5% of checkouts fail",
    )


def test_a_finding_pages_with_the_line_that_does_it() -> None:
    (alert,) = finding.alerts_of([n_plus_one()], "http://w.test")
    assert alert.name == "NPlusOneQuery"
    assert alert.labels.get("severity") == "page"
    assert alert.annotations["cause"] == (
        "views.py:12 product_list repeats `SELECT * FROM category WHERE id = ?` 40 times"
    )
    assert alert.annotations["evidence_url"] == "http://w.test/traces/ab12"
    assert "28.8 h of waiting a day" in alert.annotations["impact"]


def test_a_signal_is_told_in_words_and_not_by_the_series_it_was_read_from() -> None:
    series = 'http_server_request_duration_seconds_count{job="stock",http_route="reserve/"}'
    drop = replace(
        n_plus_one(),
        kind="throughput_drop",
        title="reserve/ gets 0.4 requests a second, 1 is usual",
        evidence=Evidence(series=series),
    )
    assert finding.cause_of(drop) == "reserve/ gets 0.4 requests a second, 1 is usual"
    code = CodeLocation("checkout.py", 94, "store")
    slow = replace(drop, title="checkout/ became slow", evidence=Evidence(series=series, code=code))
    assert finding.cause_of(slow) == "checkout.py:94 store: checkout/ became slow"


def test_different_queries_in_a_row_are_not_called_a_repetition() -> None:
    row = replace(
        n_plus_one(), kind="consecutive_queries", title="2 independent queries in a row in cart/"
    )
    assert finding.cause_of(row) == (
        "views.py:12 product_list: 2 independent queries in a row in cart/"
    )


def test_a_p2_finding_only_informs() -> None:
    assert finding.alert_of(n_plus_one(Priority.P2)).labels.get("severity") == "info"


def test_an_slo_gives_one_alert_a_severity_with_its_likeliest_cause() -> None:
    deploy = Change(NOW_MS - 30_000, "deploy", "shop v42", "shop")
    alerts = burn_rate.alerts_of([slo("page", "ticket")], "", (), (deploy,))
    assert [a.labels.get("severity") for a in alerts] == ["page", "ticket"]
    assert alerts[0].annotations["cause"].startswith("likely: deploy shop v42 at ")
    assert alerts[0].annotations["cause"].endswith("5% of checkouts fail")
    assert burn_rate.alerts_of([slo()]) == []


def test_an_slo_without_data_is_unknown() -> None:
    quiet = slo(state=SloState.NO_DATA)
    assert burn_rate.unknown_units([quiet], []) == {"slo:shop-checkout"}
    assert burn_rate.alerts_of([slo("page")])[0].unit == "slo:shop-checkout"


def test_missing_orders_page_with_the_money_at_risk() -> None:
    reading = KpiReading(
        "order_rate",
        NOW_MS,
        10.0,
        "orders/min",
        expected=40.0,
        breached=True,
        since_ms=NOW_MS - 60_000,
        reason="10 orders where 40 were expected",
        revenue_at_risk=Decimal("1500.5"),
        currency="EUR",
    )
    (alert,) = kpi.alerts_of([reading])
    assert (alert.name, alert.labels.get("severity")) == ("OrderRateDrop", "page")
    assert alert.annotations["impact"] == "1500.50 EUR of revenue at risk"
    assert kpi.unknown_units(
        [], [UnitHealth("business:order_rate", ok=False, at_ms=0, duration_s=0)]
    ) == {alert.unit}


def test_a_provisional_figure_never_alerts() -> None:
    reading = KpiReading(
        "checkout_abandonment", NOW_MS, 0.9, "ratio", breached=True, provisional=True
    )
    assert kpi.alerts_of([reading]) == []


def test_causes_are_ranked_by_time_and_place() -> None:
    causes = rank(
        Labels.of(service="shop"),
        NOW_MS,
        [
            Change(NOW_MS - 3_000_000, "deploy", "old", "shop"),
            Change(NOW_MS - 60_000, "deploy", "elsewhere", "cart"),
            Change(NOW_MS - 60_000, "flag", "here", "shop"),
            Change(NOW_MS + 600_000, "deploy", "later", "shop"),
            Change(NOW_MS - 7_200_000, "deploy", "ancient", "shop"),
        ],
    )
    assert [cause.title for cause in causes] == ["here", "elsewhere", "old"]
    assert all(0 < cause.confidence < 1 for cause in causes)


def failing_route(began_ms: int, service: str = "shop", error: str = "") -> Change:
    found = replace(
        n_plus_one(Priority.P2),
        fingerprint="f2",
        kind="error_regression",
        title="checkout/purchase/ fails: 62% of requests answer 502",
        service=service,
        route="checkout/purchase/",
        first_seen_ms=began_ms,
        evidence=Evidence(detail={"error": error} if error else {}),
    )
    return change_of(found)


def loop(began_ms: int) -> Change:
    return change_of(replace(n_plus_one(), first_seen_ms=began_ms))


DEPLOY = Change(NOW_MS - 120_000, "deploy", "shop v42", "shop")
FAILS = "checkout/purchase/ fails: 62% of requests answer 502"


@pytest.mark.parametrize("service", ["shop", ""], ids=["an SLO", "a business figure"])
@pytest.mark.parametrize(
    ("candidates", "likeliest"),
    [
        ([DEPLOY], "shop v42"),
        ([DEPLOY, failing_route(NOW_MS - 60_000)], FAILS),
        ([DEPLOY, failing_route(NOW_MS - 3_000)], FAILS),
        ([DEPLOY, failing_route(NOW_MS + 3_000)], FAILS),
        ([DEPLOY, failing_route(NOW_MS + 60_000)], FAILS),
        ([DEPLOY, failing_route(NOW_MS - 3_600_000)], "shop v42"),
        ([DEPLOY, failing_route(NOW_MS + 110_000)], "shop v42"),
        ([DEPLOY, loop(NOW_MS - 60_000)], "N+1 in product list"),
        ([DEPLOY, loop(NOW_MS + 10_000)], "N+1 in product list"),
        ([DEPLOY, loop(NOW_MS + 61_000)], "shop v42"),
        ([loop(NOW_MS - 3_000), failing_route(NOW_MS + 3_000)], FAILS),
    ],
)
def test_a_fault_that_began_with_the_alert_outranks_a_deploy_before(
    service: str, candidates: list[Change], likeliest: str
) -> None:
    labels = Labels.of(service=service)
    assert rank(labels, NOW_MS, candidates)[0].title == likeliest
    assert rank(labels, NOW_MS, candidates[::-1])[0].title == likeliest


def test_a_fault_in_another_service_does_not_outrank_the_deploy() -> None:
    causes = rank(Labels.of(service="shop"), NOW_MS, [DEPLOY, failing_route(NOW_MS, "search")])
    assert causes[0].title == "shop v42"


def test_the_cause_names_the_failure_in_its_own_words() -> None:
    found = failing_route(NOW_MS - 3_000, error="payment provider answered 503")
    burn = Labels.of(alertname="ErrorBudgetBurn", service="shop")
    assert cause_annotations(burn, NOW_MS, [DEPLOY, found], "burn 27")["cause"] == (
        "very likely: checkout/purchase/ fails: 62% of requests answer 502 — payment provider "
        "answered 503 (95% sure: began 3 s before, same service, it began 117 s after deploy shop "
        "v42). burn 27"
    )
    assert cause_annotations(Labels.of(alertname="OrderRateDrop"), NOW_MS, [found], "")[
        "cause"
    ] == (
        "very likely: checkout/purchase/ fails: 62% of requests answer 502 — payment provider "
        "answered 503 (92% sure: began 3 s before)"
    )
