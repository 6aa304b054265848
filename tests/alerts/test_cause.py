"""Which candidate explains an alert: scenarios of a sale day."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.cause import (
    LEAST,
    NONE_FOUND,
    Change,
    cause_annotations,
    change_of,
    rank,
)
from alerts.cause_of_rules import RuleCauses
from alerts.notification import EventAction, Notice, NoticeAlert
from alerts.page import page_of
from alerts.sources import finding as finding_source
from alerts.symptom import Symptom, symptom_of
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.topology import NO_CALLS, Topology
from store.model import Labels

AT_MS = 1_795_766_400_000
MINUTE_MS = 60_000
SHOP = Topology(
    {
        "web": frozenset({"checkout", "search"}),
        "checkout": frozenset({"inventory", "db-1"}),
        "inventory": frozenset({"db-2:3306"}),
    }
)
BURN = Labels.of(alertname="ErrorBudgetBurn", service="checkout", slo="checkout-works")
SLOW = Labels.of(alertname="CheckoutSlow", service="checkout")
BUSY = Labels.of(alertname="ThroughputHigh", service="checkout")
ORDERS = Labels.of(alertname="OrderRateDrop", kpi="order_rate")


def found(
    kind: str,
    before_s: float,
    service: str = "checkout",
    priority: Priority = Priority.P1,
    **more: Any,
) -> Change:
    labels = more.pop("labels", {})
    return change_of(
        Finding(
            fingerprint=f"{kind}-{service}",
            kind=kind,
            priority=priority,
            title=f"{kind} in {service}",
            service=service,
            route=more.pop("route", ""),
            first_seen_ms=AT_MS - int(before_s * 1_000),
            last_seen_ms=AT_MS,
            evidence=Evidence(),
            impact=Impact(),
            fix="",
            labels=labels,
        )
    )


def change(kind: str, before_s: float, title: str = "", service: str = "checkout") -> Change:
    return Change(AT_MS - int(before_s * 1_000), kind, title or f"{kind}", service)


def titles(labels: Labels, *candidates: Change, topology: Topology = SHOP) -> list[str]:
    return [cause.title for cause in rank(labels, AT_MS, candidates, topology)]


def named(labels: Labels, *candidates: Change, topology: Topology = SHOP) -> str:
    """What the page names; empty where it names nothing."""
    causes = rank(labels, AT_MS, candidates, topology)
    return causes[0].title if causes and causes[0].word else ""


def test_a_deploy_five_minutes_before_beats_one_fifty_five_minutes_before() -> None:
    late, early = change("deploy", 300, "v42"), change("deploy", 3_300, "v41")
    assert titles(BURN, early, late) == ["v42", "v41"]
    assert named(BURN, early, late) == "v42"
    assert named(BURN, early) == ""


def test_a_finding_of_an_unrelated_service_loses_and_is_not_named_alone() -> None:
    apart, mine = found("n_plus_one_query", 30, "search"), found("n_plus_one_query", 600)
    assert titles(BURN, apart, mine)[0] == "n_plus_one_query in checkout"
    assert named(BURN, apart) == ""


def test_a_finding_of_a_called_service_is_a_cause() -> None:
    callee = found("n_plus_one_query", 120, "inventory")
    assert named(SLOW, callee) == "n_plus_one_query in inventory"
    assert named(SLOW, callee, topology=NO_CALLS) == ""
    assert "called by it" in cause_annotations(SLOW, AT_MS, [callee], "", SHOP)["cause"]


def test_a_host_that_a_called_service_asks_is_a_cause() -> None:
    lag = found("replica_lag", 60, "db-2:3306", labels={"instance": "db-2:3306"})
    saturated = found("connection_saturation", 60, "db-1:3306", labels={"instance": "db-1:3306"})
    assert named(SLOW, lag) == "replica_lag in db-2:3306"
    assert named(SLOW, saturated) == "connection_saturation in db-1:3306"


def test_a_caller_is_a_weaker_cause_than_the_called() -> None:
    caller, callee = found("slow_query", 60, "web"), found("slow_query", 60, "inventory")
    assert titles(SLOW, caller, callee)[0] == "slow_query in inventory"


def test_what_began_after_the_alert_is_no_cause() -> None:
    assert titles(BURN, found("n_plus_one_query", -61)) == []
    assert titles(BURN, found("error_regression", -61)) == []
    assert titles(BURN, change("deploy", -1)) == []
    # Both are counted in steps of the same tick.
    assert named(BURN, found("error_regression", -30)) == "error_regression in checkout"


def test_advice_is_no_cause() -> None:
    for kind in ("missing_index", "unused_index", "redundant_index", "consecutive_queries"):
        assert titles(SLOW, found(kind, 60, priority=Priority.P2)) == []
    assert named(SLOW, found("missing_index", 60, priority=Priority.P1))


def test_a_finding_of_low_impact_gives_way_to_one_that_pages() -> None:
    small = found("n_plus_one_query", 30, priority=Priority.P2)
    large = found("slow_query", 300, priority=Priority.P1)
    assert titles(SLOW, small, large)[0] == "slow_query in checkout"
    assert named(SLOW, small) == "" or rank(SLOW, AT_MS, [small])[0].confidence < 0.55


def test_a_failing_route_is_a_cause_though_it_is_only_listed() -> None:
    listed = found("error_regression", 30, priority=Priority.P2)
    assert rank(BURN, AT_MS, [listed], SHOP)[0].word == "very likely"


@pytest.mark.parametrize(("labels", "expected"), [(BURN, ""), (ORDERS, ""), (BUSY, "promotion")])
def test_a_promotion_explains_load_and_no_errors(labels: Labels, expected: str) -> None:
    promotion = change("promotion", 120, service="")
    assert named(labels, promotion) == expected


def test_a_deploy_beats_a_promotion_for_errors_and_loses_to_it_for_load() -> None:
    both = (change("deploy", 60), change("promotion", 60, service=""))
    assert titles(BURN, *both)[0] == "deploy"
    assert titles(BUSY, *both)[0] == "promotion"


def test_two_deploys_at_the_same_time_leave_doubt() -> None:
    one, other = change("deploy", 60, "v42"), change("deploy", 61, "prices v7")
    alone = rank(BURN, AT_MS, [one], SHOP)[0]
    both = rank(BURN, AT_MS, [one, other], SHOP)
    assert both[0].title == "v42"
    assert both[0].confidence < alone.confidence
    assert (alone.word, both[0].word) == (
        "likely",
        "likely" if both[0].confidence >= 0.55 else "roughly even chance",
    )


def test_faces_of_one_fault_do_not_compete() -> None:
    failing, slow = found("error_regression", 30), found("latency_regression", 30)
    alone = rank(BURN, AT_MS, [failing], SHOP)[0].confidence
    assert rank(BURN, AT_MS, [failing, slow], SHOP)[0].confidence == alone
    elsewhere = found("error_regression", 30, "inventory")
    assert rank(BURN, AT_MS, [failing, elsewhere], SHOP)[0].confidence < alone


def test_the_same_route_counts_more_than_another() -> None:
    alert = BURN.replace(route="checkout/pay/")
    same = found("slow_query", 60, route="checkout/pay/")
    other = found("pool_wait", 60, route="checkout/cart/")
    assert titles(alert, other, same)[0] == "slow_query in checkout"


def test_a_business_figure_fits_any_service() -> None:
    assert named(ORDERS, found("error_regression", 30, "payment")) == "error_regression in payment"


def test_a_finding_tells_the_deploy_that_brought_it() -> None:
    loop = found("n_plus_one_query", 60)
    told = cause_annotations(SLOW, AT_MS, [loop, change("deploy", 120, "shop v42")], "", SHOP)[
        "cause"
    ]
    assert "it began 60 s after deploy shop v42" in told
    other = cause_annotations(
        SLOW, AT_MS, [loop, change("deploy", 120, "x", service="search")], "", SHOP
    )["cause"]
    assert "after deploy" not in other


def test_without_a_candidate_the_page_says_so() -> None:
    assert cause_annotations(BURN, AT_MS, [], "burn 27")["cause"] == f"{NONE_FOUND}. burn 27"
    assert cause_annotations(BURN, AT_MS, [change("deploy", 3_500)], "")["cause"] == NONE_FOUND
    assert set(cause_annotations(BURN, AT_MS, [], "")) == {"cause"}


def test_the_annotations_say_how_sure_and_where_to_look() -> None:
    told = cause_annotations(SLOW, AT_MS, [found("slow_query", 10)], "", SHOP)
    assert told["cause_kind"] == "finding"
    assert told["cause_ref"] == "/findings/slow_query-checkout"
    assert float(told["cause_confidence"]) >= 0.8
    assert told["cause"].startswith("very likely: slow_query in checkout (")


def test_the_page_of_a_finding_names_the_deploy_before_it() -> None:
    known = Finding(
        "f1", "slow_query", Priority.P1, "slow", "checkout", "pay/", AT_MS, AT_MS,
        Evidence(trace_id="ab", statement="SELECT 1"), Impact(), "an index",
    )  # fmt: skip
    alone = finding_source.alert_of(known).annotations["cause"]
    after = finding_source.alert_of(known, "", [change("deploy", 57, "v42")]).annotations["cause"]
    assert after.startswith(f"{alone}; likely since deploy v42 at ")
    long_ago = finding_source.alert_of(known, "", [change("deploy", 3_000, "v42")])
    assert long_ago.annotations["cause"] == alone


@pytest.mark.parametrize("job", ["checkout", "shop/checkout"])
def test_a_job_that_somebody_knows_as_a_service_is_the_place_of_an_alert(job: str) -> None:
    alert = Labels.of(alertname="HighErrorRatio", job=job)
    mine, other = change("deploy", 120, "v42"), change("deploy", 30, "s9", service="search")
    assert titles(alert, other, mine)[0] == "v42"
    assert titles(alert, other, mine, topology=NO_CALLS)[0] == "v42"
    assert named(alert, other) == ""


def test_a_job_that_nobody_knows_is_no_place() -> None:
    alert = Labels.of(alertname="HighErrorRatio", job="kubernetes-pods")
    assert named(alert, change("deploy", 60, "v42")) == "v42"


def test_the_route_may_have_the_name_that_its_counters_give_it() -> None:
    alert = BURN.replace(http_route="checkout/pay/")
    same = found("slow_query", 60, route="checkout/pay/")
    assert "same route" in rank(alert, AT_MS, [same], SHOP)[0].why


def test_a_host_is_the_same_on_every_port_and_is_called_by_what_asks_it() -> None:
    full = found("resource_saturation", 60, "", labels={"instance": "db-1:9100"})
    down = Labels.of(alertname="ResponseTimeHigh", instance="db-1:3306")
    assert "same host" in rank(down, AT_MS, [full])[0].why
    assert "called by it" in rank(SLOW, AT_MS, [full], SHOP)[0].why
    mine = Labels.of(alertname="ResponseTimeHigh", instance="localhost:3306")
    theirs = found("resource_saturation", 60, "", labels={"instance": "localhost:9100"})
    assert "same host" not in rank(mine, AT_MS, [theirs])[0].why


def test_an_alert_of_a_host_is_not_explained_by_what_has_nothing_to_do_with_it() -> None:
    down = Labels.of(alertname="ResponseTimeHigh", instance="db-1:3306")
    assert named(down, change("deploy", 60, "s9", service="search")) == ""
    assert titles(down, change("deploy", 60, "v42"), change("deploy", 30, "s9", "search"))


def test_a_promotion_a_few_minutes_ago_is_named_where_all_is_slow() -> None:
    sale = change("promotion", 180, "Flash sale", service="")
    assert named(SLOW, sale) == "Flash sale"
    assert titles(SLOW, sale, change("deploy", 180, "v42"))[0] == "v42"


def test_what_is_named_is_linked() -> None:
    shown = replace(change("deploy", 60, "v42"), url="https://ci.example/42")
    told = cause_annotations(SLOW, AT_MS, [shown], "", SHOP)
    assert told["cause_url"] == "https://ci.example/42"
    told = cause_annotations(SLOW, AT_MS, [found("slow_query", 10)], "", SHOP)
    assert told["cause_url"] == "/findings/slow_query-checkout"
    alert = NoticeAlert(
        "f1", firing=True, labels=SLOW, annotations=told, starts_ms=AT_MS, ends_ms=None
    )
    notice = Notice(
        "n", "l", EventAction.TRIGGER, "r", 0, "g", "d", SLOW, (alert,), "new", AT_MS,
        external_url="https://w.example",
    )  # fmt: skip
    page = page_of(notice)
    assert page.cause.startswith("very likely: slow_query in checkout")
    linked = ("Probable cause", "https://w.example/findings/slow_query-checkout")
    assert linked in page.links


def test_the_page_of_a_finding_names_the_deploy_of_what_it_calls() -> None:
    slow = Finding(
        "f1", "slow_query", Priority.P1, "slow", "checkout", "pay/", AT_MS, AT_MS,
        Evidence(trace_id="ab", statement="SELECT 1"), Impact(), "an index",
    )  # fmt: skip
    stock = replace(change("deploy", 57, "v3", service="inventory"), url="https://ci.example/3")
    notes = finding_source.alert_of(slow, "", [stock], SHOP).annotations
    assert "likely since deploy v3 at " in notes["cause"]
    assert notes["cause_url"] == "https://ci.example/3"


@pytest.mark.parametrize(
    ("name", "symptom"),
    [
        ("HighErrorRate", Symptom.ERRORS),
        ("CheckoutLatencyP99", Symptom.LATENCY),
        ("ConnectionsSaturated", Symptom.LOAD),
        ("OrderRateDrop", Symptom.SALES),
        ("PaymentSuccessDrop", Symptom.SALES),
        ("OrderServiceHighErrorRate", Symptom.ERRORS),
        ("DownloadErrorsHigh", Symptom.ERRORS),
        ("PayloadTooLargeErrors", Symptom.ERRORS),
        ("WorkloadErrors", Symptom.ERRORS),
        ("file_upload_failures", Symptom.ERRORS),
        ("LoadBalancer5xx", Symptom.ERRORS),
        ("HTTP5XXHigh", Symptom.ERRORS),
        ("disk-errors", Symptom.ERRORS),
        ("SiteUnavailable", Symptom.ERRORS),
        ("PaymentLatencyHigh", Symptom.LATENCY),
        ("ResponseTimeHigh", Symptom.LATENCY),
        ("api_p99_high", Symptom.LATENCY),
        ("MySQLSlowQueries", Symptom.LATENCY),
        ("HighLoad", Symptom.LOAD),
        ("node_load1_high", Symptom.LOAD),
        ("CPUsBusy", Symptom.LOAD),
        ("AutoscalerAtMaximum", Symptom.LOAD),
        ("orders_per_minute", Symptom.SALES),
        ("DownloadsStuck", Symptom.OTHER),
        ("LoadBalancerGone", Symptom.OTHER),
        ("BorderRouterGone", Symptom.OTHER),
        ("FailoverHappened", Symptom.OTHER),
        ("SomethingElse", Symptom.OTHER),
    ],
)
def test_an_alert_is_understood_by_its_name(name: str, symptom: Symptom) -> None:
    assert symptom_of(Labels.of(alertname=name)) is symptom


def test_an_error_budget_is_of_what_its_slo_is_about() -> None:
    assert symptom_of(BURN) is Symptom.ERRORS
    assert symptom_of(BURN.replace(slo="checkout-latency")) is Symptom.LATENCY
    assert symptom_of(BURN.replace(slo="queue-short")) is Symptom.LOAD


CANDIDATE = st.builds(
    Change,
    at_ms=st.integers(AT_MS - 80 * MINUTE_MS, AT_MS + 5 * MINUTE_MS),
    kind=st.sampled_from(["finding", "deploy", "flag", "promotion", "note", "maintenance"]),
    title=st.text(max_size=5),
    service=st.sampled_from(["", "checkout", "inventory", "search", "db-1"]),
    route=st.sampled_from(["", "a", "b"]),
    ref=st.text(max_size=3),
    failure=st.booleans(),
    advice=st.booleans(),
    size=st.sampled_from([0.5, 1.0, 1.05]),
)


@given(st.lists(CANDIDATE, max_size=12), st.sampled_from([BURN, SLOW, BUSY, ORDERS]))
def test_the_ranking_is_bounded_ordered_and_never_certain(
    candidates: list[Change], labels: Labels
) -> None:
    causes = rank(labels, AT_MS, candidates, SHOP)
    assert len(causes) <= 5
    assert all(0 < cause.confidence <= 0.95 for cause in causes)
    confidences = [cause.confidence for cause in causes]
    assert confidences == sorted(confidences, reverse=True)
    assert [bool(cause.word) for cause in causes] == [c >= LEAST for c in confidences]
    back = rank(labels, AT_MS, candidates[::-1], SHOP)
    assert [c.confidence for c in back] == confidences


@given(CANDIDATE, st.integers(1, 50 * MINUTE_MS))
def test_closer_in_time_is_never_less_likely(one: Change, further_ms: int) -> None:
    near = replace(one, at_ms=AT_MS - 1_000)
    far = replace(near, at_ms=near.at_ms - further_ms)

    def sure(candidate: Change) -> float:
        return max((c.confidence for c in rank(BURN, AT_MS, [candidate], SHOP)), default=0.0)

    assert sure(far) <= sure(near)


def test_rules_are_told_once_and_again_when_there_is_more_to_say() -> None:
    causes = RuleCauses()
    causes.begin([], NO_CALLS)
    assert causes.told(BURN, AT_MS) == {"cause": NONE_FOUND}
    deploy = change("deploy", 60, "v42")
    causes.begin([deploy], SHOP)
    assert "v42" in causes.told(BURN, AT_MS)["cause"]
    told = causes.told(BURN, AT_MS)
    causes.begin([deploy], SHOP)
    assert causes.told(BURN, AT_MS) is told
    causes.begin([deploy, found("error_regression", 5)], SHOP)
    assert "error_regression" in causes.told(BURN, AT_MS)["cause"]


def test_an_alert_that_begins_anew_is_looked_at_anew() -> None:
    causes = RuleCauses(most_a_tick=1)
    deploy = change("deploy", 60, "v42")
    causes.begin([deploy], SHOP)
    assert "v42" in causes.told(BURN, AT_MS)["cause"]
    again_ms = AT_MS + 49 * MINUTE_MS
    # What was said of the first time is not said while the second waits for its turn.
    assert causes.told(BURN, again_ms) == {}
    causes.begin([deploy], SHOP)
    assert causes.told(BURN, again_ms) == {"cause": NONE_FOUND}
    assert causes.told(BURN, again_ms) == {"cause": NONE_FOUND}


def test_an_alert_that_goes_on_keeps_the_cause_that_is_too_old_to_be_gathered() -> None:
    causes = RuleCauses()
    causes.begin([replace(change("deploy", 60, "v42"), ref="a1")], SHOP)
    told = causes.told(BURN, AT_MS)
    causes.begin([], SHOP)
    assert causes.told(BURN, AT_MS) == told
    causes.begin([change("deploy", -3_600, "v43")], SHOP)
    assert causes.told(BURN, AT_MS) == told


def test_a_storm_is_explained_over_some_ticks() -> None:
    causes = RuleCauses(most_a_tick=3)
    alerts = [BURN.replace(shard=str(n)) for n in range(8)]
    for known in (3, 6, 8, 8):
        causes.begin([change("deploy", 60, "v42")], SHOP)
        assert sum(bool(causes.told(labels, AT_MS)) for labels in alerts) == known
