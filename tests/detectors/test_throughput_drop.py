"""Missing requests: against earlier weeks, against the own hour, and never without data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

from detectors.detector import SignalContext
from detectors.finding import Finding
from detectors.scarcity import few_bound
from detectors.seasonal import STEP_MS, forecast, shortfall
from detectors.seasonal_history import Calendar, SeasonalHistory, earlier
from detectors.signals.latency_regression import LatencyRegression
from detectors.signals.throughput_drop import ThroughputDrop
from store.backends.duckdb import DuckDBStore
from store.model import Labels, RangeMatrix, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store

WEEK_MS = 7 * 86_400_000
# A Tuesday, 14:00 UTC; on the grid of two hours.
NOW_MS = 1_699_970_400_000
BACK_MS = 6 * 3_600_000
Rate = Callable[[np.ndarray], np.ndarray]


def falling(ms: np.ndarray) -> np.ndarray:
    """Requests a second: half as many each hour, from 40 on at NOW_MS."""
    into_h = (ms % WEEK_MS - NOW_MS % WEEK_MS) / 3_600_000
    return 40.0 * 0.5**into_h


def counter(route: str, ms: np.ndarray, per_second: np.ndarray, seed: int = 1) -> SampleBatch:
    """A counter of requests sampled at these instants."""
    apart_s = np.diff(ms, prepend=ms[0]) / 1_000
    counts = np.random.default_rng(seed).poisson(np.maximum(per_second, 0) * apart_s)
    name = "http_server_request_duration_seconds_count"
    labels = {"job": "shop", "instance": "web-1", "http_response_status_code": "200"}
    series = Labels.of({"__name__": name, "http_route": route, **labels})
    places = np.zeros(len(ms), dtype=np.int32)
    return SampleBatch((series,), places, ms, np.cumsum(counts).astype(np.float64))


def span(start_ms: int, end_ms: int, step_ms: int = 15_000) -> np.ndarray:
    return np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)


def weeks(store: DuckDBStore, rate: Rate, route: str = "products/", count: int = 4) -> None:
    """The same hours of the weeks before."""
    for week in range(1, count + 1):
        middle = NOW_MS - week * WEEK_MS
        ms = span(middle - BACK_MS, middle + BACK_MS, 60_000)
        store.append(counter(route, ms, rate(ms) * (1 + 0.1 * week), week)).result(30)


def judge(
    store: DuckDBStore,
    now_ms: int = NOW_MS,
    active: tuple[Finding, ...] = (),
    calendar: Calendar | None = None,
) -> tuple[Finding, ...]:
    context = SignalContext(
        now_ms, {item.fingerprint: item for item in active}, calendar=calendar or Calendar()
    )
    return ThroughputDrop().evaluate(Engine(store), context)


def today(store: DuckDBStore, rate: Rate, route: str = "products/", until_ms: int = NOW_MS) -> None:
    ms = span(NOW_MS - BACK_MS, until_ms)
    store.append(counter(route, ms, rate(ms))).result(30)


def dropped(part: float, for_s: float, rate: Rate = falling) -> Rate:
    """A rate of which a part is missing in the last seconds."""
    return lambda ms: rate(ms) * np.where(ms > NOW_MS - for_s * 1_000, 1 - part, 1.0)


def test_a_steep_but_usual_decline_is_nothing_and_a_drop_in_it_is_proven() -> None:
    with open_store() as store:
        weeks(store, falling)
        today(store, falling)
        assert judge(store) == ()
    with open_store() as store:
        weeks(store, falling)
        today(store, dropped(0.35, 1_200))
        (finding,) = judge(store)
    assert finding.kind == "throughput_drop"
    assert finding.evidence.detail["baseline"] == "earlier days"
    assert finding.route == "products/"
    assert NOW_MS - 2_100_000 <= finding.first_seen_ms <= NOW_MS - 600_000


def test_without_earlier_days_only_a_great_loss_is_told() -> None:
    def flat(ms: np.ndarray) -> np.ndarray:
        return np.full(len(ms), 30.0)

    with open_store() as store:
        today(store, dropped(0.3, 1_200, flat))
        assert judge(store) == ()
    with open_store() as store:
        today(store, dropped(1.0, 45, flat))
        (finding,) = judge(store)
    assert finding.evidence.detail["baseline"] == "last hour"
    assert finding.confidence < 0.9


def minutes(store: DuckDBStore, known_s: int, left: float, for_s: int = 10) -> None:
    """A service that is new: 30 requests a second, and then a part of them."""
    ms = span(NOW_MS - known_s * 1_000, NOW_MS, 5_000)
    rate = np.where(ms > NOW_MS - for_s * 1_000, 30.0 * left, 30.0)
    store.append(counter("products/", ms, rate)).result(30)


@pytest.mark.parametrize("left", [0.0, 0.4])
def test_a_service_that_is_known_for_minutes_is_found_within_two_ticks(left: float) -> None:
    with open_store() as store:
        minutes(store, 300, left)
        (finding,) = judge(store)
        assert finding.evidence.detail["baseline"] == "last hour"
        assert float(finding.evidence.detail["expected_per_second"]) == pytest.approx(30, rel=0.1)
        (held,) = judge(store, active=(finding,))
        assert held.fingerprint == finding.fingerprint


def test_a_service_that_is_known_for_a_minute_and_one_that_loses_a_fifth_are_nothing() -> None:
    for known_s, left in ((60, 0.0), (300, 0.8), (300, 1.0)):
        with open_store() as store:
            minutes(store, known_s, left)
            assert judge(store) == ()


def test_counters_that_stop_coming_are_no_drop_and_end_none() -> None:
    with open_store() as store:
        weeks(store, falling)
        today(store, falling, until_ms=NOW_MS - 120_000)
        assert judge(store) == ()
    with open_store() as store:
        weeks(store, falling)
        today(store, dropped(1.0, 300))
        (finding,) = judge(store)
        later = NOW_MS + 180_000
        assert judge(store, later, (finding,)) == (finding,)
        assert judge(store, NOW_MS + 86_400_000, (finding,)) == ()


def test_a_service_whose_routes_all_fall_is_one_finding_and_one_route_is_named() -> None:
    def shop(store: DuckDBStore, lost: tuple[str, ...]) -> None:
        for route in ("products/", "search/", "cart/"):
            weeks(store, falling, route)
            today(store, dropped(1.0, 60) if route in lost else falling, route)

    with open_store() as store:
        shop(store, ("products/", "search/", "cart/"))
        (finding,) = judge(store)
        assert (finding.service, finding.route) == ("shop", "")
    with open_store() as store:
        shop(store, ("search/",))
        (finding,) = judge(store)
        assert finding.route == "search/"


def test_an_incident_of_last_week_is_not_learned_when_it_is_known() -> None:
    """Two weeks of history, and one of them was an outage at this hour."""

    def with_outage(store: DuckDBStore) -> None:
        middle = NOW_MS - WEEK_MS
        ms = span(middle - BACK_MS, middle + BACK_MS, 60_000)
        outage = np.abs(ms - middle) < 2 * 3_600_000
        store.append(counter("products/", ms, falling(ms) * np.where(outage, 0.02, 1.0))).result(30)
        for week in (2, 3):
            middle = NOW_MS - week * WEEK_MS
            ms = span(middle - BACK_MS, middle + BACK_MS, 60_000)
            store.append(counter("products/", ms, falling(ms), week)).result(30)

    incident = (NOW_MS - WEEK_MS - 2 * 3_600_000, NOW_MS - WEEK_MS + 2 * 3_600_000)
    spreads = []
    for calendar in (Calendar(), Calendar(incidents=(incident,))):
        with open_store() as store:
            with_outage(store)
            today(store, dropped(0.5, 600))
            found = judge(store, calendar=calendar)
            spreads.append([float(item.evidence.detail["spread"]) for item in found])
    assert len(spreads[1]) == 1
    assert spreads[1][0] < 0.1
    assert not spreads[0] or spreads[0][0] >= spreads[1][0]


def test_it_ends_when_the_requests_are_back() -> None:
    with open_store() as store:
        weeks(store, falling)
        today(store, dropped(0.9, 120))
        (finding,) = judge(store)
        back = span(NOW_MS + 15_000, NOW_MS + 180_000)
        batch = counter("products/", back, falling(back), 9)
        store.append(
            SampleBatch(batch.series, batch.series_index, batch.ts_ms, batch.values + 1e7)
        ).result(30)
        assert judge(store, NOW_MS + 180_000, (finding,)) == ()


def test_a_drop_that_lasts_for_hours_holds_until_its_level_is_accepted() -> None:
    with open_store() as store:
        weeks(store, falling)
        today(store, dropped(0.95, 120))
        (finding,) = judge(store)
        later = span(NOW_MS + 15_000, NOW_MS + BACK_MS)
        batch = counter("products/", later, falling(later) * 0.05, 9)
        store.append(
            SampleBatch(batch.series, batch.series_index, batch.ts_ms, batch.values + 1e7)
        ).result(30)
        for hours in (1, 3, 5.9):
            (finding,) = judge(store, NOW_MS + int(hours * 3_600_000), (finding,))
        old = dataclasses.replace(finding, first_seen_ms=NOW_MS - 86_400_000)
        assert judge(store, NOW_MS + BACK_MS - 60_000, (old,)) == ()


def test_a_route_that_gets_slower_by_the_day_is_told_though_no_minute_jumped() -> None:
    """Its mean is that of the weeks before until an hour ago, then rises slowly to three times."""
    name = "http_server_request_duration_seconds"

    def requests(ms: np.ndarray, mean_s: np.ndarray, seed: int) -> list[SampleBatch]:
        batch = counter("cart/", ms, np.full(len(ms), 20.0), seed)
        (series,) = batch.series
        count = batch.values
        spent = np.cumsum(np.diff(count, prepend=0.0) * mean_s)
        rows = {f"{name}_count": count, f"{name}_sum": spent}
        rows |= {f"{name}_bucket": count}
        return [
            dataclasses.replace(
                batch,
                series=(series.replace(__name__=metric, le="+Inf" if "bucket" in metric else ""),),
                values=values,
            )
            for metric, values in rows.items()
        ] + [
            dataclasses.replace(
                batch, series=(series.replace(__name__=f"{name}_bucket", le="5"),), values=count
            )
        ]

    def evaluate(store: DuckDBStore, *active: Finding) -> tuple[Finding, ...]:
        known = {item.fingerprint: item for item in active}
        return LatencyRegression().evaluate(Engine(store), SignalContext(NOW_MS, known))

    for slower, told in ((1.0, 0), (3.0, 1)):
        with open_store() as store:
            for week in range(1, 5):
                middle = NOW_MS - week * WEEK_MS
                ms = span(middle - BACK_MS, middle + BACK_MS, 60_000)
                for batch in requests(ms, np.full(len(ms), 0.12), week):
                    store.append(batch).result(30)
            ms = span(NOW_MS - BACK_MS, NOW_MS)
            rising = np.clip((ms - NOW_MS + 3_600_000) / 3_600_000, 0, 1) * (slower - 1) + 1
            for batch in requests(ms, 0.12 * rising, 9):
                store.append(batch).result(30)
            found = evaluate(store)
            assert len(found) == told
            if told:
                assert "is slower than in earlier weeks" in found[0].title
                assert evaluate(store, *found)[0].fingerprint == found[0].fingerprint


def test_what_is_kept_of_many_series_is_bounded_and_read_once_in_two_hours() -> None:
    class Counting(Engine):
        asked = 0

        @override
        def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
            Counting.asked += 1
            return super().range(expr, start_ms, end_ms, step_ms)

    history = SeasonalHistory(max_series=5)
    expr = "sum by (job, http_route) (rate(http_server_request_duration_seconds_count[5m]))"
    with open_store() as store:
        for number in range(40):
            today(store, lambda ms: np.full(len(ms), 5.0 + number), f"route-{number}/")  # noqa: B023
        engine = Counting(store)
        outlook = history.outlook(engine, expr, NOW_MS, Calendar())
        first = Counting.asked
        assert len(outlook.places) == 5
        assert {labels.get("http_route") for labels in outlook.places} == {
            f"route-{number}/" for number in range(35, 40)
        }
        for tick in range(1, 12):
            history.outlook(engine, expr, NOW_MS + tick * 5_000, Calendar())
        assert Counting.asked == first
        history.outlook(engine, expr, NOW_MS + 300_000, Calendar())
        assert Counting.asked == first + 1


@pytest.mark.parametrize(("delta_days", "hours"), [(7, 7 * 24 + 1), (21, 21 * 24 + 1), (1, 24)])
def test_earlier_days_keep_to_the_clock_on_the_wall(delta_days: int, hours: int) -> None:
    # Monday 2023-10-30 12:00 in Berlin, the day after summer time ended.
    at_ms = 1_698_663_600_000
    past = earlier(at_ms, timedelta(days=delta_days), ZoneInfo("Europe/Berlin"))
    assert (at_ms - past) / 3_600_000 == hours


BERLIN = ZoneInfo("Europe/Berlin")


def nightly(ms: np.ndarray) -> np.ndarray:
    """Requests a second that halve and rise again by the clock on the wall in Berlin."""
    walls = [datetime.fromtimestamp(at / 1_000, UTC).astimezone(BERLIN) for at in ms.tolist()]
    hours = np.array([wall.hour + wall.minute / 60 for wall in walls])
    return 60.0 + 50.0 * np.cos((hours - 20.5) * np.pi / 12)


class WallClock(Engine):
    """A store whose only series follows the clock on the wall."""

    def __init__(self) -> None:
        """Nothing is stored: every answer is computed."""

    @override
    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        steps_ms = span(start_ms, end_ms, step_ms)
        # As a rate does: a step tells of the five minutes before it.
        values = nightly(steps_ms - STEP_MS // 2)[np.newaxis]
        return RangeMatrix((JOB,), steps_ms, values, np.ones_like(values, dtype=np.bool_))


JOB = Labels.of(job="shop")


@pytest.mark.parametrize(
    "day", [(2026, 3, 29), (2026, 3, 30), (2026, 10, 25), (2026, 10, 26), (2026, 11, 3)], ids=str
)
def test_a_night_when_the_clocks_change_is_expected_as_people_live_it(
    day: tuple[int, int, int],
) -> None:
    start_ms = round(datetime(*day, tzinfo=BERLIN).timestamp() * 1_000)
    history, querier = SeasonalHistory(), WallClock()
    for minute in range(0, 8 * 60, 5):
        now_ms = start_ms + minute * 60_000 + 2_000
        expected = history.outlook(querier, "rate", now_ms, Calendar(BERLIN)).of(JOB)
        assert expected is not None
        # The step that is running ends after `now_ms`.
        (true,) = nightly(np.array([now_ms + STEP_MS // 2]))
        assert expected.value == pytest.approx(true, rel=0.1), (day, minute)
        assert expected.steps_expected == pytest.approx(expected.steps_seen, rel=0.1)


@given(st.floats(1, 1e5), st.floats(0, 1), st.floats(0, 0.5))
@example(2.0, 5e-324, 0.0)
def test_the_bound_is_a_chance_that_falls_with_what_is_missing(
    mean: float, part: float, cv: float
) -> None:
    chance = few_bound(mean * part, mean, cv)
    assert 0 <= chance <= 1
    assert few_bound(mean * part / 2, mean, cv) <= chance * (1 + 1e-6) + 1e-12


@given(st.integers(1, 60), st.floats(0, 0.4))
def test_the_bound_is_no_less_than_the_exact_chance(mean: int, cv: float) -> None:
    """Against the sum of the negative binomial's (or Poisson's) probabilities."""
    count = mean // 2
    random = np.random.default_rng(mean)
    rates = random.gamma(1 / cv**2, mean * cv**2, 20_000) if cv > 1e-3 else np.full(20_000, mean)
    seen = float((random.poisson(rates) <= count).mean())
    assert few_bound(count, mean, cv if cv > 1e-3 else 0.0) >= seen - 0.02


def test_a_forecast_brings_other_weeks_to_todays_level_and_says_when_it_knows_nothing() -> None:
    shape = 10 + np.sin(np.arange(84) / 12)
    references = np.stack([shape * 2, shape * 3, shape * 0.5])[None]
    now = np.where(np.arange(84) < 72, shape * 7, np.nan)[None]
    expected = forecast(references, now)
    assert expected.seasonal.tolist() == [True]
    assert np.allclose(expected.middle[0], shape * 7, rtol=0.02)
    assert not np.isfinite(forecast(references, np.full((1, 84), np.nan)).middle).any()
    alone = forecast(np.full((1, 0, 84), np.nan), now)
    assert alone.seasonal.tolist() == [False]
    assert np.allclose(alone.middle[0], np.median(now[0][60:72]))


def test_a_shortfall_needs_every_step_of_its_window() -> None:
    expected = np.full(12, 50.0)
    seen = np.where(np.arange(12) < 9, 50.0, 20.0)
    drop = shortfall(seen, expected, 0.05, max_chance=1e-7, min_drop=0.2)
    assert drop is not None
    assert drop.window_s == 300
    assert drop.missing == pytest.approx(0.6)
    seen[-1] = np.nan
    assert shortfall(seen, expected, 0.05, max_chance=1e-7, min_drop=0.2) is None
