"""One configuration for both: Warroom and a real Prometheus scrape the same odd targets."""

from __future__ import annotations

import http.server
import json
import math
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from collector.scrape.target import shown_labels, without_query_values
from tests.collector import exposition_bytes as made
from tests.e2e.service import Warroom, free_port, needs, until

# How bounds are written, as Go and as OpenMetrics do, must not differ.
BOUNDS = {1: 1e-6, 2: 0.00025, 3: 0.5, 4: 10.0, 5: 123456.0, 6: 1e6, 7: 1234567.5, 8: 1e21}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LATENCY = made.native(3, [(-2, 2), (3, 1)], [3, 1, -2], zero_count=1, negative=([(0, 1)], [1]))
PROTOBUF = b"".join(
    (
        made.family(
            "latency_seconds",
            made.HISTOGRAM,
            made.metric(made.histogram(11, 4.5, made.bucket(4, 1.0), native=LATENCY)),
            made.metric(made.histogram(0, 0, native=made.native(0, [(0, 0)], [])), {"new": "yes"}),
        ),
        made.family(
            "classic",
            made.HISTOGRAM,
            made.metric(made.histogram(9, 1.5, *(made.bucket(n, b) for n, b in BOUNDS.items()))),
        ),
        made.family("size", made.SUMMARY, made.metric(made.summary(3, 1.5, {0.5: 0.4, 1: 2.0}))),
        made.family("orders_total", made.COUNTER, made.metric(made.counter(7), {"path": "/é"})),
        made.family("carts", made.GAUGE, made.metric(made.gauge(math.inf))),
    )
)
PAGES = {
    "/ok": 'a_total{path="/x",instance="own",job="mine"} 1\nb 2\nb_old{le="1"} 3\n',
    "/duplicates": "a 1\na 2\nb 3\n",
    "/many": "a 1\nb 2\nc 3\ngo_x 4\n",
    "/broken": 'a 1\nb 2\n<html lang="en">\n',
    "/labels": 'a{one="1",two="2",three="3"} 1\n',
    "/long": f'a{{value="{"x" * 100}"}} 1\n',
    "/times": "now 1\nown 2 {own_ms}\n",
    "/empty": "",
    "/openmetrics": (
        "# TYPE orders counter\n# HELP orders All of them.\n# TYPE age_seconds gauge\n"
        "# UNIT age_seconds seconds\nage_seconds 4\n"
        'orders_total{shop="de"} 3 # {trace_id="ab"} 1 1700000000.5\norders_created 1700000000\n'
        '# TYPE state stateset\nstate{state="on"} 1\n# EOF\n'
    ),
    "/cut": "# TYPE orders counter\norders_total 3\n",
    "/odd": 'a{quote="a\\"b\\\\c\\nd"} +Inf\nb NaN\nc -0\nd 1e-300\n',
}
JOBS = """
  - job_name: plain
    metrics_path: /ok
    static_configs: [{targets: ["TARGET"], labels: {zone: a}}]
  - job_name: honest
    metrics_path: /ok
    honor_labels: true
    static_configs: [{targets: ["TARGET"]}]
  - job_name: duplicates
    metrics_path: /duplicates
    static_configs: [{targets: ["TARGET"]}]
  - job_name: sample-limit
    metrics_path: /many
    sample_limit: 2
    static_configs: [{targets: ["TARGET"]}]
  - job_name: sample-limit-kept
    metrics_path: /many
    sample_limit: 3
    metric_relabel_configs:
      - {source_labels: [__name__], regex: go_.*, action: drop}
    static_configs: [{targets: ["TARGET"]}]
  - job_name: label-limit
    metrics_path: /labels
    label_limit: 5
    static_configs: [{targets: ["TARGET"]}]
  - job_name: label-limit-kept
    metrics_path: /labels
    label_limit: 6
    static_configs: [{targets: ["TARGET"]}]
  - job_name: value-limit
    metrics_path: /long
    label_value_length_limit: 99
    static_configs: [{targets: ["TARGET"]}]
  - job_name: name-limit
    metrics_path: /labels
    label_name_length_limit: 4
    static_configs: [{targets: ["TARGET"]}]
  - job_name: broken
    metrics_path: /broken
    static_configs: [{targets: ["TARGET"]}]
  - job_name: missing
    metrics_path: /missing
    static_configs: [{targets: ["TARGET"]}]
  - job_name: away
    static_configs: [{targets: ["127.0.0.1:1"]}]
  - job_name: empty
    metrics_path: /empty
    static_configs: [{targets: ["TARGET"]}]
  - job_name: odd
    metrics_path: /odd
    static_configs: [{targets: ["TARGET"]}]
  - job_name: own-times
    metrics_path: /times
    honor_timestamps: false
    static_configs: [{targets: ["TARGET"]}]
  - job_name: target-limit
    metrics_path: /ok
    target_limit: 1
    static_configs: [{targets: ["TARGET", "localhost:PORT"]}]
  - job_name: relabelled
    metrics_path: /nowhere
    params: {module: [a, b]}
    static_configs:
      - {targets: ["TARGET", "dropped:1"], labels: {team: shop, __meta_path: /many}}
    relabel_configs:
      - {source_labels: [__address__], regex: "dropped:.*", action: drop}
      - {source_labels: [__meta_path], target_label: __metrics_path__}
      - source_labels: [__address__]
        regex: "([^:]+):.*"
        target_label: host
        replacement: "h-${1}"
      - {source_labels: [__address__, team], modulus: 7, target_label: shard, action: hashmod}
      - {regex: "te(.+)", replacement: "own_$1", action: labelmap}
      - {source_labels: [team], target_label: loud, action: uppercase}
      - {target_label: instance, replacement: named}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: "([abc])", target_label: __name__, replacement: "re_$1"}
      - {regex: own_am, action: labeldrop}
      - source_labels: [__name__, host]
        separator: "/"
        regex: "re_(.)/h-(.*)"
        target_label: both
        replacement: "$1-$2"
  - job_name: rest-of-relabelling
    metrics_path: /ok
    static_configs:
      - {targets: ["TARGET"], labels: {team: Shop, owner: shop, other: Shop, __meta_a: b}}
    relabel_configs:
      - {source_labels: [team], target_label: team, action: lowercase}
      - {source_labels: [team], target_label: owner, action: keepequal}
      - {source_labels: [team], target_label: other, action: dropequal}
      - {source_labels: [other, missing], separator: "", target_label: missing}
      - source_labels: [team]
        regex: "(?P<first>s)h(.*)"
        replacement: "${first}-$2-$$1-$9"
        target_label: named
      - {source_labels: [team], regex: nothing, target_label: never, replacement: x}
      - {target_label: other, replacement: ""}
    metric_relabel_configs:
      - {regex: "__name__|job|instance|team|path|named|missing", action: labelkeep}
  - job_name: dropped-by-equality
    static_configs: [{targets: ["TARGET"], labels: {a: x, b: x}}]
    relabel_configs: [{source_labels: [a], target_label: b, action: dropequal}]
  - job_name: openmetrics
    metrics_path: /openmetrics
    static_configs: [{targets: ["TARGET"]}]
  - job_name: cut
    metrics_path: /cut
    static_configs: [{targets: ["TARGET"]}]
  - job_name: protobuf
    metrics_path: /protobuf
    static_configs: [{targets: ["TARGET"]}]
  - job_name: files
    metrics_path: /ok
    file_sd_configs: [{files: [targets/*.json, targets/*.yml], refresh_interval: 1s}]
  - job_name: asked
    metrics_path: /ok
    http_sd_configs: [{url: "http://TARGET/sd", refresh_interval: 1s}]
"""
CONFIG = "{head}\nscrape_configs:" + JOBS
# What Warroom writes about itself no scrape of the other knows; it appears after its first ticks.
SERIES = '{job=~".+",job!="warroom",__name__!="scrape_duration_seconds"}'


