import asyncio
import gc
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from api.boards import Board, parse_board
from api.errors import NotFound
from api.panels.compute import compute_panels, view_at
from api.panels.view import PanelSources
from api.stream import LiveBoards
from store.errors import ConfigError, Overloaded
from store.model import InstantVector, Labels, RangeMatrix
from store.ports import Querier
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


def test_active_alerts_are_counted_also_on_a_board_that_shows_none(shop: Shop) -> None:
    plain = parse_board(
        "name: b\ntitle: T\nrows: [{panels: [{id: p, kind: stat, query: v}]}]", "b.yaml"
    )
    live = LiveBoards(lambda: {"b": plain}, shop.sources(), interval_ms=TICK_MS)

    def unreadable() -> list[dict[str, Any]]:
        raise OSError("the disk is gone")

    async def watch() -> None:
        shop.alerts = [{"silenced": False}, {"silenced": True}]
        await next_tick(shop, live)
        stream = await live.watch("b", None, gzip=False)
        assert (await message(stream))["alerts_active"] == 1
        shop.alerts = []
        await next_tick(shop, live)
        assert (await message(stream))["alerts_active"] == 0

    asyncio.run(watch())
    blind = LiveBoards(
        lambda: {"b": plain}, replace(shop.sources(), alerts=unreadable), interval_ms=TICK_MS
    )

    async def look() -> None:
        await next_tick(shop, blind)
        assert orjson.loads(await blind.snapshot("b"))["alerts_active"] is None

    asyncio.run(look())


