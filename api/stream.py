"""The live stream: each board is computed once a tick, serialised once, gzipped once, sent to all.

A watcher gets a snapshot, then deltas. After a gap it names the last tick it saw (`Last-Event-ID`)
and gets what it missed, or a new snapshot where that is no longer kept. Watchers share one list of
messages and hold no more than a place in it; one that falls behind goes on with a snapshot of now.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from api.boards import Board
from api.errors import NotFound
from api.panels.compute import SHOWN, Computed, compute_panels, snapshot_json, view_at, view_once
from api.panels.registry import PATCH
from api.panels.view import Json, PanelSources, View
from api.stream_message import GZIP_HEADER, PING, RETRY, Message
from store.errors import Overloaded

_PING_S = 5.0
_KEPT_DELTAS = 60
_MAX_WATCHERS = 5_000
# So many messages behind, a watcher gets the newest state instead of what it missed.
_BACKLOG = 16
_IDLE_TICKS = 12
# Of a tick's interval: what one board may take. A query that runs by then is still waited for.
_BUDGET_SHARE = 0.6
_ASIDE_BUDGET_S = 15.0
_ASIDE_WAIT_S = 15.0


Allowed = Callable[[], Awaitable[bool]]
"""Whether a watcher may still see the board."""


Gone = Callable[[], Awaitable[bool]]
"""Whether nobody waits for the answer any more."""


async def _always() -> bool:
    return True


async def _not_gone() -> bool:
    return False


@dataclass(slots=True, eq=False)
class _Watcher:
    """One who watches; `seen` is the number of the newest delta it was handed."""

    seen: int


@dataclass(slots=True)
class _Channel:
    """What is known of one board between ticks.

    Attributes:
        late: Panels whose turn did not come at the last tick.
        told: Deltas there were so far; the newest of `deltas` has this number.
        watching: Who watches, from the request on.
        news: Set once there is another delta, and at the end; each delta brings a new one.
    """

    board: Board
    tick: int = 0
    now_ms: int = 0
    panels: dict[str, Json] = field(default_factory=dict)
    alerts_active: int | None = None
    late: frozenset[str] = frozenset()
    snapshot: Message | None = None
    deltas: deque[Message] = field(default_factory=lambda: deque(maxlen=_KEPT_DELTAS))
    told: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    watching: set[_Watcher] = field(default_factory=set)
    ended: bool = False
    idle_ticks: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def tell(self, delta: Message) -> None:
        """Hand a delta to every watcher: one list, one wake-up."""
        self.snapshot = None
        self.deltas.append(delta)
        self.told += 1
        self._wake()

    def end(self) -> None:
        """End every stream."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class LiveBoards:
    """Computes the boards that are watched and hands their messages to the watchers."""

    def __init__(
        self,
        boards: Callable[[], Mapping[str, Board]],
        sources: PanelSources,
        *,
        interval_ms: int,
        time_zone: str = "UTC",
        now: Callable[[], int] | None = None,
    ) -> None:
        self._boards = boards
        self._sources = sources
        self._interval_ms = interval_ms
        self._time_zone = time_zone
        self._now = now
        self._channels: dict[str, _Channel] = {}
        self._edited: dict[str, int] = {}
        self._tick = 0
        self._first_tick: int | None = None
        self._now_ms = 0
        self._closed = False
        self._budget_s = interval_ms / 1000 * _BUDGET_SHARE
        # Threads of their own: a slow board must not hold those that the tick runs on.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="boards")
        self._aside_thread = ThreadPoolExecutor(1, thread_name_prefix="aside")
        # Looks back and previews must not take the processors from the tick.
        self._aside = asyncio.Semaphore(1)

    @property
    def sources(self) -> PanelSources:
        """What panels look at now."""
        return self._sources

    @property
    def watchers(self) -> int:
        return sum(len(channel.watching) for channel in self._channels.values())

    async def publish(self, now_ms: int) -> None:
        """Compute every watched board at this tick and send what changed.

        A board that is still being computed for an earlier tick is left out, and none waits for
        another.
        """
        self._tick = max(self._tick + 1, now_ms // self._interval_ms)
        if self._first_tick is None:
            self._first_tick = self._tick
        self._now_ms = now_ms
        await asyncio.gather(*(self._publish(channel) for channel in self._due()))

    def _due(self) -> list[_Channel]:
        boards = self._boards()
        due = []
        for name in list(self._channels):
            channel = self._channels[name]
            if channel.board != boards.get(name):
                # It was edited: its watchers come back and get a snapshot of what it is now.
                self._drop(name)
                continue
            channel.idle_ticks = 0 if channel.watching else channel.idle_ticks + 1
            if channel.idle_ticks > _IDLE_TICKS:
                self._channels.pop(name).end()
            elif not channel.lock.locked():
                due.append(channel)
        return due

    async def _publish(self, channel: _Channel) -> None:
        async with channel.lock:
            if channel.tick < self._tick and not self._closed:
                await self._advance(channel)

    async def _advance(self, channel: _Channel) -> None:
        before, board = channel.panels, channel.board
        now_ms, tick = self._now_ms, self._tick
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._compute, board, now_ms, before, channel.late
        )
        computed = await work
        panels = computed.panels
        delta = {
            "tick": tick,
            "now_ms": now_ms,
            "alerts_active": computed.alerts_active,
            "panels": _changes(board, before, panels),
        }
        if self._now is not None:
            # From here on it is on its way: what a delivery takes is counted from this instant.
            delta["sent_ms"] = self._now()
        message = Message.of("delta", tick, delta)
        channel.panels, channel.tick, channel.now_ms = panels, tick, now_ms
        channel.late, channel.alerts_active = computed.late, computed.alerts_active
        channel.tell(message)

    def _compute(
        self, board: Board, now_ms: int, before: Mapping[str, Json], late: frozenset[str]
    ) -> Computed:
        view = view_at(self._sources, now_ms, board.range_ms, self._interval_ms)
        out_of_time = self._deadline(self._budget_s)
        return compute_panels(board, view, before, first=late, out_of_time=out_of_time)

    def _drop(self, name: str) -> None:
        """End what was watched under a name: ticks until now are of another board."""
        self._edited[name] = self._tick
        self._channels.pop(name).end()

    async def _open(self, name: str) -> _Channel:
        board = self._boards().get(name)
        if board is None:
            raise NotFound(f"there is no board {name!r}", hint="GET /api/warroom/v1/boards")
        self._admit()
        channel = self._channels.get(name)
        if channel is None or channel.board != board:
            if channel is not None:
                self._drop(name)
            channel = self._channels[name] = _Channel(board)
        channel.idle_ticks = 0
        async with channel.lock:
            if not channel.panels and self._now_ms and not self._closed:
                await self._advance(channel)
        # Others may have come, or all may have ended, while this one waited.
        self._admit()
        return channel

    def _admit(self) -> None:
        if self._closed:
            raise Overloaded("Warroom is stopping", retry_after_s=5)
        if self.watchers >= _MAX_WATCHERS:
            raise Overloaded("too many watchers", retry_after_s=5)

    def _greeting(self, channel: _Channel, last_tick: int | None) -> list[Message]:
        # The process before this one may have sent the first tick too; it ran one ahead at most.
        foreign_tick = -1 if self._first_tick is None else self._first_tick + 1
        foreign_tick = max(foreign_tick, self._edited.get(channel.board.name, -1))
        if last_tick is not None and channel.deltas and last_tick > foreign_tick:
            missed = [message for message in channel.deltas if message.tick > last_tick]
            if channel.deltas[0].tick <= last_tick <= channel.deltas[-1].tick:
                return missed
        return [self._snapshot(channel)]

    def _snapshot(self, channel: _Channel) -> Message:
        if channel.snapshot is None:
            data = snapshot_json(
                channel.board,
                channel.panels,
                channel.tick,
                channel.now_ms,
                alerts_active=channel.alerts_active,
                interval_ms=self._interval_ms,
                time_zone=self._time_zone,
            )
            channel.snapshot = Message.of("snapshot", channel.tick, data)
        return channel.snapshot

    async def snapshot(self, name: str) -> bytes:
        """The board as the stream's first message would give it, as JSON."""
        channel = await self._open(name)
        return self._snapshot(channel).plain.split(b"data: ", 1)[1].strip()

    async def compute_once(
        self,
        board: Board,
        at_ms: int,
        *,
        sources: PanelSources | None = None,
        range_ms: int | None = None,
        gone: Gone = _not_gone,
    ) -> Json:
        """A board's whole data at an instant, for one reader: a preview, or a look back.

        Raises:
            Overloaded: Others came first, and took too long.
        """
        view = view_once(
            sources or self._sources, at_ms, range_ms or board.range_ms, self._interval_ms
        )
        panels = await self._aside_panels(board, view, gone)
        frame: dict[str, Any] = {
            "interval_ms": self._interval_ms,
            "time_zone": self._time_zone,
            "range_ms": view.range_ms,
        }
        return snapshot_json(board, panels, 0, view.now_ms, **frame)

    async def _aside_panels(self, board: Board, view: View, gone: Gone) -> dict[str, Json]:
        try:
            await asyncio.wait_for(self._aside.acquire(), _ASIDE_WAIT_S)
        except TimeoutError as exc:
            raise Overloaded("other looks at boards take long", retry_after_s=5) from exc
        try:
            # Whoever left while waiting must not make the next one wait.
            if self._closed or await gone():
                raise Overloaded("nobody waits for this board any more", retry_after_s=5)

            def compute() -> Computed:
                out_of_time = self._deadline(_ASIDE_BUDGET_S)
                return compute_panels(board, view, {}, out_of_time=out_of_time)

            work = asyncio.get_running_loop().run_in_executor(self._aside_thread, compute)
            return (await work).panels
        finally:
            self._aside.release()

    async def watch(
        self, name: str, last_tick: int | None, *, gzip: bool, allowed: Allowed = _always
    ) -> AsyncIterator[bytes]:
        """The bytes of one watcher's stream. It ends at the first message that is not `allowed`.

        Raises:
            NotFound: There is no such board.
            Overloaded: Too many watchers, or all is to end.
        """
        channel = await self._open(name)
        greeting = [RETRY, *self._greeting(channel, last_tick)]
        watcher = _Watcher(channel.told)
        stream = self._stream(channel, watcher, greeting, allowed, gzip=gzip)
        channel.watching.add(watcher)
        # Who is gone before the first byte never runs the stream's own end.
        weakref.finalize(stream, channel.watching.discard, watcher).atexit = False
        return stream

    async def _stream(
        self,
        channel: _Channel,
        watcher: _Watcher,
        greeting: list[Message],
        allowed: Allowed,
        *,
        gzip: bool,
    ) -> AsyncIterator[bytes]:
        part = attrgetter("deflated" if gzip else "plain")
        try:
            if gzip:
                yield GZIP_HEADER
            for message in greeting:
                yield part(message)
            while not channel.ended:
                if watcher.seen == channel.told and not await _soon(channel.news):
                    following = PING
                elif channel.told - watcher.seen > _BACKLOG:
                    following, watcher.seen = self._snapshot(channel), channel.told
                elif watcher.seen < channel.told:
                    following = channel.deltas[watcher.seen - channel.told]
                    watcher.seen += 1
                else:
                    continue
                if not await allowed():
                    return
                yield part(following)
        finally:
            channel.watching.discard(watcher)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed = True
        for channel in self._channels.values():
            channel.end()
        self._threads.shutdown(wait=False)
        self._aside_thread.shutdown(wait=False)

    def _deadline(self, budget_s: float) -> Callable[[], bool]:
        """Whether so much time has gone by since now, or all is to end."""
        end_s = time.monotonic() + budget_s
        return lambda: self._closed or time.monotonic() >= end_s


async def _soon(news: asyncio.Event) -> bool:
    """Whether it comes before a sign of life is due."""
    try:
        async with asyncio.timeout(_PING_S):
            return await news.wait()
    except TimeoutError:
        return False


def _changes(board: Board, before: Mapping[str, Json], now: Mapping[str, Json]) -> Json:
    changes: dict[str, Any] = {}
    for panel in board.panels:
        old, new = before.get(panel.id), now[panel.id]
        if old is None or old["state"] != new["state"]:
            changes[panel.id] = new
        elif {**old, "as_of_ms": 0} != {**new, "as_of_ms": 0}:
            tell = PATCH.get(panel.kind)
            changes[panel.id] = (tell(old, new) if tell and new["state"] in SHOWN else None) or new
    return changes
