"""Queries over thirty days, warm: the trend that a review of the last sale looks at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import orjson

from bench.series import COUNTER, counter_values, counters
from bench.server import BenchFailed, Server
from bench.setup import Setup, first_scrape_ms, load, wait_loaded
from bench.table import OURS, Row, Table
from bench.targets import PROMETHEUS, Target

_INTERVAL_MS = 60_000
_HOUR_S, _DAY_S = 3_600, 86_400
# Samples of 30 days arrive at once: ours keeps them raw for as long, theirs takes old ones.
_CONFIG = {
    OURS: "store: {retention: {raw: 60d}}\n",
    PROMETHEUS: "storage: {tsdb: {out_of_order_time_window: 60d}}\n",
}


@dataclass(frozen=True, slots=True)
class _Query:
    what: str
    expr: str
    step_s: int


_QUERIES = (
    _Query("sum by (route) (rate), step 1 h", f"sum by (route) (rate({COUNTER}[1h]))", _HOUR_S),
    _Query("one series, step 1 h", f'{COUNTER}{{route="/shop/section-1/",status="200"}}', _HOUR_S),
    _Query(
        "max by (job) (max_over_time), 1 d", f"max by (job) (max_over_time({COUNTER}[1d]))", _DAY_S
    ),
)


def run(setup: Setup) -> list[Table]:
    """Every query on one loaded server of each target."""
    count, days = setup.sizes.month
    found = {target.name: _measure(setup, target, count, days) for target in setup.targets}
    _check(found)
    rows = [
        Row(query.what, "ms", "less", {name: of[query.what][0] for name, of in found.items()})
        for query in _QUERIES
    ]
    notes = [
        f"{count} series of {days} days, a sample a minute; medians of {setup.sizes.query_repeats}"
        " after one that is not counted.",
    ]
    return [Table("month", f"Queries over {days} days", rows, notes)]


def _check(found: Mapping[str, Mapping[str, tuple[float, int]]]) -> None:
    for query in _QUERIES:
        series = {name: of[query.what][1] for name, of in found.items()}
        if len(set(series.values())) != 1 or 0 in series.values():
            raise BenchFailed(f"{query.expr} answers different numbers of series: {series}")


def _measure(setup: Setup, target: Target, count: int, days: int) -> dict[str, tuple[float, int]]:
    setup.say(f"{days} days: {target.name}")
    samples = days * _DAY_S * 1000 // _INTERVAL_MS
    first_ms = first_scrape_ms(samples, _INTERVAL_MS)
    end_ms = first_ms + (samples - 1) * _INTERVAL_MS
    with setup.server(target, "month", _CONFIG.get(target.name, "")) as server:
        values = counter_values(count, samples, seed=7)
        load(server, counters(count), values, first_ms, _INTERVAL_MS)
        wait_loaded(server, COUNTER, end_ms, count)
        return {query.what: _time(setup, server, query, end_ms, days) for query in _QUERIES}


def _time(setup: Setup, server: Server, query: _Query, end_ms: int, days: int) -> tuple[float, int]:
    _ask(server, query, end_ms, days)
    asked = [_ask(server, query, end_ms, days) for _ in range(setup.sizes.query_repeats)]
    return median(wall_s for wall_s, _ in asked) * 1000, asked[-1][1]


def _ask(server: Server, query: _Query, end_ms: int, days: int) -> tuple[float, int]:
    end_s = end_ms / 1000
    parameters = {
        "query": query.expr,
        "start": f"{end_s - days * _DAY_S + query.step_s:.3f}",
        "end": f"{end_s:.3f}",
        "step": str(query.step_s),
        **dict(server.target.no_cache),
    }
    started = time.perf_counter()
    status, body = server.get("/api/v1/query_range", parameters)
    wall_s = time.perf_counter() - started
    if status != 200:
        raise BenchFailed(f"{server.target.name} answered {status} to {query.expr}: {body[:300]!r}")
    return wall_s, len(orjson.loads(body)["data"]["result"])
