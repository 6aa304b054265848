from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.warroom.world import Clock, settings_of
from warroom.app import build
from warroom.config import Address
from warroom.server import Listener, PortTaken


async def _hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def listener(port: int) -> Listener:
    app = Starlette(routes=[Route("/", _hello)])
    return Listener(app, Address("127.0.0.1", port), purpose="--listen")


def test_port_zero_becomes_a_real_port() -> None:
    async def run() -> str:
        server = listener(0)
        assert server.address.port == 0
        await server.start()
        assert server.address.port > 0
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://{server.address}/")
        await server.stop()
        return answer.text

    assert asyncio.run(run()) == "hello"


def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    async def run(port: int) -> None:
        with pytest.raises(PortTaken, match="in use by another process") as caught:
            await listener(port).start()
        assert str(port) in caught.value.message
        assert "--listen" in caught.value.hint

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        asyncio.run(run(holder.getsockname()[1]))


def test_an_address_of_another_machine_is_told_likewise() -> None:
    async def run() -> None:
        app = Starlette()
        with pytest.raises(PortTaken, match="cannot be used"):
            await Listener(app, Address("192.0.2.1", 0), purpose="--listen").start()

    asyncio.run(run())


def test_a_stopped_server_gives_its_port_back() -> None:
    async def run() -> None:
        first = listener(0)
        await first.start()
        port = first.address.port
        await first.stop()
        second = listener(port)
        await second.start()
        assert second.address.port == port
        await second.stop()

    asyncio.run(run())


@pytest.mark.parametrize("option", ["otlp_http", "otlp_grpc"])
def test_a_service_whose_second_port_is_taken_stops_cleanly(tmp_path: Path, option: str) -> None:
    async def run(port: int) -> None:
        address = f"127.0.0.1:{port}"
        chosen: dict[str, Any] = {option: address}
        service = build(settings_of(tmp_path, **chosen), now=Clock())
        try:
            with pytest.raises(PortTaken, match=str(port)):
                await service.listen()
        finally:
            await service.stop()

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        asyncio.run(run(holder.getsockname()[1]))


def heard(*parts: bytes) -> bytes:
    """What a listener answers to a connection that sends these parts, until it is closed.

    One that is closed while it still sends may lose the answer: that is nothing heard.
    """

    async def run() -> bytes:
        server = listener(0)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await asyncio.wait_for(reader.read(), 60)
        except ConnectionError:
            return b""
        finally:
            writer.close()
            await server.stop()

    return asyncio.run(run())


def test_a_head_without_end_is_refused_before_it_fills_the_memory() -> None:
    line = b"x-a: " + b"y" * 65_536 + b"\r\n"
    for parts in ((b"GET / HTTP/1.1\r\nhost: x\r\n", *[line] * 40), (b"GET /" + b"a" * 2_000_000,)):
        answer = heard(*parts)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("field", [b"x-a: " + b"y" * 65_000 + b"\r\n", b"z" * 65_536])
def test_a_trailer_without_end_is_refused_before_it_fills_the_memory(field: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    answer = heard(head, *[field] * 40)
    assert answer == b"" or b"HTTP/1.1 431 " in answer


def test_bodies_and_requests_on_one_connection_are_not_taken_for_a_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("warroom.http_protocol.MAX_HEAD_BYTES", 400)
    chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    body = [b"64\r\n", b"a" * 100, b"\r\n"] * 10
    whole = b"GET / HTTP/1.1\r\nhost: x\r\nx-a: " + b"y" * 300 + b"\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = heard(chunked, *body, b"0\r\nx-trailer: 1\r\n\r\n", *[whole] * 5, last)
    assert b" 431 " not in answer
    assert answer.count(b"HTTP/1.1 ") == 7


def test_a_connection_whose_head_does_not_come_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warroom.http_protocol.HEAD_TIMEOUT_S", 0.2)
    assert heard(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").startswith(b"HTTP/1.1 408 ")
    assert heard() == b""


def test_a_later_head_of_a_connection_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warroom.http_protocol.HEAD_TIMEOUT_S", 0.2)
    whole = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = heard(whole, whole, b"GET / HTTP/1.1\r\nhost")
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b"HTTP/1.1 408 " in answer


def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warroom.http_protocol.HEAD_TIMEOUT_S", 0.2)

    async def whole(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def run() -> bytes:
        app = Starlette(routes=[Route("/", whole, methods=["POST"])])
        server = Listener(app, Address("127.0.0.1", 0), purpose="--listen")
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
        await asyncio.sleep(0.5)
        writer.write(b"b")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n2"), 60)
        writer.close()
        await server.stop()
        return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200 OK")
