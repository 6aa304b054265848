"""Compile every kernel once, where progress can be shown; Numba keeps them on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from store.backends.duckdb import DuckDBStore
from store.model import Labels, Matcher, MatchOp, SampleBatch
from store.promql.engine import Engine

# One expression a kernel family; what they answer does not matter here.
_EXPRESSIONS = (
    "sum by (route) (rate(warm_total[1m]))",
    "histogram_quantile(0.95, sum by (le) (rate(warm_bucket[1m])))",
    "increase(warm_total[1m])",
    "irate(warm_total[1m])",
    "delta(warm_total[1m])",
    "max_over_time(warm_total[1m:10s])",
    "avg_over_time(warm_total[1m])",
    "sum_over_time(warm_total[1m])",
    "count_over_time(warm_total[1m])",
    "min_over_time(warm_total[1m])",
    "quantile_over_time(0.5, warm_total[1m])",
    "deriv(warm_total[1m])",
    "changes(warm_total[1m])",
    "last_over_time(warm_total[1m])",
    "warm_total / on (route) group_left sum by (route) (warm_total)",
    "topk(2, warm_total)",
    "quantile(0.9, warm_total)",
    "warm_total > 1 or warm_total unless warm_total == 3",
    "absent(nothing)",
)
_STEPS = 24
_STEP_MS = 5_000


def warm_up(show: Callable[[str], None], path: Path | None = None) -> None:
    """Run every kernel family over a few samples in a store of its own."""
    started = time.perf_counter()
    store = DuckDBStore.open(path)
    try:
        store.append(_samples()).result(timeout=120)
        everything = [Matcher("__name__", MatchOp.REGEX, "warm_.+")]
        store.select(everything, 0, _STEPS * _STEP_MS)
        engine = Engine(store)
        for index, expr in enumerate(_EXPRESSIONS, 1):
            engine.range(expr, 60_000, _STEPS * _STEP_MS, _STEP_MS)
            engine.instant(expr, _STEPS * _STEP_MS)
            show(f"    {index}/{len(_EXPRESSIONS)} {expr}")
    finally:
        store.close()
    show(f"    kernels ready in {time.perf_counter() - started:.1f} s")


def _samples() -> SampleBatch:
    rows = []
    for step in range(_STEPS):
        at_ms = step * _STEP_MS + 1
        for route in ("a", "b", "c"):
            counter = Labels.of({"__name__": "warm_total", "route": route})
            rows.append((counter, at_ms, float(step)))
        for bound in ("0.1", "1", "+Inf"):
            bucket = Labels.of({"__name__": "warm_bucket", "le": bound})
            rows.append((bucket, at_ms, float(step) * (1 if bound == "0.1" else 2)))
    batch = SampleBatch.of_rows(rows)
    assert np.all(np.isfinite(batch.values))
    return batch
