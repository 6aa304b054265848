"""An HTTP server on loopback that answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Says:
    """An answer; status 0 closes the connection without one, -1 never answers."""

    status: int = 200
    body: str = "ok"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class HttpDouble:
    """Answers with the next of `answers`, and with `usual` when there is none left."""

    url: str = ""
    usual: Says = field(default_factory=Says)
    answers: list[Says] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(first.split(" ")[1], headers, body))
        says = self.answers.pop(0) if self.answers else self.usual
        if says.status == -1:
            await self.released.wait()
        elif says.status:
            extra = "".join(f"{k}: {v}\r\n" for k, v in says.headers.items())
            data = says.body.encode()
            answer = f"HTTP/1.1 {says.status} X\r\nContent-Length: {len(data)}\r\n{extra}"
            writer.write(f"{answer}Connection: close\r\n\r\n".encode() + data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def http_double(usual: Says | None = None) -> AsyncIterator[HttpDouble]:
    """The double, listening on a free port of loopback."""
    double = HttpDouble(usual=usual or Says())
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield double
    finally:
        double.released.set()
        server.close()
        await server.wait_closed()
