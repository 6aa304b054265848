"""Chosen queries over the same data in a real Prometheus: the answers must be the same."""

from collections.abc import Iterator

import numpy as np
import pytest

from store.model import Labels
from store.promql.engine import Engine
from tests.store.promql.compared_world import END_MS, START_MS, reader_of, world
from tests.store.promql.real_prometheus import Server, running, table

RANGE_FUNCTIONS = (
    *("rate", "increase", "delta", "irate", "idelta", "deriv", "changes", "resets"),
    *(f"{name}_over_time" for name in ("sum", "avg", "min", "max", "count", "stddev", "stdvar")),
    *("present_over_time", "last_over_time"),
)
QUERIES = [
    *(f"{name}(requests_total[3m])" for name in RANGE_FUNCTIONS),
    *(f"{name}(depth[90s])" for name in RANGE_FUNCTIONS[2:9]),
    *(f"{op} by (route) (requests_total)" for op in ("sum", "avg", "min", "max", "count")),
    *(f"{op} without (host) (depth)" for op in ("stddev", "stdvar", "group")),
    *(f"depth {op} 40" for op in ("+", "-", "*", "/", "%", "^", "==", "!=", ">", "<=")),
    *(f"depth {op} bool on (host, route) depth offset 1m" for op in ("==", ">=")),
    "quantile(0.9, depth)",
    "quantile by (route) (0.35, depth)",
    "quantile_over_time(0.8, depth[2m])",
    "topk(2, depth)",
    "bottomk by (route) (1, depth)",
    'count_values("v", round(depth, 20))',
    "predict_linear(depth[4m], 300)",
    "histogram_quantile(0.9, sum by (le, route) (rate(seconds_bucket[2m])))",
    "histogram_quantile(0.2, seconds_bucket)",
    "requests_total / on (route) group_left () sum by (route) (requests_total)",
    "sum by (route) (rate(requests_total[1m])) / on (route) group_right () depth",
    'depth{host="a"} and on (route) requests_total > 1200',
    'depth or on (route) requests_total{host="c"}',
    "depth unless on (host) depth > 50",
    "absent(depth)",
    'absent(nothing{route="/x"})',
    "absent_over_time(gappy[1m])",
    "max_over_time(rate(requests_total[1m])[4m1s:30s])",
    "sum_over_time(depth[3m1s:50s] offset 1m)",
    "requests_total @ end() - requests_total @ start()",
    "label_replace(depth, 'zone', '$1-x', 'route', '/(.*)')",
    "label_join(depth, 'both', '-', 'host', 'route')",
    "gappy",
    "gappy offset 2m",
    "timestamp(gappy)",
    "clamp(depth, 20, 60)",
    "clamp_max(depth, 30) + clamp_min(depth, 60)",
    "-depth",
    "abs(depth - 50)",
    "ln(depth + 1) + sqrt(depth) + exp(depth / 100)",
    "scalar(sum(depth)) + time()",
    "minute() + hour() + day_of_week() + day_of_month() + days_in_month() + month() + year()",
    "sgn(depth - 50) + ceil(depth / 7) + floor(depth / 7) + sin(depth)",
    "vector(1) + on () group_right () depth",
]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("prometheus"), world()) as server:
        yield server


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(reader_of(world()))


@pytest.mark.parametrize("query", QUERIES)
def test_prometheus_answers_the_same(prometheus: Server, engine: Engine, query: str) -> None:
    step_ms = 20_000
    given = [("start", START_MS / 1000), ("end", END_MS / 1000), ("step", step_ms / 1000)]
    reply = prometheus.get("query_range", [("query", query), *given])
    theirs = table(reply.json["data"]["result"])
    matrix = engine.range(query, START_MS, END_MS, step_ms)
    ours = {
        (labels, int(matrix.steps_ms[step]) / 1000): float(matrix.values[row, step])
        for row, labels in enumerate(matrix.series)
        for step in np.nonzero(matrix.present[row])[0].tolist()
    }
    assert ours.keys() == theirs.keys()
    wrong = [
        (key, ours[key], theirs[key])
        for key in ours
        if not np.isclose(ours[key], theirs[key], rtol=1e-9, atol=1e-9, equal_nan=True)
    ]
    assert not wrong, wrong[:3]
    instant = prometheus.get("query", [("query", query), ("time", END_MS / 1000)]).json["data"]
    if instant["resultType"] == "vector":
        there = {Labels.of(row["metric"]): float(row["value"][1]) for row in instant["result"]}
        here = dict(engine.instant(query, END_MS).items())
        assert here.keys() == there.keys()
        assert all(np.isclose(here[one], there[one], rtol=1e-9, equal_nan=True) for one in here)
