"""What failing requests cost, over the real store and the real engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from typing_extensions import override

from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.money import Worth
from store.errors import QueryError
from store.model import InstantVector, Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.detectors.counters import Counters

NOW_MS = 1_700_000_000_000
ROUTES = ("checkout", "payment", "order")
FAILS = Finding(
    "f1", "error_regression", Priority.P2, "checkout/ fails", "shop", "checkout/", NOW_MS, NOW_MS,
    Evidence(detail={"error_ratio": 0.3, "baseline_error_ratio": 0.05}), Impact(), "",
)  # fmt: skip
EUR = {"currency": "EUR"}


def price(series: Mapping[Labels, float], finding: Finding = FAILS) -> tuple[str, str]:
    """What the finding costs when these were recorded just now."""
    with open_store() as store:
        if series:
            count = len(series)
            store.append(
                SampleBatch(
                    tuple(series),
                    np.arange(count, dtype=np.int32),
                    np.full(count, NOW_MS - 5_000, dtype=np.int64),
                    np.array(list(series.values())),
                )
            ).result(60)
        (priced,) = Worth(Engine(store), ROUTES).priced([finding], NOW_MS)
    return priced.impact.money_per_hour, priced.impact.currency


def recorded(name: str, labels: Mapping[str, str] | None = None) -> Labels:
    return Labels.of(labels or {}, __name__=f"warroom_business_{name}")


def test_it_is_the_part_that_fails_more_of_the_revenue_that_is_expected() -> None:
    series = {
        recorded("expected_revenue_per_minute", EUR): 1_000.0,
        recorded("revenue_per_minute", EUR): 400.0,
    }
    assert price(series) == ("15000.00", "EUR")  # a quarter of 1,000 * 60


def test_without_a_forecast_the_last_hour_tells() -> None:
    assert price({recorded("revenue_per_minute", EUR): 400.0}) == ("6000.00", "EUR")


MISSING = replace(
    FAILS,
    kind="throughput_drop",
    evidence=Evidence(detail={"missing_ratio": 0.6}),
    labels={"job": "eu/shop"},
)


def test_requests_that_do_not_come_cost_their_part_of_the_revenue() -> None:
    hourly = {recorded("revenue_per_minute", EUR): 400.0}
    assert price(hourly, MISSING) == ("14400.00", "EUR")
    assert price(hourly, replace(MISSING, route="search/")) == ("", "")


@pytest.mark.parametrize(("route", "money"), [("api/checkout", "14400.00"), ("search/", "")])
@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("http_server_request_duration_seconds_count", "http_route"),
        ("http_server_requests_seconds_count", "uri"),
        ("http_request_duration_seconds_count", "endpoint"),
        ("http_requests_total", "route"),
    ],
)
def test_a_whole_service_has_the_price_of_the_routes_that_sell(
    metric: str, label: str, route: str, money: str
) -> None:
    counted = Labels.of({label: route}, __name__=metric, job="eu/shop")
    series = {recorded("revenue_per_minute", EUR): 400.0, counted: 7.0}
    assert price(series, replace(MISSING, route=""))[0] == money


@pytest.mark.parametrize(
    "finding",
    [
        replace(FAILS, route="search/"),
        replace(FAILS, kind="slow_query"),
        replace(FAILS, active=False),
        replace(FAILS, evidence=Evidence()),
    ],
    ids=["another route", "only slow", "it is over", "nothing fails"],
)
def test_what_has_no_price_gets_none(finding: Finding) -> None:
    assert price({recorded("revenue_per_minute", EUR): 400.0}, finding) == ("", "")


def test_a_revenue_that_is_not_known_or_in_two_currencies_prices_nothing() -> None:
    assert price({}) == ("", "")
    both = {recorded("revenue_per_minute", {"currency": name}): 1.0 for name in ("EUR", "SEK")}
    assert price(both) == ("", "")


class Broken(Counters):
    """A querier that cannot answer."""

    @override
    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        raise QueryError("too many samples")


def test_a_revenue_that_cannot_be_read_hides_no_finding() -> None:
    assert Worth(Broken(), ROUTES).priced([FAILS], NOW_MS) == [FAILS]
