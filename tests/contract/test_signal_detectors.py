"""What every registered signal detector must keep, over a shop that gives each something to say."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from detectors.detector import SignalContext
from detectors.finding import Finding
from detectors.registry import SIGNAL_DETECTORS, DetectorSettings
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from store.model import METRIC_NAME, InstantVector, Labels, RangeMatrix, SampleBatch
from store.promql.engine import Engine
from store.testing import open_state, open_store
from tests.contract.detector_laws import judges_an_instant_alone
from tests.detectors import shop_faults
from tests.detectors.simulated_shop import STEP_MS, Shop
from tests.detectors.stored_spans import StoredSpans
from tests.detectors.watched_shop import RULES, Watch, watched

START_MS = 1_700_000_000_000
STEPS = 720
BROKEN = STEPS - 48
MOST_FINDINGS = 200
COPIES = 210


def loud_shop() -> Shop:
    """Everything went wrong four minutes ago."""
    shop = Shop(START_MS, STEPS)
    now = slice(BROKEN, STEPS)
    for apply in (
        shop_faults.lag,
        shop_faults.stopped,
        shop_faults.exhausted,
        shop_faults.lost_cache,
        shop_faults.failing,
        shop_faults.slow,
        shop_faults.scanning,
        shop_faults.busy,
        shop_faults.rest,
    ):
        apply(shop, now)
    shop.requests["search/"][STEPS - 70 :] = 0.0
    shop.of(shop.rates, "redis_evicted_keys_total")[now] = 900.0
    shop.of(shop.gauges, "pgbouncer_pools_client_maxwait_seconds")[now] = 3.0
    shop.of(shop.rates, "mysql_global_status_commands_total", instance="db-1")[:] = 300.0
    shop_faults.idle_replica(shop, slice(0, STEPS))
    return shop


@pytest.fixture(scope="module")
def loud() -> Iterator[Watch]:
    shop = loud_shop()
    with watched(shop) as watch:
        watch.record(shop.steps)
        yield watch


def judge(watch: Watch, name: str, step: int = STEPS - 1) -> tuple[Finding, ...]:
    detector = DetectorSettings().signal_detectors()[name]
    return detector.evaluate(watch.engine, SignalContext(START_MS + step * STEP_MS))


@pytest.mark.parametrize("name", SIGNAL_DETECTORS)
def test_it_finds_what_is_its_own_and_says_all_that_a_finding_says(loud: Watch, name: str) -> None:
    found = judge(loud, name)
    assert found
    kinds = DetectorSettings().signal_detectors()[name].kinds
    now_ms = START_MS + (STEPS - 1) * STEP_MS
    for finding in found:
        assert finding.kind in kinds
        assert finding.title
        assert finding.fix
        assert finding.evidence.series
        assert finding.first_seen_ms <= finding.last_seen_ms == now_ms
        assert 0 < finding.confidence <= 1
    assert len({finding.fingerprint for finding in found}) == len(found)


@pytest.mark.parametrize("name", SIGNAL_DETECTORS)
def test_it_is_pure_and_a_new_process_says_what_the_old_one_says(loud: Watch, name: str) -> None:
    instants_ms = [START_MS + step * STEP_MS for step in (*range(STEPS - 30, STEPS, 6), STEPS - 1)]
    make = DetectorSettings().signal_detectors
    assert judges_an_instant_alone(lambda: make()[name], loud.engine, instants_ms)


def test_batches_and_their_order_change_nothing(loud: Watch) -> None:
    shop = loud_shop()
    whole = shop.batch()
    random = np.random.default_rng(7)
    order = random.permutation(len(whole.ts_ms))
    pieces = [
        dataclasses.replace(
            whole,
            series_index=whole.series_index[part],
            ts_ms=whole.ts_ms[part],
            values=whole.values[part],
        )
        for part in np.array_split(order, 7)
    ]
    with watched(shop, pieces) as other:
        other.record(STEPS)
        for name in SIGNAL_DETECTORS:
            assert judge(other, name) == judge(loud, name), name


def test_a_restart_continues_every_finding_and_begins_none_again() -> None:
    shop = loud_shop()
    with watched(shop) as watch:
        watch.record(STEPS)
        before = {item.fingerprint: item for item in watch.tick(STEPS - 3)}
        watch.restart()
        after = {item.fingerprint: item for item in watch.tick(STEPS - 2)}
        last = {item.fingerprint: item for item in watch.tick(STEPS - 1)}
    assert len(before) >= len(SIGNAL_DETECTORS)
    assert before.keys() <= after.keys() <= last.keys()
    for key, finding in before.items():
        assert last[key].first_seen_ms == finding.first_seen_ms, finding.title
        assert last[key].occurrences == 1


@pytest.mark.parametrize("name", SIGNAL_DETECTORS)
def test_no_data_ends_nothing(loud: Watch, name: str) -> None:
    detector = DetectorSettings().signal_detectors()[name]
    found = judge(loud, name)
    active = {finding.fingerprint: finding for finding in found}
    later_ms = START_MS + (STEPS - 1) * STEP_MS + 600_000
    with open_store() as empty:
        held = detector.evaluate(Engine(empty), SignalContext(later_ms, active))
    assert {finding.fingerprint for finding in held} == active.keys()


def read_series() -> set[str]:
    """Every `sig:` series, and the raw ones that the shop has."""
    names = {
        line.split('"')[1]
        for line in RULES.read_text(encoding="utf-8").splitlines()
        if "record:" in line
    }
    return names | {labels.metric for labels in loud_shop().batch().series}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e308])
def test_odd_values_break_nothing_and_only_numbers_are_believed(value: float) -> None:
    at_ms = START_MS + 600_000
    rows = [
        (Labels.of({METRIC_NAME: series, "job": "j", "instance": "i", "le": "1"}), ts_ms, value)
        for series in sorted(read_series())
        for ts_ms in (at_ms - 15_000, at_ms - 10_000, at_ms - 5_000, at_ms)
    ]
    with open_store() as store:
        store.append(SampleBatch.of_rows(rows)).result(30)
        for detector in DetectorSettings().signal_detectors().values():
            for finding in detector.evaluate(Engine(store), SignalContext(at_ms)):
                assert np.isfinite(value), finding.title


class Crowd:
    """A querier in whose world everything is there hundreds of times."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        one = self._engine.instant(expr, ts_ms)
        return InstantVector(copies(one.series), np.tile(one.values, COPIES))

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        one = self._engine.range(expr, start_ms, end_ms, step_ms)
        values, present = np.tile(one.values, (COPIES, 1)), np.tile(one.present, (COPIES, 1))
        return RangeMatrix(copies(one.series), one.steps_ms, values, present)


