"""The long simulation, by hand (`pytest -m soak`): no false alarm, drops found near the bound."""

from __future__ import annotations

import pytest

from tests.business_metrics.long_run import SHOPS, bound_s, delay_s, false_alarms

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.timeout(3_600)]


@pytest.mark.parametrize("name", SHOPS)
def test_two_healthy_days_raise_no_alarm(name: str) -> None:
    assert [alarm for day in false_alarms(SHOPS[name], 2, seed=7) for alarm in day] == []


@pytest.mark.parametrize("drop", [1.0, 0.8, 0.6])
def test_a_drop_is_found_within_three_times_the_least_possible_time(drop: float) -> None:
    assert max(delay_s(60.0, drop, seed) for seed in range(5)) <= 3 * bound_s(60.0, drop) + 10
