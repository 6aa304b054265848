"""Two whole services in one process: no globals, nothing shared, both stop cleanly."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from store.errors import WarroomError
from tests.collector.otlp_bodies import trace_request
from warroom.app import Service, build
from warroom.clock import system_now_ms
from warroom.config import Options, load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CONFIG = """
evaluation_interval: 1s
store: {url: "duckdb:memory"}
rule_files: [rules.yml]
"""
RULES = """
groups:
  - name: own
    rules:
      - {record: who, expr: vector(%d)}
"""
PURCHASE = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "two",
    "type": "purchase",
    "data": {"transaction_id": "o-1", "value": "10.00", "currency": "EUR"},
}


def _service(directory: Path, number: int) -> Service:
    directory.mkdir()
    (directory / "warroom.yaml").write_text(CONFIG)
    (directory / "rules.yml").write_text(RULES % number)
    options = Options(
        config=str(directory / "warroom.yaml"),
        data_dir=str(directory / "data"),
        listen="127.0.0.1:0",
        otlp_http="127.0.0.1:0",
        otlp_grpc="127.0.0.1:0",
    )
    return build(load(options, {}), now=system_now_ms)


@asynccontextmanager
async def _running(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    try:
        await service.listen()
        await service.start()
        async with httpx.AsyncClient(base_url=service.url, timeout=10) as client:
            yield client
    finally:
        await service.stop()


async def _value(client: httpx.AsyncClient, expr: str) -> list[float]:
    answer = (await client.get("/api/v1/query", params={"query": expr})).json()
    assert answer["status"] == "success", answer
    return [float(series["value"][1]) for series in answer["data"]["result"]]


async def _later_tick(service: Service, than_ms: int) -> None:
    deadline = time.monotonic() + 30
    while service.ticker.readings.at_ms <= than_ms:
        assert time.monotonic() < deadline, "no tick"
        await asyncio.sleep(0.05)


async def _orders(client: httpx.AsyncClient) -> int:
    answer = (await client.get("/api/warroom/v1/business/orders")).json()
    return int(sum(point["orders"] for point in answer["points"]))


async def _feed(client: httpx.AsyncClient) -> None:
    traces = await client.post(
        "/v1/traces",
        content=trace_request().SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
    )
    events = await client.post(
        "/events",
        content=json.dumps(PURCHASE),
        headers={"Content-Type": "application/cloudevents+json"},
    )
    note = await client.post(
        "/api/warroom/v1/annotations", json={"kind": "deploy", "title": "only one"}
    )
    assert [a.status_code for a in (traces, events, note)] == [200, 202, 201]


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_two_services_live_in_one_process_and_share_nothing(tmp_path: Path) -> None:
    threads_before = {thread.ident for thread in threading.enumerate()}
    ports: list[int] = []

    async def live() -> None:
        one, other = _service(tmp_path / "one", 1), _service(tmp_path / "other", 2)
        async with _running(one) as first, _running(other) as second:
            for service in (one, other):
                ports.append(service.main.address.port)
                ports.extend(address.port for address in service.other_addresses.values())
            assert len(set(ports)) == 6
            assert all(_listening(port) for port in ports)
            await _feed(first)
            for service in (one, other):
                await _later_tick(service, service.ticker.readings.at_ms)
            assert await _value(first, "who") == [1.0]
            assert await _value(second, "who") == [2.0]
            trace = f"/jaeger/api/traces/{'01' * 16}"
            assert (await first.get(trace)).status_code == 200
            assert (await second.get(trace)).status_code == 404
            assert [await _orders(first), await _orders(second)] == [1, 0]
            assert "only one" in (await first.get("/api/warroom/v1/timeline")).text
            assert "only one" not in (await second.get("/api/warroom/v1/timeline")).text
            for client in (first, second):
                assert (await client.get("/-/ready")).status_code == 200

    asyncio.run(live())
    assert not any(_listening(port) for port in ports)
    left = [t.name for t in threading.enumerate() if t.ident not in threads_before]
    assert left == []
    assert not (tmp_path / "one" / "data").exists()


def test_the_end_of_one_does_not_disturb_the_other(tmp_path: Path) -> None:
    async def live() -> None:
        one, other = _service(tmp_path / "one", 1), _service(tmp_path / "other", 2)
        async with _running(other) as second:
            async with _running(one) as first:
                assert (await first.get("/-/ready")).status_code == 200
            await _later_tick(other, other.ticker.readings.at_ms)
            assert await _value(second, "who") == [2.0]
            failed = [unit for unit in other.ticker.readings.health if not unit.ok]
            assert failed == []

    asyncio.run(live())


def test_a_service_that_cannot_listen_closes_what_it_had_opened(tmp_path: Path) -> None:
    async def live() -> None:
        one = _service(tmp_path / "one", 1)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            (tmp_path / "other").mkdir()
            options = Options(
                config=str(tmp_path / "one" / "warroom.yaml"),
                listen="127.0.0.1:0",
                otlp_http=f"127.0.0.1:{number}",
                otlp_grpc="off",
            )
            other = build(load(options, {}), now=system_now_ms)
            with pytest.raises(WarroomError, match=f"{number} is in use"):
                await other.listen()
            port = other.main.address.port
            assert _listening(port)
            await other.stop()
            assert not _listening(port)
        await one.stop()

    asyncio.run(live())