def copies(series: tuple[Labels, ...]) -> tuple[Labels, ...]:
    """Each of another job on another host; the first are as they were."""
    return tuple(
        labels.replace(
            job=f"{labels.get('job')}{number or ''}",
            instance=f"{labels.get('instance')}{number or ''}",
        )
        for number in range(COPIES)
        for labels in series
    )


def test_thousands_of_bad_series_give_a_short_list_that_stays_the_same(loud: Watch) -> None:
    # One of each mechanism: a threshold, counts of caches, counts of routes.
    watching = {"connection_wait", "hit_rate_drop", "error_regression"}
    chosen = DetectorSettings(disabled=frozenset(SIGNAL_DETECTORS.keys() - watching))
    findings = FindingRepository(open_state())
    runner = DetectorRunner(StoredSpans(), Crowd(loud.engine), findings, chosen)
    first, second = (runner.tick(START_MS + step * STEP_MS) for step in (STEPS - 2, STEPS - 1))
    assert [unit.error for unit in (*first.health, *second.health) if not unit.ok] == []
    kinds = Counter(item.kind for item in second.findings)
    assert kinds == dict.fromkeys(watching, MOST_FINDINGS)
    told = [{item.fingerprint for item in tick.findings} for tick in (first, second)]
    assert told[0] == told[1]


@pytest.mark.parametrize("kind", ["redundant_index", "full_scan", "throughput_drop"])
def test_a_kind_may_be_switched_off_also_where_it_shares_a_detector(kind: str) -> None:
    chosen = DetectorSettings.from_mapping({kind: False})
    assert kind in chosen.disabled
    assert kind in DetectorSettings().kinds()
