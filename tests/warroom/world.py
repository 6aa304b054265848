"""The whole service in memory, with a clock that the test holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from api.app import create_app
from store.model import Labels, SampleBatch
from warroom.app import Service, build
from warroom.config import Options, Settings, load

NOW_MS = 1_790_000_000_000  # on the grid of five seconds
TICK_MS = 5_000
IN_MEMORY = "store: {url: 'duckdb:memory'}\n"
SLO = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: checkout, displayName: Checkout works}
spec:
  service: shop
  budgetingMethod: Occurrences
  timeWindow: [{duration: 28d, isRolling: true}]
  objectives: [{target: 0.99}]
  indicator:
    metadata: {name: checkout-success}
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: Prometheus
            spec: {query: 'sum(increase(checkouts_total{result="ok"}[{{.window}}]))'}
        total:
          metricSource:
            type: Prometheus
            spec: {query: 'sum(increase(checkouts_total[{{.window}}]))'}
"""
RULES = """
groups:
  - name: shop
    rules:
      - alert: QueueGrows
        expr: queue_length > 100
        labels: {severity: page, service: shop}
        annotations: {summary: "{{ $value }} jobs wait", runbook: restart the worker}
"""


class Clock:
    """Time stands still until the test moves it."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class World:
    """A service, its clock, and a client that speaks to its application without a port."""

    def __init__(self, settings: Settings, clock: Clock, runner: asyncio.Runner) -> None:
        self.clock = clock
        self._runner = runner
        self.service: Service = build(settings, now=clock)
        self.app = create_app(self.service.web.parts)
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8600")

    def run(self, work: Any) -> Any:
        return self._runner.run(work)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer: httpx.Response = self.run(self._client.request(method, path, **options))
        return answer

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of an own route that must answer 200."""
        answer = self.ask("GET", f"/api/warroom/v1{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.ask("POST", f"/api/warroom/v1{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def refusal(self, method: str, path: str, status: int, **options: Any) -> dict[str, str]:
        """The error of a request that must be refused, checked for its one shape."""
        answer = self.ask(method, path, **options)
        assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
        body = answer.json()
        assert set(body) == {"error"}, body
        error: dict[str, str] = body["error"]
        assert set(error) == {"code", "message", "hint"}, error
        assert all(isinstance(part, str) for part in error.values())
        assert error["code"]
        assert error["message"]
        return error

    def samples(self, *rows: tuple[dict[str, str], int, float]) -> None:
        batch = SampleBatch.of_rows((Labels.of(labels), at, value) for labels, at, value in rows)
        self.service.store.append(batch).result(10)

    def evaluate(self, advance_ms: int = TICK_MS) -> int:
        """One tick later: rules, detectors, SLOs, figures, alerts; no delivery."""
        self.clock.now_ms += advance_ms
        self.service.ticker.evaluate(self.clock.now_ms)
        return self.clock.now_ms

    def publish(self) -> None:
        self.run(self.service.web.live.publish(self.clock.now_ms))

    def close(self) -> None:
        self.run(self._client.aclose())
        self.run(self.service.stop())


def settings_of(
    directory: Path, text: str = IN_MEMORY, files: Mapping[str, str] | None = None, **options: Any
) -> Settings:
    """What `warroom serve` would read from a configuration file and those beside it."""
    for name, content in (files or {}).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    path = directory / "warroom.yaml"
    path.write_text(text, encoding="utf-8")
    chosen: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "otlp_http": "off",
        "otlp_grpc": "off",
        "data_dir": str(directory / "data"),
        **options,
    }
    return load(Options(config=str(path), **chosen), {})


@contextmanager
def open_world(
    directory: Path, text: str = IN_MEMORY, files: Mapping[str, str] | None = None
) -> Iterator[World]:
    with asyncio.Runner() as runner:
        world = World(settings_of(directory, text, files), Clock(), runner)
        try:
            yield world
        finally:
            world.close()
