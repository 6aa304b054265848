"""kill -9 at any moment: what was acknowledged is there, and nobody is paged twice."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.e2e.service import PagerDuty, Warroom, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 6
RESOURCE = Resource.create({"service.name": "shop", "service.instance.id": "one"})
CONFIG = """
evaluation_interval: 1s
rule_files: [rules.yml]
alertmanager_file: alertmanager.yml
business: {currency: EUR, time_zone: Europe/Berlin}
"""
RULES = """
groups:
  - name: queues
    rules:
      - alert: QueueLong
        expr: work_queue_length > 100
        labels: {severity: page, service: shop}
        annotations: {summary: The queue is long}
      - alert: QueueLongForAWhile
        expr: work_queue_length > 100
        for: 25s
        labels: {severity: page, service: shop}
        annotations: {summary: The queue has been long for a while}
"""
ALERTMANAGER = """
route:
  receiver: on-call
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 4h
receivers:
  - name: on-call
    pagerduty_configs:
      - url: {url}/v2/enqueue
        routing_key: 0123456789abcdef0123456789abcdef
"""


@dataclass
class Senders:
    """Four threads that send with what a shop has, and remember only what was acknowledged."""

    service: Warroom
    queue_length: int = 500
    traces: list[str] = field(default_factory=list)
    samples: list[tuple[int, float]] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    broken: list[BaseException] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Senders]:
        jobs = (self._send_traces, self._send_metrics, self._send_orders, self._send_logs)
        threads = [threading.Thread(target=self._guarded, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop(threads)

    def stop(self, threads: list[threading.Thread]) -> None:
        self.stopped.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as exc:
            self.broken.append(exc)
            raise

    def _send_traces(self) -> None:
        memory = InMemorySpanExporter()
        provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(memory))
        tracer = provider.get_tracer("kill")
        exporter = OTLPSpanExporter(
            f"http://127.0.0.1:{self.service.otlp_port}/v1/traces", timeout=1
        )
        while not self.stopped.wait(0.05):
            with tracer.start_as_current_span("checkout"), tracer.start_as_current_span("pay"):
                pass
            spans = memory.get_finished_spans()
            memory.clear()
            if exporter.export(spans) is SpanExportResult.SUCCESS:
                context = spans[0].context
                assert context is not None
                self.traces.append(f"{context.trace_id:032x}")
        exporter.shutdown()  # type: ignore[no-untyped-call]
        provider.shutdown()

    def _send_metrics(self) -> None:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
        meter = provider.get_meter("kill")
        queue = meter.create_gauge("work.queue.length")
        jobs = meter.create_counter("jobs")
        exporter = OTLPMetricExporter(
            f"127.0.0.1:{self.service.grpc_port}", insecure=True, timeout=1
        )
        while not self.stopped.wait(0.05):
            queue.set(self.queue_length)
            jobs.add(1)
            data = reader.get_metrics_data()
            assert data is not None
            if exporter.export(data) is MetricExportResult.SUCCESS:
                self.samples.append(_jobs_of(data))
        exporter.shutdown()
        provider.shutdown()

    def _send_orders(self) -> None:
        number = 0
        with httpx.Client(base_url=self.service.url, timeout=1) as client:
            while not self.stopped.wait(0.05):
                number += 1
                self._send_until_taken(client, f"order-{number}")

    def _send_logs(self) -> None:
        number = 0
        with httpx.Client(base_url=self.service.url, timeout=1) as client:
            while not self.stopped.wait(0.05):
                number += 1
                line = f"line {number}"
                try:
                    answer = client.post("/v1/logs", json=_log(line))
                except httpx.HTTPError:
                    continue
                if answer.status_code == 200:
                    self.logs.append(line)

    def _send_until_taken(self, client: httpx.Client, order: str) -> None:
        """The same event again and again: its id makes that harmless."""
        body = json.dumps(_purchase(order))
        headers = {"Content-Type": "application/cloudevents+json"}
        while not self.stopped.is_set():
            try:
                answer = client.post("/events", content=body, headers=headers)
            except httpx.HTTPError:
                self.stopped.wait(0.05)
                continue
            assert answer.status_code == 202, answer.text
            self.orders.append(order)
            return


def _jobs_of(data: MetricsData) -> tuple[int, float]:
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        if metric.name == "jobs":
            point: Any = metric.data.data_points[0]
            return point.time_unix_nano // 1_000_000, float(point.value)
    raise AssertionError("the SDK gave no counter")


def _purchase(order: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": order,
        "source": "kill-test",
        "type": "purchase",
        "time": datetime.now(UTC).isoformat(),
        "data": {
            "transaction_id": order,
            "checkout_id": f"c-{order}",
            "session_id": f"s-{order}",
            "value": "10.10",
            "currency": "EUR",
        },
    }


def _log(line: str) -> dict[str, object]:
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": line}}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


def _missing_logs(service: Warroom, acknowledged: list[str]) -> set[str]:
    stored: set[str] = set()
    after = ""
    while True:
        page = service.get("/api/warroom/v1/logs", limit=500, after=after).json()
        stored |= {found["body"] for found in page["logs"]}
        if page["next"] is None:
            return set(acknowledged) - stored
        after = page["next"]


def _missing_traces(service: Warroom, acknowledged: list[str]) -> list[str]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        return [
            trace
            for trace in acknowledged
            if len(_spans(client.get(f"/jaeger/api/traces/{trace}"))) != 2
        ]


def _spans(answer: httpx.Response) -> list[Any]:
    return answer.json()["data"][0]["spans"] if answer.status_code == 200 else []


def _missing_samples(
    service: Warroom, acknowledged: list[tuple[int, float]]
) -> set[tuple[int, float]]:
    answer = service.get("/api/v1/query", query="jobs_total[15m]").json()
    assert answer["status"] == "success", answer
    stored = {
        (round(float(at) * 1000), float(value))
        for series in answer["data"]["result"]
        for at, value in series["values"]
    }
    return set(acknowledged) - stored


def _orders(service: Warroom, since_s: float) -> tuple[int, float]:
    answer = service.get(
        "/api/warroom/v1/business/orders",
        **{"from": since_s - 60, "to": time.time() + 60, "step": 60},
    )
    assert answer.status_code == 200, answer.text
    points = answer.json()["points"]
    return sum(p["orders"] for p in points), sum(float(p["revenue"]) for p in points)


def _alert(service: Warroom, name: str) -> dict[str, Any]:
    for alert in service.get("/api/v1/alerts").json()["data"]["alerts"]:
        if alert["labels"]["alertname"] == name:
            return dict(alert)
    return {}


def _check_everything(service: Warroom, sent: Senders, begun_s: float) -> None:
    """What was acknowledged before this moment is there."""
    traces, samples, orders = list(sent.traces), list(sent.samples), list(sent.orders)
    logs = list(sent.logs)
    assert _missing_traces(service, traces) == []
    assert _missing_samples(service, samples) == set()
    assert _missing_logs(service, logs) == set()
    assert _orders(service, begun_s)[0] >= len(orders)
    assert sent.broken == []


def _triggers(pagerduty: PagerDuty, name: str) -> list[tuple[int, int]]:
    return [counts for key, counts in pagerduty.counts().items() if key.startswith(f"{name} ")]


def test_nothing_acknowledged_is_lost_and_each_alert_pages_once(
    warroom: Warroom, pagerduty: PagerDuty
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    draw = random.Random(seed)
    warroom.config = CONFIG
    (warroom.directory / "rules.yml").write_text(RULES)
    (warroom.directory / "alertmanager.yml").write_text(ALERTMANAGER.format(url=pagerduty.url))
    begun_s = time.time()
    warroom.start()
    with Senders(warroom).running() as sent:
        until(lambda: bool(_alert(warroom, "QueueLongForAWhile")), "the for: clock runs")
        active_since = _alert(warroom, "QueueLongForAWhile")["activeAt"]
        for number in range(KILLS):
            # Not a wait for something: a moment that nobody chose.
            sent.stopped.wait(draw.uniform(0.2, 3.0))
            warroom.kill()
            if number % 3 == 1:
                # Killed again while it recovers.
                warroom.launch()
                sent.stopped.wait(draw.uniform(0.2, 3.0))
                warroom.kill()
            warroom.start()
            _check_everything(warroom, sent, begun_s)
            assert _alert(warroom, "QueueLongForAWhile")["activeAt"] == active_since
            assert all(counts == (1, 0) for counts in pagerduty.counts().values())
        until(lambda: bool(_triggers(pagerduty, "QueueLongForAWhile")), "for: is over", 60)
        assert _triggers(pagerduty, "QueueLong") == [(1, 0)]
        sent.queue_length = 1
        until(
            lambda: sorted(pagerduty.counts().values()) == [(1, 1), (1, 1)],
            "both are resolved",
        )
        warroom.kill()
        warroom.start()
        until(lambda: not _alert(warroom, "QueueLong"), "the alert stays resolved")
    _check_everything(warroom, sent, begun_s)
    print(f"{len(sent.traces)} traces, {len(sent.samples)} samples, {len(sent.orders)} orders")
    assert min(len(sent.traces), len(sent.samples), len(sent.orders), len(sent.logs)) > 20
    orders, revenue = _orders(warroom, begun_s)
    # Only the event in flight at the end may be stored without an answer.
    assert len(sent.orders) <= orders <= len(sent.orders) + 1
    assert revenue == pytest.approx(orders * 10.10)
    assert sorted(pagerduty.counts().values()) == [(1, 1), (1, 1)]
