"""A tick of many alerting rules and many active alerts together: evaluated, stored, routed."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterable
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
from store.sql import SessionFactory, open_engine, open_sessions, upgrade
from warroom import memory

TICK_MS = 5_000
_GROUP = 100
_SHARDS = 1_000
_STEADY = 5
_NOTES = [
    "In one process, over a DuckDB and an SQLite file, as the service's tick does it: every rule is"
    " due at every tick, has an annotation and a group. Each tick has fresh samples. A tick must"
    " take less than its interval, 5 s by default.",
    "CPU seconds are of all threads, so that the figure holds on a busy machine too. All alerts"
    " begin in one tick, go on, are read back by a new engine, and end in one tick.",
]


@dataclass(frozen=True, slots=True)
class _Took:
    """Seconds of one tick: on the clock, and of the processor by half."""

    wall: float
    rules_cpu: float
    alerts_cpu: float

    @property
    def cpu(self) -> float:
        return self.rules_cpu + self.alerts_cpu


@dataclass(frozen=True, slots=True)
class _Run:
    """The ticks of one run."""

    onset: _Took
    steady: list[_Took]
    restart: _Took
    end: _Took


def run(setup: Setup) -> list[Table]:
    """The tick in which all begins, one like any other, the first after a restart, the last."""
    rules, alerts = setup.sizes.rules
    setup.say(f"rules: {rules:,} rules, {alerts:,} alerts")
    took = _run(setup.directory, rules, alerts)
    steady = took.steady
    rows = [
        _row(f"{rules:,} rules, {alerts:,} alerts: a tick", _median(t.wall for t in steady)),
        _row("of it rules, CPU", _median(t.rules_cpu for t in steady)),
        _row("of it alerts, CPU", _median(t.alerts_cpu for t in steady)),
    ]
    named = (
        ("all begin", took.onset),
        ("the first after a restart", took.restart),
        ("all end", took.end),
    )
    for what, tick in named:
        rows += [_row(what, tick.wall), _row(f"{what}, CPU", tick.cpu)]
    return [Table("rules", "Rules and alerts", rows, _NOTES)]


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _row(what: str, value: float) -> Row:
    return Row(what, "s", "less", {OURS: value})


class _Ticks:
    """Ticks one after the other, over the same stores."""

    def __init__(self, store: DuckDBStore, sessions: SessionFactory, rules: int, alerts: int):
        self._store, self._sessions = store, sessions
        self._names = _series(rules, alerts)
        self._file = parse_rule_file(_rule_file(rules), "bench.yml")
        self._index = np.arange(len(self._names), dtype=np.int32)
        self._now_ms = int(time.time() * 1_000) // TICK_MS * TICK_MS
        self.start()

    def start(self) -> None:
        """As a process that starts: nothing in memory."""
        series = AlertSeries(self._store)
        repository = AlertRepository(self._sessions)
        self._engine = AlertEngine(repository, default_routing(), series=series)
        self._evaluator = RuleEvaluator(Engine(self._store), self._store, [self._file])

    def tick(self, *, firing: bool) -> _Took:
        """One tick, in which every alert's condition holds or none does."""
        self._now_ms += TICK_MS
        count = len(self._names)
        stamps = np.full(count, self._now_ms, dtype=np.int64)
        batch = SampleBatch(self._names, self._index, stamps, np.full(count, float(firing)))
        self._store.append(batch).result(timeout=60)
        wall, cpu = time.perf_counter(), time.process_time()
        self._evaluator.record(self._now_ms)
        found, health = self._evaluator.alerts(self._now_ms)
        between = time.process_time()
        result = self._engine.tick(self._now_ms, found, unknown_sources=unknown_units(health))
        took = _Took(time.perf_counter() - wall, between - cpu, time.process_time() - between)
        if result.firing != (count if firing else 0):
            raise BenchFailed(f"{result.firing} of {count} alerts fire")
        return took


def _run(directory: Path, rules: int, alerts: int) -> _Run:
    state = open_engine(f"sqlite:///{directory / 'rules.sqlite'}")
    upgrade(state)
    with DuckDBStore.open(directory / "rules.duckdb") as store:
        ticks = _Ticks(store, open_sessions(state), rules, alerts)
        ticks.tick(firing=False)
        memory.settle()
        onset = ticks.tick(firing=True)
        steady = [ticks.tick(firing=True) for _ in range(_STEADY)]
        ticks.start()
        restart = ticks.tick(firing=True)
        end = ticks.tick(firing=False)
    state.dispose()
    gc.unfreeze()
    return _Run(onset, steady, restart, end)


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
