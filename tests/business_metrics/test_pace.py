"""How a day goes: totals, comparisons and forecast, over changes of summer time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from business_metrics.baseline import Baseline
from business_metrics.calendar import SaleDay
from business_metrics.minute_history import MINUTE_MS, MinuteHistory
from business_metrics.pacing import Pacer, day_bounds
from business_metrics.settings import BusinessSettings
from store.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")


def minute_of(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()) // 60


def pacer(first: str, until: str, *sales: SaleDay, times: int = 1) -> tuple[Pacer, MinuteHistory]:
    """One order of 10.00 a minute from the first instant until the last, both in Berlin."""
    history = MinuteHistory(500)
    minutes = np.arange(minute_of(first), minute_of(until), dtype=np.int64).repeat(times)
    history.add(minutes * MINUTE_MS, np.full(len(minutes), 100_000, dtype=np.int64))
    settings = BusinessSettings(time_zone="Europe/Berlin", calendar=sales)
    return Pacer(history, Baseline(history, settings), settings), history


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-27", 24)]
)
def test_a_day_is_as_long_as_the_stores_clock_makes_it(day: str, hours: int) -> None:
    told, begin, end = day_bounds(minute_of(f"{day}T18:00"), BERLIN)
    assert (str(told), end - begin) == (day, hours * 60)


@given(
    st.integers(0, 2**31 // 60),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Tokyo"]),
)
def test_days_follow_each_other_without_a_gap(minute: int, zone: str) -> None:
    _, begin, end = day_bounds(minute, ZoneInfo(zone))
    assert begin <= minute < end
    assert day_bounds(end, ZoneInfo(zone))[1] == end
    assert day_bounds(end - 1, ZoneInfo(zone))[1] == begin


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-11-27"])
def test_a_steady_shop_is_on_its_pace_and_ends_where_it_should(day: str) -> None:
    now = f"{day}T18:00"
    pace, _ = pacer("2026-02-01T00:00" if "03-" in day else "2026-09-25T00:00", now)
    found = pace.pace(minute_of(now) * MINUTE_MS, ())
    _, begin, end = day_bounds(minute_of(now), BERLIN)
    assert found.so_far.orders == minute_of(now) - begin
    assert found.so_far.revenue == Decimal(10) * found.so_far.orders
    assert found.ratio == pytest.approx(1.0, rel=0.05)
    assert found.forecast is not None
    assert found.forecast.orders == pytest.approx(end - begin, rel=0.03)
    assert found.forecast.low < end - begin < found.forecast.high
    assert found.last_week is not None
    assert found.last_week.total.orders == 24 * 60
    assert found.last_week.so_far.orders == 18 * 60


def test_the_last_sale_is_the_same_day_of_the_sale_a_year_before() -> None:
    sales = (
        SaleDay("black-friday", date(2025, 11, 28), date(2025, 12, 1)),
        SaleDay("black-friday", date(2026, 11, 27), date(2026, 11, 30)),
    )
    pace, history = pacer("2026-11-01T00:00", "2026-11-28T12:00", *sales)
    then = minute_of("2025-11-29T00:00") + np.arange(24 * 60, dtype=np.int64)
    history.add(then.repeat(2) * MINUTE_MS, np.full(2 * 24 * 60, 50_000, dtype=np.int64))
    found = pace.pace(minute_of("2026-11-28T12:00") * MINUTE_MS, ())
    assert found.last_sale is not None
    assert found.last_sale.day == date(2025, 11, 29)
    assert found.last_sale.so_far.orders == 2 * 12 * 60
    assert found.last_sale.total.revenue == Decimal(5) * 2 * 24 * 60


def test_a_new_shop_has_figures_but_no_forecast() -> None:
    settings = BusinessSettings()
    history = MinuteHistory(30)
    now = round(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()) // 60
    history.add(np.array([now - 5], dtype=np.int64) * MINUTE_MS, np.array([10_000]))
    found = Pacer(history, Baseline(history, settings), settings).pace(now * MINUTE_MS, ())
    assert found.so_far.orders == 1
    assert (found.forecast, found.ratio, found.last_week, found.last_sale) == (None,) * 4


def test_a_shop_of_one_day_has_no_forecast_because_no_night_of_it_is_known() -> None:
    pace, _ = pacer("2026-11-26T20:00", "2026-11-27T12:00", times=3)
    found = pace.pace(minute_of("2026-11-27T12:00") * MINUTE_MS, ())
    assert found.so_far.orders == 3 * 12 * 60
    assert found.baseline == "own_recent"
    assert (found.forecast, found.ratio, found.expected_so_far) == (None,) * 3


@pytest.mark.parametrize(
    "rates",
    [
        {"EUR": Decimal(1)},
        {"USD": Decimal(0)},
        {"USD": Decimal(-1)},
        {"USD": Decimal("0.1234567")},
        {"DOLLAR": Decimal(1)},
        {"USD": Decimal("NaN")},
    ],
)
def test_rates_that_make_no_sense_are_refused(rates: dict[str, Decimal]) -> None:
    with pytest.raises(ConfigError, match="exchange_rates"):
        BusinessSettings(exchange_rates=rates)
