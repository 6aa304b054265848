import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from api.boards import Board, parse_board
from api.errors import NotFound
from api.panels.view import PanelSources
from api.stream import LiveBoards
from store.errors import ConfigError
from store.model import Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader

TICK_MS = 5_000
BOARD = """
name: war-room
title: War room
range: 15m
rows:
  - title: Shop
    panels:
      - {id: traffic, kind: timeseries, title: Traffic, query: traffic}
      - {id: orders, kind: stat, title: Orders, query: orders}
      - {id: broken, kind: stat, title: Broken, query: "sum(("}
      - {id: alerts, kind: alerts, title: Alerts}
"""


class Shop:
    """A world that the panels look at."""

    def __init__(self) -> None:
        self.reader = MemoryReader()
        self.alerts: list[dict[str, Any]] = []
        self.tick = 1_000

    def sources(self) -> PanelSources:
        return PanelSources(
            querier=Engine(self.reader),
            kpis=tuple,
            slos=list,
            alerts=lambda: self.alerts,
            findings=list,
            timeline=lambda _start, _end: [],
            sources=lambda _now: [],
        )

    @property
    def now_ms(self) -> int:
        return self.tick * TICK_MS

    def sample(self, name: str, value: float, **labels: str) -> None:
        self.reader.put(Labels.of({"__name__": name, **labels}), [self.now_ms - 1], [value])


def board() -> Board:
    return parse_board(BOARD, "war-room.yaml")


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def live(shop: Shop) -> LiveBoards:
    boards = {"war-room": board()}
    return LiveBoards(lambda: boards, shop.sources(), interval_ms=TICK_MS)


async def message(stream: AsyncIterator[bytes]) -> dict[str, Any]:
    async for chunk in stream:
        if b"data: " in chunk:
            head, data = chunk.split(b"data: ", 1)
            fields = dict(line.split(b": ", 1) for line in head.strip().split(b"\n"))
            return {
                "event": fields[b"event"].decode(),
                "id": int(fields[b"id"]),
                **orjson.loads(data),
            }
    raise AssertionError("the stream ended")


async def next_tick(shop: Shop, live: LiveBoards, **values: float) -> None:
    shop.tick += 1
    for name, value in values.items():
        shop.sample(name, value)
    await live.publish(shop.now_ms)


def test_a_watcher_gets_a_snapshot_and_then_only_what_changed(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, traffic=1.0, orders=60.0)
        stream = await live.watch("war-room", None, gzip=False)
        first = await message(stream)
        assert first["event"] == "snapshot"
        assert first["panels"]["orders"]["value"] == 60.0
        assert first["panels"]["traffic"]["series"][0]["values"][-1] == 1.0
        await next_tick(shop, live, traffic=2.0, orders=60.0)
        second = await message(stream)
        assert second["event"] == "delta"
        assert second["id"] > first["id"]
        assert second["panels"]["traffic"]["append"]["values"] == [[2.0]]
        assert "alerts" not in second["panels"]

    asyncio.run(watch())


def test_a_broken_panel_fails_alone_and_says_why(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        panels = orjson.loads(await live.snapshot("war-room"))["panels"]
        assert panels["broken"]["state"] == "error"
        assert "parse error" in panels["broken"]["error"]
        assert panels["orders"]["state"] == "ok"

    asyncio.run(watch())


def test_missing_data_is_not_zero(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live)
        panels = orjson.loads(await live.snapshot("war-room"))["panels"]
        assert panels["orders"]["state"] == "no_data"
        assert panels["orders"]["value"] is None
        assert panels["traffic"]["state"] == "no_data"

    asyncio.run(watch())


def test_a_line_that_appears_makes_the_graph_come_whole(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, traffic=1.0)
        stream = await live.watch("war-room", None, gzip=False)
        await message(stream)
        shop.tick += 1
        shop.sample("traffic", 5.0, route="new")
        await live.publish(shop.now_ms)
        panel = (await message(stream))["panels"]["traffic"]
        assert "append" not in panel
        assert len(panel["series"]) == 2

    asyncio.run(watch())


def test_after_a_gap_the_missed_deltas_come_first(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        stream = await live.watch("war-room", None, gzip=False)
        seen = (await message(stream))["id"]
        await next_tick(shop, live, orders=2.0)
        await next_tick(shop, live, orders=3.0)
        resumed = await live.watch("war-room", seen, gzip=False)
        assert (await message(resumed))["panels"]["orders"]["value"] == 2.0
        assert (await message(resumed))["panels"]["orders"]["value"] == 3.0

    asyncio.run(watch())


def test_a_tick_that_is_no_longer_kept_gives_a_snapshot(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        stream = await live.watch("war-room", 3, gzip=False)
        assert (await message(stream))["event"] == "snapshot"

    asyncio.run(watch())


def test_one_deflated_message_serves_streams_of_any_age(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        early = await live.watch("war-room", None, gzip=True)
        plain = await live.watch("war-room", None, gzip=False)
        early_bytes = [await anext(early) for _ in range(3)]
        plain_bytes = [await anext(plain) for _ in range(2)]
        await next_tick(shop, live, orders=2.0)
        late = await live.watch("war-room", None, gzip=True)
        late_bytes = [await anext(late) for _ in range(3)]
        early_bytes.append(await anext(early))
        plain_bytes.append(await anext(plain))
        unzip = zlib.decompressobj(31)
        assert unzip.decompress(b"".join(early_bytes)) == b"".join(plain_bytes)
        assert b'"value":2.0' in zlib.decompressobj(31).decompress(b"".join(late_bytes))

    asyncio.run(watch())


def test_a_watcher_that_cannot_keep_up_is_let_go_and_others_are_not(
    shop: Shop, live: LiveBoards
) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        slow = await live.watch("war-room", None, gzip=False)
        await message(slow)
        for number in range(20):
            await next_tick(shop, live, orders=float(number))
        assert live.watchers == 0
        received = [chunk async for chunk in slow]
        assert len(received) <= 16
        again = await live.watch("war-room", None, gzip=False)
        assert (await message(again))["panels"]["orders"]["value"] == 19.0

    asyncio.run(watch())


def test_an_unknown_board_is_named(live: LiveBoards) -> None:
    with pytest.raises(NotFound, match="no board 'nothing'"):
        asyncio.run(live.watch("nothing", None, gzip=False))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name: b\ntitle: B\nrows: []\ncolour: red\n", 4, "colour"),
        (
            "name: b\ntitle: B\nrows:\n  - panels:\n      - {id: a, kind: pie, title: x}\n",
            5,
            "kind",
        ),
        (
            "name: b\ntitle: B\nrows:\n  - panels:\n      - {id: a, kind: stat, title: x}\n",
            5,
            "kpi",
        ),
    ],
)
def test_a_mistake_in_a_board_is_reported_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_board(text, "b.yaml")
    assert caught.value.line == line