def test_a_broken_panel_fails_alone_and_says_why(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        panels = orjson.loads(await live.snapshot("war-room"))["panels"]
        assert panels["broken"]["state"] == "error"
        assert "parse error" in panels["broken"]["error"]
        assert panels["orders"]["state"] == "ok"

    asyncio.run(watch())


class SlowQuerier:
    """Answers once its gate is open; `entered` is set when a query waits there."""

    def __init__(self, inner: Querier, slow: str) -> None:
        self._inner, self._slow = inner, slow
        self.gate, self.entered = threading.Event(), threading.Event()

    def _wait(self, expr: str) -> None:
        if self._slow in expr:
            self.entered.set()
            assert self.gate.wait(60)

    def instant(self, expr: str, at_ms: int) -> InstantVector:
        self._wait(expr)
        return self._inner.instant(expr, at_ms)

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        self._wait(expr)
        return self._inner.range(expr, start_ms, end_ms, step_ms)


def test_a_slow_board_holds_up_no_other_and_is_computed_once_at_a_time(shop: Shop) -> None:
    slow = SlowQuerier(Engine(shop.reader), "slow")
    panel = "{id: p, kind: timeseries, query: %s}"
    boards = {
        name: parse_board(
            f"name: {name}\ntitle: T\nrows: [{{panels: [{panel % name}]}}]", f"{name}.yaml"
        )
        for name in ("slow", "quick")
    }
    live = LiveBoards(lambda: boards, replace(shop.sources(), querier=slow), interval_ms=TICK_MS)

    async def watch() -> None:
        slow.gate.set()
        await next_tick(shop, live, slow=1.0, quick=1.0)
        held = await live.watch("slow", None, gzip=False)
        stream = await live.watch("quick", None, gzip=False)
        assert (await message(stream))["event"] == "snapshot"
        slow.gate.clear()
        waiting = asyncio.create_task(next_tick(shop, live, slow=2.0, quick=2.0))
        assert (await asyncio.wait_for(message(stream), 60))["panels"]["p"]["state"] == "ok"
        # The next tick leaves the slow one out.
        await asyncio.wait_for(next_tick(shop, live, slow=3.0, quick=3.0), 60)
        assert (await asyncio.wait_for(message(stream), 60))["panels"]["p"]["state"] == "ok"
        slow.gate.set()
        await waiting
        assert (await message(held))["event"] == "snapshot"
        assert (await message(held))["event"] == "delta"

    asyncio.run(watch())


def test_what_was_not_reached_in_the_budget_is_stale_and_comes_first_next_time(shop: Shop) -> None:
    panels = ", ".join(f"{{id: p{n}, kind: stat, query: v}}" for n in range(3))
    wide = parse_board(f"name: b\ntitle: T\nrows: [{{panels: [{panels}]}}]", "b.yaml")
    shop.sample("v", 1.0)
    view = view_at(shop.sources(), shop.now_ms, wide.range_ms, TICK_MS)
    whole = compute_panels(wide, view, {})
    assert not whole.late
    assert {panel["state"] for panel in whole.panels.values()} == {"ok"}
    cut = compute_panels(wide, view, whole.panels, out_of_time=lambda: True)
    assert [cut.panels[f"p{n}"]["state"] for n in range(3)] == ["ok", "stale", "stale"]
    assert cut.panels["p1"]["value"] == 1.0
    assert list(cut.panels) == ["p0", "p1", "p2"]
    again = compute_panels(wide, view, cut.panels, first=cut.late, out_of_time=lambda: True)
    assert [again.panels[f"p{n}"]["state"] for n in range(3)] == ["stale", "ok", "stale"]
    unseen = compute_panels(wide, view, {}, out_of_time=lambda: True)
    assert unseen.panels["p2"]["state"] == "error"
    assert "turn did not come" in unseen.panels["p2"]["error"]


def test_a_look_for_somebody_who_left_is_not_computed(shop: Shop, live: LiveBoards) -> None:
    async def left() -> bool:
        return True

    with pytest.raises(Overloaded, match="nobody waits"):
        asyncio.run(live.compute_once(board(), shop.now_ms, gone=left))


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
        stream = await live.watch("war-room", None, gzip=False)
        for _ in range(3):
            await next_tick(shop, live, orders=1.0)
        seen = [(await message(stream))["id"] for _ in range(4)][-1]
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


def test_a_watcher_that_cannot_keep_up_goes_on_with_the_newest_state(
    shop: Shop, live: LiveBoards
) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        slow = await live.watch("war-room", None, gzip=False)
        quick = await live.watch("war-room", None, gzip=False)
        await message(slow)
        await message(quick)
        for number in range(40):
            await next_tick(shop, live, orders=float(number))
            assert (await message(quick))["panels"]["orders"]["value"] == float(number)
        caught_up = await message(slow)
        assert caught_up["event"] == "snapshot"
        assert caught_up["panels"]["orders"]["value"] == 39.0
        await next_tick(shop, live, orders=50.0)
        for stream in (slow, quick):
            following = await message(stream)
            assert following["event"] == "delta"
            assert following["panels"]["orders"]["value"] == 50.0
        assert live.watchers == 2

    asyncio.run(watch())


def test_watchers_are_counted_while_they_watch_and_closing_ends_them(
    shop: Shop, live: LiveBoards
) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        streams = [await live.watch("war-room", None, gzip=False) for _ in range(3)]
        assert live.watchers == 3
        unread = await live.watch("war-room", None, gzip=False)
        assert live.watchers == 4
        del unread  # the request was gone before its first byte
        gc.collect()
        assert live.watchers == 3
        for stream in streams:
            await message(stream)
        assert live.watchers == 3
        assert isinstance(streams[0], AsyncGenerator)
        await streams[0].aclose()
        assert live.watchers == 2
        live.close()
        assert [[chunk async for chunk in stream] for stream in streams[1:]] == [[], []]
        assert live.watchers == 0

    asyncio.run(watch())


def test_a_watcher_of_an_idle_board_is_not_lost_at_the_tick_before_its_first_byte(
    shop: Shop, live: LiveBoards
) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        await live.snapshot("war-room")
        for number in range(12):
            await next_tick(shop, live, orders=float(number))
        stream = await live.watch("war-room", None, gzip=False)
        await next_tick(shop, live, orders=77.0)
        assert (await message(stream))["event"] == "snapshot"
        following = await message(stream)
        assert (following["event"], following["panels"]["orders"]["value"]) == ("delta", 77.0)
        assert live.watchers == 1

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_a_board_that_nobody_watched_for_long_is_dropped_and_opens_anew(
    shop: Shop, live: LiveBoards
) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        await live.snapshot("war-room")
        for _ in range(20):
            await next_tick(shop, live, orders=1.0)
        stream = await live.watch("war-room", None, gzip=False)
        assert (await message(stream))["tick"] == shop.tick

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_who_comes_after_the_end_is_refused(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        live.close()
        with pytest.raises(Overloaded, match="stopping"):
            await live.watch("war-room", None, gzip=False)
        assert live.watchers == 0

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_a_tick_that_the_process_before_sent_gives_a_snapshot(shop: Shop, live: LiveBoards) -> None:
    async def watch() -> None:
        opened = await live.watch("war-room", None, gzip=False)
        await next_tick(shop, live, orders=9.0)
        first = shop.tick
        for tick in (first, first + 1):
            resumed = await live.watch("war-room", tick, gzip=False)
            assert (await message(resumed))["event"] == "snapshot"
            await next_tick(shop, live, orders=9.0)
        own = shop.tick
        await next_tick(shop, live, orders=10.0)
        resumed = await live.watch("war-room", own, gzip=False)
        assert (await message(resumed))["panels"]["orders"]["value"] == 10.0
        assert (await message(opened))["event"] == "snapshot"

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_a_delta_says_when_it_went_out(shop: Shop) -> None:
    boards = {"war-room": board()}
    live = LiveBoards(lambda: boards, shop.sources(), interval_ms=TICK_MS, now=lambda: 77)

    async def watch() -> None:
        await next_tick(shop, live, orders=1.0)
        stream = await live.watch("war-room", None, gzip=False)
        assert "sent_ms" not in await message(stream)
        await next_tick(shop, live, orders=2.0)
        assert (await message(stream))["sent_ms"] == 77

    asyncio.run(watch())


def test_an_unknown_board_is_named(live: LiveBoards) -> None:
    with pytest.raises(NotFound, match="no board 'nothing'"):
        asyncio.run(live.watch("nothing", None, gzip=False))


OPTIONS = "name: b\ntitle: B\nrows:\n  - panels:\n      - {id: a, kind: %s}\n"


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
        ("name: b\ntitle: B\nrange: 99999999999999d\nrows: []\n", 3, "range"),
        ("name: b\ntitle: B\nrange: 99999999d\nrows: []\n", 3, "at most 400d"),
        ("name: b\ntitle: B\nrange: 0s\nrows: []\n", 3, "at least 10s"),
        (OPTIONS % "alerts, options: {limit: a}", 5, r"options\.limit"),
        (OPTIONS % "alerts, options: {limit: 0}", 5, r"options\.limit"),
        (OPTIONS % "alerts, options: {limt: 4}", 5, "did you mean 'limit'"),
        (OPTIONS % "alerts, options: {place: left}", 5, r"options\.place"),
        (OPTIONS % "stat, kpi: k, options: {warn_above: high}", 5, "warn_above"),
        (OPTIONS % "table, query: up, options: {columns: job}", 5, "columns"),
        (OPTIONS % "timeseries, query: up, options: {band: {low: l}}", 5, "band.high"),
        (OPTIONS % 'slo, options: {href: "javascript:alert(1)"}', 5, "a link is a path"),
        (OPTIONS % "slo, options: {href: //evil.example}", 5, "a link is a path"),
        (OPTIONS % 'slo, options: {href: "/\\\\evil.example"}', 5, "a link is a path"),
    ],
)
def test_a_mistake_in_a_board_is_reported_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_board(text, "b.yaml")
    assert caught.value.line == line


@pytest.mark.parametrize(
    "panel",
    [
        "slo, options: {href: '/slos?a=b c', place: rail, limit: 3}",
        "stat, kpi: k, options: {href: 'HTTPS://shop.example/x', warn_above: 1, crit_below: 0.5}",
        "table, query: up, options: {columns: [job], limit: 200}",
        "timeseries, query: up, options: {band: {low: l, high: h}}",
    ],
)
def test_options_of_a_kind_are_taken(panel: str) -> None:
    assert parse_board(OPTIONS % panel, "b.yaml").panels[0].options


def test_a_board_that_no_tick_can_afford_is_refused() -> None:
    def rows(panels: int) -> str:
        queries = ", ".join("{expr: up}" for _ in range(20))
        one = "{id: p%d, kind: timeseries, queries: [" + queries + "]}"
        return (
            f"name: b\ntitle: B\nrows: [{{panels: [{', '.join(one % n for n in range(panels))}]}}]"
        )

    assert len(parse_board(rows(10), "b.yaml").panels) == 10
    with pytest.raises(ConfigError, match="at most 200"):
        parse_board(rows(11), "b.yaml")
