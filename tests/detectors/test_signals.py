from __future__ import annotations

from pathlib import Path

import pytest

import detectors.signals
from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.registry import DetectorSettings
from detectors.signals.hit_rate_drop import HitRateDrop
from store.documents import parse_document
from store.model import Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.detectors.counters import Counters

NOW_MS = 1_700_000_000_000
RULES = Path(detectors.signals.__file__).with_name("signals.yml")
GAUGES = {
    "replica_lag": ("sig:mysql_replica_lag:seconds", 12.0, 60.0, 2.0),
    "connection_saturation": ("sig:mysql_connections:used_ratio", 0.85, 0.97, 0.5),
    "evictions": ("sig:cache_evictions:rate", 50.0, 900.0, 0.0),
    "connection_wait": ("sig:pgbouncer_wait:seconds", 0.8, 4.0, 0.0),
    "resource_saturation": ("sig:host_disk:used_ratio", 0.92, 0.99, 0.5),
    "queue_growth": ("sig:queue:growing_length", 600.0, 9_000.0, 0.0),
    "autoscaling_at_limit": ("sig:autoscaling:used_ratio", 0.95, 1.0, 0.4),
    "search_latency": ("sig:es_search_time:avg", 0.5, 2.0, 0.05),
}


def evaluate(
    kind: str, counters: Counters, now_ms: int, active: tuple[Finding, ...] = ()
) -> tuple[Finding, ...]:
    detector = DetectorSettings().signal_detectors()[kind]
    known = {finding.fingerprint: finding for finding in active}
    return detector.evaluate(counters, SignalContext(now_ms, known))


@pytest.mark.parametrize("kind", GAUGES)
def test_a_gauge_that_stays_too_high_is_found_and_ends_when_it_is_low_again(kind: str) -> None:
    series, warn, page, low = GAUGES[kind]
    counters = Counters()
    labels = {"instance": "db-1"}
    now_ms = NOW_MS
    for _ in range(30):
        now_ms += 5_000
        counters.add(series, labels, now_ms, warn)
    (listed,) = evaluate(kind, counters, now_ms)
    assert listed.priority is Priority.P2
    assert listed.kind == kind
    for _ in range(125):
        now_ms += 5_000
        counters.add(series, labels, now_ms, page)
    (paging,) = evaluate(kind, counters, now_ms, (listed,))
    assert paging.priority is Priority.P1
    assert (paging.fingerprint, paging.first_seen_ms) == (listed.fingerprint, listed.first_seen_ms)
    counters.add(series, labels, now_ms + 5_000, low)
    assert evaluate(kind, counters, now_ms + 5_000, (paging,)) == ()


@pytest.mark.parametrize("kind", GAUGES)
def test_what_is_so_bad_that_it_pages_is_listed_at_the_second_look(kind: str) -> None:
    series, _, page, _ = GAUGES[kind]
    counters = Counters()
    counters.add(series, {"instance": "db-1"}, NOW_MS, page)
    assert evaluate(kind, counters, NOW_MS) == ()
    counters.add(series, {"instance": "db-1"}, NOW_MS + 5_000, page)
    (finding,) = evaluate(kind, counters, NOW_MS + 5_000)
    assert finding.kind == kind


@pytest.mark.parametrize("kind", GAUGES)
def test_a_short_peak_is_nothing_and_a_vanished_series_ends_nothing(kind: str) -> None:
    series, _, page, low = GAUGES[kind]
    counters = Counters()
    for step in range(30):
        value = page if step == 29 else low
        counters.add(series, {"instance": "db-1"}, NOW_MS + step * 5_000, value)
    assert evaluate(kind, counters, NOW_MS + 145_000) == ()
    for step in range(30, 60):
        counters.add(series, {"instance": "db-1"}, NOW_MS + step * 5_000, page)
    found = evaluate(kind, counters, NOW_MS + 295_000)
    assert found
    assert evaluate(kind, counters, NOW_MS + 3_600_000, found) == found
    counters.forget()
    assert evaluate(kind, counters, NOW_MS + 3_600_000, found) == found
    assert evaluate(kind, counters, NOW_MS + 90_000_000, found) == ()


def test_a_replica_that_catches_up_after_a_restart_is_listed_and_pages_when_it_stays_behind() -> (
    None
):
    counters = Counters()
    active: tuple[Finding, ...] = ()
    told = []
    for step, lag_s in enumerate([80, 70, 60, 50, 40, 39, 39, 36]):
        now_ms = NOW_MS + step * 5_000
        counters.add("sig:mysql_replica_lag:seconds", {"instance": "db-2"}, now_ms, lag_s)
        active = evaluate("replica_lag", counters, now_ms, active)
        told.append([finding.priority for finding in active])
    listed, pages = [Priority.P2], [Priority.P1]
    assert told == [[], listed, listed, listed, listed, pages, pages, pages]


def test_the_shipped_recording_rules_are_valid_and_canonical() -> None:
    data = parse_document(RULES.read_text(encoding="utf-8"), RULES.name).data
    rules = [rule for group in data["groups"] for rule in group["rules"]]
    with open_store() as store:
        engine = Engine(store)
        for rule in rules:
            assert rule["record"].startswith("sig:")
            assert len(engine.instant(rule["expr"], NOW_MS)) == 0
    assert len({rule["record"] for rule in rules}) == len(rules)


