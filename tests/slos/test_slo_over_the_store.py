"""SLOs over the real store and the real PromQL engine."""

from __future__ import annotations

import numpy as np
import pytest

from slos.evaluation import SloEvaluator
from slos.model import SloState
from slos.spec import parse_slos
from store.model import Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store

START_MS = 1_700_000_000_000
EVERY_MS = 2_000
SLOS = """
version: prometheus/v1
service: shop
labels: {windows: rehearsal-24h}
slos:
  - name: api
    objective: 99
    sli:
      events:
        error_query: sum(rate(http_requests_total{code=~"5.."}[{{.window}}]))
        total_query: sum(rate(http_requests_total[{{.window}}]))
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: latency}
spec:
  service: shop
  indicator:
    metadata: {name: latency}
    spec:
      thresholdMetric:
        metricSource: {type: Prometheus, spec: {query: latency_seconds}}
  timeWindow: [{duration: 1d, isRolling: true}]
  objectives: [{op: lte, value: 0.3, target: 0.99}]
"""


def samples(seconds: int, fault: tuple[int, int]) -> SampleBatch:
    """Fifty requests a second; all fail in the fault, and take a second each."""
    ts = np.arange(0, seconds * 1_000, EVERY_MS, dtype=np.int64)
    failing = (ts >= fault[0] * 1_000) & (ts < fault[1] * 1_000)
    good, bad = np.cumsum(~failing * 100.0), np.cumsum(failing * 100.0)
    latency = np.where(failing, 1.0, 0.1)
    series = (
        Labels.of(__name__="http_requests_total", code="200"),
        Labels.of(__name__="http_requests_total", code="500"),
        Labels.of(__name__="latency_seconds"),
    )
    return SampleBatch(
        series,
        np.repeat(np.arange(3, dtype=np.int32), len(ts)),
        np.tile(ts + START_MS, 3),
        np.concatenate([good, bad, latency]),
    )


def test_a_burn_is_found_told_recorded_and_over() -> None:
    with open_store() as store:
        store.append(samples(1_000, (600, 660))).result(timeout=30)
        engine = Engine(store)
        evaluator = SloEvaluator(engine, store, parse_slos(SLOS, "slos.yml"))
        firing = {}
        for second in range(560, 760, 5):
            tick = evaluator.tick(START_MS + second * 1_000)
            assert all(health.ok for health in tick.health), tick.health
            firing[second] = tick.statuses[0].tiers[0].firing
            if second == 655:
                assert tick.statuses[0].state is SloState.BURNING
                assert "requests failed; the budget of 1 d is spent" in tick.statuses[0].statement
                assert tick.statuses[0].total_events == pytest.approx(655 * 50, rel=0.01)
                assert tick.statuses[1].tiers[0].firing
        on = [second for second, fires in firing.items() if fires]
        # 14.4 % of two minutes must have failed: 17 s; then 10 s to reset.
        assert 615 <= on[0] <= 625
        assert 660 <= on[-1] <= 670
        recorded = engine.instant("slo:current_burn_rate:ratio", START_MS + 655_000)
        assert {labels.get("sloth_slo") for labels in recorded.series} == {"api", "latency"}
        assert recorded.values.max() == pytest.approx(100, rel=0.01)
