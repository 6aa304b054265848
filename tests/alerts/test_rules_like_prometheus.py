"""A live Prometheus and Warroom over the same rule file and samples: the same alert states.

The samples are written beforehand, with times in the near future: what a rule sees at an instant is
then the same for both, however late it is evaluated. When Prometheus evaluated is read back from a
series that its rules record, and Warroom's rules run at exactly these instants.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alerts.engine import AlertEngine
from alerts.repository import AlertRepository
from alerts.routing import default_routing
from alerts.rules import RuleEvaluator, parse_rule_file, unknown_units
from alerts.rules import rules_answer as answer_of_rules
from alerts.state_series import AlertSeries
from store.model import STALE_NAN_BITS, Batch, Labels, Matcher, SampleBatch, SeriesSet
from store.promql.engine import Engine, EngineOptions
from store.promql.testing import MemoryReader
from store.testing import open_state
from tests.store.promql.real_prometheus import Series, Server, running

STALE = float(np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0])
LOOKBACK_MS = 2_000
LEAD_MS = 4_000
RULES = """
groups:
  - name: shop
    interval: 500ms
    rules:
      - {record: "evaluated:timestamp_seconds", expr: time()}
      - {record: "job:load:sum", expr: "sum by (job) (load)"}
      - alert: AtOnce
        expr: job:load:sum > 5
        annotations: {summary: "{{ $labels.job }} has {{ $value | humanize }}"}
      - alert: Held
        expr: job:load:sum > 5
        for: 1500ms
      - alert: Kept
        expr: load > 7
        keep_firing_for: 1500ms
      - alert: HeldAndKept
        expr: load > 3
        for: 1s
        keep_firing_for: 1s
      - alert: Flapping
        expr: flap == 1
        for: 700ms
      - alert: FlappingKept
        expr: flap == 1
        keep_firing_for: 900ms
      - alert: Gone
        expr: absent(load{instance="b"})
        for: 500ms
        labels: {severity: page}
      - alert: GoneByName
        expr: absent(load{instance="b",job="shop"})
      - alert: Version
        expr: build_info == 1
        for: 600ms
        labels: {release: "r{{ $labels.version }}"}
      - alert: ValueInLabel
        expr: load{instance="a"} > 2
        labels: {level: '{{ if gt $value 6.0 }}high{{ else }}low{{ end }}'}
      - alert: NotANumber
        expr: odd > 1 or odd != odd
      - alert: Quiet
        expr: vector(1) unless on () flap == 1
        for: 1s
      - alert: Restarted
        expr: resets(count_total[3s]) > 0
        keep_firing_for: 500ms
"""


def steps(seconds: float, every_ms: int = 250) -> range:
    return range(0, round(seconds * 1_000), every_ms)


def series_at(start_ms: int, seconds: float) -> list[Series]:
    """What the rules look at: rises and falls, gaps with and without a staleness marker."""

    def one(pairs: dict[str, str], values: Sequence[float | None]) -> Series:
        stamps = [start_ms + ms for ms in steps(seconds)]
        kept = [(at, v) for at, v in zip(stamps, values, strict=True) if v is not None]
        return Labels.of(pairs), kept

    def by_s(what: dict[float, float | None]) -> list[float | None]:
        found: list[float | None] = []
        for ms in steps(seconds):
            begun = [value for begin_s, value in what.items() if begin_s * 1_000 <= ms]
            found.append(begun[-1] if begun else None)
        return found

    gone = by_s({0: 1, 3.25: None, 6: 4})
    gone[steps(seconds).index(3_000)] = STALE
    return [
        one({"__name__": "load", "job": "shop", "instance": "a"},
            by_s({0: 1, 1: 8, 3: 4, 4: 9, 4.5: 1, 5: 8, 7: 1})),
        one({"__name__": "load", "job": "shop", "instance": "b"}, gone),
        one({"__name__": "load", "job": "cron", "instance": "c"}, by_s({0.5: 9, 2: None, 5.5: 9})),
        one({"__name__": "flap"}, [float(ms // 750 % 2) for ms in steps(seconds)]),
        one({"__name__": "build_info", "version": "1"}, by_s({0: 1, 2: 0})),
        one({"__name__": "build_info", "version": "2"}, by_s({2: 1, 5: None})),
        one({"__name__": "odd"}, by_s({0: 0, 2: math.nan, 3: 2, 4: math.inf, 5: -math.inf})),
        one({"__name__": "count_total"}, [float(ms % 3_500) for ms in steps(seconds)]),
    ]  # fmt: skip


class Growing:
    """Warroom's store: nothing after `now_ms` is seen, and what is appended is."""

    def __init__(self, series: Sequence[Series]) -> None:
        self.now_ms = 0
        self._reader = MemoryReader()
        for labels, samples in series:
            stamps = np.array([at for at, _ in samples], dtype=np.int64)
            self._reader.put(labels, stamps, np.array([value for _, value in samples]))

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, max_samples: int = 10**7
    ) -> SeriesSet:
        end_ms = min(end_ms, self.now_ms)
        return self._reader.select(matchers, start_ms, end_ms, max_samples=max_samples)

    def append(self, batch: Batch) -> Future[None]:
        assert isinstance(batch, SampleBatch)
        for place, labels in enumerate(batch.series):
            mine = batch.series_index == place
            self._reader.put(labels, batch.ts_ms[mine], batch.values[mine])
        done: Future[None] = Future()
        done.set_result(None)
        return done