def test_a_drop_is_found_over_the_real_store_and_engine() -> None:
    rows = []
    hits = misses = 0
    for second in range(0, 132, 2):
        hits, misses = (hits + 6, misses + 1) if second < 120 else (hits, misses + 7)
        at_ms = NOW_MS + second * 1_000
        for name, value in (("hits", hits), ("misses", misses)):
            metric = f"django_cache_get_{name}_total"
            rows.append(
                (Labels.of({"__name__": metric}, job="shop", backend="default"), at_ms, value)
            )
    with open_store() as store:
        store.append(SampleBatch.of_rows(rows)).result(10)
        querier = Engine(store)
        before = SignalContext(NOW_MS + 118_000)
        assert HitRateDrop().evaluate(querier, before) == ()
        (finding,) = HitRateDrop().evaluate(querier, SignalContext(NOW_MS + 130_000))
    assert finding.priority is Priority.P1
    assert abs(finding.first_seen_ms - (NOW_MS + 120_000)) <= 5_000


def test_a_server_that_is_gone_is_forgotten_before_a_pool_whose_data_lack() -> None:
    counters = Counters()
    now_ms = NOW_MS
    for _ in range(30):
        now_ms += 5_000
        counters.add("sig:server_shut", {"instance": "db-1", "system": "mysql"}, now_ms, 1.0)
        counters.add("sig:pgbouncer_wait:seconds", {"instance": "pool"}, now_ms, 4.0)
    found = evaluate("connection_wait", counters, now_ms)
    assert {finding.service for finding in found} == {"db-1", "pool"}
    # Past the hour of the server, and far from the day of all others.
    later = evaluate("connection_wait", counters, now_ms + 3_700_000, found)
    assert [finding.service for finding in later] == ["pool"]


SOONER = {
    "resource_saturation": (
        "sig:host_cpu:used_ratio",
        "sig:host_cpu:used_ratio_now",
        (0.3, 0.99),
        "db-1 uses 99% of its CPU",
    ),
    "search_latency": (
        "sig:es_search_time:avg",
        "sig:es_search_time:avg_now",
        (0.03, 0.8),
        "Search on takes 0.8 s on average",
    ),
    "queue_growth": (
        "sig:queue:growing_length",
        "sig:queue:length_in_1m",
        (20.0, 1_400.0),
        "Queue grows: 1400.0 tasks will wait in a minute",
    ),
}


def told(kind: str, past: list[float], since: list[float]) -> list[tuple[str, ...]]:
    """Titles at each look since, while the average of a minute says nothing yet."""
    average, sooner, (usual, _), _ = SOONER[kind]
    counters = Counters()
    active: tuple[Finding, ...] = ()
    titles = []
    for step, value in enumerate([*past, *since]):
        now_ms = NOW_MS + step * 5_000
        counters.add(average, {"instance": "db-1"}, now_ms, usual)
        counters.add(sooner, {"instance": "db-1"}, now_ms, value)
        if step >= len(past):
            active = evaluate(kind, counters, now_ms, active)
            assert all(finding.priority is Priority.P2 for finding in active)
            titles.append(tuple(finding.title for finding in active))
    return titles


@pytest.mark.parametrize("kind", SOONER)
def test_a_step_up_is_listed_at_the_second_look_and_ends_with_it(kind: str) -> None:
    _, _, (usual, high), title = SOONER[kind]
    once = [usual] * 40 + [high] + [usual] * 60
    assert told(kind, once, [high, high, high, usual]) == [(), (title,), (title,), ()]


@pytest.mark.parametrize("kind", SOONER)
def test_what_is_high_every_half_hour_or_just_known_waits_for_the_average(kind: str) -> None:
    _, _, (usual, high), _ = SOONER[kind]
    often = [usual] * 40 + [high, high] + [usual] * 300
    assert told(kind, often, [high] * 4) == [()] * 4
    assert told(kind, [usual] * 50, [high] * 4) == [()] * 4


def reads(primary_per_s: float, replica_per_s: float, was: float) -> list[bool]:
    """Whether the replica is listed, at looks after reads changed; `was`: those of a minute."""
    counters = Counters()
    active: tuple[Finding, ...] = ()
    listed = []
    for step in range(24):
        now_ms = NOW_MS + step * 5_000
        changed = step >= 20
        rows = {"db-1": (100.0, primary_per_s), "db-2": (was, replica_per_s)}
        for instance, (before, after) in rows.items():
            labels = {"job": "mysql", "instance": instance}
            counters.add("sig:db_reads:rate1m", labels, now_ms, before)
            counters.add("sig:db_reads:now", labels, now_ms, after if changed else before)
        counters.add("sig:db_is_replica", {"instance": "db-2"}, now_ms, 1.0)
        if changed:
            active = evaluate("replica_underused", counters, now_ms, active)
            listed.append(bool(active))
    return listed


def test_a_replica_that_is_read_no_more_is_listed_at_the_second_look() -> None:
    assert reads(500.0, 2.0, was=400.0) == [False, True, True, True]


def test_a_primary_that_is_read_more_leaves_its_replica_no_less_used() -> None:
    assert reads(9_000.0, 390.0, was=400.0) == [False] * 4
