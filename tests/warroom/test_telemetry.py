from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from store.errors import StoreUnavailable
from store.model import UnitHealth
from store.promql.cache import CacheStats
from warroom.telemetry import SelfMetrics


def unit(name: str, *, ok: bool = True, duration_s: float = 0.25) -> UnitHealth:
    return UnitHealth(name, ok=ok, at_ms=1, duration_s=duration_s)


def value(metrics: SelfMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_units_are_shown_with_health_duration_and_failures() -> None:
    metrics = SelfMetrics("1.2")
    metrics.observe_units((unit("rule/a"), unit("rule/b", ok=False)))
    metrics.observe_units((unit("rule/b", ok=False, duration_s=0.5),))
    assert value(metrics, "warroom_unit_healthy", unit="rule/a") == 1.0
    assert value(metrics, "warroom_unit_healthy", unit="rule/b") == 0.0
    assert value(metrics, "warroom_unit_duration_seconds", unit="rule/b") == 0.5
    assert value(metrics, "warroom_unit_failures_total", unit="rule/a") == 0.0
    assert value(metrics, "warroom_unit_failures_total", unit="rule/b") == 2.0


def test_the_version_and_the_process_are_told() -> None:
    metrics = SelfMetrics("1.2")
    assert value(metrics, "warroom_build_info", version="1.2") == 1.0
    assert value(metrics, "process_resident_memory_bytes") is not None


def test_what_is_exposed_can_be_read_again() -> None:
    metrics = SelfMetrics("1.2")
    metrics.observe_units((unit('odd "name"\n\\'),))
    metrics.tick_seconds.labels("record").observe(0.02)
    text = generate_latest(metrics.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (sample,) = families["warroom_unit_healthy"].samples
    assert sample.labels == {"unit": 'odd "name"\n\\'}


def test_two_services_count_apart() -> None:
    one, other = SelfMetrics("1"), SelfMetrics("1")
    one.watchers.set(3)
    assert value(other, "warroom_live_watchers") == 0.0


def test_what_the_query_cache_saves_is_told() -> None:
    metrics = SelfMetrics("1")
    stats = CacheStats(
        hits=3, misses=2, bypassed=1, steps_reused=50, steps_evaluated=7, entries=4, bytes=1000
    )
    metrics.watch_query_cache(lambda: stats)
    assert value(metrics, "warroom_query_cache_requests_total", result="hits") == 3.0
    assert value(metrics, "warroom_query_cache_requests_total", result="bypassed") == 1.0
    assert value(metrics, "warroom_query_cache_steps_total", origin="cache") == 50.0
    assert value(metrics, "warroom_query_cache_steps_total", origin="evaluation") == 7.0
    assert value(metrics, "warroom_query_cache_entries") == 4.0
    assert value(metrics, "warroom_query_cache_bytes") == 1000.0


def test_a_state_that_is_away_leaves_the_other_figures_and_says_so() -> None:
    def away() -> dict[str, int]:
        raise StoreUnavailable("the state database does not answer")

    @dataclass(frozen=True)
    class Figures:
        samples: int = 3

    metrics = SelfMetrics("1.2.3")
    metrics.watch_store(Figures, away)
    page = generate_latest(metrics.registry).decode()
    assert "warroom_store_samples 3.0" in page
    assert "warroom_state_up 0.0" in page
    assert "warroom_alerts_outbox_messages{" not in page
