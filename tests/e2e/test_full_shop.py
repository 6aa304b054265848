"""A whole shop at the service: its usual load is taken without loss; beyond that it sheds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from bench.full_shop import BODY_EVENTS, SERIES, TARGETS, Targets
from bench.proc import cpu_s, load_average, memory_bytes
from bench.shop_traces import BODY_SPANS
from tests.e2e.service import ROOT, Warroom, until

INTERVAL_S = 5
SOURCES = "/api/warroom/v1/sources"


@dataclass
class Watcher:
    """Somebody at the wall, who also asks the API; and the memory at each question."""

    service: Warroom
    messages: int = 0
    slowest_api_s: float = 0.0
    resident: list[tuple[float, int]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _errors: list[Exception] = field(default_factory=list)

    def __enter__(self) -> Watcher:
        self._threads = [
            threading.Thread(target=self._guarded, args=[work], daemon=True)
            for work in (self._watch, self._ask)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._threads[1].join(60)
        assert not self._errors, self._errors

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 -- told to the test, by its own thread
            if not self._done.is_set():
                self._errors.append(error)

    def _watch(self) -> None:
        address = f"{self.service.url}/api/warroom/v1/live?board=war-room"
        with httpx.stream("GET", address, timeout=60) as stream:
            for line in stream.iter_lines():
                self.messages += line.startswith("data:")
                if self._done.is_set():
                    return

    def _ask(self) -> None:
        assert self.service.process is not None
        pid = self.service.process.pid
        while not self._done.wait(1.0):
            asked_s = time.monotonic()
            assert self.service.get("/api/warroom/v1/slos").status_code == 200
            self.slowest_api_s = max(self.slowest_api_s, time.monotonic() - asked_s)
            self.resident.append((asked_s, memory_bytes(pid)[0]))

    def grown_bytes(self, last_s: float) -> int:
        """The largest of the last seconds, less the largest before."""
        since_s = self.resident[-1][0] - last_s
        before = max(size for at_s, size in self.resident if at_s <= since_s)
        return max(size for at_s, size in self.resident if at_s > since_s) - before


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    server = Targets(SERIES)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(30)
    server.server_close()


def scraping(targets: Targets, count: int) -> str:
    port = targets.server_address[1]
    rows = "".join(
        f"  - targets: ['127.0.0.1:{port}']\n    labels: {{__metrics_path__: /{n}, host: 'h{n}'}}\n"
        for n in range(count)
    )
    head = f"scrape_configs:\n- job_name: shop\n  scrape_interval: {INTERVAL_S}s\n"
    return f"evaluation_interval: {INTERVAL_S}s\n{head}  static_configs:\n{rows}"


def shop(service: Warroom, *, times: float, seconds: float, connections: int) -> dict[str, Any]:
    """Run the shop in a process of its own; what it says became of what it sent."""
    command = [sys.executable, "-m", "bench.full_shop"]
    options = {
        "port": service.port,
        "otlp-port": service.otlp_port,
        "seconds": seconds,
        "times": times,
        "connections": connections,
    }
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    told: dict[str, Any] = orjson.loads(done.stdout)
    return told


def metric(service: Warroom, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels."""
    total = 0.0
    for line in service.get("/metrics").text.splitlines():
        sample, _, value = line.rpartition(" ")
        wanted = sample.partition("{")[0] == name
        if wanted and all(f'{key}="{text}"' in sample for key, text in labels.items()):
            total += float(value)
    return total


def accepted(service: Warroom, signal: str) -> float:
    return metric(service, "warroom_collector_accepted_total", signal=signal)


def requests_refused(service: Warroom, receiver: str, source: str, items: int) -> float:
    """Requests that had to wait, as the service counts them: late refusals are counted by item."""
    dropped = "warroom_collector_dropped_total"
    early = metric(service, dropped, reason="overloaded", source=receiver)
    return early + metric(service, dropped, reason="memory", source=source) / items


def states(service: Warroom) -> dict[str, str]:
    return {row["name"]: row["state"] for row in service.get(SOURCES).json()["sources"]}


def nothing_is_lost(service: Warroom, told: dict[str, Any]) -> None:
    """Everything that was acknowledged is counted and stored, once."""
    spans, events = told["spans"], told["events"]
    assert spans["accepted"] == accepted(service, "spans")
    assert events["accepted"] == accepted(service, "events")
    assert metric(service, "warroom_store_spans_written_total") == spans["accepted"]


def ticks(service: Warroom) -> float:
    """Ticks so far."""
    return metric(service, "warroom_tick_duration_seconds_count", step="alert")


def tick_seconds(service: Warroom) -> float:
    """The mean time of a tick over the last minute, in seconds."""
    name = "warroom_tick_duration_seconds"
    expr = f"sum(rate({name}_sum[1m])) / max(rate({name}_count[1m]))"
    return next(iter(service.vector(expr).values()))


