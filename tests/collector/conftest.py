"""A real server on a free port, and an appender that remembers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from collector.otlp.ingest import OtlpIngest
from collector.pipeline import Pipeline
from collector.processors.limit import Limit
from collector.processors.redact import Redact
from collector.receivers.otlp_grpc import OtlpGrpcServer
from collector.source_health import SourceRegistry
from store.model import Batch, EventBatch, Labels, LogBatch, SampleBatch, SpanBatch

NOW_MS = 1_790_000_000_000


class RecordingAppender:
    """Keeps every batch; `refuse_with` makes the next appends fail."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.refuse_with: Exception | None = None

    def append(self, batch: Batch) -> Future[None]:
        if self.refuse_with is not None:
            raise self.refuse_with
        self.batches.append(batch)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def samples(self) -> dict[Labels, list[tuple[int, float]]]:
        found: dict[Labels, list[tuple[int, float]]] = {}
        for batch in self.batches:
            if isinstance(batch, SampleBatch):
                for place, ts_ms, value in zip(
                    batch.series_index.tolist(), batch.ts_ms.tolist(), batch.values, strict=True
                ):
                    found.setdefault(batch.series[place], []).append((ts_ms, value))
        return found

    def spans(self) -> list[dict[str, object]]:
        return [
            row
            for batch in self.batches
            if isinstance(batch, SpanBatch)
            for row in batch.table.to_pylist()
        ]

    def events(self) -> list[dict[str, object]]:
        return [
            row
            for batch in self.batches
            if isinstance(batch, EventBatch)
            for row in batch.table.to_pylist()
        ]

    def logs(self) -> list[dict[str, object]]:
        return [
            row
            for batch in self.batches
            if isinstance(batch, LogBatch)
            for row in batch.table.to_pylist()
        ]


class Clock:
    """A clock that stands still until told."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def appender() -> RecordingAppender:
    return RecordingAppender()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sources() -> SourceRegistry:
    return SourceRegistry()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def pipeline(
    appender: RecordingAppender,
    clock: Clock,
    sources: SourceRegistry,
    registry: CollectorRegistry,
) -> Pipeline:
    return Pipeline(appender, (Limit(), Redact()), sources, now_ms=clock, registry=registry)


Serve = Callable[[list[BaseRoute]], str]


class Switchboard:
    """An ASGI application that hands each request to the routes of the running test."""

    def __init__(self) -> None:
        self.app = Starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[Switchboard, str]]:
    """One real uvicorn for the session: starting one a test would cost most of the time."""
    switchboard = Switchboard()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(switchboard, log_level="critical", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not running.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield switchboard, f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def serve(server: tuple[Switchboard, str]) -> Serve:
    """Serves routes for this test and answers with the base URL."""
    switchboard, url = server

    def mount(routes: list[BaseRoute]) -> str:
        switchboard.app = Starlette(routes=routes)
        return url

    return mount


@pytest.fixture
def grpc_server() -> Iterator[Callable[..., str]]:
    """Serves OTLP/gRPC for this test and answers with the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers: list[OtlpGrpcServer] = []

    def start(ingest: OtlpIngest, **bounds: Any) -> str:
        server = OtlpGrpcServer(ingest, "127.0.0.1:0", **bounds)
        servers.append(server)
        port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
