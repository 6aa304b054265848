"""The real promtool and a real Prometheus against the running service."""

import http.server
import math
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typing_extensions import override

from tests.e2e.service import Warroom, free_port, needs, until

EXPRESSIONS = [
    "sum by (route) (jobs_total)",
    "queue_length",
    'queue_length{queue=~"ma.*"} * 2',
    "histogram_quantile(0.9, sum by (le) (work_seconds_bucket))",
    "topk(1, jobs_total)",
    "absent(nothing_here)",
    "count(up == 1)",
    "jobs_total / on (route) group_left sum by (route) (jobs_total)",
    "label_replace(queue_length, 'q', '$1', 'queue', '(.).*')",
    "max_over_time(queue_length[1m])",
    "clamp_max(jobs_total, 5) or vector(1)",
    "quantile(0.5, jobs_total) + scalar(sum(queue_length))",
    "jobs_total unless jobs_total > 7",
    "stddev(jobs_total)",
    "work_seconds_sum / work_seconds_count",
]
PAGE = """# TYPE jobs_total counter
jobs_total{route="a",code="200"} 10
jobs_total{route="a",code="500"} 2
jobs_total{route="b",code="200"} 7.5
# TYPE queue_length gauge
queue_length{queue="mail"} 3
queue_length{queue="thumbs"} NaN
queue_length{queue="odd \\"name\\""} -1e-3
# TYPE work_seconds histogram
work_seconds_bucket{le="0.1"} 3
work_seconds_bucket{le="1"} 9
work_seconds_bucket{le="+Inf"} 10
work_seconds_sum 6.25
work_seconds_count 10
"""


class Exporter(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    @override
    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def exporter() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def scrape_config(target: str) -> str:
    return f"""
scrape_configs:
  - job_name: shop
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture
def prometheus(tmp_path: Path, exporter: str) -> Iterator[str]:
    program = needs("prometheus")
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(scrape_config(exporter))
    log = (tmp_path / "prometheus.log").open("wb")
    process = subprocess.Popen(
        [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=log,
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)
    log.close()


def instant(url: str, expr: str) -> dict[str, float]:
    try:
        answer = httpx.post(f"{url}/api/v1/query", data={"query": expr}, timeout=10).json()
    except httpx.HTTPError:
        return {}
    assert answer["status"] == "success", (expr, answer)
    return {
        str(sorted(s["metric"].items())): float(s["value"][1]) for s in answer["data"]["result"]
    }


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(one[key], other[key], rel_tol=1e-12)
        or (math.isnan(one[key]) and math.isnan(other[key]))
        for key in one
    )


@pytest.mark.timeout(240)
def test_both_scrape_the_same_page_and_give_the_same_answers(
    warroom: Warroom, exporter: str, prometheus: str
) -> None:
    warroom.config = scrape_config(exporter)
    warroom.start()
    until(lambda: len(instant(prometheus, "up == 1")) == 1, "Prometheus scraped")
    until(lambda: len(instant(warroom.url, "up == 1")) == 1, "Warroom scraped")
    different = {
        expr: (ours, theirs)
        for expr in EXPRESSIONS
        if not same(ours := instant(warroom.url, expr), theirs := instant(prometheus, expr))
    }
    assert different == {}


@pytest.mark.timeout(240)
def test_promtool_reads_what_was_scraped(warroom: Warroom, exporter: str) -> None:
    promtool = needs("promtool")
    warroom.config = scrape_config(exporter)
    warroom.start()
    until(lambda: len(instant(warroom.url, "up == 1")) == 1, "Warroom scraped")

    def ask(*arguments: str) -> str:
        command = [promtool, "query", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "=> 12 @[" in ask("instant", warroom.url, 'sum(jobs_total{route="a"})')
    assert 'queue_length{instance="' in ask("instant", warroom.url, 'queue_length{queue="mail"}')
    assert "scalar: 2 @[" in ask("instant", warroom.url, "1 + 1")
    assert "route" in ask("labels", warroom.url, "route") or "a" in ask(
        "labels", warroom.url, "route"
    )
    assert "jobs_total" in ask("series", "--match=jobs_total", warroom.url)
    assert "=>" not in ask("range", "--step=1s", warroom.url, "nothing_here")