def kept_by(server: Server, name: str, at_ms: int) -> dict[tuple[Labels, int], float]:
    """Every sample that a Prometheus keeps of a name."""
    reply = server.get("query", [("query", f"{name}[1h]"), ("time", at_ms / 1_000)])
    assert reply.status == 200, reply.body
    return {
        (Labels.of(row["metric"]), round(ts * 1_000)): float(value)
        for row in reply.json["data"]["result"]
        for ts, value in row["values"]
    }


def kept_here(store: Growing, name: str, end_ms: int) -> dict[tuple[Labels, int], float]:
    found = Engine(store, EngineOptions()).query(f"{name}[1h]", end_ms).result
    return {
        (labels, int(ts)): float(value)
        for labels, (stamps, values) in _rows(found)
        for ts, value in zip(stamps, values, strict=True)
    }


def _rows(result: Any) -> Iterator[tuple[Labels, tuple[Any, Any]]]:
    for place, labels in enumerate(result.series):
        part = slice(result.offsets[place], result.offsets[place + 1])
        yield labels, (result.ts_ms[part], result.values[part])


@pytest.mark.parametrize("limit", [0, 2], ids=["", "limited"])
def test_alerts_go_through_the_same_states_as_in_a_live_prometheus(
    limit: int, tmp_path: Path
) -> None:
    seconds = 9.0
    text = _limited(limit)
    (tmp_path / "rules.yml").write_text(text)
    config = f"global: {{evaluation_interval: 500ms}}\nrule_files: [{tmp_path / 'rules.yml'}]\n"
    flags = (f"--query.lookback-delta={LOOKBACK_MS}ms",)
    with running(tmp_path, [], *flags, config=config) as server:
        start_ms = time.time_ns() // 1_000_000 + LEAD_MS
        series = series_at(start_ms, seconds)
        server.write(series)
        assert time.time_ns() // 1_000_000 < start_ms, "the samples were not there beforehand"
        ends_ms = start_ms + round(seconds * 1_000)
        evaluated = _until_evaluated(server, ends_ms)
        theirs = {n: kept_by(server, n, evaluated[-1]) for n in ("ALERTS", "ALERTS_FOR_STATE")}
        rules = server.get("rules").json["data"]["groups"][0]

    store = Growing(series)
    engine = AlertEngine(
        AlertRepository(open_state()), default_routing(), series=AlertSeries(store)
    )
    options = EngineOptions(lookback_ms=LOOKBACK_MS)
    evaluator = RuleEvaluator(Engine(store, options), store, [parse_rule_file(text, "rules.yml")])
    # Warroom's tick is the interval: the group's own would skip what Prometheus did a moment late.
    evaluator.reload([_each_tick(file) for file in evaluator.files])
    passed: set[str] = set()
    for now_ms in evaluated:
        store.now_ms = now_ms
        health = evaluator.record(now_ms)
        alerts, more = evaluator.alerts(now_ms)
        failed = [unit for unit in (*health, *more) if not unit.ok]
        assert all(unit.error.startswith("exceeded limit of 2") for unit in failed), failed
        passed.update(unit.unit for unit in failed)
        engine.tick(now_ms, alerts, unknown_sources=unknown_units(more))
    for name, expected in theirs.items():
        # Prometheus keeps none at its first two evaluations, while it restores those of before.
        ours = kept_here(store, name, evaluated[-1])
        ours = {key: value for key, value in ours.items() if key[1] >= evaluated[2]}
        assert {key for key in ours if key not in expected} == set(), name
        assert {key for key in expected if key not in ours} == set(), name
        assert ours == expected, name
    assert bool(passed) == bool(limit)
    seen = {(labels.get("alertname"), labels.get("alertstate")) for labels, _ in theirs["ALERTS"]}
    # The comparison means something: every rule fired, and those with a hold were pending first.
    fired = {name for name, state in seen if state == "firing"}
    assert fired >= {"AtOnce", "Held", "Gone", "GoneByName", "Version", "ValueInLabel"}
    assert limit or fired >= {"Kept", "HeldAndKept", "FlappingKept", "NotANumber", "Restarted"}
    assert ("Flapping", "pending") in seen
    records = engine.snapshot().records.values()
    _agree(answer_of_rules(evaluator.statuses(), records)["groups"][0], rules)


def _limited(limit: int) -> str:
    text = RULES.replace("    rules:\n", f"    limit: {limit}\n    rules:\n")
    # What is only kept firing counts there, and not here.
    return re.sub(r"\n +keep_firing_for: .*", "", text) if limit else text


def _agree(answer: dict[str, Any], rules: dict[str, Any]) -> None:
    """A group of /api/v1/rules here and there: all that does not change with the instant."""
    for mine, other in zip(answer["rules"], rules["rules"], strict=True):
        assert set(other) <= set(mine), (mine, other)
        static = set(other) & {"name", "query", "type", "labels", "annotations", "health"}
        static |= set(other) & {"duration", "keepFiringFor", "lastError"}
        assert {key: mine[key] for key in static} == {key: other[key] for key in static}


def _each_tick(file: Any) -> Any:
    groups = tuple(replace(group, interval_ms=0) for group in file.groups)
    return replace(file, groups=groups)


def _until_evaluated(server: Server, end_ms: int) -> list[int]:
    """The instants of Prometheus's evaluations, once they have passed the last sample."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = kept_by(server, "evaluated:timestamp_seconds", time.time_ns() // 1_000_000)
        instants = sorted(at for _, at in found)
        if instants and instants[-1] >= end_ms:
            return instants
        time.sleep(0.1)
    pytest.fail("Prometheus stopped to evaluate its rules")
