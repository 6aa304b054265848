"""What comes in goes out again: a real Prometheus, the running service, kill -9, an outage."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cramjam
import httpx
import pytest

from tests.collector.remote_write_bytes import series_bytes
from tests.e2e.service import Warroom, free_port, needs, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERIES = 40
SOAK = pytest.param(25, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])


@dataclass
class Prometheus:
    """A real one that takes remote writes; it may be stopped and started again."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / "prometheus.yml").write_text("")
        command = [
            needs("prometheus"),
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
            "--log.level=warn",
        ]
        with (self.directory / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._ready, "Prometheus is ready", 60)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def samples(self, selector: str) -> dict[str, set[tuple[int, float]]]:
        """Raw samples of the last quarter of an hour by label `n`."""
        return samples(self.url, selector)


def samples(url: str, selector: str) -> dict[str, set[tuple[int, float]]]:
    answer = httpx.post(
        f"{url}/api/v1/query", data={"query": f"{selector}[15m]"}, timeout=30
    ).json()
    assert answer["status"] == "success", answer
    found: dict[str, set[tuple[int, float]]] = {}
    for series in answer["data"]["result"]:
        found.setdefault(series["metric"].get("n", ""), set()).update(
            (round(float(at) * 1000), float(value)) for at, value in series["values"]
        )
    return found


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    program = Prometheus(tmp_path / "prometheus")
    program.start()
    yield program
    program.stop()


def config(url: str, extra: str = "") -> str:
    return f"""
evaluation_interval: 1s
rule_files: [rules.yml]
remote_write:
  - url: {url}/api/v1/write
    name: central
    remote_timeout: 5s
    queue_config: {{batch_send_deadline: 200ms, max_samples_per_send: 100, max_backoff: 500ms}}
    write_relabel_configs:
      - {{source_labels: [__name__], regex: 'private_.*', action: drop}}
      - {{target_label: site, replacement: berlin}}
{extra}
"""


RULES = """
groups:
  - name: recorded
    rules:
      - record: work:done:sum
        expr: sum(work_done_total)
"""


@dataclass
class Sender:
    """Sends by remote write, and remembers only what was acknowledged."""

    url: str
    acknowledged: dict[str, set[tuple[int, float]]] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    refused: int = 0

    def __enter__(self) -> Sender:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        assert self.thread is not None
        self.thread.join(30)

    def send(self, client: httpx.Client, value: float) -> None:
        at = time.time_ns() // 1_000_000
        body = b"".join(
            series_bytes(
                [("__name__", "work_done_total"), ("job", "test"), ("n", str(n))], [(at, value)]
            )
            for n in range(SERIES)
        ) + series_bytes([("__name__", "private_total")], [(at, value)])
        answer = client.post(
            "/api/v1/write",
            content=bytes(cramjam.snappy.compress_raw(body)),
            headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
        )
        if answer.status_code == 204:
            for n in range(SERIES):
                self.acknowledged.setdefault(str(n), set()).add((at, value))
        else:
            self.refused += 1

    def _run(self) -> None:
        value = 0.0
        with httpx.Client(base_url=self.url, timeout=2) as client:
            while not self.stopped.wait(0.02):
                value += 1
                try:
                    self.send(client, value)
                except httpx.HTTPError:
                    self.stopped.wait(0.05)


def lacking(
    wanted: dict[str, set[tuple[int, float]]], found: dict[str, set[tuple[int, float]]]
) -> dict[str, int]:
    return {
        n: len(rows - found.get(n, set()))
        for n, rows in wanted.items()
        if rows - found.get(n, set())
    }


@pytest.mark.parametrize("kills", [1, SOAK])
def test_everything_acknowledged_reaches_prometheus_through_kills_and_an_outage(
    warroom: Warroom, prometheus: Prometheus, kills: int
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    draw = random.Random(seed)
    warroom.config = config(prometheus.url)
    (warroom.directory / "rules.yml").write_text(RULES)
    warroom.start()
    with Sender(warroom.url) as sender:
        for number in range(kills):
            # Not a wait for something: a moment that nobody chose.
            sender.stopped.wait(draw.uniform(0.5, 2.0))
            if number % 5 == 0:
                prometheus.stop()
                sender.stopped.wait(draw.uniform(0.5, 1.5))
            warroom.kill()
            warroom.start()
            if number % 5 == 0:
                prometheus.start()
        count = len(sender.acknowledged["0"])
        until(lambda: len(sender.acknowledged["0"]) > count + 10, "it takes data again")
    wanted = sender.acknowledged
    until(
        lambda: not lacking(wanted, prometheus.samples("work_done_total")),
        "everything acknowledged is at Prometheus",
        60,
    )
    assert sender.refused == 0
    print(f"{warroom.log.count('completed from the store')} starts found samples in the store")
    assert set(prometheus.samples('work_done_total{site="berlin",job="test"}')) == set(wanted)
    assert prometheus.samples("private_total") == {}
    assert warroom.vector("private_total")
    until(lambda: bool(prometheus.samples("work:done:sum")), "recorded series arrive, too")
    ours = samples(warroom.url, "work:done:sum")[""]
    until(
        lambda: ours <= prometheus.samples('work:done:sum{site="berlin"}')[""],
        "all that was recorded",
    )
    (source,) = [
        s
        for s in warroom.get("/api/warroom/v1/sources").json()["sources"]
        if s["name"] == "forward:central"
    ]
    assert source["state"] == "ok", source
    figures = warroom.get("/metrics").text
    assert 'warroom_forward_samples_pending{endpoint="central"}' in figures
