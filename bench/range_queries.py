"""Range and instant queries, cold (first after a restart) and warm, over HTTP with the answer read.

Every answer is checked: it must hold the same number of series on every server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import orjson

from bench.series import (
    BUCKET,
    COUNTER,
    SCRAPE_MS,
    bucket_values,
    buckets,
    counter_values,
    counters,
)
from bench.server import BenchFailed, Server
from bench.setup import Setup, first_scrape_ms, load, wait_loaded
from bench.table import Row, Table
from bench.targets import Target


@dataclass(frozen=True, slots=True)
class Query:
    """A named expression; an instant one has no steps, one with ties may answer other series.

    A refreshed one is asked as a dashboard does: each time a step later, remembered steps allowed.
    """

    what: str
    expr: str
    instant: bool = False
    may_differ: bool = False
    refreshed: bool = False


QUERIES = (
    Query("sum by (route) (rate)", f"sum by (route) (rate({COUNTER}[5m]))"),
    Query(
        "histogram_quantile",
        f"histogram_quantile(0.95, sum by (le) (rate({BUCKET}[5m])))",
    ),
    Query("one instance", f'{COUNTER}{{instance="web-0001:8000"}}'),
    Query(
        "subquery max_over_time",
        f"max by (route) (max_over_time({COUNTER}[30m:1m]))",
    ),
    Query("topk", f"topk(5, rate({COUNTER}[5m]))", may_differ=True),
    Query("regex", f'sum by (status) (rate({COUNTER}{{route=~"/shop/section-[0-9]/"}}[5m]))'),
    Query("refreshed dashboard", f"sum by (route) (rate({COUNTER}[5m]))", refreshed=True),
    Query("instant, sum by (rate)", f"sum by (route) (rate({COUNTER}[5m]))", instant=True),
    Query("instant, count", f"count({COUNTER})", instant=True),
    Query("instant, one instance", f'{COUNTER}{{instance="web-0001:8000"}}', instant=True),
)


@dataclass(frozen=True, slots=True)
class _Time:
    """Seconds of one query, and how many series it answered."""

    cold_s: float
    warm_s: float
    warm_cpu_s: float
    series: int


def run(setup: Setup) -> list[Table]:
    """All queries on one loaded server of each target."""
    sizes = setup.sizes
    first_ms = first_scrape_ms(sizes.query_samples)
    end_ms = first_ms + (sizes.query_samples - 1) * SCRAPE_MS
    times = {target.name: _measure(setup, target, first_ms, end_ms) for target in setup.targets}
    _check(times)
    rows: list[Row] = []
    for query in QUERIES:
        of = {name: answers[query.what] for name, answers in times.items()}
        cold = {name: t.cold_s * 1000 for name, t in of.items()}
        warm = {name: t.warm_s * 1000 for name, t in of.items()}
        cpu = {name: t.warm_cpu_s * 1000 for name, t in of.items()}
        rows.append(Row(f"{query.what}, cold", "ms", "less", cold))
        rows.append(Row(f"{query.what}, warm", "ms", "less", warm))
        if not query.instant:
            rows.append(Row(f"{query.what}, warm", "CPU ms", "less", cpu))
    notes = [
        f"{sizes.series:,} series of a counter and {sizes.series:,} of a histogram,"
        f" {sizes.query_samples} samples each; range queries have {sizes.query_steps} steps"
        f" of {SCRAPE_MS // 1000} s.",
        "Cold is the first time after a restart, the files still in the page cache. Warm is the"
        f" median of {sizes.query_repeats}; Warroom and VictoriaMetrics are asked not to use their"
        " caches of answers.",
        "Refreshed dashboard: the same expression a step later each time, caches in use.",
        "Servers that answer different numbers of series fail the run (topk with ties may). CPU is"
        " counted in steps of 10 ms.",
    ]
    return [Table("range_queries", "Queries", rows, notes)]


def _measure(setup: Setup, target: Target, first_ms: int, end_ms: int) -> dict[str, _Time]:
    sizes = setup.sizes
    count, samples = sizes.series, sizes.query_samples
    with setup.server(target, "queries") as server:
        setup.say(f"queries: loading {target.name}")
        load(server, counters(count), counter_values(count, samples, 1), first_ms)
        load(server, buckets(count), bucket_values(count, samples, 2), first_ms)
        wait_loaded(server, COUNTER, end_ms, count)
        server.stop()
        server.start()
        time.sleep(sizes.settle_s)
        setup.say(f"queries: asking {target.name}")
        return {query.what: _time(setup, server, query, end_ms) for query in QUERIES}


def _time(setup: Setup, server: Server, query: Query, end_ms: int) -> _Time:
    repeats = setup.sizes.query_repeats
    ends = [end_ms - (repeats - at) * SCRAPE_MS * query.refreshed for at in range(repeats + 1)]
    (cold_s, _, series), *warm = [_ask(setup, server, query, end) for end in ends]
    return _Time(
        cold_s=cold_s,
        warm_s=median(wall_s for wall_s, _, _ in warm),
        warm_cpu_s=max(0.005, sum(cpu_s for _, cpu_s, _ in warm) / len(warm)),
        series=series,
    )


def _ask(setup: Setup, server: Server, query: Query, end_ms: int) -> tuple[float, float, int]:
    parameters = {"query": query.expr}
    if not query.refreshed:
        parameters |= dict(server.target.no_cache)
    end_s = end_ms / 1000
    if query.instant:
        path = "/api/v1/query"
        parameters["time"] = f"{end_s:.3f}"
    else:
        path = "/api/v1/query_range"
        step_s = SCRAPE_MS // 1000
        start_s = end_s - (setup.sizes.query_steps - 1) * step_s
        parameters |= {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": str(step_s)}
    before_s = server.cpu_s()
    started = time.perf_counter()
    status, body = server.get(path, parameters)
    wall_s = time.perf_counter() - started
    cpu_s = server.cpu_s() - before_s
    if status != 200:
        raise BenchFailed(f"{server.target.name} answered {status} to {query.expr}: {body[:300]!r}")
    return wall_s, cpu_s, len(orjson.loads(body)["data"]["result"])


def _check(times: Mapping[str, Mapping[str, _Time]]) -> None:
    for query in QUERIES:
        counts = {name: answers[query.what].series for name, answers in times.items()}
        differ = len(set(counts.values())) != 1 and not query.may_differ
        if differ or 0 in counts.values():
            raise BenchFailed(f"{query.expr} answers different numbers of series: {counts}")