class Target(http.server.BaseHTTPRequestHandler):
    found: list[dict[str, Any]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/sd":
            self._answer(json.dumps(self.found), "application/json")
        elif path == "/protobuf" and "protobuf" in self.headers["Accept"]:
            self._send(PROTOBUF, made.CONTENT_TYPE)
        elif path in PAGES:
            own_ms = "1700000000000"
            openmetrics = path in ("/openmetrics", "/cut")
            media = "application/openmetrics-text" if openmetrics else "text/plain"
            self._answer(PAGES[path].replace("{own_ms}", own_ms), media)
        else:
            self.send_error(404)

    def _answer(self, text: str, content_type: str) -> None:
        self._send(text.encode(), content_type)

    def _send(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def target() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Target)
    address = f"127.0.0.1:{server.server_address[1]}"
    Target.found = [
        {"targets": [address], "labels": {"how": "http", "__meta_kind": "x"}},
        {"targets": ["127.0.0.1:1"], "labels": {}},
    ]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def write_files(directory: Path, target: str) -> None:
    (directory / "targets").mkdir(parents=True)
    (directory / "targets" / "a.json").write_text(
        json.dumps([{"targets": [target], "labels": {"how": "file"}}])
    )
    (directory / "targets" / "b.yml").write_text("- targets: ['127.0.0.1:1']\n")


@pytest.fixture
def prometheus(tmp_path: Path, target: str) -> Iterator[str]:
    directory = tmp_path / "prometheus"
    write_files(directory, target)
    port = free_port()
    head = "global: {scrape_interval: 1s, scrape_timeout: 1s}"
    text = CONFIG.replace("{head}", head)
    (directory / "prometheus.yml").write_text(addressed(text, target))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                needs("prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=native-histograms",
            ],
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(60)


def addressed(text: str, target: str) -> str:
    return text.replace("TARGET", target).replace("PORT", target.partition(":")[2])


def ours(target: str) -> str:
    text = addressed(CONFIG.replace("{head}", "evaluation_interval: 5s"), target)
    # What is a feature flag in the Prometheus of Debian is a setting of a job in newer ones.
    text = text.replace(": /protobuf", ": /protobuf\n    scrape_native_histograms: true")
    # Warroom has no global section.
    return text.replace("  - job_name:", "  - scrape_interval: 1s\n    job_name:")


def instant(url: str, expr: str) -> dict[str, Any]:
    try:
        answer = httpx.post(f"{url}/api/v1/query", data={"query": expr}, timeout=10).json()
    except httpx.HTTPError:
        return {}
    assert answer["status"] == "success", (expr, answer)
    return {
        str(sorted(s["metric"].items())): (
            float(s["value"][1]) if "value" in s else rounded(s["histogram"][1])
        )
        for s in answer["data"]["result"]
    }


def rounded(histogram: dict[str, Any]) -> str:
    """Both compute the bounds of buckets; the last digit is not what is compared."""
    buckets = histogram.get("buckets", [])
    numbers = [[f"{float(number):.12g}" for number in row] for row in buckets]
    return str((histogram["count"], histogram["sum"], numbers))


def different(one: dict[str, Any], other: dict[str, Any]) -> dict[str, object]:
    keys = one.keys() | other.keys()
    return {
        key: (one.get(key), other.get(key))
        for key in sorted(keys)
        if key not in one
        or key not in other
        or (one[key] != other[key] and str(one[key]) != str(other[key]))
    }


def scraped(url: str, wanted: dict[str, int]) -> bool:
    found = instant(url, "count by (job) (count_over_time(up[1m]) >= 3)")
    return all(found.get(str([("job", job)])) == count for job, count in wanted.items())


def pool(url: str, job: str) -> list[dict[str, Any]]:
    data = httpx.get(f"{url}/api/v1/targets", timeout=10).json()["data"]
    shown = ("discoveredLabels", "labels", "scrapeUrl", "health", "scrapeInterval")
    found = [
        {key: target[key] for key in shown}
        for target in data["activeTargets"]
        if target["scrapePool"] == job
    ]
    for target in found:
        # Prometheus before 2.45 shows this one as relabelling left it.
        target["discoveredLabels"].pop("__metrics_path__")
        # Ours hides what may be a secret.
        target["discoveredLabels"] = shown_labels(target["discoveredLabels"])
        target["scrapeUrl"] = without_query_values(target["scrapeUrl"])
    return sorted(found, key=lambda target: json.dumps(target, sort_keys=True))


def other_pool(url: str, peer: str, job: str) -> object:
    mine, theirs = pool(url, job), pool(peer, job)
    return None if mine == theirs else (mine, theirs)


def agree(difference: Callable[[], object]) -> None:
    last: list[object] = []

    def same() -> bool:
        last[:] = [difference()]
        return not last[0]

    try:
        until(same, "both are the same", 60)
    except AssertionError:
        pytest.fail(f"they differ: {last[0]}")


def test_both_make_the_same_of_the_same_targets(
    warroom: Warroom, target: str, prometheus: str
) -> None:
    write_files(warroom.directory, target)
    warroom.config = ours(target)
    warroom.start()
    wanted = {"plain": 1, "relabelled": 1, "files": 2, "asked": 2, "odd": 1, "broken": 1}
    for url in (prometheus, warroom.url):
        until(partial(scraped, url, wanted), f"{url} scraped", 60)
    # A scrape that a loaded machine lets time out differs for a moment.
    agree(lambda: different(instant(warroom.url, SERIES), instant(prometheus, SERIES)))
    assert len(instant(warroom.url, SERIES)) > 80
    for job in ("plain", "relabelled", "asked"):
        agree(partial(other_pool, warroom.url, prometheus, job))
    check_what_discovery_changes(warroom, target)


def check_what_discovery_changes(warroom: Warroom, target: str) -> None:
    """Targets that are no longer found go stale, new ones are scraped, a broken file is told."""
    files = 'up{job="files",how="file"} == 1'
    asked = 'up{job="asked",how="http"} == 1'
    until(lambda: len(instant(warroom.url, f"{files} or {asked}")) == 2, "both are found")
    found = warroom.directory / "targets" / "a.json"
    replaced = json.dumps([{"targets": [target], "labels": {"how": "other"}}])
    found.with_suffix(".new").write_text(replaced)
    found.with_suffix(".new").rename(found)
    Target.found = []
    until(lambda: not instant(warroom.url, f"{files} or {asked}"), "both are stale")
    # Not by age: everything of them ended with a marker, within the look-back of five minutes.
    assert instant(warroom.url, 'b{job="asked"}') == {}
    until(lambda: len(instant(warroom.url, 'b{job="files",how="other"}')) == 1, "the new one")
    found.write_text("[{")
    until(
        lambda: any(
            s["name"] == "discovery:files" and "a.json" in s["error"]
            for s in warroom.get("/api/warroom/v1/sources").json()["sources"]
        ),
        "the broken file is told",
    )
    other = 'up{job="files",how="other"} == 1'
    until(lambda: len(instant(warroom.url, other)) == 1, "what was found before stays")