def report(service: Warroom, watcher: Watcher, told: dict[str, Any], used_s: float) -> None:
    peak = max(size for _, size in watcher.resident) >> 20
    sys.stderr.write(
        f"\nload {load_average():.1f}, {used_s:.0f} CPU-s of the service, at most {peak} MiB,"
        f" API at worst {watcher.slowest_api_s:.2f} s, {watcher.messages} messages,"
        f" {orjson.dumps(told).decode()}\n"
    )


def test_what_is_past_a_limit_is_refused_counted_and_shown(
    tmp_path: Path, targets: Targets
) -> None:
    limits = "limits: {per_source: {spans_per_second: 100, events_per_second: 1}}\n"
    service = Warroom(tmp_path, limits + scraping(targets, 3))
    service.start()
    try:
        with Watcher(service) as watcher:
            told = shop(service, times=0.5, seconds=7, connections=2)
            until(lambda: watcher.messages >= 2, "the board goes on")
        nothing_is_lost(service, told)
        spans, events = told["spans"], told["events"]
        assert spans["retry_after"] == spans["statuses"]["429"] > 0
        assert events["refused"] > 0
        dropped = "warroom_collector_dropped_total"
        assert (
            metric(service, dropped, reason="rate_limited", source="otlp:shop")
            == (spans["refused"])
        )
        assert metric(service, dropped, reason="rate_limited", source="events") == events["refused"]
        assert metric(service, dropped) == spans["refused"] + events["refused"]
        assert states(service)["otlp:shop"] == "shedding"
        until(lambda: set(service.vector("up").values()) == {1.0}, "all targets are up")
    finally:
        service.stop()


@pytest.mark.soak
def test_the_usual_load_is_taken_without_loss(tmp_path: Path, targets: Targets) -> None:
    service = Warroom(tmp_path, scraping(targets, TARGETS))
    service.start()
    assert service.process is not None
    try:
        used_s = cpu_s(service.process.pid)
        seconds = float(os.environ.get("FULL_SHOP_SECONDS", "180"))
        begun = ticks(service)
        with Watcher(service) as watcher:
            told = shop(service, times=1, seconds=seconds, connections=4)
        report(service, watcher, told, cpu_s(service.process.pid) - used_s)
        nothing_is_lost(service, told)
        assert told["spans"]["refused"] == told["events"]["refused"] == 0
        assert metric(service, "warroom_collector_dropped_total") == 0
        assert told["spans"]["skipped"] == told["events"]["skipped"] == 0
        assert set(service.vector("up").values()) == {1.0}
        assert sum(service.vector("scrape_samples_scraped").values()) == TARGETS * SERIES
        assert tick_seconds(service) < INTERVAL_S
        assert ticks(service) - begun >= 0.6 * seconds / INTERVAL_S
        assert watcher.messages >= ticks(service) - begun - 3
        assert watcher.grown_bytes(60) < 256 << 20
    finally:
        service.stop()


@pytest.mark.soak
def test_ten_times_the_load_is_shed_and_the_board_stays_live(
    tmp_path: Path, targets: Targets
) -> None:
    service = Warroom(tmp_path, "limits: {memory: 2GB}\n" + scraping(targets, TARGETS))
    service.start()
    assert service.process is not None
    try:
        used_s, seconds = cpu_s(service.process.pid), 60
        begun = ticks(service)
        with Watcher(service) as watcher:
            told = shop(service, times=10, seconds=seconds, connections=16)
        report(service, watcher, told, cpu_s(service.process.pid) - used_s)
        nothing_is_lost(service, told)
        spans, events = told["spans"], told["events"]
        refused = [kind["statuses"].get("429", 0) for kind in (spans, events)]
        assert spans["statuses"].keys() <= {"200", "429"}
        assert spans["retry_after"] == refused[0] > 0
        assert refused == [
            requests_refused(service, "otlp", "otlp:shop", BODY_SPANS),
            requests_refused(service, "events", "events", BODY_EVENTS),
        ]
        assert watcher.slowest_api_s < 1
        # The guard looks a few times a second, and what was let in goes on.
        assert max(size for _, size in watcher.resident) < 2.2e9
        assert ticks(service) - begun >= 0.6 * seconds / INTERVAL_S
        assert watcher.messages >= ticks(service) - begun - 3
        assert set(service.vector("up").values()) == {1.0}
        until(lambda: states(service)["otlp"] == "ok", "no longer sheds", 60)
        later = shop(service, times=0.1, seconds=5, connections=2)
        assert later["spans"]["refused"] == 0
        until(lambda: states(service)["otlp:shop"] == "ok", "well again", 60)
    finally:
        service.stop()
