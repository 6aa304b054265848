"""A PagerDuty double that delays, drops, duplicates, refuses and hangs up, by chance."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

# Taken / taken and the answer lost / neither / taken twice / taken late.
FAULTS = ("ok", "ok", "drop", "reset", "duplicate", "delay", "429", "500", "503")
REFUSED_KEY = "REFUSED"


@dataclass
class ChaosDouble:
    """PagerDuty's rules of dedup keys; `left` faults come before it works again.

    `opened` and `closed` have a dedup key for each incident that was opened and closed.
    """

    chances: random.Random
    left: int
    url: str = ""
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    refused: int = 0

    def take(self, event: dict[str, Any]) -> None:
        key = event["dedup_key"]
        is_open = self.opened.count(key) > self.closed.count(key)
        if event["event_action"] == "trigger" and not is_open:
            self.opened.append(key)
        if event["event_action"] == "resolve" and is_open:
            self.closed.append(key)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            status = await self._answer(reader)
            if status:
                head = f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
                writer.write(head.encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender was killed
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        event = json.loads(await reader.readexactly(length))
        if event["routing_key"] == REFUSED_KEY:
            self.refused += 1
            return 400
        self.keys.add(event["dedup_key"])
        fault = self.chances.choice(FAULTS) if self.left > 0 else "ok"
        self.left -= 1
        if fault == "delay":
            await asyncio.sleep(0.02)
        if fault in {"ok", "drop", "duplicate", "delay"}:
            self.take(event)
        if fault == "duplicate":
            self.take(event)
        if fault in {"drop", "reset"}:
            return 0
        return int(fault) if fault.isdecimal() else 202


@asynccontextmanager
async def chaos_double(chances: random.Random, faults: int) -> AsyncIterator[ChaosDouble]:
    """The double, listening on a free port of loopback."""
    double = ChaosDouble(chances, faults)
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2/enqueue"
    try:
        yield double
    finally:
        server.close()
        await server.wait_closed()
