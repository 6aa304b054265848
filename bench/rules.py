"""A tick of many alerting rules and many active alerts together: evaluated, stored, routed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alerts.engine import AlertEngine
from alerts.repository import AlertRepository
from alerts.routing import default_routing
from alerts.rules import RuleEvaluator, parse_rule_file, unknown_units
from alerts.state_series import AlertSeries
from bench.server import BenchFailed
from bench.setup import Setup
from bench.table import OURS, Row, Table
from store.backends.duckdb import DuckDBStore
from store.model import Labels, SampleBatch
from store.promql.engine import Engine
from store.sql import open_engine, open_sessions, upgrade

TICK_MS = 5_000
_GROUP = 100
_SHARDS = 1_000
_TICKS = 5
_NOTES = [
    "In one process, over a DuckDB and an SQLite file, as the service's tick does it: every rule is"
    " due at every tick, every alert fires, has an annotation and a group. Each tick has fresh"
    " samples. A tick must take less than its interval, 5 s by default.",
    "CPU seconds are of all threads, so that the figure holds on a busy machine too. The first"
    " tick, in which every alert begins and every group is told, is a row of its own.",
]


@dataclass(frozen=True, slots=True)
class _Took:
    """Seconds of one tick: on the clock, and of the processor by half."""

    wall: float
    rules_cpu: float
    alerts_cpu: float


def run(setup: Setup) -> list[Table]:
    """A first tick, and the median of those after it."""
    rules, alerts = setup.sizes.rules
    setup.say(f"rules: {rules:,} rules, {alerts:,} alerts")
    first, *rest = _ticks(setup.directory, rules, alerts)
    what = f"{rules:,} rules, {alerts:,} alerts"
    rows = [
        _row(f"{what}: a tick", statistics.median(tick.wall for tick in rest)),
        _row("of it rules, CPU", statistics.median(tick.rules_cpu for tick in rest)),
        _row("of it alerts, CPU", statistics.median(tick.alerts_cpu for tick in rest)),
        _row("the first tick", first.wall),
        _row("the first tick, CPU", first.rules_cpu + first.alerts_cpu),
    ]
    return [Table("rules", "Rules and alerts", rows, _NOTES)]


def _row(what: str, value: float) -> Row:
    return Row(what, "s", "less", {OURS: value})


def _ticks(directory: Path, rules: int, alerts: int) -> list[_Took]:
    names, file = _series(rules, alerts), parse_rule_file(_rule_file(rules), "bench.yml")
    index, ones = np.arange(len(names), dtype=np.int32), np.ones(len(names))
    took = []
    with _opened(directory) as (store, engine):
        evaluator = RuleEvaluator(Engine(store), store, [file])
        begin_ms = int(time.time() * 1_000) // TICK_MS * TICK_MS
        for turn in range(1 + _TICKS):
            now_ms = begin_ms + turn * TICK_MS
            stamps = np.full(len(names), now_ms, dtype=np.int64)
            store.append(SampleBatch(names, index, stamps, ones)).result(timeout=60)
            took.append(_tick(evaluator, engine, now_ms, len(names)))
    return took


def _tick(evaluator: RuleEvaluator, engine: AlertEngine, now_ms: int, expected: int) -> _Took:
    wall, cpu = time.perf_counter(), time.process_time()
    evaluator.record(now_ms)
    found, health = evaluator.alerts(now_ms)
    between = time.process_time()
    result = engine.tick(now_ms, found, unknown_sources=unknown_units(health))
    took = _Took(time.perf_counter() - wall, between - cpu, time.process_time() - between)
    if result.firing != expected:
        raise BenchFailed(f"{result.firing} alerts fire, not {expected}")
    return took


def _series(rules: int, alerts: int) -> tuple[Labels, ...]:
    """As many series a rule as there are alerts for it; rules look at one metric by shard."""
    return tuple(
        Labels.of(
            __name__=f"bench_{rule % _SHARDS}", shard=str(rule // _SHARDS), instance=f"i{place}"
        )
        for rule in range(rules)
        for place in range(alerts // rules)
    )


def _rule_file(rules: int) -> str:
    lines = ["groups:"]
    for rule in range(rules):
        if rule % _GROUP == 0:
            lines += [f"  - name: g{rule // _GROUP}", "    rules:"]
        lines += [
            f"      - alert: A{rule}",
            f'        expr: bench_{rule % _SHARDS}{{shard="{rule // _SHARDS}"}} > 0',
            "        labels: {severity: page}",
            "        annotations: {summary: '{{ $labels.instance }} at {{ $value }}'}",
        ]
    return "\n".join(lines)


@contextmanager
def _opened(directory: Path) -> Iterator[tuple[DuckDBStore, AlertEngine]]:
    state = open_engine(f"sqlite:///{directory / 'rules.sqlite'}")
    upgrade(state)
    with DuckDBStore.open(directory / "rules.duckdb") as store:
        repository = AlertRepository(open_sessions(state))
        yield store, AlertEngine(repository, default_routing(), series=AlertSeries(store))
    state.dispose()
