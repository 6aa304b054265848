"""A wall that is left open: a real browser's memory stays flat, and it recovers by itself.

Each round sends a stretch of ticks, then stops and starts the server, moves the browser's clock and
changes the token. The short form runs a few rounds; `make soak` runs for `WALL_SOAK_HOURS`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pytest
import structlog
from playwright.sync_api import BrowserContext, CDPSession, Page, expect
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import override

from tests.dashboards.conftest import Tab
from tests.dashboards.fixture import ScriptedServer

log = structlog.get_logger()
HOURS = float(os.environ.get("WALL_SOAK_HOURS", "0.25"))
RECOVERS_MS = 60_000
# The clock of the whole machine jumps: ahead by a day, then back, as after a wrong time server.
JUMPS_MS = (86_400_000, -3_600_000)
MOVABLE_CLOCK = (
    "window.__ahead = 0; const real = Date.now.bind(Date); Date.now = () => real() + window.__ahead"
)


class GuardedServer(ScriptedServer):
    """The live stream too is for those who have the token."""

    @override
    async def _live(self, request: Request) -> Response:
        if self.token and request.cookies.get("warroom_token") != self.token:
            return JSONResponse({"error": {"message": "no such token"}}, 401)
        return await super()._live(request)


@dataclass(frozen=True)
class Memory:
    """What the page holds after a collection of garbage."""

    heap_bytes: float
    nodes: int
    listeners: int


@pytest.fixture
def guarded() -> Iterator[GuardedServer]:
    server = GuardedServer(interval_ms=500)
    server.token = "wr_first"
    server.start()
    yield server
    server.stop()


def memory(session: CDPSession) -> Memory:
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    counted = session.send("Memory.getDOMCounters")
    return Memory(heap, counted["nodes"], counted["jsEventListeners"])


class Wall:
    """The page under watch, and what a bad night does to it."""

    def __init__(self, tab: Tab, server: GuardedServer, context: BrowserContext) -> None:
        self.server, self.context = server, context
        tab.page.add_init_script(MOVABLE_CLOCK)
        self.page = tab.open(f"{server.url}/#token={server.token}")
        self.wait_live()
        self.page.evaluate("window.__same = true")
        self.session = context.new_cdp_session(self.page)
        self.session.send("HeapProfiler.enable")
        # Ticks of the story's minute each: hours of points go through the charts.
        self.now_ms = int(time.time() * 1000)

    def wait_live(self) -> None:
        expect(self.page.locator("[data-link=live]")).to_be_visible(timeout=RECOVERS_MS)

    def ticks(self, count: int) -> None:
        """New points and figures, quicker than a wall would get them."""
        for number in range(count):
            self.now_ms += 60_000
            points = {"t": [self.now_ms], "values": [[0.9], [0.8 + number % 10 / 100]]}
            orders = {"state": "ok", "value": float(number), "unit": "orders/min"}
            self.server.tick({"cache-hits": {"append": points}, "orders": orders})
            if number % 10 == 9:
                self.page.wait_for_timeout(20)
        expect(self.page.locator("[data-panel=orders]")).to_contain_text(str(count - 1))

    def restart(self) -> None:
        self.server.stop()
        expect(self.page.locator("[data-link=offline]")).to_be_visible(timeout=RECOVERS_MS)
        self.server.start()
        self.wait_live()

    def jump(self, ahead_ms: int) -> None:
        """The browser's clock moves; what is live is told by a clock that cannot."""
        self.page.evaluate("ms => { window.__ahead += ms }", ahead_ms)
        self.ticks(3)
        self.wait_live()

    def rotate(self, token: str) -> None:
        """The old token ends; somebody signs this browser in anew, in another tab."""
        self.server.stop()
        self.server.token = token
        self.server.start()
        expect(self.page.locator("[data-link=offline]")).to_be_visible(timeout=RECOVERS_MS)
        other: Page = self.context.new_page()
        other.goto(f"{self.server.url}/findings#token={token}", timeout=RECOVERS_MS)
        other.locator("h1").first.wait_for(state="attached", timeout=RECOVERS_MS)
        other.close()
        self.wait_live()


def night(wall: Wall, number: int, ticks: int) -> Memory:
    wall.ticks(ticks)
    wall.restart()
    for ahead_ms in JUMPS_MS:
        wall.jump(ahead_ms)
    wall.rotate(f"wr_{number}")
    wall.ticks(3)
    return memory(wall.session)


def flat(found: list[Memory]) -> None:
    """The last third holds no more than the first, but for what measuring itself moves."""
    third = max(len(found) // 3, 1)
    first, last = found[:third], found[-third:]
    heap = [statistics.median(one.heap_bytes for one in part) for part in (first, last)]
    nodes = [statistics.median(one.nodes for one in part) for part in (first, last)]
    listeners = [statistics.median(one.listeners for one in part) for part in (first, last)]
    assert heap[1] <= heap[0] * 1.1 + 1_000_000, found
    assert nodes[1] <= nodes[0] * 1.1 + 50, found
    assert listeners[1] <= listeners[0] * 1.1 + 20, found


def soaked(wall: Wall, nights: int, ticks: int, hours: float = 0.0) -> list[Memory]:
    """The memory after each night; the first warms up and is not counted."""
    end = time.monotonic() + hours * 3_600
    found: list[Memory] = []
    number = 0
    while number <= nights or time.monotonic() < end:
        left = night(wall, number, ticks)
        if number:
            found.append(left)
            log.info("night", number=number, **asdict(left))
        number += 1
    assert wall.page.evaluate("window.__same") is True
    return found


def test_a_wall_outlives_restarts_clock_jumps_and_a_new_token(
    tab: Tab, guarded: GuardedServer, chromium: BrowserContext
) -> None:
    flat(soaked(Wall(tab, guarded, chromium), nights=2, ticks=60))
    refused = [p for p in tab.problems if "ERR_" not in p and "401" not in p]
    assert refused == []


@pytest.mark.soak
@pytest.mark.slow
def test_a_wall_left_open_for_hours_stays_as_small_as_it_was(
    tab: Tab, guarded: GuardedServer, chromium: BrowserContext
) -> None:
    flat(soaked(Wall(tab, guarded, chromium), nights=6, ticks=600, hours=HOURS))
