"""Healthy hours page nobody; each fault in them is found soon, named rightly, and told once."""

from __future__ import annotations

import pytest

from detectors.finding import Finding, Priority
from tests.detectors.healthy_hour import HealthyHour
from tests.detectors.shop_faults import FAULTS
from tests.detectors.simulated_shop import STEP_MS, Shop
from tests.detectors.watched_shop import watched, watched_live

START_MS = 1_700_000_000_000
# What detectors compare with, before the hour that is judged.
LEAD = 180
HOUR = 720
EVERY = 12
APART = 40
LASTS = 20


def paging(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(item.kind, item.title) for item in findings if item.priority is not Priority.P2]


def test_a_healthy_bursty_hour_that_falls_to_the_quiet_of_the_night_pages_nobody() -> None:
    shop = Shop(START_MS, LEAD + HOUR)
    with watched(shop) as watch:
        watch.record(shop.steps)
        found: set[tuple[str, str]] = set()
        for step in range(LEAD, LEAD + HOUR, EVERY):
            findings = watch.tick(step)
            assert paging(findings) == []
            found |= {(item.kind, item.fingerprint) for item in findings}
    # Nor is the list filled with what is healthy.
    assert found == set()


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(1, 7))
def test_every_tick_of_an_hour_in_which_much_goes_on_pages_nobody(seed: int) -> None:
    shop = HealthyHour(START_MS, LEAD + HOUR, seed)
    with watched_live(START_MS) as watch:
        for findings in watch.live(shop.batch(), LEAD, LEAD + HOUR):
            assert paging(findings) == []


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_a_healthy_day_pages_nobody() -> None:
    day = 24 * HOUR
    shop = Shop(START_MS, LEAD + day, daily=True)
    with watched(shop) as watch:
        watch.record(shop.steps)
        for step in range(LEAD, LEAD + day, 6):
            assert paging(watch.tick(step)) == []


def test_each_fault_of_an_hour_is_found_named_rightly_and_told_once() -> None:
    shop = Shop(START_MS, LEAD + APART * (len(FAULTS) + 2))
    begins = {name: LEAD + APART * place for place, name in enumerate(FAULTS)}
    for name, fault in FAULTS.items():
        fault.apply(shop, slice(begins[name], begins[name] + LASTS))
    seen: dict[str, dict[str, tuple[int, str]]] = {}
    with watched(shop) as watch:
        watch.record(shop.steps)
        for step in ticks(begins, shop.steps):
            for item in watch.tick(step):
                told = seen.setdefault(item.kind, {})
                told.setdefault(item.fingerprint, (step, item.title))
    for name, fault in FAULTS.items():
        found = [
            (step, title)
            for step, title in seen.get(fault.kind, {}).values()
            if fault.title in title
        ]
        assert len(found) == 1, (name, found, seen)
        late_s = (found[0][0] - begins[name]) * STEP_MS / 1_000
        assert 0 <= late_s <= fault.within_s, (name, late_s, found)
    assert sum(map(len, seen.values())) == len(FAULTS), seen


def ticks(begins: dict[str, int], steps: int) -> list[int]:
    """Every tick until a fault must be found, for half a minute; the others now and then."""
    close = {
        begin + after
        for name, begin in begins.items()
        for after in range(min(int(FAULTS[name].within_s) // 5, 6) + 1)
    }
    return sorted(close | set(range(LEAD, steps, 2 * EVERY)))
