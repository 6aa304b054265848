"""The same data and queries in a real Prometheus: the answers must be the same.

The server may be a 2.x, whose ranges are closed on the left: samples therefore stand off the grid
of evaluation times, so that no sample is ever exactly at an edge.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest

from store.model import Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader
from tests.collector.remote_write_bytes import series_bytes

BASE_MS = 1_700_000_000_000
STEP_MS = 15_000
SAMPLES = 120
START_MS = BASE_MS + 20 * 60_000
END_MS = START_MS + 8 * 60_000
BINARY = shutil.which("prometheus")

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


def world() -> list[tuple[Labels, list[tuple[int, float]]]]:
    rng = np.random.default_rng(7)
    found = []
    for route in ("/a", "/b"):
        for place, host in enumerate("abc"):
            jitter = 2_003 + 1_371 * place
            stamps = [BASE_MS + step * STEP_MS + jitter for step in range(SAMPLES)]
            counter = 1000 + np.cumsum(rng.integers(0, 9, SAMPLES)).astype(float)
            if host == "c":
                counter[100:] -= counter[100] - 900
            depth = rng.integers(0, 100, SAMPLES).astype(float)
            labels = {"host": host, "route": route}
            found.append((Labels.of(labels, __name__="requests_total"), counter, stamps))
            found.append((Labels.of(labels, __name__="depth"), depth, stamps))
            for bound, share in (("0.1", 0.3), ("0.5", 0.8), ("1", 0.95), ("+Inf", 1.0)):
                bucket = Labels.of(labels, __name__="seconds_bucket", le=bound)
                found.append((bucket, np.floor(counter * share), stamps))
    gaps = [BASE_MS + step * STEP_MS + 77 for step in range(SAMPLES) if step % 40 < 8]
    found.append((Labels.of(__name__="gappy"), np.arange(float(len(gaps))), gaps))
    return [
        (labels, list(zip(stamps, values.tolist(), strict=True)))
        for labels, values, stamps in found
    ]


def ask(url: str, path: str, **given: object) -> Any:
    text = f"{url}/api/v1/{path}?{urllib.parse.urlencode(given)}"
    with urllib.request.urlopen(text, timeout=20) as answer:
        return json.loads(answer.read())["data"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write(url: str) -> None:
    for labels, samples in world():
        body = bytes(cramjam.snappy.compress_raw(series_bytes(labels.pairs, samples)))
        request = urllib.request.Request(
            f"{url}/api/v1/write",
            body,
            {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
        )
        urllib.request.urlopen(request, timeout=20).close()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if BINARY is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI needs the prometheus binary for this comparison")
        pytest.skip("no prometheus binary is installed")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text("global: {}\n")
    port = free_port()
    command = [
        BINARY,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--storage.tsdb.retention.time=100y",
        "--log.level=error",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, process)
        write(url)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()
        except OSError:
            continue
        return
    pytest.fail("prometheus did not become ready")


@pytest.fixture(scope="module")
def engine() -> Engine:
    reader = MemoryReader()
    for labels, samples in world():
        reader.put(labels, [ts for ts, _ in samples], [value for _, value in samples])
    return Engine(reader)


def table(rows: Any) -> dict[tuple[Labels, float], float]:
    return {
        (Labels.of(row["metric"]), ts): float(value) for row in rows for ts, value in row["values"]
    }


@pytest.mark.parametrize("query", QUERIES)
def test_prometheus_answers_the_same(prometheus: str, engine: Engine, query: str) -> None:
    step_ms = 20_000
    data = ask(
        prometheus,
        "query_range",
        query=query,
        start=START_MS / 1000,
        end=END_MS / 1000,
        step=step_ms / 1000,
    )
    theirs = table(data["result"])
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
    instant = ask(prometheus, "query", query=query, time=END_MS / 1000)
    if instant["resultType"] == "vector":
        there = {Labels.of(row["metric"]): float(row["value"][1]) for row in instant["result"]}
        here = dict(engine.instant(query, END_MS).items())
        assert here.keys() == there.keys()
        assert all(np.isclose(here[one], there[one], rtol=1e-9, equal_nan=True) for one in here)
