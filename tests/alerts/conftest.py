"""A PagerDuty Events v2 double on loopback, with faults on demand, and a wired alerting half."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from alerts.engine import AlertEngine
from alerts.ledger.repository import OutboxRepository
from alerts.model import Alert
from alerts.repository import AlertRepository
from alerts.route_tree import Integration, Routing, Secret
from store.model import Labels
from store.sql import SessionFactory, open_engine, open_sessions, upgrade

NOW_MS = 1_795_766_400_000


@dataclass
class PagerDutyDouble:
    """Takes events as PagerDuty does. `faults` are answers given before it works again.

    A fault is a status, "drop" (the event is taken, the answer is lost) or "reset" (neither).
    """

    url: str = ""
    faults: list[int | str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """PagerDuty's own deduplication: a trigger of an open incident opens nothing."""
        self.events.append(event)
        key = event["dedup_key"]
        is_open = self.opened.count(key) > self.closed.count(key)
        if event["event_action"] == "trigger" and not is_open:
            self.opened.append(key)
        if event["event_action"] == "resolve" and is_open:
            self.closed.append(key)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.lower().split("\r\n")
        length = int(next(x for x in lines if x.startswith("content-length")).split(":")[1])
        event = json.loads(await reader.readexactly(length))
        self.requests.append(event)
        fault = self.faults.pop(0) if self.faults else 202
        if fault in (202, "drop"):
            self.take(event)
        if isinstance(fault, int):
            extra = "".join(f"{k}: {v}\r\n" for k, v in self.headers.items())
            body = '{"status":"success"}'
            writer.write(
                f"HTTP/1.1 {fault} X\r\nContent-Length: {len(body)}\r\n{extra}"
                f"Connection: close\r\n\r\n{body}".encode()
            )
            await writer.drain()
        writer.close()


@asynccontextmanager
async def pagerduty_double() -> AsyncIterator[PagerDutyDouble]:
    """The double, listening on a free port of loopback."""
    double = PagerDutyDouble()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    double.url = f"http://127.0.0.1:{port}/v2/enqueue"
    try:
        yield double
    finally:
        server.close()
        await server.wait_closed()


@dataclass
class Alerting:
    """Engine and outbox over one database file; `reopen` is what a restart does."""

    path: Path
    sessions: SessionFactory
    engine: AlertEngine
    outbox_rows: OutboxRepository

    def reopen(self) -> Alerting:
        self.sessions.kw["bind"].dispose()
        return open_alerting(self.path, self.engine.routing)

    def close(self) -> None:
        self.sessions.kw["bind"].dispose()


def open_alerting(path: Path, routing: Routing) -> Alerting:
    database = open_engine(f"sqlite:///{path}")
    sessions = open_sessions(database)
    engine = AlertEngine(AlertRepository(sessions), routing, external_url="http://warroom.test")
    return Alerting(path, sessions, engine, OutboxRepository(sessions))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("state") / "empty.db"
    database = open_engine(f"sqlite:///{path}")
    upgrade(database)
    database.dispose()
    return path


@pytest.fixture
def alerting(tmp_path: Path, migrated: Path) -> Iterator[Callable[[Routing], Alerting]]:
    opened: list[Alerting] = []

    def start(routing: Routing) -> Alerting:
        path = tmp_path / f"state{len(opened)}.db"
        shutil.copyfile(migrated, path)
        opened.append(open_alerting(path, routing))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def double() -> Callable[[], Any]:
    return pagerduty_double


@pytest.fixture
def now_ms() -> int:
    return NOW_MS


@pytest.fixture
def pagerduty() -> Callable[[str], Integration]:
    def make(url: str) -> Integration:
        return Integration(
            "pagerduty", options={"url": url}, secrets={"routing_key": Secret("R0UT1NGKEY")}
        )

    return make


@pytest.fixture
def make_alert() -> Callable[..., Alert]:
    def make(name: str = "NPlusOneQuery", **labels: str) -> Alert:
        merged = {"alertname": name, "service": "shop", "severity": "page", **labels}
        return Alert(
            Labels.of(merged),
            {
                "summary": "Product list repeats a query",
                "cause": "views.py:12 product_list repeats `SELECT` 40 times",
                "since": "2026-11-27T08:00:00.000Z",
                "impact": "120 ms wasted a request",
                "fix": "select_related('category')",
                "evidence_url": "/traces/abc",
            },
            source="finding",
            unit="finding:n_plus_one_query",
        )

    return make
