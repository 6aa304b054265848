"""The order rule's arithmetic, and the calendar behind its baseline."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from business_metrics.calendar import SaleDay, sale_on, same_sale_before, weeks_before
from business_metrics.expectation import Expectation
from business_metrics.order_rate import (
    Evidence,
    alpha_for,
    graver,
    judge,
    provable,
    recovered,
    severity,
)
from business_metrics.settings import BusinessSettings
from business_metrics.significance import lower_tail, quantile, upper_tail, wilson
from store.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(("alpha", "least"), [(1e-2, 21), (1e-3, 33), (1e-4, 47), (1e-5, 63)])
def test_a_drop_by_half_is_provable_from_the_published_volume_on(alpha: float, least: int) -> None:
    # Discreteness moves the border by an order or two.
    first = next(n for n in range(1, 100) if provable(Evidence(60, 0, n, 0.0), alpha))
    assert abs(first - least) <= 2


@given(st.integers(0, 60), st.floats(0.1, 60))
def test_the_tail_is_that_of_poisson(count: int, mean: float) -> None:
    exact = math.fsum(
        math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)
    )
    assert lower_tail(count, mean) == pytest.approx(exact, abs=1e-12)
    assert lower_tail(count, mean) + upper_tail(count + 1, mean) == pytest.approx(1.0)


@given(st.floats(1, 1_000), st.floats(0, 0.3))
def test_a_quantile_turns_the_tail_around(mean: float, cv: float) -> None:
    count = quantile(0.99, mean, cv)
    assert lower_tail(count, mean, cv) >= 0.99
    assert lower_tail(count - 1, mean, cv) < 0.99


@given(st.floats(5, 200), st.floats(0.01, 0.3))
def test_an_unsure_mean_makes_every_drop_less_surprising(mean: float, cv: float) -> None:
    assert lower_tail(mean / 2, mean, cv) >= lower_tail(mean / 2, mean) * (1 - 1e-9)


def test_counts_beyond_the_exact_sum_agree_with_it() -> None:
    assert lower_tail(50_300, 50_100, 0.05) == pytest.approx(
        lower_tail(49_900, 49_702, 0.05), abs=0.01
    )
    assert quantile(0.5, 200_000, 0.0) == pytest.approx(200_000, rel=1e-3)


@pytest.mark.parametrize(
    ("total", "least"), [(20, 14), (50, 29), (100, 52), (200, 97), (500, 226), (1_000, 437)]
)
def test_forty_percent_is_proven_from_the_published_counts_on(total: int, least: int) -> None:
    assert wilson(least, total)[0] > 0.4 >= wilson(least - 1, total)[0]


def test_no_order_for_long_is_an_outage_before_any_window_is_full() -> None:
    verdict = judge([], Evidence(20, 0, 20.0, 0.05), 1e-4, 0.1)
    assert verdict.breached
    assert verdict.reason == "no_orders"
    assert not judge([], Evidence(9, 0, 9.0, 0.05), 1e-4, 0.1).breached


def test_too_few_orders_are_not_judged() -> None:
    verdict = judge([Evidence(3_600, 0, 4.0, 0.1)], None, 1e-4, 0.1)
    assert not verdict.breached
    assert verdict.reason == "too_few_orders_to_judge"


def test_the_level_of_a_look_shares_a_months_false_alarms() -> None:
    assert alpha_for(3_600, 1e-4, 0.1) < 1e-4
    assert alpha_for(60, 1e-4, 0.1) * 60 == pytest.approx(alpha_for(3_600, 1e-4, 0.1))


def test_orders_are_back_only_when_both_proofs_agree() -> None:
    assert recovered([Evidence(60, 58, 60, 0.05)], 0.0) is not None
    assert recovered([Evidence(60, 30, 60, 0.05)], 0.0) is None
    assert recovered([Evidence(30, 19, 20, 0.05)], 0.0) is None


def test_half_is_the_border_of_severity() -> None:
    assert [severity(0.5), severity(0.51)] == ["page", "ticket"]


def test_a_ticket_becomes_a_page_by_proof_and_not_by_one_short_window() -> None:
    assert not graver(Evidence(10, 70, 166, 0.06))
    assert graver(Evidence(60, 300, 1_000, 0.06))
    assert not graver(Evidence(3_600, 33_000, 60_000, 0.06))


@given(
    st.lists(st.floats(0.1, 500), min_size=1, max_size=5),
    st.lists(st.integers(0, 8 * 60_000), min_size=1, max_size=20),
)
def test_the_expectation_of_many_instants_is_that_of_each(
    rates: list[float], after_ms: list[int]
) -> None:
    expectation, start_ms = Expectation(1_002, np.asarray(rates), 0.05, "weeks"), 60_000_500
    until_ms = np.asarray([start_ms + after for after in after_ms])
    each = [expectation.expected(start_ms, float(at)) for at in until_ms]
    assert expectation.expected_until(start_ms, until_ms) == pytest.approx(each, abs=1e-6)


@pytest.mark.parametrize(
    ("local", "before"),
    [
        ("2026-03-30T10:00", "2026-03-23T10:00"),  # over the start of summer time
        ("2026-10-26T10:00", "2026-10-19T10:00"),  # over its end
        ("2026-07-08T00:30", "2026-07-01T00:30"),
    ],
)
def test_a_week_before_is_the_same_time_on_the_wall(local: str, before: str) -> None:
    minute = round(datetime.fromisoformat(local).replace(tzinfo=BERLIN).timestamp()) // 60
    past = datetime.fromtimestamp(weeks_before(minute, 1, BERLIN) * 60, UTC).astimezone(BERLIN)
    assert past.replace(tzinfo=None) == datetime.fromisoformat(before)


def test_a_time_that_the_clock_skipped_is_read_with_the_offset_before() -> None:
    minute = round(datetime(2026, 4, 5, 2, 30, tzinfo=BERLIN).timestamp()) // 60
    past = datetime.fromtimestamp(weeks_before(minute, 1, BERLIN) * 60, UTC)
    assert past == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_a_sale_is_compared_with_the_same_hour_of_the_one_before() -> None:
    calendar = (
        SaleDay("cyber", date(2024, 11, 29), date(2024, 12, 2)),
        SaleDay("cyber", date(2025, 11, 28), date(2025, 12, 1)),
    )
    now = datetime(2025, 11, 29, 20, 15, tzinfo=BERLIN)
    (past,) = same_sale_before(calendar, round(now.timestamp()) // 60, BERLIN)
    assert datetime.fromtimestamp(past * 60, BERLIN) == datetime(
        2024, 11, 30, 20, 15, tzinfo=BERLIN
    )
    assert sale_on(calendar, date(2025, 12, 1)) == "cyber"
    assert sale_on(calendar, date(2025, 12, 2)) == ""


@pytest.mark.parametrize(
    "wrong", [{"time_zone": "Mars/Olympus"}, {"alpha": 0.5}, {"checkout_timeout_s": 5}]
)
def test_settings_out_of_bounds_are_refused_with_an_example(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        BusinessSettings(**wrong)  # type: ignore[arg-type]
    assert caught.value.hint
